"""Tape files that come late in a rebuild: of volumes that have ended, and in the place of a placeholder.

The database does not have its final name yet: a power cut loses nothing.
"""

from vtlfs.disks.headers import Ending
from vtlfs.engine.tracking.statements import Repository
from vtlfs.model import Opener


class LateFiles(Repository):
    """The rows of `tape_file` that a rebuild adds out of turn, or gives to another session."""

    # --- tape files of volumes that have ended ------------------------------------------------------------------------

    def end_late(self, session: int, barcode: str, volume: int, ending: Ending) -> int | None:
        """End an open session of a volume that has ended; what it has bytes of becomes the volume's last tape file.

        Return its number; None without bytes. It comes before all tape files of later volumes of the medium. Snapshots
        that were taken after that count it, too.
        """
        size, number = self._sql.one("SELECT bytes, NULL FROM main.session WHERE id = ?", session)
        if size:
            number, start = self._sql.one(
                "SELECT tape_files, bytes FROM volume WHERE medium = ? AND number = ?", barcode, volume
            )
            ordinal, epoch = self._make_room(barcode, volume, size)
            self._sql.execute(
                "INSERT INTO tape_file (medium, volume, number, session, start, bytes, released_at, epoch, ordinal,"
                " retain_mode, retain_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *(barcode, volume, number, session, start, size, ending.released_at, epoch, ordinal, *_kept(ending)),
            )
            self._sql.execute(
                "UPDATE volume SET tape_files = tape_files + 1, bytes = bytes + ? WHERE medium = ? AND number = ?",
                *(size, barcode, volume),
            )
        self._sql.execute(
            "UPDATE main.session SET state = ?, error = ?, released_at = ?, requests = coalesce(?, requests),"
            " reserved = 0, tape_file = ? WHERE id = ?",
            *(str(ending.state), ending.error, ending.released_at, ending.requests, number, session),
        )
        return number if number is None else int(number)

    def _make_room(self, barcode: str, volume: int, size: int) -> tuple[int, int]:
        """Return ordinal and epoch of one more tape file of a volume, and have all that come behind it count on."""
        row = self._sql.first(
            "SELECT ordinal, epoch FROM tape_file WHERE medium = ? AND volume > ? ORDER BY ordinal LIMIT 1",
            *(barcode, volume),
        )
        if row is None:
            last, epoch = self._sql.one("SELECT tape_files, epoch FROM library")
            return int(last) + 1, int(epoch)
        ordinal, epoch = row
        self._sql.execute("UPDATE tape_file SET ordinal = -ordinal - 1 WHERE ordinal >= ?", ordinal)
        self._sql.execute("UPDATE tape_file SET ordinal = -ordinal WHERE ordinal < 0")
        self._sql.execute(
            "UPDATE snapshot SET tape_files = tape_files + 1, bytes = bytes + ? WHERE id >= ?", size, epoch
        )
        self._sql.execute("UPDATE verification SET last = last + 1 WHERE last >= ?", ordinal)
        return int(ordinal), int(epoch)

    # --- placeholders: sessions that keep the place of a tape file until its real session is found ------------------

    def placeholder(self, barcode: str, volume: int, ending: Ending, opener: Opener) -> int | None:
        """Return the session of that opener that is the placeholder of a tape file; None without a placeholder."""
        row = self._sql.first(
            "SELECT id FROM tape_file JOIN main.session AS session ON id = session WHERE tape_file.medium = ?"
            " AND tape_file.volume = ? AND number = ? AND start = ? AND tape_file.bytes = ? AND host = ? AND pid = 0"
            " AND program = ?",
            *(barcode, volume, ending.tape_file, ending.start, ending.bytes, opener.host, opener.program),
        )
        return None if row is None else int(row[0])

    def replace_placeholder(self, placeholder: int, session: int, barcode: str, ending: Ending) -> None:
        """End an open session as the tape file of a placeholder, and delete the placeholder."""
        change, at = self._sql.execute, ending.released_at
        change(
            "UPDATE tape_file SET session = ?, released_at = ?, retain_mode = ?, retain_until = ? WHERE session = ?",
            *(session, at, *_kept(ending), placeholder),
        )
        for table in ("extent", "lack", "hurt"):
            change(f"DELETE FROM main.{table} WHERE session = ?", placeholder)
        change("DELETE FROM main.session WHERE id = ?", placeholder)
        change("UPDATE library SET sessions = sessions - 1")
        change(
            "UPDATE main.session SET state = ?, error = ?, released_at = ?, requests = coalesce(?, requests),"
            " tape_file = ? WHERE id = ?",
            *(str(ending.state), ending.error, at, ending.requests, ending.tape_file, session),
        )
        change(
            "UPDATE medium SET written_at = ? WHERE barcode = ? AND tape_files = ?"
            " AND volume = (SELECT volume FROM main.session WHERE id = ?)",
            *(at, barcode, (ending.tape_file or 0) + 1, session),
        )


def _kept(ending: Ending) -> tuple[str | None, str | None]:
    return (None, None) if ending.retention is None else (str(ending.retention.mode), ending.retention.until)
