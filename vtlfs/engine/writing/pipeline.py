"""The stripe units of one stream on their way to the disks: dealt, sent, synced, and sent elsewhere where a disk fails.

All methods run in the trio loop; the disks' executors see bytes and member files only. As long as two disks can be used
besides, a disk that fails costs the stream nothing: what was on its way there goes to another one, and so does what a
failed sync leaves in doubt. With fewer, the error is the stream's.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import outcome
import trio

from vtlfs.disks.base import Member
from vtlfs.disks.pool import PooledDisk
from vtlfs.disks.semaphore import FairSemaphore
from vtlfs.engine.memory import Account
from vtlfs.engine.stripe import NO_NUMBERS, RoundRobin
from vtlfs.engine.writing.buffer import StripeBuffer
from vtlfs.engine.writing.context import WriteContext
from vtlfs.engine.writing.lazy_lock import LazyLock
from vtlfs.engine.writing.placement import FEWEST_DISKS, Placement
from vtlfs.errors import DiskError, VtlfsError
from vtlfs.model import StripeUnit

PATIENCE_SECONDS = 1.0  # between two looks at a disk that has no place in its queue, or does not answer
IMPATIENCE_SECONDS = 0.05  # ... where another one may have a place by then

log = logging.getLogger(__name__)


def _tell_nobody(_: BaseException) -> None:
    """Have an error be nobody's: the session has ended, and what is recorded of it is on the disks."""


@dataclass(slots=True, eq=False)
class _Sending:
    """A stripe unit on its way to a place on a disk, and who is to be told when it has arrived."""

    unit: StripeBuffer
    arrived: list[trio.Event] = field(default_factory=list)
    place: tuple[int, int] = (-1, -1)  # disk and slot
    has_begun: bool = False  # the disk's thread has come to it

    @property
    def is_wanted(self) -> bool:
        """Tell whether the unit still has that place, and was not sent elsewhere meanwhile, as a whole."""
        return self.unit.place == self.place


class WritePipeline:
    """See the module. `written` and `durable` are the rows, by unit, that are not recorded yet."""

    __slots__ = (
        *("_account", "_budget", "_failed", "_header", "_in_hand", "_kept", "_members", "_outstanding"),
        *("_placement", "_pool", "_sendings", "_session", "_stripe_unit", "_syncing", "_unsynced"),
        *("_waiting", "durable", "lost", "written"),
    )

    def __init__(
        self,
        session: int,
        stripe_unit: int,
        dealer: RoundRobin,
        header: dict[str, Any],
        context: WriteContext,
        account: Account,
        in_hand: MutableMapping[int, StripeBuffer],
        failed: Callable[[BaseException], object],
    ) -> None:
        """`header` goes into the member files; `account` has what the stream holds; `in_hand` are its unfinished units.

        `failed` is called with an error that nothing could be done about.
        """
        # No sets: an empty one takes 216 bytes, an empty dictionary 64, and all streams share one empty frozenset.
        self.written: dict[int, StripeUnit] = {}  # on a disk, not synced
        self.durable: dict[int, StripeUnit] = {}  # synced
        # Units of which a write has failed, though a later one may have succeeded.
        self.lost: frozenset[int] = NO_NUMBERS
        self._session = session
        self._stripe_unit = stripe_unit
        self._header = header
        self._pool = context.pool
        self._placement = Placement(context, dealer, account)
        self._account = account
        keeps = context.durable_close and len(context.pool) > FEWEST_DISKS
        self._budget = context.dirty if keeps else None
        self._in_hand = in_hand
        self._failed: Callable[[BaseException], object] = failed
        self._members: dict[int, Member] = {}
        self._kept: dict[int, StripeBuffer] = {}
        self._waiting: dict[int, StripeBuffer] = {}  # for a place in a queue
        self._sendings: dict[_Sending, None] = {}
        self._outstanding: dict[trio.Event, None] = {}
        self._unsynced: frozenset[int] = NO_NUMBERS  # disks
        self._syncing: defaultdict[int, LazyLock] = defaultdict(LazyLock)  # by disk

    # --- where a unit goes ------------------------------------------------------------------------------------------

    def deal(self, number: int) -> StripeBuffer:
        """Return a new stripe unit in hand, with its place."""
        return self._placement.deal(number)

    def _move(self, unit: StripeBuffer, avoid: Collection[int] | None = None) -> bool:
        """Give the unit another place, as `Placement.elsewhere` does.

        Whoever waits for what is on its way to the old one waits for the next `_submit` of the unit.
        """
        if not self._elsewhere(unit, avoid):
            return False
        for sending in self._sendings:
            if sending.unit is unit:
                unit.is_shared = True
                unit.owed += sending.arrived
                sending.arrived = []
        return True

    def _elsewhere(self, unit: StripeBuffer, avoid: Collection[int] | None = None) -> bool:
        disk = unit.disk
        if not self._placement.reassign(unit, avoid):
            return False
        if self._budget is not None and self._kept.get(unit.number) is unit:
            self._budget.move(disk, unit.disk, self._stripe_unit)
        return True

    # --- sending ----------------------------------------------------------------------------------------------------

    async def allocate(self, unit: StripeBuffer) -> None:
        """Have the room for a unit set aside on its disk, or on another where that fails or hangs. Raises DiskError."""
        try:
            while not unit.allocated:
                place = disk, _ = unit.place
                try:
                    unit.allocated = await self._allocate(unit)
                except DiskError as error:
                    is_trouble = self._placement.record_failure(disk, error)
                    if unit.place == place and not (is_trouble and self._move(unit)):
                        raise
        finally:
            if unit.owed:  # a flush waits for what was on its way to the place that the unit has left
                self._submit(_Sending(unit), self._place_if_any(unit.disk))

    async def _allocate(self, unit: StripeBuffer) -> bool:
        """Wait for the room; False if the unit was given another place meanwhile, perhaps because the disk hangs."""
        disk, answered = self._pool[unit.disk], trio.Event()
        answer: list[outcome.Outcome[None]] = []
        place = unit.place

        def done(result: "outcome.Outcome[None]") -> None:
            answer.append(result)
            answered.set()

        disk.writing.submit(done, self._member(unit.disk).allocate, unit.slot)
        while not answer:
            with trio.move_on_after(PATIENCE_SECONDS):
                await answered.wait()
            if not answer and (unit.place != place or (not disk.usable and self._move(unit))):
                return False
        answer[0].unwrap()
        return unit.place == place

    async def send(self, units: list[StripeBuffer]) -> None:
        """Put what has come of these units into their disks' queues. Waits while those are full."""
        announced = [(unit, trio.Event()) for unit in units]
        self._outstanding |= {arrived: None for _, arrived in announced}
        self._waiting.update((unit.number, unit) for unit in units)
        while announced:
            unit, arrived = announced.pop(0)
            try:
                disk = await self._take_place(unit)
            except BaseException:  # what was not sent stays in hand, for the flush at the end
                self._arrive([arrived, *unit.owed, *(other for _, other in announced)])
                unit.owed = []
                for left in (unit, *(other for other, _ in announced)):
                    self._in_hand.setdefault(left.number, left)
                raise
            self._waiting.pop(unit.number, None)
            if disk is None:
                self._join(unit, arrived)
            else:
                self._submit(_Sending(unit, [arrived]), disk.queue)

    async def _take_place(self, unit: StripeBuffer) -> PooledDisk | None:
        """Wait for a place in the queue of the unit's disk; if that gets into trouble meanwhile, of another one.

        None where somebody else has sent all of the unit by then.
        """
        while not unit.is_sent:
            disk = self._pool[unit.disk]
            if self._placement.is_bad(unit.disk) and self._move(unit):
                continue
            try:
                disk.queue.acquire_nowait()
            except trio.WouldBlock:
                if self._pass_over(unit):
                    continue
                patience = IMPATIENCE_SECONDS if len(self._pool) > FEWEST_DISKS else PATIENCE_SECONDS
                with trio.move_on_after(patience):
                    await disk.queue.acquire(self._session)
                    if unit.disk == disk.number and not unit.is_sent:
                        return disk
                    disk.queue.release()
            else:
                return disk
        return None

    def _pass_over(self, unit: StripeBuffer) -> bool:
        """Give a unit that would have to wait for its disk to another one, where two others have a place just now."""
        overloaded = self._placement.overloaded()
        return overloaded is not None and not (unit.sent or unit.allocated) and self._elsewhere(unit, overloaded)

    def _submit(self, sending: _Sending, place: FairSemaphore | None) -> None:
        """Hand over what has come of the unit. `place` is the queue in which a place was taken, None without one."""
        unit = sending.unit
        disk, slot = sending.place = unit.place
        pieces, size, start, generation = unit.pieces(), unit.coverage.prefix, unit.sent, unit.generation
        unit.sent, unit.generation = size, generation + 1
        sending.arrived += unit.owed
        unit.owed = []
        sending.has_begun = False
        self._sendings[sending] = None
        member = self._member(disk)

        def write() -> StripeUnit | None:
            sending.has_begun = True
            return member.write(unit.number, slot, pieces, start, generation) if sending.is_wanted else None

        def done(result: "outcome.Outcome[StripeUnit | None]") -> None:
            if place is not None:
                place.release()
            pieces.clear()
            del self._sendings[sending]
            if not sending.is_wanted:
                return
            if isinstance(result, outcome.Error):
                if self._placement.record_failure(disk, result.error) and self._move(unit):
                    self._submit(sending, self._place_if_any(unit.disk))
                    return
                self.lost |= {unit.number}
                self._failed(result.error)
                if unit.number not in self._in_hand:
                    unit.is_shared = True  # what was sent of it before may still be on its way
                    unit.recycle()
            elif (row := result.unwrap()) is not None:  # which it is only where it was not wanted
                self._pool[disk].written += size - start
                self._note_written(unit, size, row)
            self._arrive(sending.arrived)

        self._pool[disk].writing.submit(done, write)

    def _place_if_any(self, disk: int) -> FairSemaphore | None:
        """Take a place in a queue; None where there is none just now, for what has had one on a disk that failed."""
        queue = self._pool[disk].queue
        try:
            queue.acquire_nowait()
        except trio.WouldBlock:
            return None
        return queue

    def _note_written(self, unit: StripeBuffer, size: int, row: StripeUnit) -> None:
        known = self.written.get(unit.number)
        if known is None or known.bytes <= row.bytes:
            self.written[unit.number] = row
        self._unsynced |= {row.disk}
        if size < self._stripe_unit:
            return
        if self._budget is None:
            unit.recycle()
        elif unit.number not in self._kept:
            self._kept[unit.number] = unit
            self._budget.keep(unit.disk, self._stripe_unit)

    def _join(self, unit: StripeBuffer, arrived: trio.Event) -> None:
        """Have the event tell when what has come of the unit has arrived, all of which was sent."""
        for sending in self._on_their_way(unit.disk):
            if sending.unit is unit:
                sending.arrived.append(arrived)
                return
        self._arrive([arrived])

    def _arrive(self, arrived: list[trio.Event]) -> None:
        for event in arrived:
            self._outstanding.pop(event, None)
            event.set()

    def send_elsewhere(self, disk: int) -> int:
        """Send what is on its way to a disk that hangs to others; return how many stripe units that were."""
        return sum(self._redirect(unit) for unit in {sending.unit for sending in self._on_their_way(disk)})

    def _send_past(self) -> None:
        """Send to other disks the units that wait in the queues of those that are behind, as far as that is quicker.

        Not those of which a part is there already, or for which room was set aside there.
        """
        for sending in self._on_their_way():
            unit = sending.unit
            if sending.has_begun or unit.generation > 1 or unit.allocated or unit.disk not in self._pool.behind():
                continue
            if (overloaded := self._placement.overloaded()) is not None:
                self._redirect(unit, overloaded)

    def _redirect(self, unit: StripeBuffer, avoid: Collection[int] | None = None) -> bool:
        """Send a unit that is on its way to another disk, as `_move` says."""
        if not self._move(unit, avoid):
            return False
        self._submit(_Sending(unit), self._place_if_any(unit.disk))
        return True

    def _on_their_way(self, disk: int | None = None) -> list[_Sending]:
        """Return what is on its way, to one disk or to any, without what was sent elsewhere meanwhile."""
        return [one for one in self._sendings if one.is_wanted and disk in (None, one.place[0])]

    async def drain(self) -> None:
        """Wait for what is on its way now; where that takes long, only as long as no other disk would be quicker."""
        for arrived in list(self._outstanding):
            while not arrived.is_set():
                with trio.move_on_after(IMPATIENCE_SECONDS):
                    await arrived.wait()
                    break
                self._send_past()

    def row(self, number: int, *, durable: bool) -> StripeUnit | None:
        """Return what is known and not recorded of a unit that a disk has; `durable`: has for good."""
        if number in self.lost:
            return None
        newest = None if durable else self.written.get(number)
        return newest or self.durable.get(number)

    def note_recorded(self, rows: list[StripeUnit]) -> None:
        """Forget rows that are recorded, and what was known of the same units before they grew."""
        for row in rows:
            if self.written.get(row.unit) is row:
                del self.written[row.unit]
            durable = self.durable.get(row.unit)
            if durable is not None and durable.bytes <= row.bytes:
                del self.durable[row.unit]

    # --- durability -------------------------------------------------------------------------------------------------

    @property
    def keeps(self) -> bool:
        """Tell whether a sync would free memory."""
        return bool(self._kept)

    async def sync(self, *, recorded: bool = False) -> None:
        """Sync the member files that have changed, all disks at once: what `written` has now becomes `durable`.

        What a failed sync leaves in doubt is written to other disks, and synced there, or the stream has failed.
        `recorded`: it is in the database already, as it lies. What comes meanwhile is left to the next time.
        """
        wanted = dict(self.written)
        disks = {*self._unsynced, *(disk for disk, lock in self._syncing.items() if lock.locked())}
        while disks:
            await self._sync_all(disks, recorded=recorded)
            in_doubt = {self.written[unit].disk for unit, row in wanted.items() if self._is_in_doubt(unit, row)}
            disks = {disk for disk in in_doubt if disk in self._unsynced or self._syncing[disk].locked()}
            for disk in in_doubt - disks:  # which cannot be; but then no sync would ever tell
                self._lose(disk)
                self._failed(VtlfsError(f"disk {disk}: nobody knows whether what was written there was synced"))

    async def writeback(self, least: int) -> None:
        """Sync those disks for which at least so many bytes are kept. A sync under way is not waited for.

        That disturbs no flush: it waits for a sync of the same disk, and for what comes of it.
        """
        kept = Counter(unit.disk for unit in self._kept.values())
        disks = {disk for disk, units in kept.items() if units * self._stripe_unit >= least} & self._unsynced
        await self._sync_all({disk for disk in disks if not self._syncing[disk].locked()})

    async def put_down(self, units: list[StripeBuffer]) -> None:
        """Have the disks take all that has come of unfinished units, so that their bytes need not stay in memory."""
        await self.send([unit for unit in units if not unit.is_sent])
        await self.drain()
        if self._budget is not None:
            await self.sync()

    def has(self, unit: StripeBuffer) -> bool:
        """Tell whether the unit's disk has all that has come, as safely as it has to have full units to let go of them.

        Once that is recorded, `written` and `durable` do not tell of it any more.
        """
        if unit.has_gap or not unit.sent or not unit.is_sent or unit.number in self.lost:
            return False
        return self.is_free(unit) and (self._budget is None or unit.number not in self.written)

    def has_file(self, disk: int) -> bool:
        """Tell whether the stream has a member file on a disk, so that a unit can go there without opening one."""
        return disk in self._members

    def is_free(self, unit: StripeBuffer) -> bool:
        """Tell whether nothing of the unit is on its way."""
        return unit.number not in self._waiting and all(sending.unit is not unit for sending in self._sendings)

    async def _sync_all(self, disks: Collection[int], *, recorded: bool = False) -> None:
        if len(disks) == 1:  # as for a short stream, which is spared a nursery
            (disk,) = disks
            await self._sync(disk, recorded)
            return
        async with trio.open_nursery() as nursery:
            for disk in disks:
                nursery.start_soon(self._sync, disk, recorded)

    async def _sync(self, disk: int, recorded: bool) -> None:
        """Sync one disk, and see to what comes of that, before anybody else syncs it.

        A kernel forgets the pages that a sync could not write, and the next sync succeeds without them.
        """
        async with self._syncing[disk]:
            if disk not in self._unsynced:
                return
            self._unsynced = self._unsynced - {disk} or NO_NUMBERS
            rows = [row for row in self.written.values() if row.disk == disk]
            try:
                await self._pool[disk].syncing.run(self._members[disk].sync)
            except Exception as error:
                with trio.CancelScope(shield=True):  # the end of the mount waits for what comes of it, too
                    is_elsewhere = (
                        self._placement.record_failure(disk, error) and not recorded and await self._evacuate(disk)
                    )
                if not is_elsewhere:
                    self._lose(disk)
                    self._failed(error)
            else:
                for row in rows:
                    self._note_durable(row)

    def _lose(self, disk: int) -> None:
        """Give up what a disk has not synced, and what was on its way there: the sync may have told of that, too."""
        self.lost |= {sending.unit.number for sending in self._on_their_way(disk)}
        self.lost |= {row.unit for row in self.written.values() if row.disk == disk}
        for number in self.lost:
            self._let_go(number)

    def _is_in_doubt(self, unit: int, row: StripeUnit) -> bool:
        """Tell whether what a row says of a unit may not be on any disk for good, and a sync could change that."""
        durable = self.durable.get(unit)
        return unit in self.written and unit not in self.lost and (durable is None or durable.bytes < row.bytes)

    def _note_durable(self, row: StripeUnit) -> None:
        known = self.durable.get(row.unit)
        if known is None or known.bytes <= row.bytes:  # not where it has grown on another disk meanwhile
            self.durable[row.unit] = row
        if self.written.get(row.unit) is row:
            del self.written[row.unit]
            self._let_go(row.unit)

    def _let_go(self, number: int) -> None:
        """Keep a unit in memory no longer, if it was."""
        if (unit := self._kept.pop(number, None)) is not None and self._budget is not None:
            self._budget.free(unit.disk, self._stripe_unit)
            unit.recycle()

    async def _evacuate(self, disk: int) -> bool:
        """Write elsewhere what a disk has not synced; tell whether it is all on its way to be synced there.

        What is on its way to the disk goes elsewhere, too: it may have got as far as the pages that the kernel forgets.
        """
        self.send_elsewhere(disk)
        if self._on_their_way(disk):
            return False
        rows = [row for row in self.written.values() if row.disk == disk]
        units: list[StripeBuffer] = []
        for row in rows:
            unit = self._find(row.unit) or await self._fetch(row)
            if unit is None or unit.away or (unit.disk == disk and not self._move(unit)):
                return False
            units.append(unit)
        await self.send(units)
        await self.drain()
        return all(self.written.get(row.unit) is not row for row in rows)

    def _find(self, number: int) -> StripeBuffer | None:
        """Return a unit that is still in memory: in hand, on its way or kept."""
        on_their_way = {sending.unit.number: sending.unit for sending in self._on_their_way()}
        for place in (self._in_hand, self._waiting, on_their_way, self._kept):
            if (unit := place.get(number)) is not None:
                return unit
        return None

    async def _fetch(self, row: StripeUnit) -> StripeBuffer | None:
        """Read back a unit that is no longer in memory: the kernel may still have what it could not sync."""
        disk = self._pool[row.disk]
        try:
            data = await disk.reading.run(disk.disk.read, row, self._stripe_unit)
        except VtlfsError as error:
            log.error("session %d: what disk %d has not synced can't be read back: %s", row.session, row.disk, error)
            return None
        unit = StripeBuffer(row.unit, row.disk, row.slot, self._account)
        unit.put(0, memoryview(data))
        return unit

    async def finish(self, release: dict[str, Any]) -> None:
        """Close the member files. What fails here is logged: the data is durable, and the database knows of it.

        A disk that hangs closes its own when it answers; nobody waits for that.
        """
        for number in list(self._kept):
            self._let_go(number)
        finished = {disk: self._finish(disk, member, release) for disk, member in self._members.items()}
        with trio.CancelScope(shield=True):
            for disk, event in finished.items():
                while not event.is_set() and not self._pool[disk].hangs:
                    with trio.move_on_after(PATIENCE_SECONDS):
                        await event.wait()
        self._failed = _tell_nobody  # so that session and pipeline do not keep each other alive

    def _finish(self, disk: int, member: Member, release: dict[str, Any]) -> trio.Event:
        """Have a member file be closed; return what tells when it is."""
        finished = trio.Event()

        def done(result: "outcome.Outcome[None]") -> None:
            finished.set()
            if isinstance(result, outcome.Error):
                failure = result.error
                trace = None if isinstance(failure, DiskError) else failure
                log.warning("session %d: closing its member file: %s", self._session, failure, exc_info=trace)

        self._pool[disk].writing.submit(done, member.finish, release)
        return finished

    def _member(self, disk: int) -> Member:
        if disk not in self._members:
            self._members[disk] = self._pool[disk].disk.member(self._session, self._stripe_unit, self._header)
        return self._members[disk]
