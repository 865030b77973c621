"""The place of a disk that is not there, in a library whose other disks are to be read."""

from collections.abc import Callable, Sequence
from typing import NoReturn

from vtlfs.disks.base import Fill, Member
from vtlfs.disks.cartridges import Cartridge
from vtlfs.disks.contents import Part
from vtlfs.disks.headers import Ending, Opening
from vtlfs.disks.snapshots import Runs
from vtlfs.errors import DiskMissing
from vtlfs.model import Extent, Watermark


class MissingDisk:
    """A disk of which nothing can be had. Whatever would read, write or list anything raises DiskMissing."""

    def __init__(self, number: int, path: str) -> None:
        """`path` is where it should be."""
        self.number = number
        self.path = path
        self.free = self.total = self.reserved = self.device = 0
        self.checks = True

    def refuse(self) -> NoReturn:
        """Raise DiskMissing."""
        raise DiskMissing(self.number, self.path)

    def member(self, session: int, stripe_unit: int, opening: Opening, ending: Ending | None = None) -> "MissingMember":
        """Return a member that can't be written: as with a disk that fails, the first write tells."""
        return MissingMember(self)

    def reopen(self, session: int, end: int) -> None:
        """Return that there is no member to be finished."""

    def sync_members(self, members: Sequence[Member]) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def read_stored(self, extent: Extent, *, check: bool = False) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def remove(self, session: int) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def discard(self, extent: Extent) -> None:
        """Do nothing: what the disk has of it is left there."""

    def restore_header(self, session: int, opening: Opening, ending: Ending) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def where(self, session: int) -> str:
        """Return where the disk should be."""
        return f"{self.path}: session {session}"

    def groups(self) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def members(self, group: int) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def sessions_from(self, first: int) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def header(self, session: int) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def scan(self, known: Callable[[int, int], set[int]]) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def scan_member(self, session: int, stripe_unit: int) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def examine(self, part: Part) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def copies(self) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def put_copy(self, number: int, fill: Fill) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def read_copy(self, number: int) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def where_copy(self, number: int) -> str:
        """Return where the disk should be."""
        return f"{self.path}: copy {number}"

    def mark(self) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def raise_mark(self, mark: Watermark, *, durable: bool = False) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def put_cartridges(self, found: Sequence[Cartridge]) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def cartridges(self) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def put_snapshots(self, deleted: Runs) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def snapshots(self) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def measure(self) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()

    def try_out(self) -> NoReturn:
        """Raise DiskMissing."""
        self.refuse()


class MissingMember:
    """A member on a disk that is not there. A stream asks for one where fewer than two other disks work."""

    def __init__(self, disk: MissingDisk) -> None:
        self._disk = disk

    def allocate(self, end: int) -> NoReturn:
        """Raise DiskMissing."""
        self._disk.refuse()

    def write(self, extent: Extent, pieces: list[memoryview], members: Sequence[Extent] = ()) -> NoReturn:
        """Raise DiskMissing."""
        self._disk.refuse()

    def sync(self) -> NoReturn:
        """Raise DiskMissing."""
        self._disk.refuse()

    @property
    def end(self) -> NoReturn:
        """Raise DiskMissing."""
        self._disk.refuse()

    def finish(self, ending: Ending | None) -> None:
        """Close nothing: there is no file."""
