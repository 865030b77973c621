"""A preview of a tape file or a medium: its first bytes, and the members if it is a tar archive.

A worker thread calls `read_preview`, which reads from the disks and so may block. A second thread reads the archive:
`tarfile` is synchronous, so each of its reads runs in the trio loop of the first thread.
"""

import io
import lzma
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import trio

from vtlfs.disks.base import Disk
from vtlfs.disks.pool import DiskPool
from vtlfs.engine.library import Library
from vtlfs.engine.reading.reader import MediumReader
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.errors import VtlfsError
from vtlfs.model import format_size
from vtlfs.tui.source import Target

FIRST_BYTES = 4096
BYTES_PER_LINE = 16
MAX_MEMBERS = 1000
MAX_ARCHIVE_BYTES = 256 << 20  # read to list the members: a compressed archive has no index, and is read in full


@dataclass(frozen=True, slots=True)
class Preview:
    """`size` is of all the data. `members` is None if the data is no tar archive; with `more`, some are left out."""

    size: int
    first_bytes: bytes
    members: list[str] | None
    more: bool = False


class _StreamFile(io.RawIOBase):
    """The bytes from `start` to `end` of a medium as a file, for a thread that is not trio's."""

    def __init__(self, reader: MediumReader, start: int, end: int) -> None:
        self._reader = reader
        self._start = start
        self._end = end
        self._offset = start
        self._bytes_read = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._offset - self._start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: self._start, io.SEEK_CUR: self._offset, io.SEEK_END: self._end}[whence]
        self._offset = base + offset
        return self._offset - self._start

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._end - self._offset)
        size = left if size < 0 else min(size, left)
        self._bytes_read += size
        if self._bytes_read > MAX_ARCHIVE_BYTES:
            raise EOFError
        data = bytes(trio.from_thread.run(self._reader.read, self._offset, size)) if size else b""
        self._offset += len(data)
        return data


def read_preview(library: Library, target: Target, open_tracking: Callable[[], Tracking]) -> Preview:
    """Return the preview of data in the state that `open_tracking` opens. Raises VtlfsError."""
    return trio.run(_read_preview, library, target, open_tracking, strict_exception_groups=True)


async def _read_preview(library: Library, target: Target, open_tracking: Callable[[], Tracking]) -> Preview:
    tracking = open_tracking()
    try:
        life = tracking.media.get(target.barcode).volume if target.volume is None else target.volume
        if target.number is None:
            start, end = 0, tracking.volumes.get(target.barcode, life).bytes
        else:
            tape_file = tracking.tape_files.get(target.barcode, target.number, volume=life)
            start, end = tape_file.start, tape_file.end
        disks: list[Disk] = library.disks_to_read()
        pool = DiskPool(disks, library.config.stripe_unit)
        try:
            reader = MediumReader(target.barcode, life, end, Catalogue(tracking), pool, lambda: 0)
            first_bytes = bytes(await reader.read(start, min(FIRST_BYTES, end - start)))
            members, more = await trio.to_thread.run_sync(_list_members, _StreamFile(reader, start, end))
            return Preview(end - start, first_bytes, members, more)
        finally:
            pool.close()
    finally:
        tracking.close()


def _list_members(file: _StreamFile) -> tuple[list[str] | None, bool]:
    """Return one line for each member, None if the file is no tar archive; and whether there may be more members."""
    lines: list[str] = []
    try:
        with tarfile.open(fileobj=file, mode="r:*") as archive:
            for member in archive:
                if len(lines) == MAX_MEMBERS:
                    return lines, True
                lines.append(_member_line(member))
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, OverflowError, VtlfsError, ValueError):
        return lines or None, bool(lines)  # data that is no archive, or one that is truncated: both are common
    return lines or None, False


def _member_line(member: tarfile.TarInfo) -> str:
    kind = "d" if member.isdir() else "l" if member.issym() else "-" if member.isfile() else "?"
    link = f" -> {member.linkname}" if member.issym() else ""
    return f"{kind} {format_size(member.size):>9} {member.name}{link}"


def hex_dump(data: bytes) -> list[str]:
    """Return lines of an offset, bytes in hexadecimal, and the same bytes as text."""
    lines = []
    for offset in range(0, len(data), BYTES_PER_LINE):
        piece = data[offset : offset + BYTES_PER_LINE]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        halves = f"{piece[:8].hex(' '):<23}  {piece[8:].hex(' '):<23}"
        lines.append(f"{offset:08x}  {halves}  {text}")
    return lines
