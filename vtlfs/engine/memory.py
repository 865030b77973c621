"""The memory budget of a mount: how much all its buffers take together, who holds them, and who gives them back.

One limit (`[memory] limit` in library.toml) bounds the sum of: stripe buffers in hand, on their way to a disk, or kept
until a sync; spare buffers; extents that readers have loaded; the reorder buffers of file servers; and the sessions.
The engine makes one `MemoryBudget`, sessions open an `Account` with it. Used in the trio loop only.

The bytes of a request are in memory already: they are counted, and never refused. Two things keep the sum within the
limit: idle streams give their buffers back (`run`), and a write that needs more memory waits for that (`room`). No wait
is for ever: if a disk hangs and no buffer comes back, the waiting writes are let in one by one.
"""

import os
import resource
from collections import OrderedDict, deque
from typing import Protocol

import trio

from vtlfs.model import KIB, MIB
from vtlfs.sizes import SIZES, Sizes
from vtlfs.timing import DEFAULT, Timing

NO_LIMIT = 1 << 60
WRITER_BYTES = 5 * KIB  # what an open session takes in objects, measured: docs/performance.md
READER_BYTES = 2 * KIB
SMALLEST_BUFFER = 4 * KIB
AT_ONCE = 32  # streams that give back at the same time: their syncs share commits of the file system's journal
UNITS_A_DISK = 4  # a mount works with no fewer stripe units than that, whatever its limit


class Stream(Protocol):
    """Whoever can give back what is on an account."""

    def can_give(self, *, may_open: bool = True) -> bool:
        """Tell whether it is worth a try just now. `may_open`: also if a file has to be opened for it."""

    async def give_back(self) -> None:
        """Give back memory whose bytes can be read back from a disk. The stream keeps and reports the errors."""


class Cache(Protocol):
    """Whoever holds what can be dropped at once."""

    def drop_idle(self, seconds: float) -> None:
        """Drop what has not been used for so long."""


class Account:
    """What one session holds of the memory."""

    __slots__ = ("at", "budget", "held", "is_open", "overhead", "reordered", "stream")

    def __init__(self, budget: "MemoryBudget", overhead: int) -> None:
        self.budget = budget
        self.stream: Stream | None = None  # asked to give back; see `MemoryBudget.register`
        self.overhead = overhead
        self.held = 0  # without the overhead
        self.reordered = 0  # of these, in reorder buffers
        self.at = 0.0  # when the stream was last written
        self.is_open = True

    def take(self, size: int) -> None:
        """Count so many bytes more."""
        if self.is_open:
            self.held += size
            self.budget.take(size)

    def give(self, size: int) -> None:
        """Count so many bytes less."""
        if self.is_open:
            self.held -= size
            self.budget.give(size)

    def hold_reordered(self, size: int) -> bool:
        """Count a write that came too early, unless the reorder buffers of all streams have no room for it."""
        if self.budget.reordered + size > self.budget.most_reordered:
            return False
        self.reordered += size
        self.budget.reordered += size
        self.take(size)
        return True

    def drop_reordered(self, size: int) -> None:
        """Count a write that came too early no more."""
        if self.is_open:
            self.reordered -= size
            self.budget.reordered -= size
            self.give(size)

    def note_use(self) -> None:
        """Note that the stream was written just now."""
        self.at = trio.current_time()
        self.budget.touched(self)

    def close(self) -> None:
        """End the session's account. What a disk that has failed or hangs has left on it is given back, too."""
        if self.is_open:
            self.is_open = False
            self.budget.closed(self)
            self.stream = None


class MemoryBudget:
    """See the module."""

    def __init__(
        self, limit: int, stripe_unit: int = MIB, disks: int = 2, timing: Timing = DEFAULT, sizes: Sizes = SIZES
    ) -> None:
        """`stripe_unit` and `disks`: a mount works with some stripe units a disk, whatever its limit."""
        self.limit = limit
        self._stripe_unit = stripe_unit
        self.make_room_for(disks)
        self.sizes = sizes
        self._timing = timing
        self.used = 0
        self.given = 0  # bytes that were ever given back
        self.reordered = 0  # of what is used: the reorder buffers of file servers
        self.buffers = Buffers(self, stripe_unit)
        self.caches: list[Cache] = []
        self._overhead = 0  # of what is used: the sessions themselves
        self._accounts: OrderedDict[Account, None] = OrderedDict()  # the least recently written first
        self._giving: set[Account] = set()
        self._waiting: deque[tuple[trio.Event, int]] = deque()
        self._promised = 0  # bytes, to writes that were let in and have not run yet
        self._let_in_at = 0.0  # when there was room for somebody who waited
        self._wake = trio.Event()

    def make_room_for(self, disks: int) -> None:
        """Raise the limit, if it has too few stripe units a disk for so many disks."""
        self.limit = max(self.limit, UNITS_A_DISK * self._stripe_unit * disks)

    # --- shares ------------------------------------------------------------------------------------------------------

    @property
    def kept(self) -> int:
        """Bytes that may be kept until a sync."""
        return self.limit * 3 // 8

    @property
    def queued(self) -> int:
        """Bytes that may be on their way to the disks."""
        return self.limit // 8

    @property
    def spare(self) -> int:
        """Bytes of buffers that may be kept to be used again."""
        return self.limit // 8

    @property
    def loaded(self) -> int:
        """Bytes that readers may have loaded, and be loading."""
        return self.limit // 4

    @property
    def read_ahead(self) -> int:
        """Bytes that all readers together may fetch ahead."""
        return self.limit // 8

    @property
    def most_reordered(self) -> int:
        """Bytes in reorder buffers."""
        return self.limit // 4

    @property
    def is_short(self) -> bool:
        """Tell whether idle streams are to give back."""
        return self.used - self.buffers.bytes > max(self.limit * 5 // 8, self._overhead + self.limit // 8)

    @property
    def is_full(self) -> bool:
        """Tell whether writers wait, or are about to."""
        return not self._has_room(0)

    @property
    def waiting(self) -> int:
        """Writes that wait for room."""
        return len(self._waiting)

    def _has_room(self, size: int) -> bool:
        """Tell whether so many bytes more may be used.

        The rest of the limit is for what nobody counts: requests, and what the C library has not given back yet.
        Sessions, however many, leave a quarter to the buffers.
        """
        return self.used + size <= max(self.limit * 13 // 16, self._overhead + self.limit // 4)

    # --- accounts ----------------------------------------------------------------------------------------------------

    def open(self, overhead: int) -> Account:
        """Return the account of a new session."""
        account = Account(self, overhead)
        self._overhead += overhead
        self.take(overhead)
        return account

    def register(self, account: Account, stream: Stream) -> None:
        """Have the stream, which holds the account, asked to give back while memory is short."""
        account.stream = stream
        account.at = trio.current_time()
        self._accounts[account] = None

    def hold(self, size: int) -> None:
        """Count so many bytes more, or less, that nobody can give back, such as the names that the kernel knows."""
        self._overhead += size
        (self.take if size > 0 else self.give)(abs(size))

    def touched(self, account: Account) -> None:
        """Note that a stream was written."""
        self._accounts.move_to_end(account)

    def closed(self, account: Account) -> None:
        """Count the account no more."""
        self._accounts.pop(account, None)
        self.reordered -= account.reordered
        self._overhead -= account.overhead
        self.give(account.overhead + account.held)

    def take(self, size: int) -> None:
        """Count so many bytes more."""
        was_short = self.is_short
        self.used += size
        if self.is_short and not was_short:
            self._wake.set()

    def give(self, size: int) -> None:
        """Count so many bytes less."""
        self.used -= size
        self.given += size
        if self._waiting:
            self._let_in()

    # --- waiting -----------------------------------------------------------------------------------------------------

    async def room(self, size: int) -> None:
        """Wait until there is room for `size` bytes more. Without a queue, a write that finds room never waits."""
        if size and not self._has_room(size):
            self.buffers.drop()
        if not size or (self._has_room(size) and not self._waiting):
            return
        if not self._waiting:
            self._let_in_at = trio.current_time()
        turn = trio.Event()
        self._waiting.append((turn, size))
        self._wake.set()
        try:
            await turn.wait()
        finally:
            if turn.is_set():
                self._promised -= size
            else:
                self._waiting.remove((turn, size))

    def _let_in(self) -> None:
        """Let in those who have waited longest, as far as there is room."""
        while self._waiting and self._has_room(self._promised + self._waiting[0][1]):
            self._let_in_at = trio.current_time()
            self._let_one_in()

    def _let_one_in(self) -> None:
        turn, size = self._waiting.popleft()
        self._promised += size
        turn.set()

    # --- giving back -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Have idle streams give back while memory is short. A task of the engine; see the module."""
        async with trio.open_nursery() as nursery:
            while True:
                self._wake = trio.Event()
                while not (self.is_short or self._waiting):
                    await self._wake.wait()
                    self._wake = trio.Event()
                if self.is_full:
                    self.buffers.drop()
                for cache in self.caches:
                    cache.drop_idle(self._timing.idle)
                for account in self._idle(AT_ONCE - len(self._giving)):
                    self._giving.add(account)
                    nursery.start_soon(self._give_back, account)
                self._let_in()
                if self._waiting and trio.current_time() > self._let_in_at + self._timing.memory_patience:
                    self._let_one_in()
                with trio.move_on_after(self._timing.memory_round):
                    await self._wake.wait()

    def _idle(self, most: int) -> list[Account]:
        """Return streams to give back, the least recently written first.

        Streams that hold little are asked only while there is no room at all and the others hold little together: a
        stream that is put away needs an open member file, which takes about as much memory.
        """
        if not self.is_short:
            return []
        may_open = not _files_are_short(self.sizes.spare_files)
        until = trio.current_time() - self._timing.idle
        least = worth = self.sizes.worth_a_write
        if not self._has_room(0):
            much = sum(account.held for account in self._accounts if account.held >= worth)
            least = worth if much > self.limit // 8 else 1
        found: list[Account] = []
        for account in self._accounts:
            if account.at > until or len(found) >= most:
                break
            if account.held >= least and account not in self._giving:
                assert account.stream is not None
                if account.stream.can_give(may_open=may_open):
                    found.append(account)
        return found

    async def _give_back(self, account: Account) -> None:
        held = account.held
        try:
            assert account.stream is not None
            await account.stream.give_back()
            if account.is_open and account.held >= held:
                account.note_use()  # so that the others come first
        finally:
            self._giving.discard(account)
            self._wake.set()


def _files_are_short(spare: int) -> bool:
    """Tell whether the process can open fewer than `spare` files more, which running streams and new ones need.

    A new descriptor is the lowest that is free.
    """
    try:
        descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    os.close(descriptor)
    return descriptor + spare > resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Buffers:
    """Spare stripe buffers. Using one again saves the kernel the work of finding fresh pages."""

    def __init__(self, budget: MemoryBudget, size: int) -> None:
        self.size = size
        self._budget = budget
        self._free: list[bytearray] = []

    @property
    def bytes(self) -> int:
        """Bytes of all spare buffers."""
        return len(self._free) * self.size

    def take(self, size: int) -> bytearray:
        """Return a buffer with arbitrary content: of a whole stripe unit, or smaller."""
        if size == self.size and self._free:
            self._budget.give(size)
            return self._free.pop()
        return bytearray(size)

    def give(self, buffer: bytearray) -> None:
        """Take a buffer back."""
        budget = self._budget
        most = 0 if budget.is_full else max(budget.spare, 2 * self.size)
        if len(buffer) == self.size and (len(self._free) + 1) * self.size <= most:
            self._free.append(buffer)
            budget.take(self.size)

    def drop(self) -> None:
        """Let go of all spare buffers."""
        size = self.bytes
        self._free.clear()
        self._budget.give(size)
