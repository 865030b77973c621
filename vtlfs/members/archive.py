"""Walking over the archives of a stream with libarchive, in the worker process.

An archive that isn't compressed is skipped through: the data of large members is not read. A compressed one is unpacked
from its beginning. Behind an archive there may be others: what comes after its end, and after zeros, is looked at anew,
and where it is nothing that is known, a tar header is searched in a mebibyte, as `tar -i` would.
"""

import re
import stat
from collections.abc import Generator, Iterator
from contextlib import closing
from ctypes import c_char_p, c_int, c_longlong, c_void_p
from dataclasses import dataclass, replace

from libarchive import ffi

from vtlfs.members.filling import FoundArchive, FoundMember
from vtlfs.members.formats import ENOUGH, UNKNOWN, compression_of, why_unknown
from vtlfs.members.inputs import (
    MIB,
    Input,
    Opened,
    Plain,
    Source,
    Unpacked,
    filter_bytes,
    form_of,
    function,
    header_position,
    next_header,
)
from vtlfs.members.values import NO_COMPRESSION, Kind

MAX_SIZE = 1 << 62
MAX_ZEROS = 64 * MIB  # that are passed over between two archives
MAX_SEARCH = MIB  # in which a tar header is searched
MAX_PATH = 4096  # bytes: no system call takes a longer one
MAX_RETRIES = 1_000_000  # blocks that are no header where one should be
MAX_GLOBAL = 4096  # bytes of a pax global header that are looked at
BLOCK = 512
_KEYWORD = re.compile(rb"(?:^|\n)[1-9][0-9]{0,5} ([A-Za-z][A-Za-z0-9._]{0,40})=")
_COMMENTS = (b"comment", b"charset", b"hdrcharset", b"atime", b"ctime")
_USTAR_AT = 257

_FORMATS = {0x10000: "cpio", 0x30000: "tar"}  # by archive_format() & 0xFF0000
_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
}

_pathname = function("entry_pathname", [c_void_p], c_char_p)
_filetype = function("entry_filetype", [c_void_p], c_int)
_size = function("entry_size", [c_void_p], c_longlong)
_mtime = function("entry_mtime", [c_void_p], c_longlong)
_mtime_is_set = function("entry_mtime_is_set", [c_void_p], c_int)
_hardlink = function("entry_hardlink", [c_void_p], c_char_p)
_symlink = function("entry_symlink", [c_void_p], c_char_p)


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that can't be read, in a clause. `is_unknown`: nothing of the stream can be."""

    text: str
    is_unknown: bool = False


Found = FoundArchive | FoundMember | Remark


def walk(source: Source, start: int = 0) -> Iterator[Found]:
    """Yield the archives of a stream, after each its members, and what can't be read.

    `start`: of a header in an archive that is not compressed, from which to go on: the rest counts as an archive, too.
    """
    plain = Plain(source)
    plain.rewind(start)
    has_archive = start > 0
    if not has_archive and (why := why_unknown(source.read(0, min(ENOUGH, source.size)))):
        yield Remark(why, is_unknown=True)
        return
    while True:
        beginning, zeros = _beginning(plain)
        if not beginning:
            if not has_archive:
                yield Remark(f"it is {zeros}", is_unknown=True)
            return
        compression = compression_of(beginning)
        if compression is not None:
            start = plain.at
            with closing(Unpacked(source, start, compression)) as unpacked:
                yield from _archives(unpacked, start, compression)
            return
        where = plain.at
        why = why_unknown(beginning)
        if why is None and (yield from _archive(plain, None, NO_COMPRESSION)):
            has_archive = True
            continue
        plain.rewind(where)
        if why is None and _search(plain):
            continue
        text = why or UNKNOWN
        yield Remark(text if not has_archive else f"from byte {where} on: {text}", is_unknown=not has_archive)
        return


def _archives(unpacked: Unpacked, start: int, compression: str) -> Iterator[Found]:
    """Yield what is in compressed data that begins at `start` of the stream."""
    has_archive = False
    while True:
        beginning, _ = _beginning(unpacked)
        if not beginning:
            break
        where = unpacked.at
        if why := why_unknown(beginning):
            yield Remark(f"in {compression}: {why}", is_unknown=not has_archive)
            return
        if not (yield from _archive(unpacked, start, compression)):
            if unpacked.error is None:
                more = f"from byte {where} of what is unpacked on: " if has_archive else f"in {compression}: "
                yield Remark(more + UNKNOWN, is_unknown=not has_archive)
            break
        has_archive = True
    if unpacked.error is not None:
        yield Remark(f"{compression}: {unpacked.error}", is_unknown=not has_archive)
    elif not beginning and not has_archive:
        yield Remark(f"in {compression}: nothing but zeros", is_unknown=True)


def _beginning(source: Input) -> tuple[bytes, str]:
    """Go to the next byte that is not zero; return what begins there. Nothing: only zeros follow, or too many."""
    passed = 0
    while passed < MAX_ZEROS:
        where = source.at
        found = source.block(where)
        if not found:
            return b"", "only zeros" if passed else "empty"
        if rest := found.lstrip(b"\0"):
            begin = where + len(found) - len(rest)
            while len(rest) < ENOUGH and (more := source.block(begin)):
                rest += more
            source.rewind(begin)
            return rest, ""
        passed += len(found)
    return b"", "only zeros"


def _search(plain: Plain) -> bool:
    """Go to the next tar header, in whole blocks from where the input is, but not there; tell whether there is one."""
    where, found = plain.at, b""
    while len(found) < MAX_SEARCH and (more := plain.block(where)):
        found += more
    place = found.find(b"ustar", BLOCK + _USTAR_AT)
    while place >= 0:
        header = place - _USTAR_AT
        if header % BLOCK == 0 and _is_header(found[header : header + BLOCK]):
            plain.rewind(where + header)
            return True
        place = found.find(b"ustar", place + 1)
    return False


def _is_header(block: bytes) -> bool:
    """Tell whether a block has the checksum of a tar header."""
    try:
        said = int(block[148:156].strip(b" \0") or b"x", 8)
    except ValueError:
        return False
    return said == sum(block) - sum(block[148:156]) + 8 * ord(" ")


def _archive(source: Input, start: int | None, compression: str) -> Generator[Found, None, bool]:
    """Yield an archive that begins where the input is, and its members; return whether there is one.

    `start`: where its compressed data begins; None: it is not compressed. The input is behind it afterwards.
    """
    begin = source.at
    with closing(Opened(source, "tar cpio")) as opened, closing(_Headers(opened, source)) as headers:
        is_known = False
        for found in headers.read():
            if not is_known:
                is_known = True
                form = _FORMATS.get(form_of(opened.pointer) & 0xFF0000, "tar")
                yield FoundArchive(begin if start is None else start, form, compression)
            yield found
        if not is_known and headers.error is not None:
            return False
        end = begin + filter_bytes(opened.pointer, 0)
        if headers.error is None:
            source.rewind(end)
            return True
        yield Remark(headers.error)
    if isinstance(source, Plain):
        source.rewind(max(end, begin + BLOCK))
        if _search(source):
            return True
    while source.skip(MAX_SIZE) or source.block(source.at):
        pass  # to the end
    return True


class _Headers:
    """The headers of one archive. `error`: why it ends before its end; `strange`: blocks that should be headers.

    Of strange blocks, and of members that are left out, the first is told at once: a walk that is interrupted, and goes
    on behind them, does not forget them.
    """

    def __init__(self, opened: Opened, source: Input) -> None:
        self.error: str | None = None
        self.strange = 0
        self.left_out = 0
        self._has_global = False
        self._opened = opened
        self._source = source
        self._entry = ffi.entry_new()

    def close(self) -> None:
        """Free what libarchive has allocated."""
        ffi.entry_free(self._entry)

    def read(self) -> Iterator[FoundMember | Remark]:
        """Yield the members, and remarks. A member is known when the next header is, since it ends there."""
        if self._opened.result != ffi.ARCHIVE_OK:
            self.error = self._opened.error()
            return
        member: FoundMember | None = None
        while True:
            result = next_header(self._opened.pointer, self._entry)
            if self._opened.failure is not None:
                raise self._opened.failure
            position = header_position(self._opened.pointer)  # negative: libarchive knows nothing any more
            where = self._source.end if position < 0 else self._opened.start + position
            if member is not None:
                yield replace(member, end=max(member.start, where))
                member = None
            if result == ffi.ARCHIVE_EOF:
                return
            if result == ffi.ARCHIVE_RETRY and self.strange < MAX_RETRIES:
                self.strange += 1
                if self.strange == 1:
                    yield Remark(f"from byte {where} on, blocks are no headers that should be")
            elif result in (ffi.ARCHIVE_OK, ffi.ARCHIVE_WARN):
                if not self._has_global and (said := _global(self._source, where)):
                    self._has_global = True
                    yield Remark(f"not applied is what a pax global header at byte {where} says of all members: {said}")
                member = _member(self._entry, where)
                self.left_out += member is None
                if member is None and self.left_out == 1:
                    yield Remark(f"members without a name of 1 to {MAX_PATH} bytes are left out, from byte {where} on")
            else:
                self.error = f"{'cut off' if position < 0 else 'damaged'} at byte {where}: {self._opened.error()}"
                return


def _global(source: Input, where: int) -> str:
    """Return the keywords of a pax global header at an offset; empty: there is none, or none that matters."""
    header = source.peek(where, BLOCK)
    if header[156:157] != b"g" or header[_USTAR_AT : _USTAR_AT + 5] != b"ustar":
        return ""
    words = dict.fromkeys(_KEYWORD.findall(source.peek(where + BLOCK, MAX_GLOBAL)))
    return ", ".join(word.decode("ascii", "replace") for word in words if word not in _COMMENTS)


def _member(entry: int, start: int) -> FoundMember | None:
    """Return what libarchive has read of a member, with the end unknown; None where its name can't be taken."""
    path = _pathname(entry)
    if not path or len(path) > MAX_PATH:
        return None
    kind = _KINDS.get(_filetype(entry) & 0o170000, Kind.OTHER)
    link: bytes | None = _hardlink(entry)
    if link is not None:
        kind = Kind.HARD_LINK
    elif kind is Kind.SYMLINK:
        link = _symlink(entry)
    name = path.decode("utf-8", "surrogateescape")
    return FoundMember(
        name.rstrip("/") or name,
        kind,
        min(max(0, _size(entry)), MAX_SIZE),
        _mtime(entry) if _mtime_is_set(entry) else None,
        None if link is None else link[:MAX_PATH].decode("utf-8", "surrogateescape"),
        start,
        start,
    )
