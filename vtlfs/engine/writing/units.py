"""The stripe units of one stream, and how far each of them has come: one state machine with one owner.

A write session has one `StripeUnits`. It is used in the trio loop only and never waits, so what it says holds until the
next `await`. It moves no bytes: `WritePipeline` sends them, `Durability` syncs disks, `Recording` records rows, and
each tells it what has happened.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

import trio

from vtlfs.engine.stripe import NO_NUMBERS
from vtlfs.engine.writing.buffer import StripeBuffer, UnitState
from vtlfs.engine.writing.dirty import DirtyBudget
from vtlfs.model import StripeUnit


@dataclass(slots=True, eq=False)
class Sending:
    """Bytes of a stripe unit on their way to a place on a disk, and who is to be told when they have arrived."""

    unit: StripeBuffer
    arrived: list[trio.Event] = field(default_factory=list)
    place: tuple[int, int] = (-1, -1)  # disk and slot
    has_begun: bool = False  # the disk's thread has come to it

    @property
    def is_wanted(self) -> bool:
        """Tell whether the unit still has that place, and was not reassigned to another disk meanwhile."""
        return self.unit.place == self.place


class StripeUnits:
    """The stripe units of one stream from the first byte that comes until the unit is recorded in full.

    The state of a unit is that of all bytes that have come without a gap. A unit that grows after it was sent is
    filling again, and is sent again as a whole; until then `written` and `durable` are the rows of its older bytes,
    which can still be synced and recorded.

    | transition | states | when, and who tells it | what a failure leaves |
    | --- | --- | --- | --- |
    | `add` | → filling | the first bytes of a unit are to come: `write()` | an empty unit, which is never sent |
    | `put` | any → filling | further bytes have come: `write()` | nothing is taken before there is room for all |
    | `queue` | filling → queued | the unit is full, or is flushed: `WritePipeline.send` | `unqueue` |
    | `unqueue` | queued → filling | the task that was to send it has failed | the bytes, for the flush at the end |
    | `submit` | queued → writing | the disk's queue has a place: `WritePipeline` | `reassign`, or `lose` |
    | `arrive` | writing → written | the disk's thread has written the bytes | `reassign`, or `lose` |
    | `reassign` | queued, writing → queued; others → filling | the disk failed, hangs or is late | no disk: `lose` |
    | `synced` | written → durable | the disk was synced: `Durability` | `reassign`, or `lose` |
    | `recorded` | written, durable → recorded | the commit has the row: `Recording` | as it was; a flush tries again |
    | `lose` | any → lost | no other disk can take the bytes | for good: what follows is never recorded |

    A unit that is recorded in full is forgotten. A unit is in hand until it is full and queued: it can take bytes.
    """

    __slots__ = ("_budget", "_full", "_in_hand", "_kept", "_sendings", "_stripe_unit", "unsynced")

    def __init__(self, stripe_unit: int, budget: DirtyBudget | None) -> None:
        """`budget` counts the bytes that are kept until they are synced; None: none are kept."""
        self._stripe_unit = stripe_unit
        self._budget = budget
        self._in_hand: dict[int, StripeBuffer] = {}
        self._full: dict[int, StripeBuffer] = {}
        self._sendings: dict[Sending, None] = {}
        self._kept = 0
        self.unsynced: frozenset[int] = NO_NUMBERS  # disks that have taken bytes since they were synced

    # --- what there is ----------------------------------------------------------------------------------------------

    def get(self, number: int) -> StripeBuffer | None:
        """Return a unit; None before its first byte has come, and when it was recorded in full."""
        return self._in_hand.get(number) or self._full.get(number)

    def in_hand(self, number: int) -> StripeBuffer | None:
        """Return a unit that can take bytes; None for one that can't, or is not there."""
        return self._in_hand.get(number)

    def all_in_hand(self) -> list[StripeBuffer]:
        """Return the units that can take bytes."""
        return list(self._in_hand.values())

    def _all(self) -> Iterator[StripeBuffer]:
        return chain(self._in_hand.values(), self._full.values())

    def is_full(self, unit: StripeBuffer) -> bool:
        """Tell whether all bytes of a unit have come."""
        return unit.coverage.prefix == self._stripe_unit

    def is_idle(self, unit: StripeBuffer) -> bool:
        """Tell whether nothing of a unit is queued or on its way to a disk, not even to one that it has left."""
        return unit.state is not UnitState.QUEUED and all(sending.unit is not unit for sending in self._sendings)

    def is_safe(self, unit: StripeBuffer) -> bool:
        """Tell whether the bytes of a unit are as safe on its disk as those of full units must be to leave memory."""
        safe = unit.state in (UnitState.DURABLE, UnitState.RECORDED)
        return (safe or (unit.state is UnitState.WRITTEN and self._budget is None)) and not unit.has_gap

    @property
    def keeps(self) -> bool:
        """Tell whether full units stay in memory until their disk is synced."""
        return self._budget is not None

    @property
    def has_kept(self) -> bool:
        """Tell whether a sync would free memory."""
        return self._kept > 0

    @property
    def has_unsynced(self) -> bool:
        """Tell whether a row waits for a sync."""
        return any(unit.written is not None for unit in self._all())

    def kept_on(self) -> dict[int, int]:
        """Return how many bytes are kept until each disk is synced."""
        sizes: dict[int, int] = {}
        for unit in self._all():
            if unit.is_kept:
                sizes[unit.disk] = sizes.get(unit.disk, 0) + self._stripe_unit
        return sizes

    def unsynced_rows(self, disk: int | None = None) -> list[StripeUnit]:
        """Return the rows of bytes that were written, to one disk or to any, and not synced."""
        rows = (unit.written for unit in self._all())
        return [row for row in rows if row is not None and disk in (None, row.disk)]

    def in_doubt(self, row: StripeUnit) -> int | None:
        """Return the disk that is to be synced before the bytes of a row are durable; None where no sync is lacking."""
        unit = self.get(row.unit)
        if unit is None or unit.written is None or unit.state is UnitState.LOST:
            return None
        return unit.written.disk if unit.durable is None or unit.durable.bytes < row.bytes else None

    def on_their_way(self, disk: int | None = None) -> list[Sending]:
        """Return what is on its way, to one disk or to any, and was not reassigned meanwhile."""
        return [one for one in self._sendings if one.is_wanted and disk in (None, one.place[0])]

    def sendings_of(self, unit: StripeBuffer) -> list[Sending]:
        """Return what is on its way of a unit, also to a disk that the unit has left."""
        return [one for one in self._sendings if one.unit is unit]

    def is_written(self, row: StripeUnit) -> bool:
        """Tell whether a row is still that of a unit's newest bytes on a disk, which were not synced."""
        unit = self.get(row.unit)
        return unit is not None and unit.written is row

    def row(self, number: int, *, durable: bool) -> StripeUnit | None:
        """Return the row of a unit that is not recorded yet; `durable`: only of bytes that were synced."""
        unit = self.get(number)
        if unit is None or unit.state is UnitState.LOST:
            return None
        return unit.durable if durable or unit.written is None else unit.written

    def recordable(self, first: int, *, durable: bool) -> list[StripeUnit]:
        """Return the rows that can be recorded: those of the units from `first` on, without a gap in the stream."""
        rows: list[StripeUnit] = []
        while (row := self.row(first + len(rows), durable=durable)) is not None:
            rows.append(row)
            if row.bytes < self._stripe_unit:
                break
        return rows

    # --- transitions ------------------------------------------------------------------------------------------------

    def add(self, unit: StripeBuffer) -> None:
        """Take in a unit of which nothing has come yet."""
        self._in_hand[unit.number] = unit

    def put(self, unit: StripeBuffer, start: int, data: memoryview) -> bool:
        """Take in bytes at `start` of a unit that is in hand; tell whether it is full now."""
        unit.put(start, data)
        if not unit.is_sent:  # bytes that came a second time, or behind a gap, change nothing
            self._become(unit, UnitState.FILLING)
        return self.is_full(unit)

    def queue(self, unit: StripeBuffer) -> None:
        """Note that all bytes of a unit wait for a place in the queue of its disk."""
        if not unit.is_sent:
            self._become(unit, UnitState.QUEUED)
        if self.is_full(unit) and self._in_hand.pop(unit.number, None) is not None:
            self._full[unit.number] = unit

    def unqueue(self, unit: StripeBuffer) -> None:
        """Note that nobody is going to send a unit now: it is in hand again."""
        if not unit.is_sent:
            self._become(unit, UnitState.FILLING)
            if self._full.pop(unit.number, None) is not None:
                self._in_hand[unit.number] = unit

    def submit(self, sending: Sending) -> None:
        """Note that the bytes of a unit have a place in the queue of its disk."""
        sending.place = sending.unit.place
        sending.has_begun = False
        self._sendings[sending] = None
        self._become(sending.unit, UnitState.WRITING)

    def withdraw(self, sending: Sending) -> None:
        """Note that the disk's thread is through with bytes, whatever has come of it."""
        del self._sendings[sending]

    def arrive(self, unit: StripeBuffer, row: StripeUnit) -> None:
        """Note that the bytes of a row are on their disk, and not synced."""
        if unit.written is None or unit.written.bytes <= row.bytes:
            unit.written = row
        self.unsynced |= {row.disk}
        if unit.state is UnitState.WRITING and row.bytes == unit.coverage.prefix:
            unit.state = UnitState.WRITTEN
        if row.bytes < self._stripe_unit or unit.is_kept:
            return
        if self._budget is None or unit.state is UnitState.LOST:
            unit.put_away()
        else:
            unit.is_kept = True
            self._kept += 1
            self._budget.keep(unit.disk, self._stripe_unit)

    def reassign(self, unit: StripeBuffer, old: int) -> None:
        """Note that a unit has left disk `old`, and is to be sent as a whole to another one."""
        if unit.is_kept and self._budget is not None:
            self._budget.move(old, unit.disk, self._stripe_unit)
        is_on_its_way = unit.state in (UnitState.QUEUED, UnitState.WRITING)
        self._become(unit, UnitState.QUEUED if is_on_its_way else UnitState.FILLING)

    def begin_sync(self, disk: int) -> list[StripeUnit]:
        """Return the rows that a sync of the disk, which begins now, makes durable."""
        self.unsynced = self.unsynced - {disk} or NO_NUMBERS
        return self.unsynced_rows(disk)

    def synced(self, rows: Iterable[StripeUnit]) -> None:
        """Note that the bytes of rows are durable."""
        for row in rows:
            unit = self.get(row.unit)
            if unit is None:
                continue  # recorded in full, without waiting for this sync
            if unit.durable is None or unit.durable.bytes <= row.bytes:  # not where it has grown on another disk
                unit.durable = row
            if unit.written is row:
                unit.written = None
                if unit.state is UnitState.WRITTEN:  # and not on its way to another disk
                    unit.state = UnitState.DURABLE
                    self._let_go(unit)

    def recorded(self, rows: Iterable[StripeUnit]) -> None:
        """Note that rows are in the tracking database, and forget the units that are recorded in full."""
        for row in rows:
            unit = self.get(row.unit)
            assert unit is not None
            if unit.written is row:
                unit.written = None
            if unit.durable is not None and unit.durable.bytes <= row.bytes:
                unit.durable = None
            if unit.state in (UnitState.WRITTEN, UnitState.DURABLE) and unit.written is None and unit.durable is None:
                unit.state = UnitState.RECORDED
                if row.bytes == self._stripe_unit:
                    self._let_go(unit)
                    self._full.pop(row.unit, None)

    def lose(self, unit: StripeBuffer) -> None:
        """Note that bytes of a unit are lost; later ones may arrive, and are not recorded."""
        unit.state = UnitState.LOST
        self._let_go(unit)

    def lose_disk(self, disk: int) -> None:
        """Lose what a disk has not synced, and what is on its way there: a failed sync may have told of that, too."""
        for unit in {sending.unit for sending in self.on_their_way(disk)}:
            self.lose(unit)
        for row in self.unsynced_rows(disk):
            if (unit_of_row := self.get(row.unit)) is not None:
                self.lose(unit_of_row)

    def clear(self) -> None:
        """Forget all units: the stream has ended. Memory that a disk's thread may still read is not used again."""
        shared = {sending.unit for sending in self._sendings}
        for unit in self._all():
            unit.is_shared = unit.is_shared or unit in shared
            self._let_go(unit)
            unit.recycle()
        self._in_hand.clear()
        self._full.clear()

    def _become(self, unit: StripeBuffer, state: UnitState) -> None:
        if unit.state is not UnitState.LOST:
            unit.state = state

    def _let_go(self, unit: StripeBuffer) -> None:
        """Keep the bytes of a unit in memory no longer, if they were."""
        if unit.is_kept and self._budget is not None:
            unit.is_kept = False
            self._kept -= 1
            self._budget.free(unit.disk, self._stripe_unit)
            unit.put_away()
