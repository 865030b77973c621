"""Events: what was done to media, volumes, snapshots and pools, by whom and why. Rows are only ever added."""

import json
import os
import socket
from collections.abc import Sequence

from vtlfs.engine.tracking.rows import Row, text_of
from vtlfs.engine.tracking.statements import Repository
from vtlfs.failpoints import reached
from vtlfs.model import Actor, Event

_EVENT = "id, at, epoch, what, medium, volume, uid, host, program, reason, details"


def this_command() -> Actor:
    """Return who runs this process, which is a command."""
    return Actor(os.getuid(), socket.gethostname(), "vtlfs")


class Events(Repository):
    """The rows of the table `event`."""

    def add(
        self,
        what: str,
        actor: Actor,
        at: str,
        *,
        medium: str | None = None,
        volume: int | None = None,
        reason: str | None = None,
        number: int | None = None,
        **details: object,
    ) -> None:
        """Record that something was done, in the transaction that does it.

        `number`: of the event, higher than that of any other; None: the next one.
        """
        self._sql.execute(
            "INSERT INTO event (id, at, epoch, what, medium, volume, uid, host, program, reason, details)"
            " SELECT ?, ?, epoch, ?, ?, ?, ?, ?, ?, ?, ? FROM library",
            *(number, at, what, medium, volume, actor.uid, actor.host, text_of(actor.program)),
            *(None if reason is None else text_of(reason), json.dumps(details)),
        )
        reached("tracking.event_added")

    def find(
        self,
        *,
        medium: str | None = None,
        media: Sequence[str] | None = None,
        since: str | None = None,
        limit: int | None = None,
    ) -> list[Event]:
        """Return events, the oldest first: of a medium, of some, or of all; those of a time or later; the newest
        `limit`.

        `since` is for people: where the clock has jumped, events are missed, or are too many.
        """
        where, values = _where(media if medium is None else [medium], since)
        rows = self._sql.execute(
            f"SELECT {_EVENT} FROM event {where} ORDER BY id DESC LIMIT ?", *values, -1 if limit is None else limit
        )
        return [_event(row) for row in rows.fetchall()][::-1]

    def has(self, what: str, medium: str, volume: int, actor: Actor, day: str) -> bool:
        """Tell whether there is such an event by a user, on a day such as 2027-01-31."""
        row = self._sql.first(
            "SELECT 1 FROM event WHERE medium = ? AND volume = ? AND what = ? AND uid = ? AND host = ?"
            " AND substr(at, 1, 10) = ? LIMIT 1",
            *(medium, volume, what, actor.uid, actor.host, day),
        )
        return row is not None

    def last(self) -> int:
        """Return the identifier of the newest event; 0 before the first."""
        return int(self._sql.one("SELECT coalesce(max(id), 0) FROM event")[0])

    def reclaimed_after(self, number: int) -> list[tuple[str, int]]:
        """Return the media and volumes that were reclaimed after the event with this identifier."""
        rows = self._sql.execute(
            "SELECT medium, volume FROM event WHERE +what = 'reclaimed' AND id > ? ORDER BY id", number
        )
        return [(row[0], row[1]) for row in rows]

    def count(self, *, media: Sequence[str] | None = None, since: str | None = None) -> int:
        """Return how many events there are, as for `find`."""
        where, values = _where(media, since)
        return int(self._sql.one(f"SELECT count(*) FROM event {where}", *values)[0])


def _where(media: Sequence[str] | None, since: str | None) -> tuple[str, list[object]]:
    """Return the condition for the events that are wanted, with a WHERE before it if there is one, and its values."""
    wanted = None if media is None else json.dumps(list(media))
    terms = {"medium IN (SELECT value FROM json_each(?))": wanted, "at >= ?": since}
    known = {term: value for term, value in terms.items() if value is not None}
    return (f"WHERE {' AND '.join(known)}" if known else "", list(known.values()))


def _event(row: Row) -> Event:
    values = list(row)
    values[-1] = json.loads(values[-1])
    return Event(*values)
