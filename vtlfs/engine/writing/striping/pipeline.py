"""The write pipeline of one stream: it seals extents, deals them to disks, queues them, and has them written.

All methods run in the trio loop; the disks' executors see bytes and member files only. While two other disks work, a
disk that fails costs the stream nothing: the stripes that have extents there, and are not durable yet, are dealt anew
over other disks. With fewer disks, the stream fails. `Stripes` has the state of each extent; `Durability` syncs the
disks.
"""

import logging
from collections.abc import Callable, Sequence

import outcome
import trio

from vtlfs.disks.base import Member
from vtlfs.disks.headers import Ending, Opening
from vtlfs.disks.records import BLOCK, after
from vtlfs.disks.semaphore import FairSemaphore
from vtlfs.engine.layout import erasure
from vtlfs.engine.layout.dealer import Candidate, Dealer
from vtlfs.engine.writing.context import WriteContext
from vtlfs.engine.writing.striping.extents import ExtentBuffer
from vtlfs.engine.writing.striping.placement import Placement
from vtlfs.engine.writing.striping.stripe import Fragment, State, Stripe
from vtlfs.engine.writing.striping.stripes import Stripes
from vtlfs.errors import DiskError
from vtlfs.model import NO_CODEC, Extent

log = logging.getLogger(__name__)


def _tell_nobody(_: BaseException) -> None:
    """Drop an error: the session has ended, and its recorded bytes are on the disks."""


class WritePipeline:
    """See the module. One write session has one."""

    __slots__ = (
        *("_allocated", "_arrived", "_dealer", "_ends", "_failed", "_pool", "_session", "_stripe_unit"),
        *("_stripes", "_timing", "members", "opening", "placement"),
    )

    def __init__(
        self,
        session: int,
        opening: Opening,
        context: WriteContext,
        dealer: Dealer,
        stripes: Stripes,
        failed: Callable[[BaseException], object],
    ) -> None:
        """`opening` goes into the headers; `failed` is called with an error that has cost the stream bytes."""
        self._session = session
        self._stripe_unit = opening.stripe_unit
        self.opening = opening
        self._pool = context.pool
        self._timing = context.timing
        self._stripes = stripes
        self._failed: Callable[[BaseException], object] = failed
        self._dealer = dealer
        self._ends: dict[int, int] = {}  # by disk: the position of the next extent in the member file
        self._allocated: dict[int, int] = {}  # by disk: the position up to which room was set aside
        self._arrived = trio.Event()  # set, and replaced by a new one, when an extent was written or lost
        self.placement = Placement(context, opening.parity)
        self.members: dict[int, Member] = {}  # by disk

    # --- sealing and dealing ----------------------------------------------------------------------------------------

    async def send(self, *, flush: bool) -> None:
        """Seal full extents, deal them, and put them into the queues of their disks. Waits for full queues.

        `flush`: seal all bytes up to the first gap, and close the stripe.
        """
        fragments = []
        for extent in self._stripes.seal(unfinished=flush):
            candidates = self.placement.candidates()
            fragments.append(self._queue(extent, candidates))
            if self._dealer.is_full(candidates):
                self.close_stripe()
        if flush:
            self.close_stripe()
        try:
            while fragments:
                if (place := await self._take_place(fragments[0])) is not None:
                    self._submit(fragments[0], place)
                del fragments[0]
        except BaseException:  # the task was cancelled, and a flush waits for all extents that are dealt
            for fragment in fragments:
                if fragment.state is State.QUEUED and self._stripes.is_wanted(fragment):
                    self._submit(fragment, self._place_if_any(fragment.disk))
            raise

    def _queue(self, extent: ExtentBuffer, candidates: Sequence[Candidate], before: Stripe | None = None) -> Fragment:
        """Put an extent into the open stripe, or into a new one: the last, or one that stands before `before`."""
        if self._stripes.open is None or self._dealer.is_full(candidates):
            self.close_stripe()
            self._stripes.begin(before)
            self._dealer.begin(candidates)
        return self._stripes.queue(extent, self._dealer.deal(candidates))

    def close_stripe(self) -> None:
        """Close the open stripe: its parity is written as soon as its data is."""
        stripe = self._stripes.open
        if stripe is not None:
            self._stripes.close(self._dealer.close(self.placement.candidates()))
            self._send_parity(stripe)

    async def _take_place(self, fragment: Fragment) -> FairSemaphore | None:
        """Wait for a place in the queue of the fragment's disk; return None if its stripe was dealt anew meanwhile.

        If the disk fails, hangs or is slow, the stripe is dealt anew over other disks that can take it.
        """
        disk = self._pool[fragment.disk]
        patience = self._timing.queue_elsewhere if self._stripes.keeps else self._timing.queue
        while fragment.state is State.QUEUED and self._stripes.is_wanted(fragment):
            try:
                disk.queue.acquire_nowait()
            except trio.WouldBlock:
                with trio.move_on_after(patience):
                    await disk.queue.acquire(self._session)
                    if fragment.state is State.QUEUED and self._stripes.is_wanted(fragment):
                        return disk.queue
                    disk.queue.release()
                if self._stripes.is_wanted(fragment) and self.placement.is_passed_over(fragment.disk):
                    self.redeal(fragment.stripe)
            else:
                return disk.queue
        return None

    # --- writing ----------------------------------------------------------------------------------------------------

    def _submit(self, fragment: Fragment, place: FairSemaphore | None) -> None:
        """Hand a fragment to its disk. `place`: the queue in which it has taken a place; None if it has taken none."""
        self._stripes.submit(fragment)
        disk = self._pool[fragment.disk]
        member = self.member(fragment.disk)
        write = self._writing(fragment, member)

        def done(result: "outcome.Outcome[Extent | None]") -> None:
            if place is not None:
                place.release()
            self._stripes.end_sending(fragment)
            if not self._stripes.is_wanted(fragment) or fragment.state is State.LOST:
                return
            if isinstance(result, outcome.Error):
                self._note_failure(fragment, result.error)
            elif (row := result.unwrap()) is not None:  # None only for a stripe that was dealt anew
                disk.written += row.stored
                self._stripes.arrive(fragment, row)
                self._send_parity(fragment.stripe)
                self._tell_arrived()

        disk.writing.submit(done, write, timed=disk.write_seconds)

    def _writing(self, fragment: Fragment, member: Member) -> Callable[[], Extent | None]:
        """Return the job for the disk's thread: write an extent, or compute parity and write it."""
        stripe, is_wanted = fragment.stripe, self._stripes.is_wanted
        pieces = [one.buffer.pieces() for one in ([fragment] if fragment.buffer else stripe.data) if one.buffer]
        rows = () if fragment.buffer else tuple(one.row for one in stripe.data if one.row)
        stored = max(sum(map(len, some)) for some in pieces)
        offset = fragment.buffer.offset if fragment.buffer else None
        size = stored if fragment.buffer else 0
        position = self._ends.get(fragment.disk, BLOCK)
        self._ends[fragment.disk] = after(position, stored)
        extent = Extent(
            *(self._session, stripe.number, fragment.place, offset, size, NO_CODEC),
            *(fragment.disk, position, stored, b""),
        )

        def write() -> Extent | None:
            fragment.has_begun = True
            if not is_wanted(fragment):
                return None
            if fragment.buffer:
                return member.write(extent, pieces[0])
            data = [some[0] if len(some) == 1 else memoryview(b"".join(some)) for some in pieces]
            parity = data[0] if len(data) == 1 else memoryview(erasure.parity(fragment.place, data))
            return member.write(extent, [parity], rows)

        return write

    def _send_parity(self, stripe: Stripe) -> None:
        """Send the parity of a closed stripe whose data is written."""
        if stripe.is_open or stripe.is_lost or not all(fragment.is_written for fragment in stripe.data):
            return
        for fragment in stripe.parity:
            if fragment.state is State.QUEUED:
                self._submit(fragment, self._place_if_any(fragment.disk))

    def _note_failure(self, fragment: Fragment, error: BaseException) -> None:
        """After a failed write, deal the stripe anew; if no other disks can take it, it is lost."""
        if not (self.placement.record_failure(fragment.disk, error) and self.redeal(fragment.stripe)):
            self.lose(fragment.stripe, error)

    def lose(self, stripe: Stripe, error: BaseException) -> None:
        """Give up a stripe, and fail the stream."""
        if stripe is self._stripes.open:
            self._stripes.close(())
        self._stripes.lose(stripe)
        self._failed(error)
        self._tell_arrived()

    def _place_if_any(self, disk: int) -> FairSemaphore | None:
        """Take a place in a disk's queue, or return None: parity and extents that are dealt anew wait for no place."""
        queue = self._pool[disk].queue
        try:
            queue.acquire_nowait()
        except trio.WouldBlock:
            return None
        return queue

    # --- elsewhere --------------------------------------------------------------------------------------------------

    def redeal(self, stripe: Stripe) -> bool:
        """Deal a stripe anew over the good disks. Return False if too few are good, or its bytes left the memory."""
        here = all(fragment.buffer is not None and fragment.buffer.is_here for fragment in stripe.data)
        if not here or not self.placement.has_others():
            return False
        self.close_stripe()  # perhaps this very stripe
        candidates = self.placement.candidates()
        fragments = [self._queue(extent, candidates, before=stripe) for extent in self._stripes.replace(stripe)]
        self.close_stripe()
        self._stripes.drop(stripe)
        for fragment in fragments:
            self._submit(fragment, self._place_if_any(fragment.disk))
        return True

    def send_elsewhere(self, disk: int) -> int:
        """Deal anew the stripes with extents in flight to a disk that hangs, or unsynced there; return how many.

        Unsynced stripes are included, since all their bytes would stay in memory until the disk answers.
        """
        return sum(self.redeal(stripe) for stripe in self._stripes.on_disk(disk))

    def _send_past(self) -> None:
        """Deal stripes anew that wait in the queue of a lagging disk, if enough other disks have a place."""
        behind = self._pool.lagging()
        for disk in behind:
            for fragment in self._stripes.sending_to(disk):
                if not fragment.has_begun and self._stripes.is_wanted(fragment) and self.placement.is_passed_over(disk):
                    self.redeal(fragment.stripe)

    async def drain(self, end: int | None = None) -> None:
        """Wait until the extents before `end` (None: all that are sealed now) and their parity are written or lost.

        The parity of an open stripe is not waited for. After a while, stripes that wait for a slow disk are dealt anew.
        """
        end = self._stripes.sealed if end is None else end
        while not self._stripes.is_settled(end):
            arrived = self._arrived
            with trio.move_on_after(self._timing.queue_elsewhere):
                await arrived.wait()
                continue
            if self._stripes.keeps:
                self._send_past()

    def _tell_arrived(self) -> None:
        self._arrived.set()
        self._arrived = trio.Event()

    # --- room -------------------------------------------------------------------------------------------------------

    async def allocate(self, extents: int) -> None:
        """Set room aside on the disks that the next extents and their parity will go to. Raises DiskError.

        If a disk has no room, fails or hangs, room is set aside on other disks, while enough are left.
        """
        while True:
            candidates = self.placement.candidates()
            upcoming = self._dealer.upcoming(extents, candidates, is_open=self._stripes.open is not None)
            queued = self._stripes.queued()  # queued extents will take room that was set aside before
            ends = {
                disk: self._ends.get(disk, BLOCK) + (count + queued[disk]) * after(0, self._stripe_unit)
                for disk, count in upcoming.items()
            }
            wanting = [disk for disk, end in ends.items() if self._allocated.get(disk, 0) < end]
            if self.placement.has_others():  # a stripe whose parity is meant for a bad disk will be dealt anew
                wanting = [disk for disk in wanting if not self.placement.is_bad(disk)]
            if not wanting:
                return
            disk = wanting[0]
            try:
                if await self._allocate(disk, ends[disk]):
                    self._allocated[disk] = max(self._allocated.get(disk, 0), ends[disk])
            except DiskError as error:
                if not (self.placement.record_failure(disk, error) and self.placement.has_others()):
                    raise

    async def _allocate(self, disk: int, end: int) -> bool:
        """Set room aside on a disk up to a position. Return False if the disk does not answer and others are good."""
        answered = trio.Event()
        answer: list[outcome.Outcome[None]] = []

        def done(result: "outcome.Outcome[None]") -> None:
            answer.append(result)
            answered.set()

        self._pool[disk].writing.submit(done, self.member(disk).allocate, end)
        while not answer:
            with trio.move_on_after(self._timing.queue):
                await answered.wait()
            if not answer and not self._pool[disk].usable and self.placement.has_others():
                return False
        answer[0].unwrap()
        return True

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
        self._failed = _tell_nobody  # extents may still fail after the end

    def _finish(self, disk: int, member: Member, ending: Ending | None) -> trio.Event:
        """Let the disk's thread close a member file; return an event that is set when the file is closed."""
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
        """Return the stream's member file on a disk. The disk's thread makes the file before its first extent."""
        if disk not in self.members:
            self.members[disk] = self._pool[disk].disk.member(self._session, self._stripe_unit, self.opening)
        return self.members[disk]
