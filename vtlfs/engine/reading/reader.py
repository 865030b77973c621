"""Reading back: tape files and media, stripe unit by stripe unit, from all disks at once, each checked."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import outcome

from vtlfs.disks.pool import DiskPool
from vtlfs.engine.memory import NO_LIMIT, MemoryBudget
from vtlfs.engine.reading.loads import Load, LoadCache
from vtlfs.engine.stripe import NO_NUMBERS, cut
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.engine.tracking.rows import contradiction
from vtlfs.errors import DamagedUnit, DiskError, VtlfsError
from vtlfs.model import StripeUnit, TapeFile

ROWS_AT_ONCE = 128  # stripe units that are looked up in the database together
FIRST_ROWS = 8  # ... the first time: who reads no further needs no more


class StreamReader:
    """Reads one tape file. Sequential reading has the next units fetched ahead, from all disks at the same time."""

    __slots__ = (
        *("_cache", "_catalogue", "_closed", "_file", "_last", "_pool", "_read_ahead", "_rows", "_told"),
        "loads",
    )

    def __init__(
        self, tape_file: TapeFile, catalogue: Catalogue, pool: DiskPool, read_ahead: Callable[[], int], cache: LoadCache
    ) -> None:
        """`read_ahead` tells how many units to fetch ahead; `cache` counts what is loaded, and may drop it."""
        self._file = tape_file
        self._catalogue = catalogue
        self._pool = pool
        self._read_ahead = read_ahead
        self._rows: dict[int, StripeUnit] = {}
        self._cache = cache
        self.loads: dict[int, Load] = {}  # the most recently used last
        self._closed = False
        self._last = -1
        self._told: frozenset[int] = NO_NUMBERS  # units whose error was told before

    async def read(self, offset: int, size: int) -> list[memoryview]:
        """Return the tape file's bytes at the offset in pieces; fewer at its end. Raises DamagedUnit, DiskError."""
        parts: list[memoryview] = []
        for piece in cut(offset, max(0, min(size, self._file.bytes - offset)), self._file.stripe_unit):
            data = await self._unit(piece.unit)
            parts.append(memoryview(data)[piece.start : piece.start + piece.size])
        return parts

    def close(self) -> None:
        """Let go of what was loaded, also of what is on its way."""
        self._closed = True
        for load in list(self.loads.values()):
            self._cache.drop(load)

    def emptied(self) -> None:
        """Forget where the units lie, which is some 20 KiB: the reader is idle or closed."""
        self._rows = {}

    async def _unit(self, number: int) -> bytes:
        if number not in self.loads:
            await self._cache.room(self._file.stripe_unit)
        try:
            load = self._find(number) or await self._start(number)
        except DamagedUnit as error:
            raise self._explained(error, number) from None
        ahead = self._read_ahead()
        if number in (self._last, self._last + 1):
            last = (self._file.bytes - 1) // self._file.stripe_unit
            for following in range(number + 1, min(number + ahead, last) + 1):
                if following not in self.loads and not self._cache.may_read_ahead(self._file.stripe_unit):
                    break
                with suppress(DamagedUnit):  # told when it is its turn
                    _ = self._find(following) or await self._start(following)
        self._last = number
        self._forget(keep=ahead + 2)
        await load.arrived.wait()
        if self._closed:  # meanwhile
            self.close()
        if isinstance(load.result, outcome.Value):
            data: bytes = load.result.value
            return data
        assert isinstance(load.result, outcome.Error)
        self._cache.drop(load)
        raise self._explained(load.result.error, number)

    def _explained(self, error: BaseException, number: int) -> VtlfsError:
        """Return the error with what it means for the medium; it is news the first time that this unit is read."""
        file, offset = self._file, number * self._file.stripe_unit
        what = (
            f"medium {file.medium}, tape file {file.number:04d}, offset {offset}, {file.start + offset} on the medium"
        )
        match error:
            case DamagedUnit():
                explained: VtlfsError = DamagedUnit(error.session, error.unit, error.disk, error.why, what)
            case DiskError():
                what = f"session {file.session}, stripe unit {number}; {what}"
                explained = DiskError(error.disk, error.path, OSError(error.errno, ""), what)
            case VtlfsError():
                return error
            case _:
                return VtlfsError(str(error))
        explained.is_news = number not in self._told
        self._told |= {number}
        return explained

    async def _start(self, number: int) -> Load:
        """Begin the load of a unit, unless another read of this stream begins it meanwhile; return the load."""
        row = await self._row(number)
        if (found := self._find(number)) is not None:  # that of the other read
            return found
        self._pool.disk_of(row)  # raises where there is none, before the load is counted
        load = Load(number, row.bytes, self)
        self._cache.begin(load)
        self._pool.load_extent(row, self._file.stripe_unit, partial(self._cache.set_result, load))
        return load

    def _find(self, number: int) -> Load | None:
        """Return the load of a unit, and note that it is used; None where there is none."""
        found = self.loads.pop(number, None)
        if found is not None:
            self.loads[number] = found
            self._cache.note_use(found)
        return found

    async def _row(self, number: int) -> StripeUnit:
        """Return where a unit lies. The rows of a tape file never change, so those of an earlier read are as good."""
        row = self._rows.get(number)
        if row is None:
            count = ROWS_AT_ONCE if self._rows else FIRST_ROWS
            rows = await self._catalogue.read(
                lambda tracking: tracking.stripe_units.of(self._file.session, number, count)
            )
            self._rows = {row.unit: row for row in rows}
            row = self._rows.get(number)
            if row is None:
                why = "the tracking database does not know where it lies"
                raise DamagedUnit(self._file.session, number, None, why)
        if row.bytes != min(self._file.stripe_unit, self._file.bytes - number * self._file.stripe_unit):
            raise DamagedUnit(self._file.session, number, row.disk, "the tracking database contradicts itself about it")
        return row

    def _forget(self, keep: int) -> None:
        for number in list(self.loads)[: max(0, len(self.loads) - keep)]:
            self._cache.drop(self.loads[number])


class MediumReader:
    """Reads a medium as it stood at one moment: its first `size` bytes, which are whole tape files."""

    __slots__ = ("_barcode", "_cache", "_catalogue", "_current", "_pool", "_read_ahead", "size")

    def __init__(
        self,
        barcode: str,
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
        self._catalogue = catalogue
        self._pool = pool
        self._read_ahead = read_ahead
        self._current: tuple[TapeFile, StreamReader] | None = None

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return the bytes at the offset; fewer only at the medium's end. Raises DamagedUnit, DiskError."""
        end = min(offset + size, self.size)
        parts: list[memoryview] = []
        while offset < end:
            tape_file, stream = self._current_at(offset) or await self._stream(offset)
            stop = min(end, tape_file.end)
            parts += await stream.read(offset - tape_file.start, stop - offset)
            offset = stop
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Let go of what was loaded."""
        if self._current is not None:
            self._current[1].close()
            self._current = None

    async def _stream(self, offset: int) -> tuple[TapeFile, StreamReader]:
        """Return the tape file at the offset, and a reader of it, which becomes the current one."""
        tape_file = await self._catalogue.read(lambda tracking: tracking.tape_files.at(self._barcode, offset))
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
