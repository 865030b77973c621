"""Reading back: tape files and media, stripe unit by stripe unit, from all disks at once, each checked."""

from collections.abc import Callable
from contextlib import suppress

import outcome
import trio

from vtlfs.disks.pool import DiskPool, PooledDisk
from vtlfs.engine.rows import contradiction
from vtlfs.engine.stripe import cut
from vtlfs.engine.tracking import Tracking
from vtlfs.errors import DamagedUnit, DiskError, VtlfsError
from vtlfs.model import StripeUnit, TapeFile

ROWS_AT_ONCE = 128  # stripe units that are looked up in the database together


class _Load:
    """A stripe unit on its way from its disk."""

    __slots__ = ("arrived", "result")

    def __init__(self) -> None:
        self.arrived = trio.Event()
        self.result: outcome.Outcome[bytes] | None = None

    def settle(self, result: "outcome.Outcome[bytes]") -> None:
        self.result = result
        self.arrived.set()


class StreamReader:
    """Reads one tape file. Sequential reading has the next units fetched ahead, from all disks at the same time."""

    def __init__(self, tape_file: TapeFile, tracking: Tracking, pool: DiskPool, read_ahead: Callable[[], int]) -> None:
        """`read_ahead` tells how many units to fetch ahead."""
        self._file = tape_file
        self._tracking = tracking
        self._pool = pool
        self._read_ahead = read_ahead
        self._rows: dict[int, StripeUnit] = {}
        self._loads: dict[int, _Load] = {}  # the most recently used last
        self._last = -1
        self._told: set[int] = set()  # units that could not be had, and of which somebody has heard

    async def read(self, offset: int, size: int) -> list[memoryview]:
        """Return the tape file's bytes at the offset in pieces; fewer at its end. Raises DamagedUnit, DiskError."""
        parts: list[memoryview] = []
        for piece in cut(offset, max(0, min(size, self._file.bytes - offset)), self._file.stripe_unit):
            data = await self._unit(piece.unit)
            parts.append(memoryview(data)[piece.start : piece.start + piece.size])
        return parts

    async def _unit(self, number: int) -> bytes:
        try:
            load = self._start(number)
        except DamagedUnit as error:
            raise self._explained(error, number) from None
        ahead = self._read_ahead()
        if number in (self._last, self._last + 1):
            last = (self._file.bytes - 1) // self._file.stripe_unit
            for following in range(number + 1, min(number + ahead, last) + 1):
                with suppress(DamagedUnit):  # told when it is its turn
                    self._start(following)
        self._last = number
        self._forget(keep=ahead + 2)
        await load.arrived.wait()
        if isinstance(load.result, outcome.Value):
            data: bytes = load.result.value
            return data
        assert isinstance(load.result, outcome.Error)
        self._loads.pop(number, None)
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
        self._told.add(number)
        return explained

    def _start(self, number: int) -> _Load:
        load = self._loads.pop(number, None)
        if load is None:
            load = _Load()
            row = self._row(number)
            disk = self._disk(row)

            def arrived(result: "outcome.Outcome[bytes]") -> None:
                disk.read += row.bytes if isinstance(result, outcome.Value) else 0
                load.settle(result)

            disk.reading.submit(arrived, disk.disk.read, row, self._file.stripe_unit)
        self._loads[number] = load
        return load

    def _disk(self, row: StripeUnit) -> PooledDisk:
        if row.disk >= len(self._pool):
            raise DamagedUnit(row.session, row.unit, row.disk, "the library has no such disk")
        return self._pool[row.disk]

    def _row(self, number: int) -> StripeUnit:
        if number not in self._rows:
            rows = self._tracking.stripe_units(self._file.session, number, ROWS_AT_ONCE)
            self._rows = {row.unit: row for row in rows}
            if number not in self._rows:
                why = "the tracking database does not know where it lies"
                raise DamagedUnit(self._file.session, number, None, why)
        row = self._rows[number]
        if row.bytes != min(self._file.stripe_unit, self._file.bytes - number * self._file.stripe_unit):
            raise DamagedUnit(self._file.session, number, row.disk, "the tracking database contradicts itself about it")
        return row

    def _forget(self, keep: int) -> None:
        for number in list(self._loads)[: max(0, len(self._loads) - keep)]:
            del self._loads[number]


class MediumReader:
    """Reads a medium as it stood at one moment: its first `size` bytes, which are whole tape files."""

    def __init__(
        self, barcode: str, size: int, tracking: Tracking, pool: DiskPool, read_ahead: Callable[[], int]
    ) -> None:
        self.size = size
        self._barcode = barcode
        self._tracking = tracking
        self._pool = pool
        self._read_ahead = read_ahead
        self._current: tuple[TapeFile, StreamReader] | None = None

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return the bytes at the offset; fewer only at the medium's end. Raises DamagedUnit, DiskError."""
        end = min(offset + size, self.size)
        parts: list[memoryview] = []
        while offset < end:
            tape_file, stream = self._stream(offset)
            stop = min(end, tape_file.end)
            parts += await stream.read(offset - tape_file.start, stop - offset)
            offset = stop
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _stream(self, offset: int) -> tuple[TapeFile, StreamReader]:
        current = self._current
        if current is None or not current[0].start <= offset < current[0].end:
            tape_file = self._tracking.tape_file_at(self._barcode, offset)
            if tape_file is None or tape_file.end > self.size:
                raise contradiction(f"medium {self._barcode} at byte {offset}")
            current = (tape_file, StreamReader(tape_file, self._tracking, self._pool, self._read_ahead))
            self._current = current
        return current
