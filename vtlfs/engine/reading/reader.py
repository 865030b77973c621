"""Reading back: tape files and media, extent by extent, from all disks at once, each checked."""

from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import pairwise, takewhile

import outcome
import trio

from vtlfs.disks.pool import DiskPool
from vtlfs.engine.layout.intervals import NO_NUMBERS
from vtlfs.engine.memory import NO_LIMIT, MemoryBudget
from vtlfs.engine.reading import stored
from vtlfs.engine.reading.loads import Load, LoadCache
from vtlfs.engine.reading.reconstruct import NotReconstructable, reconstruct
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.engine.tracking.rows import contradiction
from vtlfs.errors import DamagedExtent, DiskError, DiskMissing, Reclaimed, VtlfsError
from vtlfs.model import NO_CODEC, Extent, TapeFile

ROWS_AT_ONCE = 128  # extents that are looked up in the database together
MOST_AHEAD = ROWS_AT_ONCE // 2  # extents: what is read and what is fetched ahead are looked up together
MOST_MOVES = 5  # of an extent, while it is read
FIRST_ROWS = 8  # ... the first time: who reads no further needs no more


class StreamReader:
    """Reads one tape file. Sequential reading has the next extents fetched ahead, from all disks at the same time."""

    __slots__ = (
        *("_cache", "_catalogue", "_closed", "_computing", "_file", "_last", "_pool", "_read_ahead", "_rows", "_told"),
        "loads",
    )

    def __init__(
        self, tape_file: TapeFile, catalogue: Catalogue, pool: DiskPool, read_ahead: Callable[[], int], cache: LoadCache
    ) -> None:
        """`read_ahead` tells how many stripe units to fetch ahead; `cache` counts what is loaded, and may drop it."""
        self._file = tape_file
        self._catalogue = catalogue
        self._pool = pool
        self._read_ahead = read_ahead
        self._rows: list[Extent] = []  # one behind the other
        self._cache = cache
        self.loads: dict[int, Load] = {}  # by offset; the most recently used last
        self._closed = False
        self._computing = trio.Lock()
        self._last = (-1, 0)  # of the extent that was read last: where it begins and ends
        self._told: frozenset[int] = NO_NUMBERS  # offsets of extents whose error was told before

    async def read(self, offset: int, size: int) -> list[memoryview]:
        """Return the tape file's bytes at the offset in pieces; fewer at its end. Raises DamagedExtent, DiskError."""
        parts: list[memoryview] = []
        end = min(offset + size, self._file.bytes)
        while offset < end:
            start, data = await self._extent(offset)
            part = memoryview(data)[offset - start : end - start]
            parts.append(part)
            offset += len(part)
        return parts

    def close(self) -> None:
        """Let go of what was loaded, also of what is on its way."""
        self._closed = True
        for load in list(self.loads.values()):
            self._cache.drop(load)

    def emptied(self) -> None:
        """Forget where the extents lie, which is some 20 KiB: the reader is idle or closed."""
        self._rows = []

    async def _extent(self, offset: int) -> tuple[int, bytes]:
        """Return the extent that has the byte at the offset, and where it begins."""
        for _ in range(MOST_MOVES):
            try:
                row = self._known(offset) or await self._row(offset)
                found = await self._loaded(row)
            except DamagedExtent as error:
                raise self._explained(error, offset) from None
            begin = row.offset or 0
            if isinstance(found, outcome.Value):
                return begin, found.value
            if isinstance(found, outcome.Error):
                raise self._explained(found.error, begin)
        why = "it is moved more quickly than it can be read"
        raise self._explained(DamagedExtent(self._file.session, offset, None, why), offset)

    async def _loaded(self, row: Extent) -> "outcome.Outcome[bytes] | None":
        """Return the bytes of an extent, or the error; None where it lies elsewhere by now: repair moves extents."""
        if row.disk not in self._pool and await self._has_moved(row):
            return None
        disk = self._pool.disk_of(row)
        if row.offset not in self.loads and disk.reads_hang:
            if await self._has_moved(row):
                return None
            await self._computed(row)
        if row.offset not in self.loads:
            await self._cache.room(row.stored)
        load = self._start(row)
        ahead = await self._fetch_ahead(row)
        self._last = (row.offset or 0, row.end)
        self._forget(keep=ahead + 2)
        with trio.move_on_after(0 if disk.reads_hang else self._pool.timing.reading):
            await load.arrived.wait()
        if self._closed:  # meanwhile
            self.close()
        is_here = isinstance(load.result, outcome.Value)
        if is_here and disk.disk.checks:
            return load.result
        if await self._has_moved(row):  # unchecked bytes may be those of a hole, where the extent was
            self._cache.drop(load)
            return None
        if is_here:
            return load.result
        if (found := await self._computed(row)) is not None:
            return outcome.Value(found)
        self._cache.drop(load)
        if await self._has_moved(row):  # while its stripe was read
            return None
        await load.arrived.wait()  # of a disk that hangs
        return load.result

    async def _has_moved(self, row: Extent) -> bool:
        """Tell whether an extent that can't be read lies elsewhere by now; then forget where the others were, too."""
        file, offset = self._file, row.offset or 0
        rows = await self._catalogue.read(lambda tracking: tracking.extents.of(file.session, offset, 1))
        if rows and rows[0] == row:
            return False
        self._rows = []
        return True

    async def _computed(self, row: Extent) -> bytes | None:
        """Compute an extent from the rest of its stripe, once for all its pieces that are read; None: it can't be."""
        assert row.offset is not None
        async with self._computing:
            known = self.loads.get(row.offset)
            if known is not None and isinstance(known.result, outcome.Value):
                return bytes(known.result.value)
            try:
                found = await reconstruct(row, self._file.stripe_unit, self._catalogue, self._pool)
            except NotReconstructable:
                return None
            if not self._closed:
                failed = self.loads.get(row.offset)
                load = Load(row.offset, row.stored, self, self._pool[row.disk])
                self._cache.begin(load)
                if failed is not None:
                    self._cache.drop(failed)
                self._cache.set_result(load, outcome.Value(found))
            return found

    async def _fetch_ahead(self, row: Extent) -> int:
        """Have the following extents fetched, if the last read was of this one or the one before; return how many."""
        if row.offset not in self._last:
            return 0
        until = min(row.end + self._read_ahead() * self._file.stripe_unit, self._file.bytes)
        fetched, offset = 0, row.end
        with suppress(DamagedExtent, Reclaimed):  # told when it is its turn
            while offset < until and fetched < MOST_AHEAD:
                following = self._known(offset) or await self._row(offset)
                is_new = offset not in self.loads
                if is_new and self._pool.disk_of(following).reads_hang:
                    offset = following.end
                    continue
                if is_new and not self._cache.may_read_ahead(following.stored):
                    break
                self._start(following)
                fetched, offset = fetched + 1, following.end
        return fetched

    def _explained(self, error: BaseException, offset: int) -> VtlfsError:
        """Return the error with what it means for the medium; it is news the first time that this extent is read."""
        file = self._file
        what = (
            f"medium {file.medium}, tape file {file.number:04d}, offset {offset}, {file.start + offset} on the medium"
        )
        match error:
            case DamagedExtent():
                explained: VtlfsError = DamagedExtent(error.session, error.offset, error.disk, error.why, what)
            case DiskMissing():
                return error
            case DiskError():
                what = f"session {file.session}; {what}"
                explained = DiskError(error.disk, error.path, OSError(error.errno, error.reason), what)
            case VtlfsError():
                return error
            case _:
                return VtlfsError(str(error))
        explained.is_news = offset not in self._told
        self._told |= {offset}
        return explained

    def _start(self, row: Extent) -> Load:
        assert row.offset is not None
        found = self.loads.pop(row.offset, None)
        if found is not None:
            self.loads[row.offset] = found
            self._cache.note_use(found)
            return found
        load = Load(row.offset, row.stored, self, self._pool.disk_of(row))
        self._cache.begin(load)
        stored.load(self._pool, row, partial(self._cache.set_result, load))
        return load

    async def _row(self, offset: int) -> Extent:
        """Look up the extent that has the byte at the offset, and those behind it."""
        file, count = self._file, ROWS_AT_ONCE if self._rows else FIRST_ROWS
        rows = await self._catalogue.read(lambda tracking: tracking.extents.of(file.session, offset, count))
        self._rows = list(takewhile(self._is_sound, rows))
        for place, (one, following) in enumerate(pairwise(self._rows)):
            if one.end > (following.offset or 0):  # either may be wrong
                del self._rows[place:]
                break
        row = self._known(offset)
        if row is None and await self._is_reclaimed():
            raise Reclaimed(file.medium, file.number)
        if row is None:
            is_there = any((one.offset or 0) <= offset < one.end for one in rows)
            why = "contradicts itself about it" if is_there else "does not know where it lies"
            raise DamagedExtent(file.session, offset, None, f"the tracking database {why}")
        return row

    async def _is_reclaimed(self) -> bool:
        """Tell whether the stored bytes of the tape file are deleted by now."""
        return await self._catalogue.read(lambda tracking: tracking.reclaiming.is_reclaimed(self._file.session))

    def _is_sound(self, row: Extent) -> bool:
        """Tell whether an extent lies within its tape file, and within one stripe unit of it."""
        unit = self._file.stripe_unit
        are_lengths_right = row.codec != NO_CODEC or row.stored == row.bytes
        return row.end <= self._file.bytes and (row.end - 1) // unit == (row.offset or 0) // unit and are_lengths_right

    def _known(self, offset: int) -> Extent | None:
        place = bisect_right(self._rows, offset, key=lambda row: row.offset or 0) - 1
        return self._rows[place] if place >= 0 and offset < self._rows[place].end else None

    def _forget(self, keep: int) -> None:
        for offset in list(self.loads)[: max(0, len(self.loads) - keep)]:
            self._cache.drop(self.loads[offset])


class MediumReader:
    """Reads a volume as it stood at one moment: its first `size` bytes, which are whole tape files."""

    __slots__ = ("_barcode", "_cache", "_catalogue", "_current", "_pool", "_read_ahead", "_volume", "size")

    def __init__(
        self,
        barcode: str,
        volume: int,
        size: int,
        catalogue: Catalogue,
        pool: DiskPool,
        read_ahead: Callable[[], int],
        cache: LoadCache | None = None,
    ) -> None:
        """`cache` is that of the mount. Without one, a reader has as much in memory as it reads ahead."""
        self.size = size
        self._cache = LoadCache(MemoryBudget(NO_LIMIT)) if cache is None else cache
        self._barcode = barcode
        self._volume = volume
        self._catalogue = catalogue
        self._pool = pool
        self._read_ahead = read_ahead
        self._current: tuple[TapeFile, StreamReader] | None = None

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return the bytes at the offset; fewer only at the medium's end. Raises DamagedExtent, DiskError."""
        end = min(offset + size, self.size)
        parts: list[memoryview] = []
        while offset < end:
            tape_file, stream = self._current_at(offset) or await self._stream(offset)
            stop = min(end, tape_file.end)
            parts += await stream.read(offset - tape_file.start, stop - offset)
            offset = stop
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def reads(self, barcode: str, volume: int) -> bool:
        """Tell whether it reads this volume."""
        return (self._barcode, self._volume) == (barcode, volume)

    def close(self) -> None:
        """Let go of what was loaded."""
        if self._current is not None:
            self._current[1].close()
            self._current = None

    async def _stream(self, offset: int) -> tuple[TapeFile, StreamReader]:
        """Return the tape file at the offset, and a reader of it, which becomes the current one."""
        tape_file = await self._catalogue.read(
            lambda tracking: tracking.tape_files.at(self._barcode, self._volume, offset)
        )
        if tape_file is None or tape_file.end > self.size:
            raise contradiction(f"medium {self._barcode} at byte {offset}")
        if (current := self._current_at(offset)) is not None:  # made by another read during the wait
            return current
        self.close()
        reader = StreamReader(tape_file, self._catalogue, self._pool, self._read_ahead, self._cache)
        self._current = (tape_file, reader)
        return self._current

    def _current_at(self, offset: int) -> tuple[TapeFile, StreamReader] | None:
        current = self._current
        return current if current is not None and current[0].start <= offset < current[0].end else None
