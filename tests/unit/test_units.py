"""The stripe units of a stream in any order of events: what is recorded is on a disk, and nothing is lost."""

from typing import cast

import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vtlfs.engine.memory import MemoryBudget
from vtlfs.engine.writing.buffer import StripeBuffer, UnitState
from vtlfs.engine.writing.dirty import DirtyBudget
from vtlfs.engine.writing.units import Sending, StripeUnits
from vtlfs.model import MIB, StripeUnit

UNIT = 4
DISKS = 3
SESSION = 1
Place = tuple[int, int]


class Stream(RuleBasedStateMachine):
    """One stream, written in order. The disks are what the test says of them: bytes they have, and have for good.

    Steps that a task does without an `await` between them are one rule here, too.
    """

    keeps = True

    def __init__(self) -> None:
        super().__init__()
        self.budget = DirtyBudget(MIB, cast(trio.Nursery, None)) if self.keeps else None
        self.account = MemoryBudget(64 * MIB, UNIT).open(0)
        self.units = StripeUnits(UNIT, self.budget)
        self.length = 0  # of the stream
        self.next = self.recorded = 0
        self.slots = [0] * DISKS
        self.on_disk: dict[Place, int] = {}  # how many bytes of a unit lie there
        self.durable: dict[Place, int] = {}
        self.syncs: list[tuple[int, list[StripeUnit], dict[Place, int]]] = []
        self.sendings: list[tuple[Sending, int]] = []  # in the order in which they were submitted; bytes of the unit
        self.lost: set[int] = set()
        self.committing: list[StripeUnit] = []

    # --- what tasks do ----------------------------------------------------------------------------------------------

    def place(self, disk: int) -> Place:
        self.slots[disk] += 1
        return disk, self.slots[disk]

    @rule(size=st.integers(1, 2 * UNIT), disk=st.integers(0, DISKS - 1))
    def write(self, size: int, disk: int) -> None:
        while size:
            number, start = divmod(self.length, UNIT)
            unit = self.units.in_hand(number)
            if unit is None:
                assert start == 0
                unit = StripeBuffer(number, *self.place(disk), self.account)
                self.units.add(unit)
            if unit.away:
                unit.put_back(bytes(unit.coverage.end))
            now = min(size, UNIT - start)
            is_full = self.units.put(unit, start, memoryview(bytes(now)))
            assert is_full == (start + now == UNIT)
            if is_full:
                self.units.queue(unit)
            self.length += now
            size -= now

    @rule()
    def flush(self) -> None:
        for unit in self.units.all_in_hand():
            if not unit.is_sent:
                self.units.queue(unit)

    def queued(self) -> list[StripeBuffer]:
        units = (self.units.get(number) for number in range(self.next, self.length // UNIT + 1))
        return [unit for unit in units if unit is not None and unit.state is UnitState.QUEUED]

    @precondition(lambda self: self.queued())
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        self.units.unqueue(data.draw(st.sampled_from(self.queued())))

    @precondition(lambda self: self.queued())
    @rule(count=st.integers(1, 4))
    def submit(self, count: int) -> None:
        for unit in self.queued()[:count]:
            self.send(unit)

    def send(self, unit: StripeBuffer) -> None:
        assert not unit.is_sent
        assert sum(map(len, unit.pieces())) == unit.coverage.prefix
        unit.sent, unit.generation = unit.coverage.prefix, unit.generation + 1
        sending = Sending(unit)
        self.units.submit(sending)
        self.sendings.append((sending, unit.sent))

    def move(self, unit: StripeBuffer) -> None:
        if unit.away:
            unit.put_back(bytes(unit.coverage.end))
        old = unit.disk
        unit.move(*self.place((old + 1) % DISKS))
        self.units.reassign(unit, old)

    @precondition(lambda self: self.sendings)
    @rule(count=st.integers(1, 4))
    def arrive(self, count: int) -> None:
        """The disks' threads are through with what they were given first."""
        while count and self.sendings:
            self.come_to_an_end(None)
            count -= 1

    @precondition(lambda self: self.sendings)
    @rule(fails=st.sampled_from(["elsewhere", "elsewhere", "lost"]))
    def come_to_an_end(self, fails: str | None) -> None:
        sending, size = self.sendings.pop(0)
        self.units.end_sending(sending)
        unit = sending.unit
        if not sending.is_wanted:
            return
        if fails == "elsewhere":
            self.move(unit)
            self.send(unit)
        elif fails == "lost":
            self.units.lose(unit)
            self.lost.add(unit.number)
        else:
            self.on_disk[sending.place] = size
            self.units.arrive(unit, StripeUnit(SESSION, unit.number, *sending.place, size, b""))

    @rule(disk=st.integers(0, DISKS - 1))
    def redirect(self, disk: int) -> None:
        """The disk hangs."""
        for unit in dict.fromkeys(sending.unit for sending in self.units.on_their_way(disk)):  # in order
            self.move(unit)
            self.send(unit)

    @precondition(lambda self: self.units.unsynced)
    @rule(data=st.data())
    def begin_some_sync(self, data: st.DataObject) -> None:
        self.begin_sync(data.draw(st.sampled_from(sorted(self.units.unsynced))))

    def begin_sync(self, disk: int) -> None:
        if all(disk != busy for busy, _, _ in self.syncs):
            there = {place: size for place, size in self.on_disk.items() if place[0] == disk}
            self.syncs.append((disk, self.units.begin_sync(disk), there))

    @precondition(lambda self: self.syncs)
    @rule(fails=st.sampled_from([None, None, None, "elsewhere", "lost"]))
    def end_sync(self, fails: str | None) -> None:
        disk, rows, there = self.syncs.pop()
        if fails is None:
            self.durable |= there
            self.units.synced(rows)
            return
        if fails == "elsewhere":
            self.redirect(disk)
            for row in self.units.unsynced_rows(disk):
                unit = self.units.get(row.unit)
                assert unit is not None
                if unit.disk == disk:
                    self.move(unit)
                self.units.queue(unit)
            return
        self.lost |= {sending.unit.number for sending in self.units.on_their_way(disk)}
        self.lost |= {row.unit for row in self.units.unsynced_rows(disk)}
        self.units.lose_disk(disk)

    @precondition(lambda self: not self.committing)
    @rule(durable=st.booleans())
    def begin_commit(self, durable: bool) -> None:
        """Hand rows to the group committer. One flush at a time does that."""
        durable = durable or self.keeps
        rows = self.committing = self.units.recordable(self.next, durable=durable)
        for row in rows:
            assert row.unit not in self.lost
            where = self.durable if durable else self.on_disk
            assert where[row.disk, row.slot] >= row.bytes, "recorded, and not there"
        assert [row.unit for row in rows] == list(range(self.next, self.next + len(rows)))
        assert all(row.bytes == UNIT for row in rows[:-1])

    @precondition(lambda self: self.committing)
    @rule()
    def end_commit(self) -> None:
        rows, self.committing = self.committing, []
        length = rows[-1].unit * UNIT + rows[-1].bytes
        assert self.recorded <= length <= self.length
        self.recorded = length
        self.next = length // UNIT
        self.units.recorded(rows)

    @rule()
    def give_back(self) -> None:
        """Idle units leave memory, as far as their disks have them."""
        for unit in self.units.all_in_hand():
            if unit.coverage.end and unit.is_sent and self.units.is_idle(unit) and self.units.is_safe(unit):
                unit.put_away()

    # --- what holds -------------------------------------------------------------------------------------------------

    @invariant()
    def kept_bytes_are_counted(self) -> None:
        if self.budget is not None:
            kept = self.units.kept_on()
            assert self.budget.bytes == sum(kept.values())
            assert {disk: size for disk, size in self.budget.by_disk.items() if size} == kept
            assert self.units.has_kept == bool(kept)

    @invariant()
    def states_are_true(self) -> None:
        for number in range(self.next, -(-self.length // UNIT)):
            unit = self.units.get(number)
            assert unit is not None
            size, on_its_way = unit.coverage.prefix, self.units.sendings_of(unit)
            if unit.state is UnitState.QUEUED:
                assert not unit.is_sent
            elif unit.state is UnitState.WRITING:
                assert any(sending.is_wanted for sending in on_its_way)
            elif unit.state is UnitState.WRITTEN:
                assert unit.written is not None
                assert unit.written.bytes == self.on_disk[unit.place] == size
            elif unit.state is UnitState.DURABLE:
                assert unit.durable is not None
                assert unit.durable.bytes == self.durable[unit.place] == size
            elif unit.state is UnitState.RECORDED:
                assert self.recorded >= number * UNIT + size

    @invariant()
    def full_units_are_forgotten_when_they_are_recorded(self) -> None:
        for number in range(self.next):
            unit = self.units.get(number)
            assert unit is None or unit.state is not UnitState.RECORDED

    @invariant()
    def every_byte_is_somewhere(self) -> None:
        """A unit that is not recorded in full is in memory, or on a disk."""
        for number in range(self.next, -(-self.length // UNIT)):
            unit = self.units.get(number)
            assert unit is not None
            assert number in self.lost or not unit.away or self.on_disk[unit.place] == unit.coverage.prefix

    def teardown(self) -> None:
        """Whatever has happened: when all goes well from here on, all up to the first loss is recorded."""
        for _ in range(5):
            self.flush()
            for unit in self.queued():
                self.send(unit)
            while self.sendings:
                self.come_to_an_end(None)
            while self.syncs:
                self.end_sync(None)
            for disk in self.units.unsynced:
                self.begin_sync(disk)
            while self.syncs:
                self.end_sync(None)
            if self.committing:
                self.end_commit()
            self.begin_commit(durable=True)
            if self.committing:
                self.end_commit()
        assert self.recorded == self.length if not self.lost else self.recorded >= min(self.lost) * UNIT
        self.units.clear()
        assert self.budget is None or self.budget.bytes == 0


class UnkeptStream(Stream):
    """A stream on two disks: a full unit leaves memory when it is written."""

    keeps = False


SETTINGS = settings(max_examples=300, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck))
TestStream = Stream.TestCase
TestStream.settings = SETTINGS
TestUnkeptStream = UnkeptStream.TestCase
TestUnkeptStream.settings = SETTINGS
