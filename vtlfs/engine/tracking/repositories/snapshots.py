"""Snapshots that are gone. `vtlfs.snap` has the rest: it takes them, and shows what they show."""

import json
from collections.abc import Sequence

from vtlfs.disks.snapshots import Runs, all_but
from vtlfs.engine.tracking.schema.tables import VERSIONED
from vtlfs.engine.tracking.statements import Repository
from vtlfs.failpoints import reached


class Snapshots(Repository):
    """The rows of the table `snapshot`, and the history that snapshots show."""

    def deleted(self) -> Runs:
        """Return the numbers of all snapshots that there ever were, and are no more."""
        following, numbers = self._sql.one(
            "SELECT epoch, (SELECT json_group_array(id) FROM (SELECT id FROM snapshot ORDER BY id)) FROM library"
        )
        return all_but(json.loads(numbers), following)

    def remove(self, numbers: Sequence[int]) -> None:
        """Remove snapshots, and the history that no other snapshot shows. Data on the disks is never touched.

        The cost depends on the changes between the removed snapshots and their neighbours, not on the size of the
        history.
        """
        for number in numbers:
            self._sql.execute("DELETE FROM snapshot WHERE id = ?", number)
        # No snapshot shows a row of the history that began after a remaining snapshot and ended before the next one.
        gaps = {
            self._sql.one(
                "SELECT (SELECT max(id) FROM snapshot WHERE id < ?1),"
                " (SELECT coalesce(min(id), (SELECT epoch FROM library)) FROM snapshot WHERE id > ?1)",
                number,
            )
            for number in numbers
        }
        for before, after in gaps:
            for table in VERSIONED:
                self._sql.execute(
                    f"DELETE FROM {table}_history WHERE until > ?1 AND until <= ?2 AND since > ?1", before or 0, after
                )
        reached("tracking.snapshots_removed")
