"""Looking at the beginning of a tape file or a medium: its first bytes, and the members of a tar archive. May block."""

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
from vtlfs.errors import VtlfsError
from vtlfs.model import format_size
from vtlfs.tui.source import Target

FIRST_BYTES = 4096
WIDTH = 16  # bytes in a line
MAX_MEMBERS = 1000
MAX_READ = 256 << 20  # bytes that the list of members may cost, for a compressed archive has to be read as a whole


@dataclass(frozen=True, slots=True)
class Peek:
    """What was found. `members` is None where it is no tar archive; `more`: there may be further ones."""

    size: int
    first: bytes
    members: list[str] | None
    more: bool = False


class _File(io.RawIOBase):
    """The data as a file, for a thread that is not trio's."""

    def __init__(self, reader: MediumReader, start: int, end: int) -> None:
        self._reader = reader
        self._start = start
        self._end = end
        self._at = start
        self.read_bytes = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at - self._start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: self._start, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        self._at = base + offset
        return self._at - self._start

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._end - self._at)
        size = left if size < 0 else min(size, left)
        self.read_bytes += size
        if self.read_bytes > MAX_READ:
            raise EOFError
        data = bytes(trio.from_thread.run(self._reader.read, self._at, size)) if size else b""
        self._at += len(data)
        return data


def peek(library: Library, target: Target, opening: Callable[[], Tracking]) -> Peek:
    """Look at the data, in the state that `opening` opens. Raises VtlfsError."""
    return trio.run(_peek, library, target, opening, strict_exception_groups=True)


async def _peek(library: Library, target: Target, opening: Callable[[], Tracking]) -> Peek:
    tracking = opening()
    try:
        if target.number is None:
            start, end = 0, tracking.medium(target.barcode).bytes
        else:
            tape_file = tracking.tape_file(target.barcode, target.number)
            start, end = tape_file.start, tape_file.end
        disks: list[Disk] = library.disks_to_read()
        pool = DiskPool(disks, library.config.stripe_unit)
        try:
            reader = MediumReader(target.barcode, end, tracking, pool, lambda: 0)
            first = bytes(await reader.read(start, min(FIRST_BYTES, end - start)))
            members, more = await trio.to_thread.run_sync(_members, _File(reader, start, end))
            return Peek(end - start, first, members, more)
        finally:
            pool.close()
    finally:
        tracking.close()


def _members(file: _File) -> tuple[list[str] | None, bool]:
    """Return the lines of a tar archive's members, None if it is none, and whether there may be more."""
    lines: list[str] = []
    try:
        with tarfile.open(fileobj=file, mode="r:*") as archive:
            for member in archive:
                if len(lines) == MAX_MEMBERS:
                    return lines, True
                lines.append(_line(member))
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, OverflowError, VtlfsError, ValueError):
        return lines or None, bool(lines)
    return lines or None, False


def _line(member: tarfile.TarInfo) -> str:
    kind = "d" if member.isdir() else "l" if member.issym() else "-" if member.isfile() else "?"
    link = f" -> {member.linkname}" if member.issym() else ""
    return f"{kind} {format_size(member.size):>9} {member.name}{link}"


def hexadecimal(data: bytes) -> list[str]:
    """Return lines of an offset, bytes in hexadecimal, and as text."""
    lines = []
    for at in range(0, len(data), WIDTH):
        piece = data[at : at + WIDTH]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        halves = f"{piece[:8].hex(' '):<23}  {piece[8:].hex(' '):<23}"
        lines.append(f"{at:08x}  {halves}  {text}")
    return lines
