"""The stripe units of one stream on their way to the disks: placed, queued, written; elsewhere where a disk fails.

All methods run in the trio loop; the disks' executors see bytes and member files only. While two other disks work, a
disk that fails costs the stream nothing: the units in flight to the failed disk go to another one. With fewer disks,
the stream fails. `StripeUnits` has the state of each unit; `Durability` syncs the disks.
"""

import logging
from collections.abc import Callable, Collection

import outcome
import trio

from vtlfs.disks.base import Member
from vtlfs.disks.headers import Ending, Opening
from vtlfs.disks.pool import PooledDisk
from vtlfs.disks.semaphore import FairSemaphore
from vtlfs.engine.memory import Account
from vtlfs.engine.stripe import RoundRobin
from vtlfs.engine.writing.buffer import StripeBuffer, UnitState
from vtlfs.engine.writing.context import WriteContext
from vtlfs.engine.writing.placement import FEWEST_DISKS, Placement
from vtlfs.engine.writing.units import Sending, StripeUnits
from vtlfs.errors import DiskError
from vtlfs.model import StripeUnit

log = logging.getLogger(__name__)


def _tell_nobody(_: BaseException) -> None:
    """Drop an error: the session has ended, and its recorded bytes are on the disks."""


class WritePipeline:
    """See the module. One write session has one."""

    __slots__ = (
        *("_failed", "_opening", "_outstanding", "_pool", "_session", "_stripe_unit", "_timing", "_units"),
        *("members", "placement"),
    )

    def __init__(
        self,
        session: int,
        stripe_unit: int,
        dealer: RoundRobin,
        opening: Opening,
        context: WriteContext,
        account: Account,
        units: StripeUnits,
        failed: Callable[[BaseException], object],
    ) -> None:
        """`opening` goes into the headers; `account` counts the stream's memory.

        `failed` is called with an error that has cost the stream bytes.
        """
        self._session = session
        self._stripe_unit = stripe_unit
        self._opening = opening
        self._pool = context.pool
        self._timing = context.timing
        self._units = units
        self._failed: Callable[[BaseException], object] = failed
        self._outstanding: dict[trio.Event, None] = {}  # one for each unit that was given to `send` and has not arrived
        self.placement = Placement(context, dealer, account)
        self.members: dict[int, Member] = {}  # by disk

    # --- where a unit goes ------------------------------------------------------------------------------------------

    def deal(self, number: int) -> StripeBuffer:
        """Return a new stripe unit, with its place."""
        unit = self.placement.deal(number)
        self._units.add(unit)
        return unit

    def reassign(self, unit: StripeBuffer, avoid: Collection[int] | None = None) -> bool:
        """Give the unit another place, as `Placement.reassign` does. The caller then sends the whole unit there.

        Events that wait for sendings to the old place become `unit.owed`: the next `_submit` of the unit takes them.
        """
        old = unit.disk
        if not self.placement.reassign(unit, avoid):
            return False
        self._units.reassign(unit, old)
        for sending in self._units.sendings_of(unit):
            unit.is_shared = True
            unit.owed += sending.arrived
            sending.arrived = []
        return True

    # --- sending ----------------------------------------------------------------------------------------------------

    async def allocate(self, unit: StripeBuffer) -> None:
        """Set the unit's slot aside on its disk, or on another one if that disk fails or hangs. Raises DiskError."""
        first = unit.place
        try:
            while not unit.allocated:
                place = disk, _ = unit.place
                try:
                    unit.allocated = await self._allocate(unit)
                except DiskError as error:
                    is_trouble = self.placement.record_failure(disk, error)
                    if unit.place == place and not (is_trouble and self.reassign(unit)):
                        raise
        finally:
            # Bytes in flight to the old place of the unit are sent to the new one, for a flush may wait for them.
            if unit.owed or (unit.place != first and unit.state is UnitState.QUEUED):
                self._submit(Sending(unit), self._place_if_any(unit.disk))

    async def _allocate(self, unit: StripeBuffer) -> bool:
        """Wait for the allocation; False if the unit was given another place meanwhile, perhaps as its disk hangs."""
        disk, answered = self._pool[unit.disk], trio.Event()
        answer: list[outcome.Outcome[None]] = []
        place = unit.place

        def done(result: "outcome.Outcome[None]") -> None:
            answer.append(result)
            answered.set()

        disk.writing.submit(done, self.member(unit.disk).allocate, unit.slot)
        while not answer:
            with trio.move_on_after(self._timing.queue):
                await answered.wait()
            if not answer and (unit.place != place or (not disk.usable and self.reassign(unit))):
                return False
        answer[0].unwrap()
        return unit.place == place

    async def send(self, units: list[StripeBuffer]) -> None:
        """Put the bytes of these units, up to the first gap, into the queues of their disks. Waits for full queues."""
        announced = [(unit, trio.Event()) for unit in units]
        self._outstanding |= {arrived: None for _, arrived in announced}
        for unit in units:
            self._units.queue(unit)
        while announced:
            unit, arrived = announced.pop(0)
            try:
                disk = await self._take_place(unit)
            except BaseException:  # unsent units are in hand again, for the flush at the end
                self._arrive([arrived, *unit.owed, *(other for _, other in announced)])
                unit.owed = []
                for left in (unit, *(other for other, _ in announced)):
                    self._units.unqueue(left)
                raise
            if disk is None:
                self._join(unit, arrived)
            else:
                self._submit(Sending(unit, [arrived]), disk.queue)

    async def _take_place(self, unit: StripeBuffer) -> PooledDisk | None:
        """Wait for a place in the queue of the unit's disk, or of another disk if the first one fails or hangs.

        None where another task has sent all bytes of the unit meanwhile.
        """
        while not unit.is_sent:
            disk = self._pool[unit.disk]
            if self.placement.is_bad(unit.disk) and self.reassign(unit):
                continue
            try:
                disk.queue.acquire_nowait()
            except trio.WouldBlock:
                if self._pass_over(unit):
                    continue
                patience = self._timing.queue_elsewhere if len(self._pool) > FEWEST_DISKS else self._timing.queue
                with trio.move_on_after(patience):
                    await disk.queue.acquire(self._session)
                    if unit.disk == disk.number and not unit.is_sent:
                        return disk
                    disk.queue.release()
            else:
                return disk
        return None

    def _pass_over(self, unit: StripeBuffer) -> bool:
        """Reassign a unit that would wait for its disk, where two other disks have a free place now."""
        overloaded = self.placement.overloaded()
        return overloaded is not None and not (unit.sent or unit.allocated) and self.reassign(unit, overloaded)

    def _submit(self, sending: Sending, place: FairSemaphore | None) -> None:
        """Hand the bytes of the unit to its disk. `place`: the queue in which a place was taken; None: in none."""
        unit = sending.unit
        pieces, size, start, generation = unit.pieces(), unit.coverage.prefix, unit.sent, unit.generation
        unit.sent, unit.generation = size, generation + 1
        sending.arrived += unit.owed
        unit.owed = []
        self._units.submit(sending)
        disk, slot = sending.place
        member = self.member(disk)

        def write() -> StripeUnit | None:
            sending.has_begun = True
            return member.write(unit.number, slot, pieces, start, generation) if sending.is_wanted else None

        def done(result: "outcome.Outcome[StripeUnit | None]") -> None:
            if place is not None:
                place.release()
            pieces.clear()
            self._units.end_sending(sending)
            if not sending.is_wanted:
                return
            if isinstance(result, outcome.Error):
                self._note_failure(sending, result.error)
            elif (row := result.unwrap()) is not None:  # None only for a unit that was reassigned
                self._pool[disk].written += size - start
                self._units.arrive(unit, row)
                self._arrive(sending.arrived)

        self._pool[disk].writing.submit(done, write)

    def _note_failure(self, sending: Sending, error: BaseException) -> None:
        """After a failed write, send the whole unit to another disk; where no other disk can take it, it is lost."""
        unit = sending.unit
        if self.placement.record_failure(unit.disk, error) and self.reassign(unit):
            self._submit(sending, self._place_if_any(unit.disk))
            return
        self._units.lose(unit)
        self._failed(error)
        if self._units.is_full(unit):
            unit.is_shared = True  # older bytes of it may still be on their way
            unit.recycle()
        self._arrive(sending.arrived)

    def _place_if_any(self, disk: int) -> FairSemaphore | None:
        """Take a place in a disk's queue; None where none is free: a reassigned unit does not wait again."""
        queue = self._pool[disk].queue
        try:
            queue.acquire_nowait()
        except trio.WouldBlock:
            return None
        return queue

    def _join(self, unit: StripeBuffer, arrived: trio.Event) -> None:
        """Have the event set when the bytes of the unit, which another task has sent, have arrived."""
        for sending in self._units.on_their_way(unit.disk):
            if sending.unit is unit:
                sending.arrived.append(arrived)
                return
        self._arrive([arrived])

    def _arrive(self, arrived: list[trio.Event]) -> None:
        for event in arrived:
            self._outstanding.pop(event, None)
            event.set()

    def send_elsewhere(self, disk: int) -> int:
        """Send the stripe units in flight to a disk that hangs to other disks; return how many units were sent."""
        return sum(self._redirect(unit) for unit in {sending.unit for sending in self._units.on_their_way(disk)})

    def _send_past(self) -> None:
        """Send units that wait in the queue of a lagging disk to other disks, where two others have a place.

        A unit stays if its disk has a part of it already, or has allocated its slot.
        """
        for sending in self._units.on_their_way():
            unit = sending.unit
            if sending.has_begun or unit.generation > 1 or unit.allocated or unit.disk not in self._pool.lagging():
                continue
            if (overloaded := self.placement.overloaded()) is not None:
                self._redirect(unit, overloaded)

    def _redirect(self, unit: StripeBuffer, avoid: Collection[int] | None = None) -> bool:
        """Reassign a unit in flight, and send it to its new disk; False where it keeps its place."""
        if not self.reassign(unit, avoid):
            return False
        self._submit(Sending(unit), self._place_if_any(unit.disk))
        return True

    async def drain(self) -> None:
        """Wait for the units that are in flight now; after a while, send those in slow queues to other disks."""
        for arrived in list(self._outstanding):
            while not arrived.is_set():
                with trio.move_on_after(self._timing.queue_elsewhere):
                    await arrived.wait()
                    break
                self._send_past()

    # --- the end ----------------------------------------------------------------------------------------------------

    async def finish(self, ending: Ending | None) -> None:
        """Close the member files; None leaves their headers as they are.

        Errors are only logged: the data is recorded already.
        The member file on a disk that hangs is closed when the disk answers; nobody waits for that.
        """
        finished = {disk: self._finish(disk, member, ending) for disk, member in self.members.items()}
        with trio.CancelScope(shield=True):
            for disk, event in finished.items():
                while not event.is_set() and not self._pool[disk].hangs:
                    with trio.move_on_after(self._timing.queue):
                        await event.wait()
        self._failed = _tell_nobody  # of units that arrive after the end

    def _finish(self, disk: int, member: Member, ending: Ending | None) -> trio.Event:
        """Have a member file closed by its disk's thread; return the event that is set when it is closed."""
        finished = trio.Event()

        def done(result: "outcome.Outcome[None]") -> None:
            finished.set()
            if isinstance(result, outcome.Error):
                failure = result.error
                trace = None if isinstance(failure, DiskError) else failure
                log.warning("session %d: closing its member file: %s", self._session, failure, exc_info=trace)

        self._pool[disk].writing.submit(done, member.finish, ending)
        return finished

    def member(self, disk: int) -> Member:
        """Return the stream's member file on a disk, which is made when the first bytes go there."""
        if disk not in self.members:
            self.members[disk] = self._pool[disk].disk.member(self._session, self._stripe_unit, self._opening)
        return self.members[disk]
