"""The storage port: what the engine asks of a disk, in terms of members and extents, not of files.

`vtlfs.disks.local` is a directory as a disk, `vtlfs.disks.missing` the place of a disk that is not there; the tests
have one in memory, and `tests/unit/test_disk_contract.py` is run over all of them. Every method may block: a mount
calls them in threads of the disk's own executors, a command also in its own.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from vtlfs.disks.cartridges import Cartridge
from vtlfs.disks.contents import Batch, Flaw, Listing, Part
from vtlfs.disks.headers import Ending, Header, Opening
from vtlfs.disks.snapshots import Runs
from vtlfs.model import Extent, Watermark

CheckRoom = Callable[[int], None]
# Calls the second argument with the size of a copy of the catalogue, which raises OSError where there is no room; then
# writes the copy into the empty file that the first argument names. That file need not be on the disk.
Fill = Callable[[str, CheckRoom], None]


class Member(Protocol):
    """What one session has on one disk, its extents and what describes them, while it is written.

    The methods but `sync` are called by one thread, one after the other. All raise DiskError with the disk's errno.
    """

    def allocate(self, end: int) -> None:
        """Have the disk set aside the room up to position `end`, so that writing there can't fail for lack of space."""

    def write(self, extent: Extent, pieces: list[memoryview], members: Sequence[Extent] = ()) -> Extent:
        """Write an extent and its record at `extent.position`; return it with its length and its BLAKE3.

        `pieces` are the stored bytes. `members`: of parity, the data extents of its stripe, by place.
        """

    def sync(self) -> None:
        """Make durable what `write` has written."""

    @property
    def end(self) -> int:
        """The first position behind all that is there, whether it counts or not."""

    def finish(self, ending: Ending | None) -> None:
        """Give back what was allocated and not used, add to the header how the session ended, and close.

        `ending`: None: nobody knows yet.
        """


class Disk(Protocol):
    """A place for members, for copies of the catalogue and for a high-water mark.

    What the disk can't do raises DiskError with its errno; DiskMissing where it is not there at all.
    """

    number: int
    path: str  # where it is: for messages, and for people; nobody outside this package makes a path of it
    free: int  # bytes, as last measured
    total: int  # bytes, as last measured
    reserved: int  # bytes that are free for others only, such as ext4's reserve for root, as last measured
    checks: bool  # `read_stored` compares BLAKE3s; else it returns whatever lies there, unless told to check
    device: int  # number of the device that the disk is on, which it may share with others

    # --- writing and reading ----------------------------------------------------------------------------------------

    def member(self, session: int, stripe_unit: int, opening: Opening, ending: Ending | None = None) -> Member:
        """Return a new member for the session, with this header. It is made by the first `allocate` or `write`.

        `ending`: of a session that has ended, for a repair; then `sync` makes that durable, too.
        """

    def reopen(self, session: int, end: int) -> Member | None:
        """Return a session's member, which counts up to position `end`, to `write` to or `finish`; None without one."""

    def sync_members(self, members: Sequence[Member]) -> None:
        """Make durable what some of this disk's members have written, all at once where there are many."""

    def read_stored(self, extent: Extent, *, check: bool = False) -> bytes:
        """Read the stored bytes of an extent, and check them if `check` or `checks`. Raises DamagedExtent."""

    def remove(self, session: int) -> None:
        """Remove a session's member durably, if there is one."""

    def discard(self, extent: Extent) -> None:
        """Give back the room of an extent that the catalogue has elsewhere; its record stays. May do nothing."""

    def restore_header(self, session: int, opening: Opening, ending: Ending) -> None:
        """Write the header of a session's member anew, durably, if there is a member."""

    # --- looking at what is there -----------------------------------------------------------------------------------

    def where(self, session: int) -> str:
        """Return in words where a session's member lies; it need not be there."""

    def groups(self) -> tuple[set[int], list[str]]:
        """Return the groups of sessions of which there may be members, and where things lie that are none."""

    def members(self, group: int) -> Listing:
        """Return the members of a group of sessions, by names and sizes: none is opened."""

    def sessions_from(self, first: int) -> set[int]:
        """Return which sessions from number `first` on have a member, by names alone."""

    def header(self, session: int) -> Header | None:
        """Return what a session's member says of itself; None where there is none, or it can't be read."""

    def scan(self, known: Callable[[int, int], set[int]]) -> Iterator[Batch]:
        """Yield all that is there, headers and records, a group of sessions at a time or less.

        `known(first, last)` returns the sessions among these of which nothing but the presence is wanted.
        """

    def scan_member(self, session: int, stripe_unit: int) -> Iterator[Batch]:
        """Yield the records of one member whose header can't be read."""

    def examine(self, part: Part) -> list[Flaw]:
        """Read part of a member, past all caches, and return what is wrong with it. Several threads may call it."""

    # --- copies of the catalogue, and the high-water mark -----------------------------------------------------------

    def copies(self) -> list[int]:
        """Return the numbers of the copies of the catalogue, the newest first."""

    def put_copy(self, number: int, fill: Fill) -> None:
        """Keep a copy of the catalogue when it is whole and durable, and remove those before the last two.

        An OSError that `fill` raises is raised as DiskError, and nothing is left of the copy.
        """

    def read_copy(self, number: int) -> Iterator[bytes]:
        """Yield the bytes of a copy, piece by piece."""

    def where_copy(self, number: int) -> str:
        """Return in words where a copy lies; it need not be there."""

    def mark(self) -> Watermark | None:
        """Return the disk's high-water mark; None without one of this library that can be read."""

    def raise_mark(self, mark: Watermark, *, durable: bool = False) -> None:
        """Raise the high-water mark, if it is lower. `durable`: it survives a power cut."""

    # --- cartridge memory -------------------------------------------------------------------------------------------

    def put_cartridges(self, found: Sequence[Cartridge]) -> None:
        """Remember media durably, each as a whole; of what is known of one, the newer stays. At most one per medium."""

    def cartridges(self) -> Iterator[tuple[str, Cartridge | None]]:
        """Yield what is remembered, with its name; None where that can't be read, or is another library's."""

    def put_snapshots(self, deleted: Runs) -> None:
        """Remember durably that snapshots are deleted, beside those that are known to be so."""

    def snapshots(self) -> Runs:
        """Return which snapshots are remembered as deleted; what can't be read is forgotten."""

    # --- health -----------------------------------------------------------------------------------------------------

    def measure(self) -> None:
        """Bring `free`, `total`, `reserved` and `device` up to date. Raises DiskError, also where the disk is gone."""

    def try_out(self) -> None:
        """Write, sync and remove something, to see whether the disk works again."""
