"""What a verification finds, told so that somebody can act on it: which bytes of which medium, and where they lie."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from vtlfs.disks.base import Disk
from vtlfs.disks.contents import Flaw, Kind
from vtlfs.model import Session, TapeFile


class Severity(StrEnum):
    """What a defect means for the data. The names are those of columns of the table `verification`."""

    DAMAGED = "damaged"  # bytes of a tape file are lost, unless the disk is mended
    UNREADABLE = "unreadable"  # they can't be had now
    METADATA = "metadata"  # they are right; rebuilding the tracking database from the disks would miss something


_SEVERITIES = {
    Kind.UNREADABLE: Severity.UNREADABLE,
    Kind.ABSENT: Severity.UNREADABLE,
    Kind.HEADER: Severity.METADATA,
    Kind.RECORD: Severity.METADATA,
}
_SINGLE = frozenset({Kind.FLIPPED, Kind.STALE, Kind.RECORD})  # each of these is told for itself


@dataclass(frozen=True, slots=True)
class Defect:
    """Something that is not as it should be. Offsets are bytes, from 0.

    `units` stripe units are harmed, which lie one behind the other from `slot` on and are numbered from `unit` to
    `last_unit`; they have `bytes` bytes. What is None does not apply: to a header, or to a disk as a whole.
    """

    kind: Kind
    why: str
    disk: int | None
    path: str | None
    slot: int | None = None
    position: int | None = None  # of the first byte in the file `path`
    medium: str | None = None
    tape_file: int | None = None
    session: int | None = None
    unit: int | None = None
    last_unit: int | None = None
    units: int = 0
    bytes: int = 0
    offset: int | None = None  # of the first byte in the tape file
    medium_offset: int | None = None  # of the same byte on the medium

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return _SEVERITIES.get(self.kind, Severity.DAMAGED)

    @property
    def count(self) -> int:
        """As how many it counts: stripe units; a header or a disk is one."""
        return max(1, self.units)

    def as_json(self) -> dict[str, Any]:
        """Return the defect as a JSON object."""
        names = (field for field in self.__slots__ if field not in ("kind", "why"))
        return {"kind": str(self.kind), "severity": str(self.severity), "why": self.why} | {
            name: getattr(self, name) for name in names
        }

    def __str__(self) -> str:
        where = []
        if self.medium is not None:
            number = "" if self.tape_file is None else f", tape file {self.tape_file:04d}"
            where.append(f"medium {self.medium}{number}")
        if self.offset is not None:
            where.append(f"offset {self.offset} ({self.medium_offset} on the medium)")
        if self.session is not None:
            where.append(f"session {self.session}")
        if self.units > 1:
            where.append(f"{self.units} stripe units from {self.unit} to {self.last_unit}")
        elif self.unit is not None:
            where.append(f"stripe unit {self.unit}")
        place = ", ".join(where)
        if self.disk is None:
            return f"{self.kind}: {f'{place}: ' if place else ''}{self.why}"
        at = "" if self.position is None else f" from byte {self.position}"
        disk = f"disk {self.disk} ({self.path}{at})"
        return f"{self.kind}: {f'{place} on {disk}' if place else disk}: {self.why}"


def absent(disk: int, path: str, why: str) -> Defect:
    """Return that a disk is not there."""
    return Defect(Kind.ABSENT, f"{why}; nothing more of it is verified", disk, path)


def unmapped(file: TapeFile, missing: int) -> Defect:
    """Return that the tracking database has lost some of a tape file's map."""
    why = f"the tracking database does not say where {missing} of its {file.bytes} bytes lie"
    return Defect(Kind.UNMAPPED, why, None, None, None, None, file.medium, file.number, file.session, bytes=missing)


def unlisted(medium: str, size: int, listed: int) -> Defect:
    """Return that the tracking database does not have the tape files that a medium's length comes from."""
    why = f"the tracking database has {listed} bytes in its tape files, but it is {size} bytes long"
    return Defect(Kind.UNMAPPED, why, None, None, medium=medium, bytes=abs(size - listed))


def unread(missing: int) -> Defect:
    """Return that bytes were to be verified, and were not, though nothing was seen to be wrong with them."""
    why = f"{missing} bytes were not read; `vtlfs check` tells what is wrong with the tracking database"
    return Defect(Kind.UNMAPPED, why, None, None, bytes=abs(missing))


def located(flaws: Iterable[Flaw], file: TapeFile, session: Session, disk: Disk) -> Iterator[Defect]:
    """Say of flaws in a member file which bytes they concern."""
    where = disk.where(session.id)
    for flaw in flaws:
        defect = Defect(flaw.kind, flaw.why, disk.number, where, None, None, file.medium, file.number, session.id)
        if (unit := flaw.unit) is not None:
            offset = unit.unit * session.stripe_unit
            defect = replace(
                defect,
                slot=unit.slot,
                position=flaw.position,
                unit=unit.unit,
                last_unit=unit.unit,
                units=1,
                bytes=unit.bytes,
                offset=offset,
                medium_offset=file.start + offset,
            )
        yield defect


class DefectCoalescer:
    """Joins equal defects of neighbouring stripe units on one disk into one defect."""

    def __init__(self) -> None:
        self._last: Defect | None = None

    def add(self, defect: Defect) -> Iterator[Defect]:
        """Take in the next defect; yield the defects that it does not continue."""
        last = self._last
        if last is not None and _goes_on(last, defect):
            self._last = replace(
                last, last_unit=defect.last_unit, units=last.units + defect.units, bytes=last.bytes + defect.bytes
            )
            return
        yield from self.end()
        if defect.slot is None or defect.kind in _SINGLE:
            yield defect
        else:
            self._last = defect

    def end(self) -> Iterator[Defect]:
        """Yield the defect that is held back, if there is one."""
        last, self._last = self._last, None
        if last is not None:
            yield last


def _goes_on(last: Defect, defect: Defect) -> bool:
    """Tell whether both say the same, of stripe units of which one lies behind the other."""
    if last.slot is None or defect.slot != last.slot + last.units:
        return False
    same = (defect.kind, defect.session, defect.disk) == (last.kind, last.session, last.disk)
    return same and (defect.kind is Kind.TRUNCATED or defect.why == last.why)
