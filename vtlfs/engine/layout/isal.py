"""A thin binding to Intel's ISA-L, which computes parity. Its calls release the interpreter's lock.

The first stripe that has parity loads ISA-L, so that a library without parity does not need it installed.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from cffi import FFI

from vtlfs.errors import VtlfsError

Bytes = bytes | bytearray | memoryview
Matrix = Sequence[Sequence[int]]  # of elements of GF(2^8), with the polynomial 0x11d

FILE_NAMES = ("libisal.so.2", "libisal.so")
TABLE = 32  # bytes for one coefficient
_ffi: Any = FFI()
_ffi.cdef("""
    void ec_init_tables(int k, int rows, unsigned char *a, unsigned char *tables);
    void ec_encode_data(int len, int k, int rows, unsigned char *tables, unsigned char **data, unsigned char **coding);
    int gf_invert_matrix(unsigned char *in, unsigned char *out, const int n);
    unsigned char gf_mul(unsigned char a, unsigned char b);
""")


@cache
def _library() -> Any:
    return load(FILE_NAMES)


def load(names: Sequence[str]) -> Any:
    """Load the first of these shared libraries that is installed. Raises VtlfsError if none is."""
    for name in names:
        try:
            return _ffi.dlopen(name)
        except OSError:
            continue
    raise VtlfsError("parity needs the library ISA-L, which is not installed: `apt install libisal2`")


def check() -> None:
    """Raise VtlfsError where ISA-L is not installed."""
    _library()


def multiply(a: int, b: int) -> int:
    """Multiply two elements of GF(2^8)."""
    return int(_library().gf_mul(a, b))


def invert(matrix: Matrix) -> list[list[int]]:
    """Return the inverse of a square matrix. Raises ValueError if the matrix is singular."""
    size = len(matrix)
    source = _ffi.new("unsigned char[]", bytes(one for row in matrix for one in row))
    inverse = _ffi.new("unsigned char[]", size * size)
    if _library().gf_invert_matrix(source, inverse, size):
        raise ValueError("the matrix is singular")
    flat = bytes(_ffi.buffer(inverse, size * size))
    return [list(flat[row * size : (row + 1) * size]) for row in range(size)]


def combine(coefficients: Matrix, sources: Sequence[Bytes], results: Sequence[bytearray], start: int, end: int) -> None:
    """Set bytes `start` to `end` of each result to a linear combination of the sources' bytes there.

    `coefficients` has a row for each result, and a column for each source.
    """
    library = _library()
    flat = bytes(one for row in coefficients for one in row)
    tables = _ffi.new("unsigned char[]", TABLE * len(flat))
    library.ec_init_tables(len(sources), len(results), _ffi.new("unsigned char[]", flat), tables)
    pinned = [_ffi.from_buffer("unsigned char[]", source) for source in (*sources, *results)]
    pointers = [one + start for one in pinned]
    data = _ffi.new("unsigned char *[]", pointers[: len(sources)])
    coding = _ffi.new("unsigned char *[]", pointers[len(sources) :])
    library.ec_encode_data(end - start, len(sources), len(results), tables, data, coding)
