"""Disks: where each was last seen, how full it is, what keeps a mount from using it, and how it comes and goes."""

from dataclasses import dataclass
from typing import Any

from vtlfs import blame
from vtlfs.engine.tracking.repositories.incidents import Incidents
from vtlfs.engine.tracking.statements import Repository, Statements
from vtlfs.failpoints import reached
from vtlfs.model import DiskRecord, DiskState

DISK = "number, uuid, path, added_at, total, free, seen_at, fault, fault_at, state, state_at, successor"


def disk_of(row: tuple[Any, ...]) -> DiskRecord:
    """Return the disk of a row of the columns DISK."""
    values = (*row[:9], DiskState(row[9]), *row[10:])
    return DiskRecord(*values)


@dataclass(frozen=True, slots=True)
class Stored:
    """What lies on a disk: extents of data and parity, and their stored bytes."""

    extents: int
    bytes: int


class Disks(Repository):
    """The rows of the tables `disk` and `stored`."""

    def __init__(self, sql: Statements, incidents: Incidents) -> None:
        super().__init__(sql)
        self._incidents = incidents

    def all(self) -> list[DiskRecord]:
        """Return the disks of the library by number: those that have not retired. There are gaps in the numbers."""
        return [disk for disk in self.ever() if disk.state is not DiskState.RETIRED]

    def ever(self) -> list[DiskRecord]:
        """Return all disks that the library has ever had, by number."""
        rows = self._sql.execute(f"SELECT {DISK} FROM disk ORDER BY number")
        return [disk_of(row) for row in rows]

    def stored(self) -> dict[int, Stored]:
        """Return what lies on each disk, of all that were ever written to."""
        return {row[0]: Stored(*row[1:]) for row in self._sql.execute("SELECT disk, extents, bytes FROM stored")}

    def next_number(self) -> int:
        """Return the number that the next disk gets."""
        return int(self._sql.one("SELECT disks FROM library")[0])

    # --- coming and going -------------------------------------------------------------------------------------------

    def add(self, disk: DiskRecord) -> None:
        """Record a new disk, which is labelled. Its number is used by no other, and never was."""
        self._sql.execute(
            "INSERT INTO disk (number, uuid, path, added_at) VALUES (?, ?, ?, ?)",
            *(disk.number, disk.uuid, disk.path, disk.added_at),
        )
        reached("tracking.disk_added")

    def begin_retiring(self, number: int, at: str, successor: int | None = None) -> None:
        """Record that nothing new is to go to a disk, and what lies on it is to be moved."""
        self._sql.execute(
            "UPDATE disk SET state = 'retiring', state_at = iif(state = 'in use', ?1, state_at),"
            " successor = coalesce(?2, successor) WHERE number = ?3 AND state <> 'retired'",
            *(at, successor, number),
        )
        reached("tracking.retiring_begun")

    def retire(self, number: int, at: str) -> None:
        """Record that a disk on which nothing lies has left the library.

        That counts as a move: a copy of the database with as many moves still knows which disks there are to be.
        """
        self._sql.execute("UPDATE disk SET state = 'retired', state_at = ? WHERE number = ?", at, number)
        self._sql.execute("UPDATE library SET moves = moves + 1")
        self._incidents.end(about_disk(number))
        reached("tracking.disk_retired")

    # --- what is known of each --------------------------------------------------------------------------------------

    def move(self, number: int, path: str) -> None:
        """Record where a disk is now."""
        self._sql.execute("UPDATE disk SET path = ? WHERE number = ? AND path <> ?", path, number, path)
        reached("tracking.disk_moved")

    def record_fill(self, number: int, total: int, free: int, at: str) -> None:
        """Record how full a disk is."""
        self._sql.execute("UPDATE disk SET total = ?, free = ?, seen_at = ? WHERE number = ?", total, free, at, number)
        reached("tracking.fill_recorded")

    def record_fault(self, number: int, fault: str | None, at: str) -> None:
        """Record what keeps a disk from being used, None where nothing does; and that as an incident.

        A fault that is only told in other words, as by another mount, is no further incident.
        """
        row = self._sql.first(
            "UPDATE disk SET fault = ?, fault_at = ? WHERE number = ? AND fault IS NOT ? RETURNING path",
            *(fault, None if fault is None else at, number, fault),
        )
        kind, about = _kind_of(fault), about_disk(number)
        if row is not None and self._incidents.lasting_kind(about) != kind:
            what = f"disk {number} ({row[0]}): {fault or 'works again'}"
            self._incidents.add(kind, about, what, at, lasts=fault is not None)
        reached("tracking.fault_recorded")


def about_disk(number: int) -> str:
    """Return what incidents of a disk are about."""
    return f"disk {number}"


def _kind_of(fault: str | None) -> str:
    if fault is None:
        return "disk back"
    if blame.means_full(fault):
        return "disk full"
    return "disk hanging" if fault == blame.HANGS else "disk failed"
