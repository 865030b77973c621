"""Copies of the tracking database on the disks: which copy was begun last, and when the next is due."""

import json
from dataclasses import dataclass

from vtlfs.engine.tracking.statements import Repository
from vtlfs.failpoints import reached

# These values differ after any change that is worth a copy. A mount or unmount is no such change.
_STATE = """
    SELECT epoch, media, sessions, tape_files, bytes, moves, disks,
           (SELECT count(*) || ' ' || total(id) FROM snapshot),
           (SELECT count(*) || ' ' || total(id) || ' ' || total(bytes) FROM session WHERE state = 'open'),
           (SELECT group_concat(number || ' ' || coalesce(loaded || ' ' || loaded_at, '')) FROM drive)
    FROM library
"""


@dataclass(frozen=True, slots=True)
class LastCopy:
    """The copy that was begun last. `state`: that of the library at its beginning; None if no disk has the copy."""

    number: int  # 0: no copy was ever begun
    begun_at: str | None
    again_at: str | None  # the next copy is not begun before this time
    state: str | None


class Copies(Repository):
    """The one row of the table `copy`."""

    def last(self) -> LastCopy:
        """Return the copy that was begun last."""
        return LastCopy(*self._sql.one("SELECT number, begun_at, again_at, state FROM copy"))

    def age(self) -> tuple[str, int]:
        """Return when the last copy was begun, else when the library was made; and how many commits it has had."""
        made_at, commits = self._sql.one("SELECT coalesce(begun_at, created_at), commits FROM copy, library")
        return str(made_at), int(commits)

    def library_state(self) -> str:
        """Return the state of the library, for a comparison with that of the last copy."""
        return json.dumps(self._sql.one(_STATE))

    def begin(self, number: int, at: str, again_at: str, state: str) -> None:
        """Record that a copy begins."""
        self._sql.execute(
            "UPDATE copy SET number = ?, begun_at = ?, again_at = ?, state = ?", number, at, again_at, state
        )
        reached("tracking.copy_claimed")

    def end(self, number: int, again_at: str, *, made: bool) -> None:
        """Record that a copy has ended, and when the next may be begun. Not `made`: the copy failed on all disks."""
        self._sql.execute(
            "UPDATE copy SET again_at = max(again_at, ?), state = iif(?, state, NULL) WHERE number = ?",
            *(again_at, made, number),
        )
        reached("tracking.copy_noted")
