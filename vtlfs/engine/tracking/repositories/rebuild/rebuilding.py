"""The changes that only a rebuild makes. The database does not have its final name yet, so a power cut loses nothing.

A rebuild skips numbers, adds disks that it has found, and records anew where extents are. `Relived` has what it makes
of media and their volumes.
"""

import json
from collections.abc import Iterable, Sequence

from vtlfs.engine.tracking.repositories.lacks import HEADERS
from vtlfs.engine.tracking.rows import UNKNOWN_BLAKE3
from vtlfs.engine.tracking.statements import Repository
from vtlfs.model import NOWHERE, UNKNOWN_DISK, DiskRecord, Event, Extent, Watermark


class Rebuilding(Repository):
    """Changes of a rebuild. "Found" refers to the table `found`, see `Scanned`."""

    # --- numbers ----------------------------------------------------------------------------------------------------

    def count_past(self, mark: Watermark, spare: int) -> None:
        """Raise the counters to those of a high-water mark, so that no number is given twice.

        `spare` commits more are skipped, since a missing disk may know of later commits than the mark.
        """
        self._sql.execute(
            "UPDATE library SET commits = max(commits, ?) + ?, next_session = max(next_session, ?),"
            " epoch = max(epoch, ?), disks = max(disks, ?), moves = max(moves, ?)",
            *(mark.commits, spare, mark.next_session, mark.epoch, mark.disks, mark.moves),
        )

    def skip_numbers(self, snapshots: int, sessions: int) -> None:
        """Skip so many numbers of snapshots and sessions after the highest that the database or the disks know."""
        self._sql.execute(
            "UPDATE library SET epoch = epoch + ?, next_session = ? + max(next_session,"
            " (SELECT coalesce(max(id), 0) + 1 FROM session), (SELECT coalesce(max(session), 0) + 1 FROM found))",
            *(snapshots, sessions),
        )

    # --- disks --------------------------------------------------------------------------------------------

    def add_disks(self, records: Sequence[DiskRecord]) -> None:
        """Add the disks that the database does not know, or knows only by number."""
        for disk in records:
            self._sql.execute(
                "INSERT INTO disk (number, uuid, path, added_at) VALUES (?, ?, ?, ?) ON CONFLICT (number) DO UPDATE"
                f" SET uuid = excluded.uuid, added_at = excluded.added_at WHERE uuid LIKE '{UNKNOWN_DISK}%'",
                *(disk.number, disk.uuid, disk.path, disk.added_at),
            )

    def cancel_reservations(self) -> None:
        """Cancel all room that is reserved for sessions."""
        self._sql.execute("UPDATE medium SET reserved = 0 WHERE reserved > 0")
        self._sql.execute("UPDATE session SET reserved = 0 WHERE reserved > 0")

    # --- sessions ---------------------------------------------------------------------------------------------------

    def set_stream(self, session: int, size: int, at: str) -> None:
        """Record the length of a session's stream, which disks it is on, and what its stripes lack since `at`."""
        self._sql.execute(
            "UPDATE main.session SET bytes = ?2, disks = there FROM (SELECT json_group_array(disk) AS there FROM"
            " (SELECT disk FROM main.extent WHERE session = ?1 UNION SELECT disk FROM main.parity WHERE session = ?1"
            " ORDER BY disk)) WHERE id = ?1 AND (bytes, disks) <> (?2, there)",
            *(session, size),
        )
        self._sql.execute(
            "INSERT INTO lack SELECT ?1, stripe, ?2, size, missing, lost FROM (SELECT stripe, sum(stored) AS size,"
            " max(0, (SELECT parity FROM main.session WHERE id = ?1) - (SELECT count(*) FROM main.parity"
            " WHERE session = ?1 AND stripe = data.stripe)) AS missing, max(position = ?3 AND blake3 <> ?4) AS lost"
            " FROM main.extent AS data WHERE session = ?1 GROUP BY stripe) WHERE missing > 0 OR lost"
            " ON CONFLICT DO UPDATE SET bytes = excluded.bytes, parity = excluded.parity,"
            " damaged = max(damaged, excluded.damaged)",
            *(session, at, NOWHERE, UNKNOWN_BLAKE3),
        )

    def begin_lacks(self, session: int) -> None:
        """Have nothing be known of the parity that stripes of a session lack, which are to be recorded anew."""
        self._sql.execute("UPDATE lack SET parity = 0 WHERE session = ? AND stripe <> ?", session, HEADERS)

    def end_lacks(self, session: int) -> None:
        """Forget the stripes of a session that lack nothing, or are no longer there."""
        self._sql.execute(
            "DELETE FROM lack WHERE session = ?1 AND stripe <> ?2 AND (parity = 0 AND damaged = 0"
            " OR stripe NOT IN (SELECT stripe FROM main.extent WHERE session = ?1))",
            *(session, HEADERS),
        )

    def crowded(self, session: int) -> list[int]:
        """Return the stripes of a session that have two extents on one disk."""
        rows = self._sql.execute(
            "SELECT DISTINCT stripe FROM (SELECT stripe, disk FROM main.extent WHERE session = ?1 AND position <> ?2"
            " UNION ALL SELECT stripe, disk FROM main.parity WHERE session = ?1) GROUP BY stripe, disk"
            " HAVING count(*) > 1",
            *(session, NOWHERE),
        )
        return [row[0] for row in rows]

    def clear(self, session: int, begin: int, end: int) -> bool:
        """Forget the data extents between two offsets of a session's stream; False: not all of them lie within."""
        within = ("FROM main.extent WHERE session = ? AND offset >= ? AND offset < ?", session, begin, end)
        if self._sql.one(f"SELECT min(offset), sum(bytes) {within[0]}", *within[1:]) != (begin, end - begin):
            return False
        self._sql.execute(f"DELETE {within[0]}", *within[1:])
        return True

    def place(self, extent: Extent) -> None:
        """Record where an extent of a stripe lies; of one that lies NOWHERE: that it is to be computed."""
        where = (extent.disk, extent.position, extent.session)
        if not extent.is_parity:
            sql = "UPDATE main.extent SET disk = ?, position = ? WHERE session = ? AND offset = ?"
            self._sql.execute(sql, *where, extent.offset)
        elif extent.position != NOWHERE:
            sql = "UPDATE main.parity SET disk = ?, position = ? WHERE session = ? AND stripe = ? AND place = ?"
            self._sql.execute(sql, *where, extent.stripe, extent.place)
        else:
            sql = "DELETE FROM main.parity WHERE session = ? AND stripe = ? AND place = ?"
            self._sql.execute(sql, extent.session, extent.stripe, extent.place)

    def recount_stored(self) -> None:
        """Count anew what lies on each disk, and of each volume."""
        self._sql.execute("DELETE FROM stored")
        self._sql.execute(
            "INSERT INTO stored SELECT disk, count(*), sum(stored) FROM (SELECT disk, stored FROM main.extent"
            " UNION ALL SELECT disk, stored FROM main.parity) GROUP BY disk"
        )
        self._sql.execute("UPDATE volume SET stored = 0")
        self._sql.execute(
            "UPDATE volume SET stored = size FROM (SELECT session.medium AS barcode, session.volume AS life,"
            " sum(stored) AS size FROM (SELECT session, stored FROM main.extent UNION ALL SELECT session, stored"
            " FROM main.parity) AS one JOIN main.session AS session ON session.id = one.session GROUP BY 1, 2)"
            " WHERE volume.medium = barcode AND number = life"
        )

    def add_events(self, events: Iterable[Event]) -> None:
        """Add what a disk remembers of events that the database does not have; they come after its last snapshot."""
        self._sql.execute_many(
            "INSERT OR IGNORE INTO event (id, at, epoch, what, medium, volume, uid, host, program, reason, details)"
            " SELECT ?, ?, epoch, ?, ?, ?, ?, ?, ?, ?, ? FROM library",
            (
                (one.id, one.at, one.what, one.medium, one.volume, one.uid, one.host, one.program, one.reason, said)
                for one, said in ((one, json.dumps(one.details)) for one in events)
            ),
        )
