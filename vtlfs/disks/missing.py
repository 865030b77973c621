"""The place of a disk that is not there, in a library whose other disks are to be read."""

from collections.abc import Callable
from typing import NoReturn

from vtlfs.disks.base import Fill
from vtlfs.disks.contents import Part
from vtlfs.disks.headers import Opening
from vtlfs.errors import DiskMissing
from vtlfs.model import StripeUnit, Watermark


class MissingDisk:
    """A disk of which nothing can be had. Whatever would read, write or list anything raises DiskMissing."""

    def __init__(self, number: int, path: str) -> None:
        """`path` is where it should be."""
        self.number = number
        self.path = path
        self.free = self.total = self.device = 0

    def _refuse(self) -> NoReturn:
        raise DiskMissing(self.number, self.path)

    def member(self, session: int, stripe_unit: int, opening: Opening) -> NoReturn:
        """Raise DiskMissing."""
        self._refuse()

    def reopen(self, session: int, stripe_unit: int, slots: int) -> None:
        """Return that there is no member to be finished."""

    def read(self, unit: StripeUnit, stripe_unit: int) -> NoReturn:
        """Raise DiskMissing."""
        self._refuse()

    def remove(self, session: int) -> NoReturn:
        """Raise DiskMissing."""
        self._refuse()

    def where(self, session: int) -> str:
        """Return where the disk should be."""
        return f"{self.path}: session {session}"

    def groups(self) -> NoReturn:
        """Raise DiskMissing."""
        self._refuse()

    def members(self, group: int) -> NoReturn:
        """Raise DiskMissing."""
        self._refuse()

    def sessions_from(self, first: int) -> NoReturn:
        """Raise DiskMissing."""
        self._refuse()

    def header(self, session: int) -> NoReturn:
        """Raise DiskMissing."""
        self._refuse()

    def scan(self, known: Callable[[int, int], set[int]]) -> NoReturn:
        """Raise DiskMissing."""
        self._refuse()

    def scan_member(self, session: int, stripe_unit: int) -> NoReturn:
        """Raise DiskMissing."""
        self._refuse()

    def examine(self, part: Part) -> NoReturn:
        """Raise DiskMissing."""
        self._refuse()

    def copies(self) -> NoReturn:
        """Raise DiskMissing."""
        self._refuse()

    def put_copy(self, number: int, fill: Fill) -> NoReturn:
        """Raise DiskMissing."""
        self._refuse()

    def read_copy(self, number: int) -> NoReturn:
        """Raise DiskMissing."""
        self._refuse()

    def where_copy(self, number: int) -> str:
        """Return where the disk should be."""
        return f"{self.path}: copy {number}"

    def mark(self) -> NoReturn:
        """Raise DiskMissing."""
        self._refuse()

    def raise_mark(self, mark: Watermark, *, durable: bool = False) -> NoReturn:
        """Raise DiskMissing."""
        self._refuse()

    def measure(self) -> None:
        """Leave everything at 0: a mount that only reads goes on without the disk."""

    def try_out(self) -> NoReturn:
        """Raise DiskMissing."""
        self._refuse()
