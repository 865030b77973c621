"""Copies of the database on the disks: which one was begun last, and when the next is due."""

import json
from dataclasses import dataclass

from vtlfs.engine.tracking.statements import Repository
from vtlfs.failpoints import reached

# What tells one state of the library from another. That somebody mounts it is no change, as it is none for a snapshot.
_STATE = """
    SELECT epoch, media, sessions, tape_files, bytes,
           (SELECT count(*) || ' ' || total(id) FROM snapshot),
           (SELECT count(*) || ' ' || total(id) || ' ' || total(bytes) FROM session WHERE state = 'open'),
           (SELECT group_concat(number || ' ' || coalesce(loaded || ' ' || loaded_at, '')) FROM drive)
    FROM library
"""


@dataclass(frozen=True, slots=True)
class LastCopy:
    """The copy that was begun last. `state`: of the library then, None where no disk has taken the copy."""

    number: int  # 0: none was
    begun_at: str | None
    again_at: str | None  # the next one is not begun before
    state: str | None


class Copies(Repository):
    """The one row of the table `copy`."""

    def last(self) -> LastCopy:
        """Return the copy that was begun last."""
        return LastCopy(*self._sql.one("SELECT number, begun_at, again_at, state FROM copy"))

    def age(self) -> tuple[str, int]:
        """Return when a copy was begun, or the library made, and how many commits the database has had."""
        made_at, commits = self._sql.one("SELECT coalesce(begun_at, created_at), commits FROM copy, library")
        return str(made_at), int(commits)

    def library_state(self) -> str:
        """Return what the library is like now, to be compared with the state that a copy has."""
        return json.dumps(self._sql.one(_STATE))

    def begin(self, number: int, at: str, again_at: str, state: str) -> None:
        """Record that a copy is begun."""
        self._sql.execute(
            "UPDATE copy SET number = ?, begun_at = ?, again_at = ?, state = ?", number, at, again_at, state
        )
        reached("tracking.copy_claimed")

    def end(self, number: int, again_at: str, *, made: bool) -> None:
        """Record that a copy has ended, and when the next may be begun. Not `made`: the next is wanted too."""
        self._sql.execute(
            "UPDATE copy SET again_at = max(again_at, ?), state = iif(?, state, NULL) WHERE number = ?",
            *(again_at, made, number),
        )
        reached("tracking.copy_noted")
