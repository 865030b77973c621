"""The difference between two states of the library: rows that were added, removed or changed.

The cost depends on the number of differences, not on the size of the library.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar

from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.history import begun_sql, ended_sql
from vtlfs.engine.tracking.repositories.disks import DISK, disk_of
from vtlfs.engine.tracking.rows import MEDIUM, SESSION, medium_of, session_of
from vtlfs.model import DiskRecord, Drive, Medium, Session, TapeFile
from vtlfs.snap import store
from vtlfs.snap.view import opened

Row = TypeVar("Row", Session, Medium, Drive, DiskRecord)


@dataclass(frozen=True, slots=True)
class Kind(Generic[Row]):
    """A table whose rows are compared. The first column identifies a row; `make` and `document` convert a row.

    `order`: of the rows, then by the first column.
    """

    table: str
    columns: list[str]
    make: Callable[[tuple[Any, ...]], Row]
    document: Callable[[Row], dict[str, Any]]
    order: tuple[str, ...] = ()


SESSIONS = Kind("session", SESSION.split(", "), session_of, Session.as_json, ("sequence",))
MEDIA = Kind(
    "medium",
    ["barcode", "id", *MEDIUM.split(", ")[2:]],
    lambda row: medium_of((row[1], row[0], *row[2:])),
    asdict,
)
DRIVES = Kind("drive", ["number", "loaded", "loaded_at"], lambda row: Drive(*row), asdict)
DISKS = Kind("disk", DISK.split(", "), disk_of, asdict)


@dataclass(frozen=True, slots=True)
class Change(Generic[Row]):
    """A row that both states have, with different values."""

    before: Row
    after: Row


@dataclass(slots=True)
class Changes(Generic[Row]):
    """The rows that only the later state has, the rows that only the earlier state has, and the rows that differ.

    The lists may be cut off; `count_came`, `count_went` and `count_changed` count all rows.
    """

    came: list[Row] = field(default_factory=list)
    went: list[Row] = field(default_factory=list)
    changed: list[Change[Row]] = field(default_factory=list)
    count_came: int = 0
    count_went: int = 0
    count_changed: int = 0

    @property
    def count(self) -> int:
        """The number of rows that are different."""
        return self.count_came + self.count_went + self.count_changed

    def pairs(self) -> Iterator[tuple[Row | None, Row | None]]:
        """Yield each row of the lists as it was and as it is: first those that came, then those that went."""
        yield from ((None, row) for row in self.came)
        yield from ((row, None) for row in self.went)
        yield from ((change.before, change.after) for change in self.changed)


@dataclass(slots=True)
class Difference:
    """The difference between two states. The bytes are those of the new tape files, by host, medium and drive."""

    sessions: Changes[Session] = field(default_factory=Changes)
    media: Changes[Medium] = field(default_factory=Changes)
    drives: Changes[Drive] = field(default_factory=Changes)
    disks: Changes[DiskRecord] = field(default_factory=Changes)
    tape_files: list[TapeFile] = field(default_factory=list)
    count_tape_files: int = 0  # of all new tape files: the list may be cut off
    bytes_by_host: Counter[str] = field(default_factory=Counter)
    bytes_by_medium: Counter[str] = field(default_factory=Counter)
    bytes_by_drive: Counter[int] = field(default_factory=Counter)

    @property
    def is_empty(self) -> bool:
        """Tell whether the two states are the same."""
        return not self.count_tape_files and not any(
            changes.count for changes in (self.sessions, self.media, self.drives, self.disks)
        )


def difference(library: Library, earlier: int, later: int | None, *, limit: int | None = None) -> Difference:
    """Compare two snapshots, from the older to the newer; `later`: None for the present.

    `limit`: the most rows of each list; the counts include all rows. Raises NoSuchSnapshot.
    """
    with _comparing(library, earlier, later) as compared:
        found = Difference(
            _changes(compared.rows(SESSIONS), SESSIONS.make, limit),
            _changes(compared.rows(MEDIA), MEDIA.make, limit),
            _changes(compared.rows(DRIVES), DRIVES.make, limit),
            _changes(compared.rows(DISKS), DISKS.make, limit),
            list(compared.tape_files(limit)),
        )
        compared.add_up(found)
    return found


def difference_as_json(library: Library, earlier: int, later: int | None) -> Iterator[str]:
    """Yield the difference as pieces of a JSON text, one row a line, so that it need not fit into memory.

    Raises NoSuchSnapshot.
    """
    with _comparing(library, earlier, later) as compared:
        found = Difference()
        compared.add_up(found)
        yield "{"
        kinds: dict[str, Kind[Any]] = {"sessions": SESSIONS, "media": MEDIA, "drives": DRIVES, "disks": DISKS}
        for name, kind in kinds.items():
            yield f'"{name}": '
            yield from _json_changes(compared.rows(kind), kind)
            yield ",\n"
        yield '"tape_files": '
        yield from _json_list(asdict(tape_file) for tape_file in compared.tape_files())
        sums = {
            "bytes": sum(found.bytes_by_host.values()),
            "bytes_by_host": found.bytes_by_host,
            "bytes_by_medium": found.bytes_by_medium,
            "bytes_by_drive": found.bytes_by_drive,
        }
        yield "".join(f',\n"{name}": {json.dumps(value)}' for name, value in sums.items())
        yield "}\n"


RawPairs = Iterator[tuple[tuple[Any, ...] | None, tuple[Any, ...] | None]]


@dataclass(frozen=True, slots=True)
class _Compared:
    """The two epochs at whose ends the library is compared, and a connection with a read transaction that sees both."""

    tracking: Tracking
    earlier: int
    later: int

    def rows(self, kind: "Kind[Any]") -> RawPairs:
        """Yield each differing row as it was and as it is, in the kind's order; removed rows come last.

        The differing rows of the earlier state are held in memory; most of them are sessions that were open then.
        """
        before = {
            row[0]: row
            for row in self.tracking.sql.execute(ended_sql(kind.table, kind.columns, self.earlier, by=self.later))
        }
        begun = begun_sql(kind.table, [*kind.columns, *kind.order], self.later, after=self.earlier)
        for found in self.tracking.sql.execute(f"{begun} ORDER BY {', '.join([*kind.order, kind.columns[0]])}"):
            row = found[: len(kind.columns)]
            yield before.pop(row[0], None), row
        for row in before.values():
            yield row, None

    def tape_files(self, limit: int | None = None) -> Iterator[TapeFile]:
        """Yield the new tape files by medium and number; at most `limit`."""
        return self.tracking.tape_files.between(self.earlier, self.later, limit)

    def add_up(self, found: Difference) -> None:
        """Count the new tape files and their bytes. Host and drive of a tape file never change."""
        rows = self.tracking.sql.execute(
            "SELECT host, tape_file.medium, drive, count(*), sum(tape_file.bytes)"
            " FROM main.tape_file JOIN main.session ON session.id = tape_file.session"
            " WHERE epoch > ? AND epoch <= ? GROUP BY 1, 2, 3",
            *(self.earlier, self.later),
        )
        for host, medium, drive, count, size in rows:
            found.count_tape_files += count
            found.bytes_by_host[host] += size
            found.bytes_by_medium[medium] += size
            found.bytes_by_drive[drive] += size


@contextmanager
def _comparing(library: Library, earlier: int, later: int | None) -> Iterator[_Compared]:
    if later is not None and later < earlier:
        earlier, later = later, earlier
    with opened(library, None) as tracking:
        store.snapshot(tracking, earlier)
        until = tracking.library.epoch() if later is None else store.snapshot(tracking, later).id
        yield _Compared(tracking, earlier, until)


def _changes(pairs: RawPairs, make: Callable[[tuple[Any, ...]], Row], limit: int | None) -> Changes[Row]:
    found: Changes[Row] = Changes()

    def has_room(rows: list[Any]) -> bool:
        return limit is None or len(rows) < limit

    for before, after in pairs:
        if before is None and after is not None:
            found.count_came += 1
            if has_room(found.came):
                found.came.append(make(after))
        elif after is None and before is not None:
            found.count_went += 1
            if has_room(found.went):
                found.went.append(make(before))
        elif before is not None and after is not None and (old := make(before)) != (new := make(after)):
            found.count_changed += 1
            if has_room(found.changed):
                found.changed.append(Change(old, new))
    return found


def _json_changes(pairs: RawPairs, kind: Kind[Any]) -> Iterator[str]:
    rest: list[tuple[tuple[Any, ...] | None, tuple[Any, ...] | None]] = []

    def came() -> Iterator[dict[str, Any]]:
        for before, after in pairs:
            if before is None and after is not None:
                yield kind.document(kind.make(after))
            else:
                rest.append((before, after))

    yield '{"came": '
    yield from _json_list(came())
    found = _changes(iter(rest), kind.make, None)
    yield ', "went": '
    yield from _json_list(kind.document(row) for row in found.went)
    yield ', "changed": '
    yield from _json_list(
        {"before": kind.document(change.before), "after": kind.document(change.after)} for change in found.changed
    )
    yield "}"


def _json_list(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    yield "["
    between = "\n"
    for row in rows:
        yield between + json.dumps(row)
        between = ",\n"
    yield "]"
