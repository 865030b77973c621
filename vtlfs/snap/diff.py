"""What is different between two states of the library: what came, what went, what changed.

The cost depends on what has changed between the two, not on the size of the library.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar

from vtlfs.engine.library import Library
from vtlfs.engine.tracking import Tracking
from vtlfs.errors import NoSuchMedium, NoSuchSession
from vtlfs.model import DiskRecord, Drive, Medium, Session, TapeFile
from vtlfs.snap.view import opened

Row = TypeVar("Row", Session, Medium, Drive, DiskRecord)
Numbered = TypeVar("Numbered", Drive, DiskRecord)


@dataclass(frozen=True, slots=True)
class Change(Generic[Row]):
    """A row of both states that is not the same in both."""

    before: Row
    after: Row


@dataclass(slots=True)
class Changes(Generic[Row]):
    """Rows that only the later state has, that only the earlier has, and those that differ."""

    came: list[Row] = field(default_factory=list)
    went: list[Row] = field(default_factory=list)
    changed: list[Change[Row]] = field(default_factory=list)

    def note(self, before: Row | None, after: Row | None) -> None:
        """Sort in one row as it was and as it is."""
        if before is None and after is not None:
            self.came.append(after)
        elif after is None and before is not None:
            self.went.append(before)
        elif before is not None and after is not None and before != after:
            self.changed.append(Change(before, after))

    def pairs(self) -> Iterator[tuple[Row | None, Row | None]]:
        """Yield each row as it was and as it is: first those that came, then those that went, then the rest."""
        yield from ((None, row) for row in self.came)
        yield from ((row, None) for row in self.went)
        yield from ((change.before, change.after) for change in self.changed)

    def as_json(self, document: Callable[[Row], dict[str, Any]]) -> dict[str, Any]:
        """Return the changes as JSON values; `document` makes one of a row."""
        return {
            "came": [document(row) for row in self.came],
            "went": [document(row) for row in self.went],
            "changed": [{"before": document(row.before), "after": document(row.after)} for row in self.changed],
        }


@dataclass(slots=True)
class Difference:
    """What is different. The bytes are those of tape files that came, by host, medium and drive."""

    sessions: Changes[Session] = field(default_factory=Changes)
    media: Changes[Medium] = field(default_factory=Changes)
    drives: Changes[Drive] = field(default_factory=Changes)
    disks: Changes[DiskRecord] = field(default_factory=Changes)
    tape_files: list[TapeFile] = field(default_factory=list)
    bytes_by_host: Counter[str] = field(default_factory=Counter)
    bytes_by_medium: Counter[str] = field(default_factory=Counter)
    bytes_by_drive: Counter[int] = field(default_factory=Counter)

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing is different."""
        changes = (self.sessions, self.media, self.drives, self.disks)
        return not self.tape_files and not any(kind.came or kind.went or kind.changed for kind in changes)

    def as_json(self) -> dict[str, Any]:
        """Return the difference as JSON values."""
        return {
            "sessions": self.sessions.as_json(Session.as_json),
            "tape_files": [asdict(tape_file) for tape_file in self.tape_files],
            "media": self.media.as_json(asdict),
            "drives": self.drives.as_json(asdict),
            "disks": self.disks.as_json(asdict),
            "bytes": sum(self.bytes_by_host.values()),
            "bytes_by_host": dict(self.bytes_by_host),
            "bytes_by_medium": dict(self.bytes_by_medium),
            "bytes_by_drive": dict(self.bytes_by_drive),
        }


def difference(library: Library, earlier: int, later: int | None) -> Difference:
    """Compare two snapshots, in their order in time, or one with the present where `later` is None.

    Raises NoSuchSnapshot.
    """
    if later is not None and later < earlier:
        earlier, later = later, earlier
    with opened(library, earlier) as before, opened(library, later) as after:
        return _difference(before, after, earlier, later)


def _difference(before: Tracking, after: Tracking, since: int, until: int | None) -> Difference:
    found = Difference()
    for number in _touched(after, "session", "id", since, until):
        found.sessions.note(_session(before, number), _session(after, number))
    for barcode in _touched(after, "medium", "barcode", since, until):
        found.media.note(_medium(before, barcode), _medium(after, barcode))
    _compare(found.drives, before.drives(), after.drives())
    _compare(found.disks, before.disks(), after.disks())
    found.tape_files = after.tape_files_since(since)
    drives = {session.id: session.drive for session in found.sessions.came}
    drives |= {change.after.id: change.after.drive for change in found.sessions.changed}
    for tape_file in found.tape_files:
        found.bytes_by_host[tape_file.host] += tape_file.bytes
        found.bytes_by_medium[tape_file.medium] += tape_file.bytes
        found.bytes_by_drive[drives[tape_file.session]] += tape_file.bytes
    return found


def _touched(tracking: Tracking, table: str, key: str, earlier: int, later: int | None) -> list[Any]:
    """Return the keys of the rows that were written after the snapshot `earlier` and up to `later`, or now.

    These are the rows of the later state that did not stand so in the earlier, and those of the earlier that ended.
    """
    if later is None:
        rows = tracking.execute(
            f"SELECT {key} FROM main.{table} WHERE since > ?1"
            f" UNION SELECT {key} FROM main.{table}_history WHERE since <= ?1 AND until > ?1 ORDER BY 1",
            earlier,
        )
    else:
        rows = tracking.execute(
            f"SELECT {key} FROM main.{table} WHERE since > ?1 AND since <= ?2"
            f" UNION SELECT {key} FROM main.{table}_history WHERE since > ?1 AND since <= ?2 AND until > ?2"
            f" UNION SELECT {key} FROM main.{table}_history WHERE since <= ?1 AND until > ?1 AND until <= ?2"
            " ORDER BY 1",
            *(earlier, later),
        )
    return [row[0] for row in rows]


def _compare(changes: Changes[Numbered], before: list[Numbered], after: list[Numbered]) -> None:
    old = {row.number: row for row in before}
    new = {row.number: row for row in after}
    for number in sorted(old.keys() | new.keys()):
        changes.note(old.get(number), new.get(number))


def _session(tracking: Tracking, number: int) -> Session | None:
    try:
        return tracking.session(number)
    except NoSuchSession:
        return None


def _medium(tracking: Tracking, barcode: str) -> Medium | None:
    try:
        return tracking.medium(barcode)
    except NoSuchMedium:
        return None
