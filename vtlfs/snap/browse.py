"""Looking through very many rows: pages of sessions, sorted and filtered, and bytes over time.

Each function takes a `Tracking`, of the present or of a snapshot. Sorted by identifier, a page costs the same in a
library of any size, but for the rows that are skipped; sorted by anything else, SQLite keeps only a page's best.

Times are sorted, filtered and added up as people ask for them, and nothing is decided by that. A session of a clock
that had jumped stands where its time says, and a chart is as wide as the times are apart.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import Session, State, format_time

SORTS = ("id", "opened_at", "released_at", "host", "program", "drive", "medium", "state", "bytes")
GROUPS = ("host", "medium")


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """Which sessions, and in what order. None does not restrict; `text` is looked for in names and identifiers.

    `since` and `until` are times, or their beginnings such as 2026-11-22, of the opening.
    """

    host: str | None = None
    drive: int | None = None
    medium: str | None = None
    state: str | None = None
    since: str | None = None
    until: str | None = None
    text: str | None = None
    sort: str = "id"
    descending: bool = True

    @property
    def restricts(self) -> bool:
        """Tell whether not all sessions are wanted."""
        return bool(self._terms())

    def _terms(self) -> dict[str, tuple[object, ...]]:
        terms: dict[str, tuple[object, ...]] = {}
        for column in ("host", "drive", "medium", "state"):
            if (value := getattr(self, column)) is not None:
                terms[f"{column} = ?"] = (value,)
        if self.state == State.OPEN:
            del terms["state = ?"]
            terms["state = 'open'"] = ()  # as the index of open sessions says it
        if self.since:
            terms["opened_at >= ?"] = (self.since,)
        if self.until:
            terms["opened_at < ?"] = (self.until + "\x7f",)  # all that begins with it, too
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
    """Return `count` of the wanted sessions in their order, without the `first` ones. Raises ValueError for a sort."""
    if wanted.sort not in SORTS:
        raise ValueError(wanted.sort)
    where, values = wanted.where()
    way = "DESC" if wanted.descending else "ASC"
    by_id = "+id" if wanted.state == State.OPEN else "id"  # open ones are few: found first, then sorted
    order = f"{by_id} {way}" if wanted.sort == "id" else f"{wanted.sort} {way}, id {way}"
    rows = tracking.sql.execute(
        f"SELECT id FROM session{where} ORDER BY {order} LIMIT ? OFFSET ?", *values, count, first
    )
    return [tracking.sessions.get(row[0]) for row in rows.fetchall()]


def count_sessions(tracking: Tracking, wanted: SessionQuery) -> int:
    """Return how many sessions are wanted; without a restriction it is a counter."""
    if not wanted.restricts:
        return tracking.sessions.count()
    where, values = wanted.where()
    return int(tracking.sql.one(f"SELECT count(*) FROM session{where}", *values)[0])


def counters(tracking: Tracking) -> tuple[int, int, int]:
    """Return how many media and sessions there are, and the bytes of all tape files."""
    found = tracking.library.counters()
    return found.media, found.sessions, found.bytes


def hosts(tracking: Tracking) -> list[str]:
    """Return the hosts that sessions have had, in their order; skips from one to the next in the index."""
    found: list[str] = []
    row = tracking.sql.first("SELECT min(host) FROM main.session")
    while row is not None and row[0] is not None:
        found.append(row[0])
        row = tracking.sql.first("SELECT min(host) FROM main.session WHERE host > ?", row[0])
    return [host for host in found if tracking.sql.first("SELECT 1 FROM session WHERE host = ? LIMIT 1", host)]


@dataclass(frozen=True, slots=True)
class OnDisk:
    """What a session has on one disk: `extents` extents of `stored` bytes, of which `parity` are parity."""

    disk: int
    extents: int
    parity: int
    stored: int


def by_disk(tracking: Tracking, session: int) -> list[OnDisk]:
    """Return what a session has on each disk that holds any of it."""
    rows = tracking.sql.execute(
        "SELECT disk, count(*), sum(parity), sum(stored) FROM (SELECT disk, stored, 0 AS parity FROM extent"
        " WHERE session = ?1 UNION ALL SELECT disk, stored, 1 FROM parity WHERE session = ?1)"
        " GROUP BY disk ORDER BY disk",
        session,
    )
    return [OnDisk(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class OverTime:
    """Bytes of the tape files that came in each of equal spans of time, by host or medium, the largest first."""

    start: str | None  # None: there is nothing
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
    """Return the times between which the spans lie, the last one after all that there is."""
    first, last = datetime.fromisoformat(start), datetime.fromisoformat(end)
    between = [format_time(first + (last - first) * span / spans) for span in range(1, spans)]
    return [start, *between, "\x7f"]
