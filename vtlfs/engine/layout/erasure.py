"""Computes the parity extents of a stripe, and lost data extents from the extents that are left.

The code is that of RAID-6, the arithmetic that of GF(2^8) with the polynomial 0x11d. Row 0 of the parity is the XOR of
the stripe's data extents; row 1 is the sum of 2^p times the extent at place p. No row depends on how many extents there
are, so a stripe may be closed at any width, and a row may be added to it later. Extents that are shorter than the
longest one of their stripe count as if zeros followed them.

Pure; called by threads, because a stripe takes about a millisecond.
"""

from collections.abc import Mapping, Sequence

from vtlfs.engine.layout import isal
from vtlfs.engine.layout.isal import Bytes


def parity(row: int, data: Sequence[Bytes]) -> bytearray:
    """Return one row of parity for these data extents, which are given in the order of their places."""
    result = bytearray(max(len(extent) for extent in data))
    _combine([[_coefficient(row, place) for place in range(len(data))]], data, [result])
    return result


def reconstruct(lost: Mapping[int, int], data: Mapping[int, Bytes], rows: Mapping[int, Bytes]) -> dict[int, bytearray]:
    """Return the lost data extents of a stripe, by place.

    `lost`: their lengths in bytes, by place. `data`: all other data extents of the stripe, by place. `rows`: parity
    extents by row. Raises ValueError if these are fewer than the lost extents.
    """
    if len(rows) < len(lost):
        raise ValueError(f"{len(lost)} extents are lost, and {len(rows)} of parity are left")
    places, used = sorted(lost), sorted(rows)[: len(lost)]
    if not places:
        return {}
    inverse = isal.invert([[_coefficient(row, place) for place in places] for row in used])
    known = sorted(data)
    coefficients = [
        [*solution, *(_dot(solution, [_coefficient(row, place) for row in used]) for place in known)]
        for solution in inverse
    ]
    sources = [*(rows[row] for row in used), *(data[place] for place in known)]
    results = [bytearray(max(map(len, sources))) for _ in places]  # as long as parity; cut to their lengths below
    _combine(coefficients, sources, results)
    return {place: result[: lost[place]] for place, result in zip(places, results, strict=True)}


def _coefficient(row: int, place: int) -> int:
    """Return 2^place in row 1, and 1 in row 0."""
    value = 1
    for _ in range(place * row):
        value = value << 1 ^ (0x11D if value & 0x80 else 0)
    return value


def _dot(a: Sequence[int], b: Sequence[int]) -> int:
    total = 0
    for one, other in zip(a, b, strict=True):
        total ^= isal.multiply(one, other)
    return total


def _combine(coefficients: Sequence[Sequence[int]], sources: Sequence[Bytes], results: Sequence[bytearray]) -> None:
    """Set each result to a linear combination of the sources. The results are as long as the longest source.

    Shorter sources are not padded: the bytes between two lengths are combined from the sources that are long enough.
    """
    start = 0
    for end in sorted({len(source) for source in sources} - {0}):
        reaching = [number for number, source in enumerate(sources) if len(source) >= end]
        some = [[row[number] for number in reaching] for row in coefficients]
        isal.combine(some, [sources[number] for number in reaching], results, start, end)
        start = end
