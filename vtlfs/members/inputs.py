"""What archives are read from, through libarchive: a stream itself, or what it unpacks to. In the worker process."""

import locale
from collections import deque
from ctypes import CFUNCTYPE, POINTER, c_char, c_char_p, c_int, c_int64, c_longlong, c_size_t, c_void_p, cast
from typing import Any, Protocol

from libarchive import ffi

MIB = 1 << 20
SMALL_BLOCK = 64 << 10  # that is read behind data that was skipped; each further one is twice as long

_SKIP_CALLBACK = CFUNCTYPE(c_longlong, c_void_p, c_void_p, c_longlong)


def function(name: str, arguments: list[Any], result: Any) -> Any:
    """Return a function of libarchive without the error handling of libarchive-c, which logs warnings."""
    function = ffi.libarchive[f"archive_{name}"]
    function.argtypes, function.restype = arguments, result
    return function


next_header = function("read_next_header2", [c_void_p, c_void_p], c_int)
header_position = function("read_header_position", [c_void_p], c_longlong)
filter_bytes = function("filter_bytes", [c_void_p, c_int], c_longlong)
form_of = function("format", [c_void_p], c_int)
_error = function("error_string", [c_void_p], c_char_p)
_open = function("read_open", [c_void_p, c_void_p, c_void_p, ffi.READ_CALLBACK, c_void_p], c_int)
_set_skip = function("read_set_skip_callback", [c_void_p, _SKIP_CALLBACK], c_int)
_data_block = function("read_data_block", [c_void_p, POINTER(c_void_p), POINTER(c_size_t), POINTER(c_int64)], c_int)


class Source(Protocol):
    """The stream, as the worker is handed it."""

    size: int

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes at the offset; fewer only at the end. Raises what ends the walk."""


class Input(Protocol):
    """What archives are read from, by libarchive: `at` is where it reads next."""

    at: int
    skips: bool

    @property
    def end(self) -> int:
        """The offset behind the last byte, as far as that is known by now."""

    def block(self, consumed: int) -> bytes:
        """Return the next bytes, none at the end. `consumed`: what comes before that offset is not needed again."""

    def rewind(self, offset: int) -> None:
        """Read from an offset on, which was not consumed yet."""

    def skip(self, size: int) -> int:
        """Pass over bytes; return how many."""

    def peek(self, offset: int, size: int) -> bytes:
        """Return bytes that were read a while ago; fewer where they are not at hand any more."""


class Plain:
    """The stream itself."""

    skips = True

    def __init__(self, source: Source) -> None:
        self.at = 0
        self._source = source
        self._size = MIB

    @property
    def end(self) -> int:
        return self._source.size

    def block(self, consumed: int) -> bytes:
        found = self._source.read(self.at, min(self._size, self._source.size - self.at)) if self._left else b""
        self.at += len(found)
        self._size = min(2 * self._size, MIB)
        return found

    def rewind(self, offset: int) -> None:
        self.at = offset
        self._size = MIB

    def skip(self, size: int) -> int:
        size = min(size, self._left)
        self.at += size
        self._size = SMALL_BLOCK
        return size

    def peek(self, offset: int, size: int) -> bytes:
        return self._source.read(offset, min(size, self._source.size - offset))

    @property
    def _left(self) -> int:
        return max(0, self._source.size - self.at)


class Unpacked:
    """What compressed data unpacks to. It goes on to the end of the stream. `error`: why not all could be unpacked."""

    skips = False

    def __init__(self, source: Source, start: int, compression: str) -> None:
        self.at = 0
        self.error: str | None = None
        self._packed = Plain(source)
        self._packed.rewind(start)
        self._kept: deque[bytes] = deque()  # those up to `_end` that may be needed again
        self._end = 0
        self._archive = Opened(self._packed, "raw", compression)
        self._entry = ffi.entry_new()
        self._ended = next_header(self._archive.pointer, self._entry) not in (ffi.ARCHIVE_OK, ffi.ARCHIVE_WARN)
        if self._ended:
            self.error = self._archive.error()

    @property
    def end(self) -> int:
        return self._end

    @property
    def failure(self) -> BaseException | None:
        """What reading the compressed data has raised."""
        return self._archive.failure

    def close(self) -> None:
        ffi.entry_free(self._entry)
        self._archive.close()

    def block(self, consumed: int) -> bytes:
        while self._kept and self._end - sum(map(len, self._kept)) + len(self._kept[0]) <= consumed:
            self._kept.popleft()
        offset = self._end - sum(map(len, self._kept))
        for piece in self._kept:
            if offset <= self.at < offset + len(piece):
                found = piece[self.at - offset :]
                self.at += len(found)
                return found
            offset += len(piece)
        found = self._next()
        if found:
            self._kept.append(found)
            self._end += len(found)
            self.at = self._end
        return found

    def rewind(self, offset: int) -> None:
        self.at = offset

    def skip(self, size: int) -> int:
        return 0

    def peek(self, offset: int, size: int) -> bytes:
        begin = self._end - sum(map(len, self._kept))
        found = b""
        for piece in self._kept:
            if begin <= offset + len(found) < begin + len(piece):
                found += piece[offset + len(found) - begin :][: size - len(found)]
            begin += len(piece)
        return found

    def _next(self) -> bytes:
        buffer, size, offset = c_void_p(), c_size_t(), c_int64()
        while not self._ended:
            result = _data_block(self._archive.pointer, buffer, size, offset)
            if result not in (ffi.ARCHIVE_OK, ffi.ARCHIVE_WARN):
                self._ended = True
                self.error = None if result == ffi.ARCHIVE_EOF else self._archive.error()
            elif size.value:
                return bytes((c_char * size.value).from_address(buffer.value or 0))
        return b""


class Opened:
    """An archive of libarchive, opened over an input from where that is. `start`: offset of its first byte."""

    def __init__(self, source: Input, form: str, compression: str | None = None) -> None:
        self.pointer = ffi.read_new()
        self.start = source.at
        self.failure: BaseException | None = None  # of the source: raised where libarchive has returned
        self._source = source
        self._buffer = b""
        for name in form.split():
            ffi.get_read_format_function(name)(self.pointer)
        if compression is not None:
            ffi.get_read_filter_function(compression)(self.pointer)
        self._read = ffi.READ_CALLBACK(self._block)
        self._skip = _SKIP_CALLBACK(self._pass)
        if source.skips:
            _set_skip(self.pointer, self._skip)
        self.result = _open(self.pointer, None, None, self._read, None)

    def close(self) -> None:
        ffi.read_free(self.pointer)

    def error(self) -> str:
        """Return libarchive's last error as a clause."""
        said = _error(self.pointer)
        return "it can't be read" if said is None else said.decode("utf-8", "replace")[:200]

    def _block(self, _archive: int, _data: int, place: Any) -> int:
        try:
            self._buffer = self._source.block(self.start + filter_bytes(self.pointer, 0))
        except BaseException as error:
            self.failure = error
            return int(ffi.ARCHIVE_FATAL)
        place[0] = cast(c_char_p(self._buffer), c_void_p)
        return len(self._buffer)

    def _pass(self, _archive: int, _data: int, size: int) -> int:
        return self._source.skip(size)


def prepare() -> None:
    """Have libarchive take names as UTF-8, and other bytes as they are. For the worker's process."""
    for name in ("C.UTF-8", "C.utf8", "en_US.UTF-8"):
        try:
            locale.setlocale(locale.LC_CTYPE, name)
        except locale.Error:
            continue
        return
