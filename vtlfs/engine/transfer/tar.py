"""Exported media as a tar stream: written in one pass, and read with little memory, whatever it is. May block.

docs/export.md specifies the order of the members. The headers are those of ustar, with GNU's form of sizes from 8 GiB
on, so no member needs another header before it. That is why a reader can refuse all others, such as links.
"""

import tarfile
from collections.abc import Callable
from typing import BinaryIO

from vtlfs.engine.transfer.manifest import BadExport
from vtlfs.errors import VtlfsError
from vtlfs.model import MIB, epoch_ns

PIECE = MIB
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)


class TarWriter:
    """Writes members one after the other to `write`."""

    def __init__(self, write: Callable[[memoryview], object]) -> None:
        self._write = write
        self._written = 0

    def begin(self, name: str, size: int, time: str) -> None:
        """Begin a member of `size` bytes, which are then added."""
        header = tarfile.TarInfo(name)
        header.size, header.mode, header.mtime = size, 0o600, epoch_ns(time) // 10**9
        self.add(memoryview(header.tobuf(tarfile.GNU_FORMAT)))

    def add(self, data: memoryview) -> None:
        """Add bytes to the member."""
        self._write(data)
        self._written += len(data)

    def end(self, *, unit: int = tarfile.BLOCKSIZE) -> None:
        """End the member: fill the block up."""
        if rest := -self._written % unit:
            self.add(memoryview(bytes(rest)))

    def small(self, name: str, content: bytes, time: str) -> None:
        """Write a whole member."""
        self.begin(name, len(content), time)
        self.add(memoryview(content))
        self.end()

    def close(self) -> None:
        """End the stream."""
        self.add(memoryview(bytes(2 * tarfile.BLOCKSIZE)))
        self.end(unit=tarfile.RECORDSIZE)


class TarReader:
    """Reads members one after the other. Raises BadExport for whatever `vtlfs media export` does not write."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        """`name` is that of the stream, for errors."""
        self.name = name
        self._file = file
        self._read = 0
        self._left = 0  # of the member

    def next(self) -> tuple[str, int] | None:
        """Return the name and the size of the next member; None at the end. The member before was read to its end."""
        while True:
            assert self._left == 0
            self._take(-self._read % tarfile.BLOCKSIZE)
            block = self._take(tarfile.BLOCKSIZE)
            if not any(block):
                self._take(-self._read % tarfile.RECORDSIZE, may_end=True)
                return None
            try:
                header = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
            except (tarfile.HeaderError, ValueError):
                raise BadExport(self.name, "no tar stream, or damaged") from None
            if header.type == tarfile.DIRTYPE and header.size == 0:
                continue
            if header.type not in _REGULAR or header.size < 0:
                raise BadExport(self.name, f"{header.name!r} is no regular file") from None
            self._left = header.size
            return header.name, header.size

    def read(self) -> bytes:
        """Return the next bytes of the member; none at its end."""
        piece = self._take(min(PIECE, self._left))
        self._left -= len(piece)
        return piece

    def _take(self, size: int, *, may_end: bool = False) -> bytes:
        try:
            piece = self._file.read(size) if size else b""
        except OSError as error:
            raise VtlfsError(f"{self.name}: {error.strerror}; run the command again: it goes on from there") from None
        self._read += len(piece)
        if len(piece) < size and not may_end:
            raise BadExport(self.name, f"ends after {self._read} bytes, and is not whole")
        return piece
