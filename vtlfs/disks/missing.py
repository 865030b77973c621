"""The place of a disk that is not there, in a library whose other disks are to be read."""

from typing import Any, NoReturn

from vtlfs.errors import DiskMissing
from vtlfs.model import StripeUnit


class MissingDisk:
    """A disk of which nothing can be had. Whatever would read or write it raises DiskMissing."""

    def __init__(self, number: int, path: str) -> None:
        """`path` is where it should be."""
        self.number = number
        self.path = path
        self.free = self.total = self.device = 0

    def member(self, session: int, stripe_unit: int, header: dict[str, Any]) -> NoReturn:
        """Raise DiskMissing."""
        raise DiskMissing(self.number, self.path)

    def reopen(self, session: int, stripe_unit: int, slots: int) -> None:
        """Return that there is no member file to be finished."""

    def read(self, unit: StripeUnit, stripe_unit: int) -> NoReturn:
        """Raise DiskMissing."""
        raise DiskMissing(self.number, self.path)

    def try_out(self) -> NoReturn:
        """Raise DiskMissing."""
        raise DiskMissing(self.number, self.path)

    def measure(self) -> None:
        """Leave everything at 0."""
