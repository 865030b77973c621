"""The comparison of two states, as rows of a table: totals first, then each difference.

Worker threads call `compare`, which may block; the compare screen reads the rows.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import DiskRecord, Drive, Medium, Session, TapeFile
from vtlfs.snap import browse
from vtlfs.snap.diff import Changes, Difference, difference
from vtlfs.tui import details
from vtlfs.tui import format as fmt
from vtlfs.tui.details import Details
from vtlfs.tui.medium_details import condition_of, of_medium
from vtlfs.tui.source import Source, Target

MAX_ROWS = 10_000  # of each kind, since all differences are held in memory


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `sign`: + came, - went, ~ changed, empty for a total.

    `details` queries what the details screen shows of the row, in the later state.
    """

    sign: str
    kind: str
    name: str
    before: str
    after: str
    change: str = ""
    target: Target | None = None
    details: Callable[[Tracking], Details] | None = None


class Rows(Sequence[Row]):
    """All rows, in sections of one kind and sign. Each row is built when the table draws it."""

    def __init__(self, sections: Iterable[tuple[Sequence[Any], Callable[[Any], Row]]]) -> None:
        """Each section is a sequence of differences, and the function that builds a row from one of them."""
        self._sections = [section for section in sections if section[0]]
        self.starts: list[int] = []
        self._count = 0
        for items, _ in self._sections:
            self.starts.append(self._count)
            self._count += len(items)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self._count:
            raise IndexError(index)
        section = bisect_right(self.starts, index) - 1
        items, build = self._sections[section]
        return build(items[index - self.starts[section]])


@dataclass(frozen=True, slots=True)
class Comparison:
    """The rows, and a line that sums them up."""

    rows: Rows
    summary: str


def compare(source: Source, earlier: int, later: int | None, most: int = MAX_ROWS) -> Comparison:
    """Compare two states, listing at most so many differences of each kind. Raises VtlfsError.

    Blocks for longer the more differences there are.
    """
    library = source.require_library("comparing")
    found = difference(library, earlier, later, limit=most)
    with source.tracking(earlier) as tracking:
        before = browse.counters(tracking)
    with source.tracking(later) as tracking:
        after = browse.counters(tracking)
    totals = list(zip(("media", "sessions", "bytes"), before, after, strict=True))
    command = f"`vtlfs snapshot diff {earlier} {later or 'now'}`"
    return Comparison(rows_of(found, totals, command), _summary(found))


def rows_of(found: Difference, totals: Sequence[tuple[str, int, int]], command: str) -> Rows:
    """Return the totals first, then the differences, kind by kind, the kinds that grow longest last.

    `command` is what the person can run to see the differences for which a section has no room.
    """
    sections: list[tuple[Sequence[Any], Callable[[Any], Row]]] = [
        (totals, lambda total: _total(*total)),
        (_largest_first(found.bytes_by_host), lambda item: _bytes_came("by host", *item)),
        (_largest_first(found.bytes_by_drive), lambda item: _bytes_came("by drive", *item)),
    ]

    def add(kind: str, sign: str, items: Sequence[Any], count: int, build: Callable[[Any], Row]) -> None:
        sections.append((items, build))
        if hidden := count - len(items):
            sections.append(([hidden], lambda more: Row(sign, kind, f"{more:,} more", "", command)))

    def add_all(kind: str, changes: Changes[Any], build: Callable[[str, Any, Any], Row]) -> None:
        add(kind, "~", changes.changed, changes.count_changed, lambda change: build("~", change.before, change.after))
        add(kind, "+", changes.came, changes.count_came, lambda item: build("+", None, item))
        add(kind, "-", changes.went, changes.count_went, lambda item: build("-", item, None))

    add_all("medium", found.media, _medium)
    add_all("disk", found.disks, _disk)
    add_all("drive", found.drives, _drive)
    add_all("session", found.sessions, _session)
    add("tape file", "+", found.tape_files, found.count_tape_files, _tape_file)
    return Rows(sections)


def _summary(found: Difference) -> str:
    sessions = f"{fmt.count(found.sessions.count_came, 'session')} came, {found.sessions.count_changed:,} changed"
    size = fmt.size(sum(found.bytes_by_host.values()))
    return f"{sessions}; {fmt.count(found.count_tape_files, 'tape file')} came with {size}"


def _largest_first(sizes: "Counter[Any]") -> list[tuple[Any, int]]:
    return sorted(sizes.items(), key=lambda item: (-item[1], str(item[0])))


def _bytes_came(kind: str, name: object, size: int) -> Row:
    return Row("", kind, str(name), "", "", fmt.delta(size, in_bytes=True))


def _total(name: str, before: int, after: int) -> Row:
    if name == "bytes":
        return Row("", "library", name, fmt.size(before), fmt.size(after), fmt.delta(after - before, in_bytes=True))
    return Row("", "library", name, f"{before:,}", f"{after:,}", fmt.delta(after - before))


def _tape_file(tape_file: TapeFile) -> Row:
    target = Target(tape_file.medium, tape_file.number, tape_file.volume)
    size = fmt.delta(tape_file.bytes, in_bytes=True)
    return Row(
        *("+", "tape file", str(target), "", f"of {tape_file.host}", size, target),
        lambda tracking: details.of_session(tracking, tape_file.session),
    )


def _medium(sign: str, before: Medium | None, after: Medium | None) -> Row:
    medium = after or before
    assert medium is not None

    def text(state: Medium | None) -> str:
        if state is None:
            return ""
        volume = "" if state.volume == 1 else f"volume {state.volume}, "
        out_of_use = "" if state.is_writable else f", {condition_of(state)}"
        return f"{volume}{fmt.size(state.bytes)}, {fmt.count(state.tape_files, 'file')}{out_of_use}"

    change = _growth(before.bytes if before else 0, after.bytes if after else 0)
    row = Row(sign, "medium", medium.barcode, text(before), text(after), change)
    if after is None:
        return row
    return replace(
        row,
        target=Target(after.barcode, None),
        details=lambda tracking: of_medium(tracking, after.barcode),
    )


def _session(sign: str, before: Session | None, after: Session | None) -> Row:
    session = after or before
    assert session is not None

    def text(state: Session | None) -> str:
        return "" if state is None else f"{state.host} {fmt.size(state.bytes)} {state.state}"

    change = _growth(before.bytes if before else 0, after.bytes if after else 0)
    row = Row(sign, "session", str(session.id), text(before), text(after), change)
    if after is None:
        return row
    return replace(
        row,
        target=details.target_of(after),
        details=lambda tracking: details.of_session(tracking, after.id),
    )


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
    used = ""
    if before is not None and after is not None and before.free is not None and after.free is not None:
        used = _growth(after.free, before.free)  # a disk's use grows by what its free space shrinks
    return Row(sign, "disk", str(disk.number), text(before), text(after), used)


def _growth(before: int, after: int) -> str:
    return fmt.delta(after - before, in_bytes=True)
