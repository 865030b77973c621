"""A difference as rows of a table. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from vtlfs.engine.tracking import Tracking
from vtlfs.model import DiskRecord, Drive, Medium, Session
from vtlfs.snap.diff import Difference
from vtlfs.tui import details, words
from vtlfs.tui.details import Details
from vtlfs.tui.source import Target


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `sign`: + came, - went, ~ changed, nothing for a sum."""

    sign: str
    kind: str
    name: str
    before: str
    after: str
    more: str = ""
    target: Target | None = None
    details: Callable[[Tracking], Details] | None = None


def rows_of(found: Difference) -> list[Row]:
    """Return the sums first, then what is different, kind by kind."""
    rows = [
        *_sums("by host", found.bytes_by_host),
        *_sums("by medium", found.bytes_by_medium),
        *_sums("by drive", found.bytes_by_drive),
    ]
    for change in found.media.changed:
        rows.append(_medium("~", change.before, change.after))
    rows += [_medium("+", None, medium) for medium in found.media.came]
    rows += [_medium("-", medium, None) for medium in found.media.went]
    rows += [_session("~", change.before, change.after) for change in found.sessions.changed]
    rows += [_session("+", None, session) for session in found.sessions.came]
    rows += [_session("-", session, None) for session in found.sessions.went]
    for tape_file in found.tape_files:
        target = Target(tape_file.medium, tape_file.number)
        size = words.gain(tape_file.bytes, sized=True)
        row = Row("+", "tape file", str(target), "", f"of {tape_file.host}", size, target)
        rows.append(row)
    rows += [Row("~", "drive", str(c.after.number), _drive(c.before), _drive(c.after)) for c in found.drives.changed]
    rows += [Row("+", "drive", str(drive.number), "", _drive(drive)) for drive in found.drives.came]
    rows += [
        Row("~", "disk", str(c.after.number), _disk(c.before), _disk(c.after), _gain(c.before.free, c.after.free))
        for c in found.disks.changed
    ]
    return rows


def _sums(kind: str, sizes: Mapping[str, int] | Mapping[int, int]) -> list[Row]:
    ordered = sorted(sizes.items(), key=lambda item: (-item[1], str(item[0])))
    return [Row("", kind, str(name), "", "", words.gain(size, sized=True)) for name, size in ordered]


def _medium(sign: str, before: Medium | None, after: Medium | None) -> Row:
    medium = after or before
    assert medium is not None

    def text(found: Medium | None) -> str:
        return "" if found is None else f"{words.size(found.bytes)}, {words.count(found.tape_files, 'file')}"

    more = _gain(before.bytes if before else 0, after.bytes if after else 0)
    target = Target(medium.barcode, None) if after else None
    show = partial(_of_medium, medium.barcode) if after else None
    return Row(sign, "medium", medium.barcode, text(before), text(after), more, target, show)


def _session(sign: str, before: Session | None, after: Session | None) -> Row:
    session = after or before
    assert session is not None

    def text(found: Session | None) -> str:
        if found is None:
            return ""
        return f"{found.host} {words.size(found.bytes)} {found.state}"

    more = _gain(before.bytes if before else 0, after.bytes if after else 0)
    target = details.target_of(session) if after else None
    show = partial(_of_session, session.id) if after else None
    return Row(sign, "session", str(session.id), text(before), text(after), more, target, show)


def _of_session(number: int, tracking: Tracking) -> Details:
    return details.of_session(tracking, number)


def _of_medium(barcode: str, tracking: Tracking) -> Details:
    return details.of_medium(tracking, barcode)


def _drive(drive: Drive) -> str:
    return f"loaded {drive.loaded}" if drive.loaded else "nothing loaded"


def _disk(disk: DiskRecord) -> str:
    return f"{words.size(disk.free)} free"


def _gain(before: int | None, after: int | None) -> str:
    return words.gain((after or 0) - (before or 0), sized=True)
