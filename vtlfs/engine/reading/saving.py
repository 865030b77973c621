"""Reading what is left of a damaged medium: zeros stand for each extent that can't be read. In the trio loop.

For `vtlfs extract --skip-damaged`. Readers of a mount get an error in the place of a hole.
"""

from collections.abc import Callable
from dataclasses import dataclass

import trio

from vtlfs.disks.pool import DiskPool
from vtlfs.engine.reading.reader import MediumReader
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.engine.tracking.rows import contradiction
from vtlfs.errors import DamagedExtent, DiskError
from vtlfs.model import TapeFile

PATIENCE = 30.0  # seconds for which an extent is waited for, before it counts as lost
IMPATIENCE = 5.0  # ... of a disk that has not answered for long already


@dataclass(frozen=True, slots=True)
class Hole:
    """Bytes of a tape file that are lost, from `offset` in it, and why: each cause once."""

    file: TapeFile
    offset: int
    bytes: int
    causes: tuple[str, ...]

    @property
    def end(self) -> int:
        """Where the hole ends, in the tape file."""
        return self.offset + self.bytes

    def joined(self, other: "Hole") -> "Hole":
        """Return this hole and the one that follows it as one."""
        causes = dict.fromkeys((*self.causes, *other.causes))
        return Hole(self.file, self.offset, self.bytes + other.bytes, tuple(causes))

    def __str__(self) -> str:
        where = f"medium {self.file.medium}, tape file {self.file.number:04d}, offset {self.offset}"
        return f"{where}: {self.bytes} bytes are lost, zeros in their place: {'; '.join(self.causes)}"


class Saver:
    """Reads a medium extent by extent, past those that can't be had."""

    def __init__(self, barcode: str, volume: int, reader: MediumReader, catalogue: Catalogue, pool: DiskPool) -> None:
        """`reader` is that of the medium."""
        self._barcode = barcode
        self._volume = volume
        self._reader = reader
        self._catalogue = catalogue
        self._pool = pool

    async def save(
        self, start: int, end: int, take: Callable[[memoryview], None], lost: Callable[[Hole], None]
    ) -> None:
        """Hand the bytes between two offsets on the medium to `take`, with zeros for what is lost.

        `lost` is told each hole once it is known how long it is: those that adjoin in one tape file are one.
        """
        offset, last = start, None
        while offset < end:
            file = await self._file(offset)
            found = await self._piece(file, offset - file.start, end - file.start)
            if isinstance(found, Hole):
                adjoins = last is not None and (last.file, last.end) == (file, found.offset)
                if last is not None and not adjoins:
                    lost(last)
                last = last.joined(found) if last is not None and adjoins else found
                found = memoryview(bytes(found.bytes))
            take(found)
            offset += len(found)
        if last is not None:
            lost(last)

    async def _file(self, offset: int) -> TapeFile:
        file = await self._catalogue.read(lambda tracking: tracking.tape_files.at(self._barcode, self._volume, offset))
        if file is None:
            raise contradiction(f"medium {self._barcode} at byte {offset}")
        return file

    async def _piece(self, file: TapeFile, offset: int, end: int) -> memoryview | Hole:
        """Return the bytes of a tape file from an offset to the end of the extent there, or the hole there."""
        border, patience = await self._border(file, offset)
        size = min(border, file.bytes, end) - offset
        cause = f"no answer for {patience:g} s"
        with trio.move_on_after(patience):
            try:
                return memoryview(await self._reader.read(file.start + offset, size))
            except DamagedExtent as error:
                cause = error.why if error.disk is None else f"disk {error.disk}: {error.why}"
            except DiskError as error:
                cause = f"disk {error.disk} ({error.path}): {error.reason}"
        return Hole(file, offset, size, (cause,))

    async def _border(self, file: TapeFile, offset: int) -> tuple[int, float]:
        """Return where the extent that has the byte ends, or the gap in which it is, and how long to wait for it."""
        rows = await self._catalogue.read(lambda tracking: tracking.extents.of(file.session, offset, 2))
        unit_end = (offset // file.stripe_unit + 1) * file.stripe_unit
        for row in rows:
            if (row.offset or 0) <= offset < row.end:
                hangs = row.disk in {disk.number for disk in self._pool.disks if disk.reads_hang}
                return min(row.end, unit_end), IMPATIENCE if hangs else PATIENCE
        return min([unit_end, *(row.offset or 0 for row in rows if (row.offset or 0) > offset)]), PATIENCE
