"""Disks: where each was last seen, how full it is, and what keeps a mount from using it."""

from vtlfs.engine.tracking.statements import Repository
from vtlfs.failpoints import reached
from vtlfs.model import DiskRecord


class Disks(Repository):
    """The rows of the table `disk`."""

    def all(self) -> list[DiskRecord]:
        """Return the disks by number."""
        rows = self._sql.execute(
            "SELECT number, uuid, path, added_at, total, free, seen_at, fault, fault_at FROM disk ORDER BY number"
        )
        return [DiskRecord(*row) for row in rows]

    def move(self, number: int, path: str) -> None:
        """Record where a disk is now."""
        self._sql.execute("UPDATE disk SET path = ? WHERE number = ? AND path <> ?", path, number, path)
        reached("tracking.disk_moved")

    def record_fill(self, number: int, total: int, free: int, at: str) -> None:
        """Record how full a disk is."""
        self._sql.execute("UPDATE disk SET total = ?, free = ?, seen_at = ? WHERE number = ?", total, free, at, number)
        reached("tracking.fill_recorded")

    def record_fault(self, number: int, fault: str | None, at: str) -> None:
        """Record what keeps a disk from being used, None where nothing does."""
        self._sql.execute(
            "UPDATE disk SET fault = ?, fault_at = ? WHERE number = ? AND fault IS NOT ?",
            *(fault, None if fault is None else at, number, fault),
        )
        reached("tracking.fault_recorded")
