"""The defects that a verification reports: which bytes of which medium are wrong, and where on the disks they lie."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from vtlfs.disks.base import Disk
from vtlfs.disks.contents import Flaw, Kind
from vtlfs.disks.records import BLOCK, after
from vtlfs.model import Extent, TapeFile


class Severity(StrEnum):
    """What a defect means for the data. The names are those of columns of the table `verification`."""

    DAMAGED = "damaged"  # stored bytes are wrong or gone
    UNREADABLE = "unreadable"  # stored bytes can't be read now
    METADATA = "metadata"  # stored bytes are right, but a rebuild from the disks would miss or misplace them


_SEVERITIES = {
    Kind.UNREADABLE: Severity.UNREADABLE,
    Kind.ABSENT: Severity.UNREADABLE,
    Kind.HEADER: Severity.METADATA,
    Kind.RECORD: Severity.METADATA,
}
_SINGLE = frozenset({Kind.FLIPPED, Kind.RECORD})  # never joined with neighbours
_WHOLE = frozenset({Kind.MISSING, Kind.REPLACED})  # of a whole member file: joined even where there are gaps


@dataclass(frozen=True, slots=True)
class Defect:
    """One thing that is wrong: extents of a member file, a header, a disk, or a map. Offsets are bytes, from 0.

    `extents`: how many extents are damaged, `parity` of them parity. They follow each other in the file `path`, from
    `position` to before `end_position`. `bytes`: their bytes of the tape file, from `offset` to `last_offset`; for
    parity, these are the first and the last byte that its stripe covers. A field that does not apply, as to a header or
    a whole disk, is None.

    `is_replaceable`: no byte of the tape file is lost, because all these extents can be computed from the rest of their
    stripes; for a disk, all its extents can. `lost_bytes`: bytes of the tape file that are lost unless a disk comes
    back, including the bytes that the same stripes have on missing disks.
    """

    kind: Kind
    why: str
    disk: int | None
    path: str | None
    position: int | None = None
    end_position: int | None = None
    medium: str | None = None
    tape_file: int | None = None
    session: int | None = None
    stripe: int | None = None  # of the first extent
    extents: int = 0
    parity: int = 0
    bytes: int = 0
    offset: int | None = None
    last_offset: int | None = None
    medium_offset: int | None = None  # of the byte at `offset`, on the medium
    is_replaceable: bool = False
    lost_bytes: int = 0

    @property
    def severity(self) -> Severity:
        """How bad the defect is for the data."""
        return _SEVERITIES.get(self.kind, Severity.DAMAGED)

    @property
    def count(self) -> int:
        """How many defects this counts as: one for each extent, and one for a header or a disk."""
        return max(1, self.extents)

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
        if self.extents:
            where.append(self._extents())
        if self.session is not None:
            where.append(f"session {self.session}")
        place = ", ".join(where)
        why = f"{self.why}; {self._remedy()}" if self.is_replaceable else self.why
        if self.disk is None:
            return f"{self.kind}: {f'{place}: ' if place else ''}{why}"
        at = "" if self.position is None else f" from byte {self.position}"
        disk = f"disk {self.disk} ({self.path}{at})"
        return f"{self.kind}: {f'{place} on {disk}' if place else disk}: {why}"

    def _extents(self) -> str:
        """Return in words which extents are damaged."""
        covered = f"offsets {self.offset} to {self.last_offset}"
        if self.extents > 1:
            parity = f" ({self.parity} parity)" if self.parity else ""
            return f"{self.extents} extents{parity} of {covered} (from {self.medium_offset} on the medium)"
        if self.parity:
            return f"parity of stripe {self.stripe}, which covers {covered}"
        return f"extent at offset {self.offset} ({self.medium_offset} on the medium)"

    def _remedy(self) -> str:
        if self.kind is Kind.ABSENT:
            return "its extents can be computed from the other disks, as far as these are undamaged"
        return "their stripes can replace them" if self.extents > 1 else "its stripe can replace it"


def absent(disk: int, path: str, why: str, *, is_replaceable: bool) -> Defect:
    """Return the defect of a missing disk. `is_replaceable`: all its extents can be computed from other disks."""
    why = f"{why}; nothing more of the disk is verified"
    return Defect(Kind.ABSENT, why, disk, path, is_replaceable=is_replaceable)


def unmapped(file: TapeFile, missing: int) -> Defect:
    """Return the defect of a tape file of which the tracking database does not map all bytes. `missing`: bytes."""
    why = f"the tracking database does not say where {missing} of its {file.bytes} bytes lie"
    return Defect(
        *(Kind.UNMAPPED, why, None, None),
        medium=file.medium,
        tape_file=file.number,
        session=file.session,
        bytes=missing,
        lost_bytes=missing,
    )


def unlisted(medium: str, size: int, listed: int) -> Defect:
    """Return the defect of a medium whose tape files do not add up to its length. `size`, `listed`: bytes."""
    why = f"the medium is recorded as {size} bytes long, but its tape files have {listed} bytes"
    return Defect(Kind.UNMAPPED, why, None, None, medium=medium, bytes=abs(size - listed))


def unread(missing: int) -> Defect:
    """Return the defect of bytes that no walk over a disk has read, though no other defect explains why."""
    why = f"{missing} bytes were not read; `vtlfs check` says what is wrong with the tracking database"
    return Defect(Kind.UNMAPPED, why, None, None, bytes=abs(missing))


@dataclass(frozen=True, slots=True)
class Covered:
    """What a damaged extent means for its tape file; the fields are those of `Defect`."""

    offset: int
    last_offset: int
    is_replaceable: bool
    lost_bytes: int


def of_header(flaw: Flaw, file: TapeFile, disk: Disk) -> Defect:
    """Return the defect for a flaw in a header, with the member file and the tape file that it belongs to."""
    where = disk.where(file.session)
    return Defect(
        *(flaw.kind, flaw.why, disk.number, where),
        medium=file.medium,
        tape_file=file.number,
        session=file.session,
    )


def of_extent(flaw: Flaw, extent: Extent, covered: Covered, file: TapeFile, disk: Disk) -> Defect:
    """Return the defect for a flaw in an extent, with the bytes of the tape file that it concerns."""
    return replace(
        of_header(flaw, file, disk),
        position=flaw.position,
        end_position=after(extent.position, extent.stored),
        stripe=extent.stripe,
        extents=1,
        parity=int(extent.is_parity),
        bytes=extent.bytes,
        offset=covered.offset,
        last_offset=covered.last_offset,
        medium_offset=file.start + covered.offset,
        is_replaceable=covered.is_replaceable,
        lost_bytes=covered.lost_bytes,
    )


class DefectCoalescer:
    """Joins equal defects of neighbouring extents on one disk into one defect."""

    def __init__(self) -> None:
        self._last: Defect | None = None

    def add(self, defect: Defect) -> Iterator[Defect]:
        """Take in the next defect; yield the defects that it does not continue."""
        last = self._last
        if last is not None and _goes_on(last, defect):
            self._last = _joined(last, defect)
            return
        yield from self.end()
        if not defect.extents or defect.kind in _SINGLE:
            yield defect
        else:
            self._last = defect

    def end(self) -> Iterator[Defect]:
        """Yield the defect that is held back, if there is one."""
        last, self._last = self._last, None
        if last is not None:
            yield last


def _goes_on(last: Defect, defect: Defect) -> bool:
    """Tell whether two defects are of the same kind, and the extents of the second follow those of the first."""
    if not defect.extents or defect.position is None:
        return False
    if defect.position - BLOCK != last.end_position and defect.kind not in _WHOLE:
        return False
    same = (defect.kind, defect.session, defect.disk, defect.is_replaceable)
    if same != (last.kind, last.session, last.disk, last.is_replaceable):
        return False
    return defect.kind is Kind.TRUNCATED or defect.why == last.why


def _joined(last: Defect, defect: Defect) -> Defect:
    assert last.offset is not None
    assert last.last_offset is not None
    assert last.medium_offset is not None
    assert defect.offset is not None
    assert defect.last_offset is not None
    offset = min(last.offset, defect.offset)
    return replace(
        last,
        end_position=defect.end_position,
        extents=last.extents + defect.extents,
        parity=last.parity + defect.parity,
        bytes=last.bytes + defect.bytes,
        lost_bytes=last.lost_bytes + defect.lost_bytes,
        offset=offset,
        last_offset=max(last.last_offset, defect.last_offset),
        medium_offset=last.medium_offset - last.offset + offset,
    )
