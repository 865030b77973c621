"""The stripes of one stream, and how far each extent of them has come: one state machine with one owner.

A write session has one `Stripes`. It is used in the trio loop only and never waits, so its answers hold until the next
`await`. It moves no bytes: `WritePipeline` sends fragments, `Durability` syncs disks, `Recording` records rows, and
each notes its outcome here.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator

from vtlfs.engine.layout.intervals import NO_NUMBERS
from vtlfs.engine.memory import Account
from vtlfs.engine.writing.dirty import DirtyBudget
from vtlfs.engine.writing.striping.extents import ExtentBuffer
from vtlfs.engine.writing.striping.stripe import Fragment, State, Stripe
from vtlfs.engine.writing.striping.write_ends import WriteEnds
from vtlfs.model import Extent


class Stripes:
    """The bytes of one stream, from the moment at which they come until their stripe is recorded.

    Bytes are collected in extents *in hand*, one for each stripe unit that has some. Extents are sealed in the order of
    the stream: bytes before `sealed` are in stripes, each a run of the stream, and bytes after it are in hand. A stripe
    is recorded as a whole. Until then it can be replaced, as long as its bytes are in memory: its extents are dealt
    anew, into new stripes, and sent to other disks.

    | transition | states | when, and who tells it | what a failure leaves |
    | --- | --- | --- | --- |
    | `put` | in hand | bytes have come: `write()` | nothing is taken before there is room for all |
    | `seal` | in hand → sealed | an extent is full, or is flushed: `WritePipeline` | nothing: it does not fail |
    | `queue` | sealed → queued | it has a stripe and a disk: `WritePipeline`, in the same step | `replace` |
    | `close` | parity: → queued | the stripe is full, or is flushed: `WritePipeline` | `replace` |
    | `submit` | queued → writing | the disk's queue has a place; parity: the data is written | `replace`, or `lose` |
    | `arrive` | writing → written | the disk's thread has written the extent | `replace`, or `lose` |
    | `synced` | written → durable | the disk was synced: `Durability` | `replace`, or `lose` |
    | `replace` | any → queued, in another stripe | a disk failed, hangs or is slow | too few disks: `lose` |
    | `recorded` | written, durable → forgotten | the commit has the rows: `Recording` | a flush tries again |
    | `lose` | any → lost | the bytes are nowhere else | for good: later stripes are never recorded |
    """

    __slots__ = (
        *("_account", "_budget", "_in_hand", "_sending", "_stripe_unit", "_stripes", "_undurable", "_unwritten"),
        *("ends", "next_number", "open", "sealed", "unsynced"),
    )

    def __init__(self, stripe_unit: int, account: Account, budget: DirtyBudget | None) -> None:
        """`budget`: counts the bytes that are kept until their stripe is durable; None if no bytes are kept."""
        self._stripe_unit = stripe_unit
        self._account = account
        self._budget = budget
        self._in_hand: dict[int, ExtentBuffer] = {}  # by stripe unit
        self._stripes: list[Stripe] = []  # the unrecorded stripes, in the order of the stream
        self._unwritten: dict[Stripe, None] = {}  # the stripes of `_stripes` that are neither wholly written nor lost
        self._undurable: dict[Stripe, None] = {}  # the stripes of `_stripes` that are neither durable nor lost
        self._sending: dict[Fragment, None] = {}  # handed to a disk's thread and not answered yet; replaced ones, too
        self.open: Stripe | None = None  # the stripe that takes extents
        self.ends = WriteEnds()
        self.next_number = 0
        self.sealed = 0  # offset in the stream
        self.unsynced: frozenset[int] = NO_NUMBERS  # disks that have taken bytes since their last sync

    # --- bytes in hand ----------------------------------------------------------------------------------------------

    def in_hand(self, unit: int) -> ExtentBuffer | None:
        """Return the extent in hand of a stripe unit; None if the stripe unit has none yet."""
        return self._in_hand.get(unit)

    @property
    def all_in_hand(self) -> list[ExtentBuffer]:
        """The extents in hand."""
        return list(self._in_hand.values())

    def count_with(self, offset: int, size: int) -> int:
        """Return how many extents will be in hand after `size` bytes at `offset` have come."""
        first, last = max(offset, self.sealed) // self._stripe_unit, (offset + size - 1) // self._stripe_unit
        return len({*self._in_hand, *range(first, last + 1)})

    def put(self, offset: int, data: memoryview) -> None:
        """Take in bytes of one stripe unit, none of which may be sealed."""
        unit = offset // self._stripe_unit
        extent = self._in_hand.get(unit)
        if extent is None:
            begin = max(unit * self._stripe_unit, self.sealed)
            extent = self._in_hand[unit] = ExtentBuffer(begin, self._stripe_unit, self._account)
        extent.put(offset - extent.offset, data)

    def seal(self, *, unfinished: bool) -> Iterator[ExtentBuffer]:
        """Seal and yield the full extents, up to the first one that is not full; `unfinished`: up to the first gap."""
        while True:
            unit = self.sealed // self._stripe_unit
            extent = self._in_hand.get(unit)
            if extent is None or extent.is_empty or not (extent.is_full or unfinished):
                return
            rest = extent.seal()
            assert extent.size is not None
            self.sealed += extent.size
            self.ends.note_sealed(self.sealed)
            del self._in_hand[unit]
            if rest is not None:
                self._in_hand[unit] = rest
            yield extent
            if rest is not None:
                return

    # --- questions --------------------------------------------------------------------------------------------------

    def find(self, offset: int) -> Fragment | None:
        """Return the sealed data extent with the byte at the offset; None if the extent is recorded."""
        place = bisect_right(self._stripes, offset, key=lambda stripe: stripe.offset) - 1
        for fragment in self._stripes[place].data if place >= 0 else []:
            assert fragment.buffer is not None
            if fragment.buffer.offset <= offset < fragment.buffer.offset + (fragment.buffer.size or 0):
                return fragment
        return None

    def unrecorded(self) -> list[Stripe]:
        """Return the stripes that are not recorded, in the order of the stream."""
        return list(self._stripes)

    def is_settled(self, end: int) -> bool:
        """Tell whether all data before `end`, and the parity of closed stripes there, is written or lost."""
        return all(
            stripe.offset >= end or all(fragment.is_written for fragment in stripe.fragments)
            for stripe in self._unwritten
        )

    def disks_to_sync(self, end: int) -> set[int]:
        """Return the disks whose sync the data before `end`, and its parity, still needs."""
        return {
            fragment.disk
            for stripe in self._undurable
            if stripe.offset < end
            for fragment in stripe.fragments
            if fragment.state is State.WRITTEN
        }

    @property
    def keeps(self) -> bool:
        """Tell whether the bytes of a stripe stay in memory until the stripe is durable."""
        return self._budget is not None

    @property
    def has_kept(self) -> bool:
        """Tell whether a sync would free memory."""
        return self.keeps and any(fragment.is_written for stripe in self._undurable for fragment in stripe.data)

    @property
    def has_unrecorded(self) -> bool:
        """Tell whether the first unrecorded stripe exists and is not lost, so that it will be recorded once written."""
        return bool(self._stripes) and not self._stripes[0].is_lost

    def waiting_on(self) -> dict[int, int]:
        """Return, by disk, how many bytes wait in memory until that disk is synced."""
        sizes: dict[int, int] = {}
        for stripe in self._undurable if self.keeps else []:
            for fragment in stripe.fragments:
                if fragment.state is State.WRITTEN:
                    sizes[fragment.disk] = sizes.get(fragment.disk, 0) + _size(fragment)
        return sizes

    def on_disk(self, disk: int) -> list[Stripe]:
        """Return the stripes that have an unwritten or unsynced extent on a disk."""
        return [
            stripe
            for stripe in self._undurable
            if any(one.disk == disk and one.state is not State.DURABLE for one in stripe.fragments)
        ]

    def queued(self) -> Counter[int]:
        """Return, by disk, how many extents were dealt to it and have no position there yet."""
        fragments = (fragment for stripe in self._unwritten for fragment in stripe.fragments)
        return Counter(fragment.disk for fragment in fragments if fragment.state is State.QUEUED)

    def sending_to(self, disk: int) -> list[Fragment]:
        """Return the fragments on their way to a disk whose stripes were not replaced."""
        return [one for one in self._sending if one.disk == disk and not one.stripe.is_replaced]

    def is_wanted(self, fragment: Fragment) -> bool:
        """Tell whether a fragment is still to be written: its stripe was not replaced."""
        return not fragment.stripe.is_replaced

    def recordable(self, *, durable: bool) -> list[Stripe]:
        """Return the stripes that can be recorded, up to the first that can't; `durable`: only durable ones.

        They end where a write ends, as far as that is known.
        """
        found: list[Stripe] = []
        for stripe in self._stripes:
            if stripe.is_lost or not (stripe.is_durable if durable else stripe.is_written):
                break
            found.append(stripe)
        while found and not self.ends.has(found[-1].end):
            found.pop()
        return found

    # --- transitions ------------------------------------------------------------------------------------------------

    def begin(self, before: Stripe | None = None) -> Stripe:
        """Begin a stripe: the last one of the stream, or one that stands before the stripe `before`."""
        stripe = Stripe(self.next_number)
        self.next_number += 1
        if before is None:
            self._stripes.append(stripe)
        else:
            self._stripes.insert(self._stripes.index(before), stripe)
        self._unwritten[stripe] = self._undurable[stripe] = None
        self.open = stripe
        return stripe

    def queue(self, extent: ExtentBuffer, disk: int) -> Fragment:
        """Take a sealed extent into the open stripe."""
        assert self.open is not None
        fragment = Fragment(self.open, len(self.open.data), disk, extent)
        self.open.data.append(fragment)
        return fragment

    def close(self, disks: Iterable[int]) -> None:
        """Close the open stripe, if there is one; `disks` are those of its parity, by row."""
        stripe, self.open = self.open, None
        if stripe is not None:
            stripe.is_open = False
            stripe.parity = [Fragment(stripe, row, disk, None) for row, disk in enumerate(disks)]
            self._note_progress(stripe)

    def submit(self, fragment: Fragment) -> None:
        """Note that a fragment was handed to its disk's thread."""
        fragment.state = State.WRITING
        fragment.has_begun = False
        self._sending[fragment] = None

    def end_sending(self, fragment: Fragment) -> None:
        """Note that the disk's thread has ended with a fragment, with success or an error."""
        del self._sending[fragment]

    def arrive(self, fragment: Fragment, row: Extent) -> None:
        """Note that a fragment is written, and unsynced."""
        fragment.row = row
        self.unsynced |= {row.disk}
        if fragment.state is State.LOST:
            return
        fragment.state = State.WRITTEN
        if self._budget is not None and fragment.stripe.is_counted:
            self._budget.wait_for(fragment.disk, _size(fragment))
            if fragment.buffer is not None:
                self._budget.keep(_size(fragment))
        self._note_progress(fragment.stripe)

    def begin_sync(self, disk: int) -> list[Fragment]:
        """Return the fragments that a sync of the disk, which begins now, makes durable."""
        self.unsynced = self.unsynced - {disk} or NO_NUMBERS
        return [
            fragment
            for stripe in self._undurable
            for fragment in stripe.fragments
            if fragment.disk == disk and fragment.state is State.WRITTEN
        ]

    def synced(self, fragments: Iterable[Fragment]) -> None:
        """Note that fragments are durable."""
        for fragment in fragments:
            if fragment.state is not State.WRITTEN or fragment.stripe.is_replaced:
                continue
            fragment.state = State.DURABLE
            if self._budget is not None and fragment.stripe.is_counted:
                self._budget.wait_no_more(fragment.disk, _size(fragment))
            self._note_progress(fragment.stripe)

    def replace(self, stripe: Stripe) -> list[ExtentBuffer]:
        """Give up a stripe; return its extents, to be dealt anew. It stays behind the new stripes until `drop`."""
        self._forget(stripe)
        stripe.is_replaced = True
        return self._buffers(stripe)

    def drop(self, stripe: Stripe) -> None:
        """Forget a stripe that was replaced."""
        self._stripes.remove(stripe)
        self._unwritten.pop(stripe, None)
        self._undurable.pop(stripe, None)

    def recorded(self, stripes: list[Stripe]) -> None:
        """Note that the first stripes, which `recordable` has returned, are in the tracking database; forget them."""
        assert self._stripes[: len(stripes)] == stripes
        del self._stripes[: len(stripes)]
        self.ends.forget(stripes[-1].end)
        for stripe in stripes:
            self._forget(stripe)
            self._recycle(stripe)
            self._undurable.pop(stripe, None)

    def lose(self, stripe: Stripe) -> None:
        """Note that bytes of a stripe are lost. Later parts of it may still arrive; they are never recorded."""
        self._forget(stripe)
        self.ends.disregard()
        for fragment in stripe.fragments:
            fragment.state = State.LOST
        self._recycle(stripe)
        self._unwritten.pop(stripe, None)
        self._undurable.pop(stripe, None)

    def clear(self) -> None:
        """Forget all: the stream has ended, or begins again."""
        self.ends.clear()
        for stripe in self._stripes:
            self._forget(stripe)
            self._recycle(stripe)
        for extent in self._in_hand.values():
            extent.recycle()
        for each in (self._stripes, self._unwritten, self._undurable, self._in_hand):
            each.clear()

    def let_go(self) -> None:
        """Take all bytes of the stream out of the dirty budget: the stream ends."""
        for stripe in self._stripes:
            self._forget(stripe)

    # --- memory -----------------------------------------------------------------------------------------------------

    def _note_progress(self, stripe: Stripe) -> None:
        """Free the bytes of a stripe that is durable, or that is written where no bytes are kept until a sync."""
        is_durable = stripe.is_durable
        if is_durable:
            self._undurable.pop(stripe, None)
        if stripe.is_written:
            self._unwritten.pop(stripe, None)
            if is_durable or not self.keeps:
                self._forget(stripe)
                self._recycle(stripe)

    def _forget(self, stripe: Stripe) -> None:
        """Take the bytes of a stripe out of the dirty budget."""
        if self._budget is None or not stripe.is_counted:
            return
        stripe.is_counted = False
        for fragment in stripe.fragments:
            if fragment.state is State.WRITTEN:
                self._budget.wait_no_more(fragment.disk, _size(fragment))
            if fragment.buffer is not None and fragment.is_written:
                self._budget.let_go(_size(fragment))

    def _recycle(self, stripe: Stripe) -> None:
        for buffer in self._buffers(stripe):
            buffer.recycle()

    def _buffers(self, stripe: Stripe) -> list[ExtentBuffer]:
        """Return the buffers of a stripe, marked as shared if a disk's thread may still read one of them."""
        is_shared = any(fragment in self._sending for fragment in stripe.fragments)
        buffers = [fragment.buffer for fragment in stripe.data if fragment.buffer is not None]
        for buffer in buffers:
            buffer.is_shared = buffer.is_shared or is_shared
        return buffers


def _size(fragment: Fragment) -> int:
    assert fragment.row is not None
    return fragment.row.stored
