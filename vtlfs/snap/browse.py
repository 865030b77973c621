"""Queries of the terminal UI over very many rows: pages of sessions, sorted and filtered, and bytes over time.

Each function takes a `Tracking`, of the present or of a snapshot, and may block. A page in the order of opening, or of
identifiers, costs the same in a library of any size, apart from the rows that are skipped. In any other order, SQLite
looks at all rows, and keeps only those of the page.

Rows are sorted, filtered and added up by their times, for display only. A session opened while the clock was wrong
stands where its time says, and a plot is as wide as the times are apart.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import Session, State, format_time

SORTS = ("sequence", "id", "opened_at", "released_at", "host", "program", "drive", "medium", "state", "bytes")
GROUPS = ("host", "medium")


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """Which sessions to show, and their order. None does not restrict; `text` is searched in names and identifiers.

    `since` and `until` restrict the time of the open(): a time, or the beginning of one such as 2026-11-22.
    """

    host: str | None = None
    drive: int | None = None
    medium: str | None = None
    state: str | None = None
    since: str | None = None
    until: str | None = None
    text: str | None = None
    sort: str = "sequence"
    descending: bool = True

    @property
    def restricts(self) -> bool:
        """Tell whether the query leaves out any session."""
        return bool(self._terms())

    def _terms(self) -> dict[str, tuple[object, ...]]:
        terms: dict[str, tuple[object, ...]] = {}
        for column in ("host", "drive", "medium", "state"):
            if (value := getattr(self, column)) is not None:
                terms[f"{column} = ?"] = (value,)
        if self.state == State.OPEN:
            del terms["state = ?"]
            terms["state = 'open'"] = ()  # literally as in the index of open sessions, so that SQLite uses the index
        if self.since:
            terms["opened_at >= ?"] = (self.since,)
        if self.until:
            terms["opened_at < ?"] = (self.until + "\x7f",)  # includes all times that begin with `until`
        if self.text:
            like = "%" + self.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
            terms[
                "(host LIKE ? ESCAPE '\\' OR program LIKE ? ESCAPE '\\' OR medium LIKE ? ESCAPE '\\'"
                " OR CAST(id AS TEXT) = ?)"
            ] = (like, like, like, self.text)
        return terms

    def where(self) -> tuple[str, list[object]]:
        """Return the condition in SQL, empty without one, and its values."""
        terms = self._terms()
        condition = f" WHERE {' AND '.join(terms)}" if terms else ""
        return condition, [value for values in terms.values() for value in values]


def sessions_page(tracking: Tracking, wanted: SessionQuery, first: int, count: int) -> list[Session]:
    """Return `count` sessions of a query, after the `first` ones. Raises ValueError for an unknown order."""
    if wanted.sort not in SORTS:
        raise ValueError(wanted.sort)
    where, values = wanted.where()
    way = "DESC" if wanted.descending else "ASC"
    plus = "+" if wanted.state == State.OPEN else ""  # open sessions are few: SQLite finds them, then sorts
    order = f"{plus}{wanted.sort} {way}" + ("" if wanted.sort == "id" else f", id {way}")
    rows = (
        tracking.sql.execute(  # what is sorted by is selected: SQLite merges the parts of a snapshot's view only then
            f"SELECT id, {wanted.sort} FROM session{where} ORDER BY {order} LIMIT ? OFFSET ?", *values, count, first
        )
    )
    return [tracking.sessions.get(row[0]) for row in rows.fetchall()]


def count_sessions(tracking: Tracking, wanted: SessionQuery) -> int:
    """Return how many sessions a query has. Without a restriction, one row has the number."""
    if not wanted.restricts:
        return tracking.sessions.count()
    where, values = wanted.where()
    return int(tracking.sql.one(f"SELECT count(*) FROM session{where}", *values)[0])


def counters(tracking: Tracking) -> tuple[int, int, int]:
    """Return how many media and sessions there are, and the bytes of all tape files."""
    found = tracking.library.counters()
    return found.media, found.sessions, found.bytes


def hosts(tracking: Tracking) -> list[str]:
    """Return the hosts of all sessions in alphabetical order, with one look-up in the index for each."""
    found: list[str] = []
    row = tracking.sql.first("SELECT min(host) FROM main.session")
    while row is not None and row[0] is not None:
        found.append(row[0])
        row = tracking.sql.first("SELECT min(host) FROM main.session WHERE host > ?", row[0])
    return [host for host in found if tracking.sql.first("SELECT 1 FROM session WHERE host = ? LIMIT 1", host)]


@dataclass(frozen=True, slots=True)
class OnDisk:
    """The extents of a session on one disk: how many, how many of them are parity, and their stored bytes."""

    disk: int
    extents: int
    parity: int
    stored: int


def by_disk(tracking: Tracking, session: int) -> list[OnDisk]:
    """Return the extents of a session by disk."""
    rows = tracking.sql.execute(
        "SELECT disk, count(*), sum(parity), sum(stored) FROM (SELECT disk, stored, 0 AS parity FROM extent"
        " WHERE session = ?1 UNION ALL SELECT disk, stored, 1 FROM parity WHERE session = ?1)"
        " GROUP BY disk ORDER BY disk",
        session,
    )
    return [OnDisk(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class OverTime:
    """Bytes of the tape files of each of equal spans of time, by host or medium, the largest series first."""

    start: str | None  # None: there are no tape files
    end: str | None
    series: list[tuple[str, list[int]]]


def bytes_over_time(tracking: Tracking, group: str, spans: int) -> OverTime:
    """Return the bytes that were released over time, by `host` or `medium`. Reads one index of all tape files.

    Raises ValueError for another group.
    """
    if group not in GROUPS:
        raise ValueError(group)
    start, end = (
        tracking.sql.first(
            f"SELECT released_at FROM session WHERE tape_file IS NOT NULL ORDER BY released_at {way} LIMIT 1"
        )
        for way in ("ASC", "DESC")
    )
    if start is None or end is None:
        return OverTime(None, None, [])
    series: dict[str, list[int]] = defaultdict(lambda: [0] * spans)
    for span, (since, until) in enumerate(pairwise(_bounds(start[0], end[0], spans))):
        rows = tracking.sql.execute(
            f"SELECT {group}, sum(bytes) FROM session"
            " WHERE tape_file IS NOT NULL AND released_at >= ? AND released_at < ? GROUP BY 1",
            *(since, until),
        )
        for name, size in rows:
            series[name][span] = size
    return OverTime(start[0], end[0], sorted(series.items(), key=lambda item: (-sum(item[1]), item[0])))


def _bounds(start: str, end: str, spans: int) -> list[str]:
    """Return the bounds of the spans; the last is after every time."""
    first, last = datetime.fromisoformat(start), datetime.fromisoformat(end)
    between = [format_time(first + (last - first) * span / spans) for span in range(1, spans)]
    return [start, *between, "\x7f"]
