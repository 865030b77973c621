"""A difference as rows of a table."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import DiskRecord, Drive, Medium, Session, TapeFile
from vtlfs.snap import browse
from vtlfs.snap.diff import Changes, Difference, difference
from vtlfs.tui import details
from vtlfs.tui import format as fmt
from vtlfs.tui.details import Details
from vtlfs.tui.source import Source, Target

MOST_ROWS = 10_000  # of each kind: what is held in memory


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


class Rows(Sequence[Row]):
    """All rows; each is made when it is looked at."""

    def __init__(self, parts: Iterable[tuple[Sequence[Any], Callable[[Any], Row]]]) -> None:
        """Each part: what is different, and what makes a row of one of these."""
        self._parts = [part for part in parts if part[0]]
        self.starts: list[int] = []
        self._count = 0
        for things, _ in self._parts:
            self.starts.append(self._count)
            self._count += len(things)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self._count:
            raise IndexError(index)
        part = bisect_right(self.starts, index) - 1
        things, row = self._parts[part]
        return row(things[index - self.starts[part]])


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows, and a line that sums them up."""

    rows: Rows
    summary: str


def compare(source: Source, earlier: int, later: int | None) -> Comparison:
    """Compare two states. May block, for as long as there are differences. Raises VtlfsError."""
    library = source.require("comparing")
    found = difference(library, earlier, later, limit=MOST_ROWS)
    with source.tracking(earlier) as tracking:
        before = browse.counters(tracking)
    with source.tracking(later) as tracking:
        after = browse.counters(tracking)
    totals = zip(("media", "sessions", "bytes"), before, after, strict=True)
    return Comparison(
        rows_of(found, list(totals), f"`vtlfs snapshot diff {earlier} {later or 'now'}`"), _summary(found)
    )


def rows_of(found: Difference, totals: Sequence[tuple[str, int, int]] = (), rest: str = "") -> Rows:
    """Return the totals and sums first, then what is different, kind by kind, the longest lists last.

    `rest`: where to find what a list has no room for.
    """
    parts: list[tuple[Sequence[Any], Callable[[Any], Row]]] = [
        (totals, lambda total: _total(*total)),
        (_largest(found.bytes_by_host), lambda sum_: _sum("by host", *sum_)),
        (_largest(found.bytes_by_drive), lambda sum_: _sum("by drive", *sum_)),
    ]

    def add(kind: str, sign: str, things: Sequence[Any], count: int, make: Callable[[Any], Row]) -> None:
        parts.append((things, make))
        if hidden := count - len(things):
            parts.append(([hidden], lambda more: Row(sign, kind, f"{more:,} more", "", rest)))

    def add_all(kind: str, changes: Changes[Any], make: Callable[[str, Any, Any], Row]) -> None:
        add(kind, "~", changes.changed, changes.count_changed, lambda change: make("~", change.before, change.after))
        add(kind, "+", changes.came, changes.count_came, lambda thing: make("+", None, thing))
        add(kind, "-", changes.went, changes.count_went, lambda thing: make("-", thing, None))

    add_all("medium", found.media, _medium)
    add_all("disk", found.disks, _disk)
    add_all("drive", found.drives, _drive)
    add_all("session", found.sessions, _session)
    add("tape file", "+", found.tape_files, found.count_tape_files, _tape_file)
    return Rows(parts)


def _summary(found: Difference) -> str:
    sessions = f"{fmt.count(found.sessions.count_came, 'session')} came, {found.sessions.count_changed:,} went on"
    size = fmt.size(sum(found.bytes_by_host.values()))
    return f"{sessions}; {fmt.count(found.count_tape_files, 'tape file')} came with {size}"


def _sum(kind: str, name: object, size: int) -> Row:
    return Row("", kind, str(name), "", "", fmt.gain(size, sized=True))


def _largest(sizes: "Counter[Any]") -> list[tuple[Any, int]]:
    return sorted(sizes.items(), key=lambda item: (-item[1], str(item[0])))


def _total(what: str, before: int, after: int) -> Row:
    if what == "bytes":
        return Row("", "library", what, fmt.size(before), fmt.size(after), fmt.gain(after - before, sized=True))
    return Row("", "library", what, f"{before:,}", f"{after:,}", fmt.gain(after - before))


def _tape_file(tape_file: TapeFile) -> Row:
    target = Target(tape_file.medium, tape_file.number)
    size = fmt.gain(tape_file.bytes, sized=True)
    show = partial(_of_session, tape_file.session)
    return Row("+", "tape file", str(target), "", f"of {tape_file.host}", size, target, show)


def _medium(sign: str, before: Medium | None, after: Medium | None) -> Row:
    medium = after or before
    assert medium is not None

    def text(found: Medium | None) -> str:
        return "" if found is None else f"{fmt.size(found.bytes)}, {fmt.count(found.tape_files, 'file')}"

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
        return f"{found.host} {fmt.size(found.bytes)} {found.state}"

    more = _gain(before.bytes if before else 0, after.bytes if after else 0)
    target = details.target_of(session) if after else None
    show = partial(_of_session, session.id) if after else None
    return Row(sign, "session", str(session.id), text(before), text(after), more, target, show)


def _of_session(number: int, tracking: Tracking) -> Details:
    return details.of_session(tracking, number)


def _of_medium(barcode: str, tracking: Tracking) -> Details:
    return details.of_medium(tracking, barcode)


def _drive(sign: str, before: Drive | None, after: Drive | None) -> Row:
    def text(drive: Drive | None) -> str:
        return "" if drive is None else f"loaded {drive.loaded}" if drive.loaded else "nothing loaded"

    drive = after or before
    assert drive is not None
    return Row(sign, "drive", str(drive.number), text(before), text(after))


def _disk(sign: str, before: DiskRecord | None, after: DiskRecord | None) -> Row:
    def text(disk: DiskRecord | None) -> str:
        if disk is None or disk.free is None or not disk.total:
            return "" if disk is None else "-"
        return f"{fmt.size(disk.free)} free, {1 - disk.free / disk.total:.0%} full"

    disk = after or before
    assert disk is not None
    taken = ""
    if before is not None and after is not None and before.free is not None and after.free is not None:
        taken = _gain(after.free, before.free)
    return Row(sign, "disk", str(disk.number), text(before), text(after), taken)


def _gain(before: int | None, after: int | None) -> str:
    return fmt.gain((after or 0) - (before or 0), sized=True)
