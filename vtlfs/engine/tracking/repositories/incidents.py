"""Incidents: what went wrong by itself, or is well again; and how far people were told of it.

The table `event` has what was done by somebody. Rows of sessions that failed are added by a trigger, in the transaction
that ends the session.
"""

from dataclasses import asdict, dataclass

from vtlfs.engine.tracking.rows import Row, text_of
from vtlfs.engine.tracking.statements import Repository
from vtlfs.failpoints import reached

STREAMS, READS = "streams", "reads"  # what incidents of sessions are about
BASE = ""  # what the row of `telling` is about that stands for all that have none
_INCIDENT = "number, at, kind, about, session, what, advice, lasts"


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that went wrong by itself, or is well again.

    `about`: what it is about; an incident that `lasts` ends where another one is well again, or takes its place.
    `session`: that failed; then `what` is the name of its errno, or `recovered`. `advice`: what to do, None: nothing.
    """

    number: int
    at: str
    kind: str
    about: str
    session: int | None
    what: str
    advice: str | None
    lasts: bool

    def as_json(self) -> dict[str, object]:
        """Return the incident as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Telling:
    """How far people were told, by one way, of the incidents about one thing. `told`: the number of the last one."""

    about: str
    told: int
    told_at: str | None
    tried_at: str | None
    tries: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Untold:
    """How many incidents about one thing nobody was told of yet by one way, the first and the last one."""

    about: str
    first: int
    last: int
    count: int


class Incidents(Repository):
    """The rows of the tables `incident` and `telling`."""

    def add(self, kind: str, about: str, what: str, at: str, *, advice: str | None = None, lasts: bool = False) -> int:
        """Record an incident; return its number. It takes the place of one about the same that lasts."""
        self.end(about)
        cursor = self._sql.execute(
            "INSERT INTO incident (at, kind, about, what, advice, lasts) VALUES (?, ?, ?, ?, ?, ?)",
            *(at, kind, about, text_of(what), None if advice is None else text_of(advice), int(lasts)),
        )
        reached("tracking.incident_added")
        return int(cursor.lastrowid or 0)

    def end(self, about: str) -> bool:
        """Record that the incident about something that lasts has ended; tell whether there was one."""
        ended = self._sql.execute("UPDATE incident SET lasts = 0 WHERE about = ? AND lasts", about).rowcount > 0
        if ended:
            reached("tracking.incident_ended")
        return ended

    def lasting(self) -> list[Incident]:
        """Return the incidents that have not ended, in the order in which they came."""
        return self._select("WHERE lasts ORDER BY number")

    def lasting_kind(self, about: str) -> str | None:
        """Return the kind of the incident about something that has not ended; None: there is none."""
        row = self._sql.first("SELECT kind FROM incident WHERE about = ? AND lasts", about)
        return None if row is None else str(row[0])

    def last(self) -> int:
        """Return the number of the last incident; 0 before the first."""
        return int(self._sql.one("SELECT coalesce(max(number), 0) FROM incident")[0])

    def since(self, time: str, limit: int) -> list[Incident]:
        """Return the incidents from a time on, the oldest first; the last `limit`. For people: clocks jump."""
        return self._select("WHERE at >= ? ORDER BY number DESC LIMIT ?", time, limit)[::-1]

    def after(self, about: str, number: int, limit: int) -> list[Incident]:
        """Return the incidents about something that came after one of them, the oldest first; the last `limit`."""
        return self._select("WHERE about = ? AND number > ? ORDER BY number DESC LIMIT ?", about, number, limit)[::-1]

    # --- telling ----------------------------------------------------------------------------------------------------

    def is_told_by(self, way: str) -> bool:
        """Tell whether people are told of incidents by this way since some time."""
        return self._sql.first("SELECT 1 FROM telling WHERE way = ? AND about = ?", way, BASE) is not None

    def begin_telling(self, way: str) -> None:
        """Have people be told, by this way, of what comes from now on, and of what lasts."""
        self._sql.execute(
            "INSERT OR IGNORE INTO telling (way, about, told) SELECT ?, ?, min((SELECT coalesce(max(number), 0)"
            " FROM incident), (SELECT coalesce(min(number) - 1, 1 << 62) FROM incident WHERE lasts))",
            *(way, BASE),
        )
        reached("tracking.telling_begun")

    def tellings(self, way: str) -> dict[str, Telling]:
        """Return how far people were told by this way, by what it is about."""
        rows = self._sql.execute("SELECT about, told, told_at, tried_at, tries, error FROM telling WHERE way = ?", way)
        return {row[0]: Telling(*row) for row in rows}

    def untold(self, way: str) -> list[Untold]:
        """Return what nobody was told of by this way, in the order of the first incident about each thing."""
        rows = self._sql.execute(
            "SELECT incident.about, min(number), max(number), count(*) FROM incident LEFT JOIN telling"
            " ON telling.way = ?1 AND telling.about = incident.about"
            " WHERE number > (SELECT told FROM telling WHERE way = ?1 AND about = '')"
            " AND number > coalesce(told, 0) GROUP BY incident.about ORDER BY min(number)",
            way,
        )
        return [Untold(*row) for row in rows]

    def note_told(self, way: str, about: str, number: int, at: str) -> None:
        """Record that people were told of the incidents about something up to one with this number."""
        self._sql.execute(
            "INSERT INTO telling (way, about, told, told_at) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET told = max(told, excluded.told), told_at = excluded.told_at, tried_at = NULL, tries = 0,"
            " error = NULL",
            *(way, about, number, at),
        )
        if not self.untold(way):  # so that the next look is at newer incidents only
            self._sql.execute(
                "UPDATE telling SET told = (SELECT coalesce(max(number), 0) FROM incident) WHERE way = ? AND about = ?",
                *(way, BASE),
            )
        reached("tracking.incident_told")

    def note_untold(self, way: str, about: str, error: str, at: str) -> None:
        """Record that telling of the incidents about something has failed."""
        self._sql.execute(
            "INSERT INTO telling (way, about, told, tried_at, tries, error) SELECT ?1, ?2, told, ?3, 1, ?4 FROM telling"
            " WHERE way = ?1 AND about = '' ON CONFLICT DO UPDATE SET tried_at = ?3, tries = tries + 1, error = ?4",
            *(way, about, at, text_of(error)),
        )
        reached("tracking.telling_failed")

    def _select(self, rest: str, *values: object) -> list[Incident]:
        rows = self._sql.execute(f"SELECT {_INCIDENT} FROM incident {rest}", *values).fetchall()
        return [_incident(row) for row in rows]


def _incident(row: Row) -> Incident:
    values = list(row)
    values[-1] = bool(values[-1])
    return Incident(*values)
