"""What the engine asks of a disk. Every method may block and runs in a thread of the disk's own executors."""

from typing import Any, Protocol

from vtlfs.model import StripeUnit


class Member(Protocol):
    """The file on one disk that holds one session's stripe units on that disk, while it is written.

    The methods but `sync` are called by one thread, one after the other. All raise DiskError with the disk's errno.
    """

    def allocate(self, slot: int) -> None:
        """Have the disk set aside the room for a slot, so that writing into it can't fail for lack of space."""

    def write(self, unit: int, slot: int, pieces: list[memoryview], start: int, generation: int) -> StripeUnit:
        """Write the bytes of a stripe unit from `start` on (those before are on the disk), and its record.

        `pieces` are all of the unit so far, `generation` how often it was written before. Return what was written.
        """

    def sync(self) -> None:
        """Make durable what `write` has written."""

    def finish(self, release: dict[str, Any] | None) -> None:
        """Give back what was allocated and not used, add to the header how the session ended, and close."""


class Disk(Protocol):
    """A place for member files."""

    number: int
    path: str
    free: int
    """Bytes that were free when last looked at."""
    total: int
    device: int
    """Number of the device that the disk is on, which it may share with others."""

    def member(self, session: int, stripe_unit: int, header: dict[str, Any]) -> Member:
        """Return a new member file for the session. It is made by the first `allocate` or `write`."""

    def reopen(self, session: int, stripe_unit: int, slots: int) -> Member | None:
        """Return a session's member file after a crash, of which `slots` slots count, to `finish` it; None without."""

    def read(self, unit: StripeUnit, stripe_unit: int) -> bytes:
        """Read a stripe unit and check it. Raises DamagedUnit or DiskError."""

    def measure(self) -> None:
        """Bring `free`, `total` and `device` up to date. Raises DiskError, also where the disk is gone."""

    def try_out(self) -> None:
        """Write, sync and remove a file, to see whether the disk works again. Raises DiskError."""
