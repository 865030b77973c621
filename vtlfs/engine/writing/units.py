"""The stripe units of one stream, and how far each of them has come: one state machine with one owner.

A write session has one `StripeUnits`. `StripeUnits` is used in the trio loop only and never waits, so its answers hold
until the next `await`. It moves no bytes: `WritePipeline` sends units, `Durability` syncs disks, `Recording` records
rows, and each notes its outcome here.
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
    """Bytes of a stripe unit on their way to a place on a disk, and the events to set when they have arrived."""

    unit: StripeBuffer
    arrived: list[trio.Event] = field(default_factory=list)
    place: tuple[int, int] = (-1, -1)  # disk and slot
    has_begun: bool = False  # the disk's thread has come to it

    @property
    def is_wanted(self) -> bool:
        """Tell whether the unit still has that place, and was not reassigned to another disk meanwhile."""
        return self.unit.place == self.place


class StripeUnits:
    """The stripe units of one stream, each from its first byte until it is recorded in full.

    The state of a unit is the state of its bytes up to the first gap. A unit that grows after it was sent is filling
    again, and its new bytes are sent with a new record of the whole unit. Meanwhile `written` and `durable` are the
    rows of its older bytes, which can still be synced and recorded.

    | transition | states | when, and who tells it | what a failure leaves |
    | --- | --- | --- | --- |
    | `add` | → filling | the first bytes of a unit are to come: `write()` | an empty unit, which is never sent |
    | `put` | any → filling | further bytes have come: `write()` | nothing is taken before there is room for all |
    | `queue` | filling → queued | the unit is full, or is flushed: `WritePipeline.send` | `unqueue` |
    | `unqueue` | queued → filling | the task that was to send it has failed | the bytes, for the flush at the end |
    | `submit` | queued → writing | the disk's queue has a place: `WritePipeline` | `reassign`, or `lose` |
    | `arrive` | writing → written | the disk's thread has written the bytes | `reassign`, or `lose` |
    | `reassign` | queued, writing → queued; others → filling | the disk failed, hangs or is slow | no disk: `lose` |
    | `synced` | written → durable | the disk was synced: `Durability` | `reassign`, or `lose` |
    | `recorded` | written, durable → recorded | the commit has the row: `Recording` | as it was; a flush tries again |
    | `lose` | any → lost | no other disk can take the bytes | for good: what follows is never recorded |

    A unit that is recorded in full is forgotten. A unit is *in hand*, able to take bytes, until it is full and queued.
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

    # --- questions --------------------------------------------------------------------------------------------------

    def get(self, number: int) -> StripeBuffer | None:
        """Return a unit; None before `add`, and after the unit was recorded in full."""
        return self._in_hand.get(number) or self._full.get(number)

    def in_hand(self, number: int) -> StripeBuffer | None:
        """Return a unit that can take bytes; None where the unit is full and queued, or unknown."""
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
        """Tell whether no bytes of a unit are queued or on their way, not even to a disk that the unit has left."""
        return unit.state is not UnitState.QUEUED and all(sending.unit is not unit for sending in self._sendings)

    def is_safe(self, unit: StripeBuffer) -> bool:
        """Tell whether a unit without a gap is durable, or written where no units are kept until a sync."""
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
        """Tell whether any unit is written and unsynced."""
        return any(unit.written is not None for unit in self._all())

    def kept_on(self) -> dict[int, int]:
        """Return, by disk, how many bytes are kept in memory until that disk is synced."""
        sizes: dict[int, int] = {}
        for unit in self._all():
            if unit.is_kept:
                sizes[unit.disk] = sizes.get(unit.disk, 0) + self._stripe_unit
        return sizes

    def unsynced_rows(self, disk: int | None = None) -> list[StripeUnit]:
        """Return the rows of unsynced bytes, on one disk or on any."""
        rows = (unit.written for unit in self._all())
        return [row for row in rows if row is not None and disk in (None, row.disk)]

    def disk_to_sync(self, row: StripeUnit) -> int | None:
        """Return the disk whose sync a row still needs; None where the row is durable, recorded or lost."""
        unit = self.get(row.unit)
        if unit is None or unit.written is None or unit.state is UnitState.LOST:
            return None
        return unit.written.disk if unit.durable is None or unit.durable.bytes < row.bytes else None

    def on_their_way(self, disk: int | None = None) -> list[Sending]:
        """Return the sendings to one disk or to any, without those whose unit was reassigned meanwhile."""
        return [one for one in self._sendings if one.is_wanted and disk in (None, one.place[0])]

    def sendings_of(self, unit: StripeBuffer) -> list[Sending]:
        """Return the sendings of a unit, also those to a disk that the unit has left."""
        return [one for one in self._sendings if one.unit is unit]

    def is_written(self, row: StripeUnit) -> bool:
        """Tell whether a row is still the newest row of its unit, and unsynced."""
        unit = self.get(row.unit)
        return unit is not None and unit.written is row

    def row(self, number: int, *, durable: bool) -> StripeUnit | None:
        """Return the newest row of a unit that is not recorded; `durable`: the newest one of synced bytes."""
        unit = self.get(number)
        if unit is None or unit.state is UnitState.LOST:
            return None
        return unit.durable if durable or unit.written is None else unit.written

    def recordable(self, first: int, *, durable: bool) -> list[StripeUnit]:
        """Return the rows that can be recorded: of the units from `first` on, up to the first gap in the stream."""
        rows: list[StripeUnit] = []
        while (row := self.row(first + len(rows), durable=durable)) is not None:
            rows.append(row)
            if row.bytes < self._stripe_unit:
                break
        return rows

    # --- transitions ------------------------------------------------------------------------------------------------

    def add(self, unit: StripeBuffer) -> None:
        """Take in a new unit, without bytes yet."""
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
        """Put a unit back in hand: the task that was to send it was cancelled or failed."""
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

    def end_sending(self, sending: Sending) -> None:
        """Note that the disk's thread has ended with a sending, with success or an error."""
        del self._sendings[sending]

    def arrive(self, unit: StripeBuffer, row: StripeUnit) -> None:
        """Note that the bytes of a row are written and unsynced."""
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
                continue  # recorded in full before this sync ended (sync=none)
            if unit.durable is None or unit.durable.bytes <= row.bytes:  # else it has grown on another disk
                unit.durable = row
            if unit.written is row:
                unit.written = None
                if unit.state is UnitState.WRITTEN:  # a unit on its way to another disk is queued or writing
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
                    self._in_hand.pop(row.unit, None)  # there again, if the task that was to send it had failed

    def lose(self, unit: StripeBuffer) -> None:
        """Note that bytes of a unit are lost. Later bytes of it may still arrive; they are never recorded."""
        unit.state = UnitState.LOST
        self._let_go(unit)

    def lose_disk(self, disk: int) -> None:
        """Lose the unsynced units of a disk, and those in flight to it: a failed sync may concern their pages, too."""
        for unit in {sending.unit for sending in self.on_their_way(disk)}:
            self.lose(unit)
        for row in self.unsynced_rows(disk):
            if (unit_of_row := self.get(row.unit)) is not None:
                self.lose(unit_of_row)

    def let_go_of_kept(self) -> None:
        """Keep no bytes in memory any more until they are synced."""
        for unit in self._all():  # one that is in hand again may have been kept before it was to go elsewhere
            self._let_go(unit)

    def clear(self) -> None:
        """Forget all units: the stream has ended. A buffer that a disk's thread may still read is never reused."""
        self.let_go_of_kept()
        shared = {sending.unit for sending in self._sendings}
        for unit in self._all():
            unit.is_shared = unit.is_shared or unit in shared
            unit.recycle()
        self._in_hand.clear()
        self._full.clear()

    def _become(self, unit: StripeBuffer, state: UnitState) -> None:
        if unit.state is not UnitState.LOST:
            unit.state = state

    def _let_go(self, unit: StripeBuffer) -> None:
        """Free the memory of a unit that was kept until a sync."""
        if unit.is_kept and self._budget is not None:
            unit.is_kept = False
            self._kept -= 1
            self._budget.let_go(unit.disk, self._stripe_unit)
            unit.is_shared = unit.is_shared or bool(self.sendings_of(unit))  # a disk's thread may still read its bytes
            unit.put_away()
