"""The changes that only a rebuild makes. The database does not have its final name yet, so a power cut loses nothing.

A rebuild skips numbers, adds media and disks that it has found, and replaces placeholders, which are sessions that keep
the place of a tape file until its real session is found.
"""

import json
from collections.abc import Iterable, Sequence

from vtlfs.disks.headers import Ending
from vtlfs.engine.tracking.statements import Repository
from vtlfs.model import DiskRecord, Opener, Watermark


class Rebuilding(Repository):
    """Changes of a rebuild. "Found" refers to the table `found`, see `Scanned`."""

    # --- numbers ----------------------------------------------------------------------------------------------------

    def count_past(self, mark: Watermark, spare: int) -> None:
        """Raise the counters to those of a high-water mark, so that no number is given twice.

        `spare` commits more are skipped, since a missing disk may know of later commits than the mark.
        """
        self._sql.execute(
            "UPDATE library SET commits = max(commits, ?) + ?, next_session = max(next_session, ?),"
            " epoch = max(epoch, ?)",
            *(mark.commits, spare, mark.next_session, mark.epoch),
        )

    def skip_numbers(self, snapshots: int, sessions: int) -> None:
        """Skip so many numbers of snapshots and sessions after the highest that the database or the disks know."""
        self._sql.execute(
            "UPDATE library SET epoch = epoch + ?, next_session = ? + max(next_session,"
            " (SELECT coalesce(max(id), 0) + 1 FROM session), (SELECT coalesce(max(session), 0) + 1 FROM found))",
            *(snapshots, sessions),
        )

    # --- disks and media --------------------------------------------------------------------------------------------

    def add_disks(self, records: Sequence[DiskRecord]) -> None:
        """Add the disks that the database does not know, or knows only by number."""
        for disk in records:
            self._sql.execute(
                "INSERT INTO disk (number, uuid, path, added_at) VALUES (?, ?, ?, ?) ON CONFLICT (number) DO UPDATE"
                " SET uuid = excluded.uuid, added_at = excluded.added_at WHERE uuid LIKE 'unknown, of disk %'",
                *(disk.number, disk.uuid, disk.path, disk.added_at),
            )

    def add_media(self) -> None:
        """Add the media of sessions that were found, in the order of their first sessions.

        Identifiers tell which session was first: `opened_at` may come from a clock that was wrong.
        """
        self._sql.execute(
            "INSERT INTO medium (barcode, added_at) SELECT medium, opened_at FROM found WHERE session IN"
            " (SELECT min(session) FROM found WHERE medium NOT IN (SELECT barcode FROM main.medium) GROUP BY medium)"
            " ORDER BY session"
        )

    def add_volumes(self) -> None:
        """Set each medium's volume to the last that a found session has written to, and add all volumes up to it."""
        self._sql.execute(
            "WITH known (medium, number) AS (SELECT medium, max(volume) FROM found GROUP BY medium"
            " UNION ALL SELECT medium, number - 1 FROM known WHERE number > 1)"
            " INSERT OR IGNORE INTO volume (medium, number, begun_at) SELECT medium, number, (SELECT opened_at"
            " FROM found WHERE found.medium = known.medium AND volume >= number ORDER BY volume, session LIMIT 1)"
            " FROM known"
        )
        self._sql.execute(
            "UPDATE medium SET volume = last FROM (SELECT medium AS known, max(number) AS last FROM volume"
            " GROUP BY medium) WHERE known = barcode AND volume < last"
        )

    def cancel_reservations(self) -> None:
        """Cancel all room that is reserved for sessions."""
        self._sql.execute("UPDATE medium SET reserved = 0 WHERE reserved > 0")
        self._sql.execute("UPDATE session SET reserved = 0 WHERE reserved > 0")

    # --- sessions ---------------------------------------------------------------------------------------------------

    def set_stream(self, session: int, size: int, disks: Iterable[int]) -> None:
        """Record the length of a session's stream, and the disks that it is on."""
        known = json.dumps(sorted(disks), separators=(",", ":"))
        self._sql.execute("UPDATE main.session SET bytes = ?, disks = ? WHERE id = ?", size, known, session)

    def placeholder(self, barcode: str, ending: Ending, opener: Opener) -> int | None:
        """Return the session of that opener that is the placeholder of a tape file; None without a placeholder."""
        row = self._sql.first(
            "SELECT id FROM tape_file JOIN main.session AS session ON id = session WHERE tape_file.medium = ?"
            " AND number = ? AND start = ? AND tape_file.bytes = ? AND host = ? AND pid = 0 AND program = ?",
            *(barcode, ending.tape_file, ending.start, ending.bytes, opener.host, opener.program),
        )
        return None if row is None else int(row[0])

    def replace_placeholder(self, placeholder: int, session: int, barcode: str, ending: Ending) -> None:
        """End an open session as the tape file of a placeholder, and delete the placeholder."""
        change, at = self._sql.execute, ending.released_at
        change("UPDATE tape_file SET session = ?, released_at = ? WHERE session = ?", session, at, placeholder)
        change("DELETE FROM main.extent WHERE session = ?", placeholder)
        change("DELETE FROM main.session WHERE id = ?", placeholder)
        change("UPDATE library SET sessions = sessions - 1")
        change(
            "UPDATE main.session SET state = ?, error = ?, released_at = ?, requests = coalesce(?, requests),"
            " tape_file = ? WHERE id = ?",
            *(str(ending.state), ending.error, at, ending.requests, ending.tape_file, session),
        )
        change(
            "UPDATE medium SET written_at = ? WHERE barcode = ? AND tape_files = ?",
            *(at, barcode, (ending.tape_file or 0) + 1),
        )
