"""The state machine of a stream's stripes, driven through random orders of events, with a model of the disks.

One rule here stands for what a task does between two `await`s.
"""

from typing import cast

import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vtlfs.engine.memory import MemoryBudget
from vtlfs.engine.writing.dirty import DirtyBudget
from vtlfs.engine.writing.striping.extents import ExtentBuffer
from vtlfs.engine.writing.striping.stripe import Fragment, State, Stripe
from vtlfs.engine.writing.striping.stripes import Stripes
from vtlfs.model import MIB, NO_CODEC, Extent

UNIT = 4
DISKS = 4
SESSION = 1
Place = tuple[int, int]  # disk and position


class Stream(RuleBasedStateMachine):
    """One stream, written in order, with stripes of up to two data extents and one of parity."""

    keeps = True

    def __init__(self) -> None:
        super().__init__()
        self.budget = DirtyBudget(MIB, cast(trio.Nursery, None)) if self.keeps else None
        self.account = MemoryBudget(64 * MIB, UNIT).open(0)
        self.stripes = Stripes(UNIT, self.account, self.budget)
        self.length = self.recorded = 0
        self.write_ends: set[int] = set()
        self.position = 0
        self.turn = 0
        self.on_disk: set[Place] = set()
        self.durable: set[Place] = set()
        self.syncs: list[tuple[int, list[Fragment], set[Place]]] = []
        self.sendings: list[Fragment] = []  # in the order in which they were submitted
        self.lost: set[int] = set()  # offsets
        self.committing: list[Stripe] = []

    # --- what tasks do ----------------------------------------------------------------------------------------------

    @rule(size=st.integers(1, 3 * UNIT))
    def write(self, size: int) -> None:
        while size:
            now = min(size, UNIT - self.length % UNIT)
            self.stripes.put(self.length, memoryview(bytes(now)))
            self.length += now
            size -= now
        self.stripes.ends.note_write(self.length)
        self.write_ends.add(self.length)
        self.take(list(self.stripes.seal(unfinished=False)))

    @rule()
    def flush(self) -> None:
        self.take(list(self.stripes.seal(unfinished=True)))
        self.close()

    def take(self, extents: list[ExtentBuffer], before: Stripe | None = None) -> None:
        for extent in extents:
            if self.stripes.open is None:
                self.stripes.begin(before)
            assert self.stripes.open is not None
            self.turn += 1
            self.stripes.queue(extent, self.turn % DISKS)
            if len(self.stripes.open.data) == 2:
                self.close()

    def close(self) -> None:
        if self.stripes.open is not None:
            self.turn += 1
            self.stripes.close([self.turn % DISKS])

    def waiting(self) -> list[Fragment]:
        """Return the extents that can be submitted: data, and the parity of written data."""
        return [
            fragment
            for stripe in self.stripes.unrecorded()
            for fragment in stripe.fragments
            if fragment.state is State.QUEUED
            and (fragment.buffer is not None or all(one.is_written for one in stripe.data))
        ]

    @precondition(lambda self: self.waiting())
    @rule(count=st.integers(1, 5))
    def submit(self, count: int) -> None:
        for fragment in self.waiting()[:count]:
            self.stripes.submit(fragment)
            self.sendings.append(fragment)

    @precondition(lambda self: self.sendings)
    @rule(count=st.integers(1, 5))
    def arrive(self, count: int) -> None:
        """The disks' threads finish the operations that they were given first."""
        while count and self.sendings:
            self.come_to_an_end(None)
            count -= 1

    @precondition(lambda self: self.sendings)
    @rule(fails=st.sampled_from(["elsewhere", "elsewhere", "lost"]))
    def come_to_an_end(self, fails: str | None) -> None:
        fragment = self.sendings.pop(0)
        self.stripes.end_sending(fragment)
        if not self.stripes.is_wanted(fragment) or fragment.state is State.LOST:
            return
        if fails is not None:
            self.fail(fragment.stripe, fails)
            return
        for one in [fragment] if fragment.buffer is not None else fragment.stripe.data:
            assert one.buffer is not None
            assert one.buffer.is_here, "what is on its way to a disk, or computed from, is in memory"
        self.position += 1
        self.on_disk.add((fragment.disk, self.position))
        offset = None if fragment.buffer is None else fragment.buffer.offset
        size = 0 if fragment.buffer is None else fragment.buffer.size or 0
        stored = size or max(one.row.stored for one in fragment.stripe.data if one.row)
        row = Extent(
            *(SESSION, fragment.stripe.number, fragment.place, offset, size, NO_CODEC),
            *(fragment.disk, self.position, stored, b""),
        )
        self.stripes.arrive(fragment, row)

    def fail(self, stripe: Stripe, how: str) -> None:
        """Deal a stripe anew if that is possible, else lose it."""
        here = all(one.buffer is not None and one.buffer.is_here for one in stripe.data)
        if stripe is self.stripes.open:
            self.close()
        if how == "lost" or not here:
            self.lost.add(stripe.offset)
            self.stripes.lose(stripe)
            return
        self.close()
        extents = self.stripes.replace(stripe)
        self.take(extents, before=stripe)
        self.close()
        self.stripes.drop(stripe)

    @precondition(lambda self: self.stripes.unsynced)
    @rule(data=st.data())
    def begin_some_sync(self, data: st.DataObject) -> None:
        self.begin_sync(data.draw(st.sampled_from(sorted(self.stripes.unsynced))))

    def begin_sync(self, disk: int) -> None:
        if all(disk != busy for busy, _, _ in self.syncs):
            there = {place for place in self.on_disk if place[0] == disk}
            self.syncs.append((disk, self.stripes.begin_sync(disk), there))

    @precondition(lambda self: self.syncs)
    @rule(fails=st.sampled_from([None, None, None, "elsewhere", "lost"]))
    def end_sync(self, fails: str | None) -> None:
        disk, fragments, there = self.syncs.pop()
        if fails is None:
            self.durable |= there
            self.stripes.synced(fragments)
            return
        for stripe in self.stripes.on_disk(disk):
            if not stripe.is_lost and stripe not in self.committing:
                self.fail(stripe, fails)

    @precondition(lambda self: not self.committing)
    @rule(durable=st.booleans())
    def begin_commit(self, durable: bool) -> None:
        """Hand stripes to the group committer, as one flush at a time does."""
        durable = durable or self.keeps
        self.committing = self.stripes.recordable(durable=durable)
        end = self.recorded
        for stripe in self.committing:
            assert len(stripe.rows) == len(stripe.data) + 1, "data and parity"
            where = self.durable if durable else self.on_disk
            assert all((row.disk, row.position) in where for row in stripe.rows), "recorded, and not there"
            for row in stripe.rows[:-1]:
                assert row.offset == end
                assert row.end // UNIT in (end // UNIT, end // UNIT + 1)
                end = row.end
        assert not self.committing or self.lost or end in self.write_ends, "recorded up to the middle of a write"

    @precondition(lambda self: self.committing)
    @rule()
    def end_commit(self) -> None:
        stripes, self.committing = self.committing, []
        self.recorded = max(row.end for stripe in stripes for row in stripe.rows)
        self.stripes.recorded(stripes)

    # --- what holds -------------------------------------------------------------------------------------------------

    @invariant()
    def stripes_are_the_stream(self) -> None:
        end = self.recorded
        for stripe in self.stripes.unrecorded():
            for place, fragment in enumerate(stripe.data):
                assert fragment.place == place
                assert fragment.buffer is not None
                assert fragment.buffer.offset == end
                end += fragment.buffer.size or 0
        assert end == self.stripes.sealed

    @invariant()
    def kept_bytes_are_counted(self) -> None:
        if self.budget is None:
            return
        kept = sum(
            fragment.row.stored
            for stripe in self.stripes.unrecorded()
            for fragment in stripe.data
            if fragment.is_written and fragment.row and fragment.buffer and fragment.buffer.is_here
        )
        assert self.budget.bytes == kept
        waits = {disk: size for disk, size in self.budget.by_disk.items() if size}
        assert waits == self.stripes.waiting_on()

    @invariant()
    def states_are_true(self) -> None:
        for stripe in self.stripes.unrecorded():
            for fragment in stripe.fragments:
                place = (fragment.disk, fragment.row.position if fragment.row else -1)
                if fragment.state is State.WRITING:
                    assert fragment in self.stripes._sending
                elif fragment.state is State.WRITTEN:
                    assert place in self.on_disk
                elif fragment.state is State.DURABLE:
                    assert place in self.durable

    @invariant()
    def every_byte_is_somewhere(self) -> None:
        """An extent that is not recorded is in memory, or its whole stripe is on the disks."""
        for stripe in self.stripes.unrecorded():
            here = all(fragment.buffer is not None and fragment.buffer.is_here for fragment in stripe.data)
            safe = stripe.is_durable if self.keeps else stripe.is_written
            assert here or safe or stripe.is_lost

    def teardown(self) -> None:
        """Whatever has happened: if all goes well from now on, everything up to the first loss is recorded."""
        for _ in range(3):
            self.flush()
            while self.waiting() or self.sendings:
                self.submit(len(self.waiting()))
                while self.sendings:
                    self.come_to_an_end(None)
            while self.syncs:
                self.end_sync(None)
            for disk in self.stripes.unsynced:
                self.begin_sync(disk)
            while self.syncs:
                self.end_sync(None)
            if self.committing:
                self.end_commit()
            self.begin_commit(durable=True)
            if self.committing:
                self.end_commit()
        assert self.recorded == (min(self.lost) if self.lost else self.length)
        self.stripes.clear()
        assert self.budget is None or (self.budget.bytes == 0 and not any(self.budget.by_disk.values()))
        assert self.account.held == 0


class UnkeptStream(Stream):
    """A stream on two disks: a stripe leaves memory when it is written."""

    keeps = False


SETTINGS = settings(max_examples=300, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck))
TestStream = Stream.TestCase
TestStream.settings = SETTINGS
TestUnkeptStream = UnkeptStream.TestCase
TestUnkeptStream.settings = SETTINGS
