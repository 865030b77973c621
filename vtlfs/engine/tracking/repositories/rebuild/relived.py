"""The lives of media in a rebuild: what was found of them, and the changes of media that only a rebuild makes.

The temporary tables are those of `Scanned`. The database does not have its final name yet: a power cut loses nothing.
"""

import json
from collections.abc import Iterable

from vtlfs.disks import cartridges
from vtlfs.disks.cartridges import Cartridge
from vtlfs.disks.snapshots import Runs
from vtlfs.engine.tracking.rows import MEDIUM, medium_of
from vtlfs.engine.tracking.statements import Repository
from vtlfs.model import Hold, Medium, RetainMode

UNSHOWN = (
    "SELECT session.id FROM main.session AS session JOIN volume ON volume.medium = session.medium"
    " AND number = session.volume WHERE tape_file IS NOT NULL AND ended IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM snapshot WHERE snapshot.id >= begun AND snapshot.id < ended)"
)  # the sessions of volumes that nobody can read any more
_OWN = "json_extract(opening, '$.origin') IS NULL"  # of `found`: it was not imported


class Relived(Repository):
    """See the module. "Found" refers to the table `found`, "remembered" to the table `memory`."""

    # --- what was found ---------------------------------------------------------------------------------------------

    def remember(self, cartridge: Cartridge) -> None:
        """Keep what a disk remembers of a medium, if no other disk has something newer."""
        self._sql.execute(
            "INSERT INTO memory VALUES (?, ?, ?, ?, ?) ON CONFLICT (barcode) DO UPDATE SET commits = excluded.commits,"
            " volume = excluded.volume, event = excluded.event, document = excluded.document"
            " WHERE excluded.commits > commits",
            *(cartridge.barcode, cartridge.commits, cartridge.volume, cartridge.event),
            json.dumps(cartridges.document("", cartridge)),
        )

    def remember_deleted(self, deleted: Runs) -> None:
        """Keep which snapshots a disk knows to be deleted; no new one gets the number of one of them."""
        self._sql.execute_many("INSERT INTO deleted VALUES (?, ?)", deleted)
        self._sql.execute("UPDATE library SET epoch = max(epoch, (SELECT coalesce(max(last), 0) + 1 FROM deleted))")

    def deleted_snapshots(self) -> list[int]:
        """Return the snapshots that the database has, and a disk knows to be deleted."""
        rows = self._sql.execute(
            "SELECT id FROM snapshot WHERE EXISTS (SELECT 1 FROM deleted WHERE id BETWEEN first AND last) ORDER BY id"
        )
        return [int(row[0]) for row in rows]

    def forget_older_memory(self, commits: int) -> None:
        """Forget what is not newer than a database with so many commits; the new one has more than all memories."""
        self._sql.execute("UPDATE library SET commits = max(commits, (SELECT coalesce(max(commits), 0) FROM memory))")
        self._sql.execute("DELETE FROM memory WHERE commits <= ?", commits)

    def memory(self, barcode: str) -> Cartridge | None:
        """Return the newest that a disk remembers of a medium; None: nothing."""
        row = self._sql.first("SELECT document FROM memory WHERE barcode = ?", barcode)
        return None if row is None else cartridges.read(json.loads(row[0]), "", barcode)

    def last_event(self) -> int:
        """Return the number of the last event that the database has or the disks remember; 0 without one."""
        row = self._sql.one(
            "SELECT coalesce(max(id), 0) FROM (SELECT id FROM main.event UNION ALL SELECT event FROM memory)"
        )
        return int(row[0])

    def latest(self, most: str) -> str:
        """Return the highest time in what was found, up to `most`; empty without one.

        The times of an imported session are those of the library that it comes from, and of its clock.
        """
        row = self._sql.one(
            f"SELECT coalesce(max(at), '') FROM (SELECT opened_at AS at FROM found WHERE {_OWN} UNION ALL SELECT"
            f" released_at FROM found WHERE {_OWN} UNION ALL SELECT json_extract(document, '$.begun_at') FROM memory)"
            " WHERE at <= ?",
            most,
        )
        return str(row[0])

    def empty_volumes(self) -> list[tuple[str, int, int]]:
        """Return the media of which volumes are told that were not found: how many, and how many sessions were."""
        return self._sql.execute(
            "SELECT barcode, max(coalesce(f, 0), coalesce(memory.volume, 0)) - medium.volume - coalesce(n, 0) AS empty,"
            " coalesce(sessions, 0) FROM main.medium LEFT JOIN memory USING (barcode) LEFT JOIN (SELECT medium AS m,"
            " max(volume) AS f, count(DISTINCT volume) AS n, count(*) AS sessions FROM found GROUP BY medium)"
            " ON m = barcode WHERE empty > 0 ORDER BY empty"
        ).fetchall()

    def leave_out_volumes(self, barcode: str, above: int) -> None:
        """Forget what was found and is remembered of volumes of a medium above this one."""
        self._sql.execute("DELETE FROM found WHERE medium = ? AND volume > ?", barcode, above)
        self._sql.execute("DELETE FROM memory WHERE barcode = ? AND volume > ?", barcode, above)

    def found_volumes(self, barcode: str) -> list[int]:
        """Return the volumes of a medium of which sessions were found, in order."""
        rows = self._sql.execute("SELECT DISTINCT volume FROM found WHERE medium = ? ORDER BY volume", barcode)
        return [row[0] for row in rows]

    def late_sessions(self, most: int) -> list[int]:
        """Return the sessions that are lacking of volumes that the database has ended: all but the first `most`."""
        rows = self._sql.execute(
            "SELECT session FROM found JOIN main.medium ON barcode = found.medium WHERE found.volume < medium.volume"
            " AND session NOT IN (SELECT id FROM main.session) ORDER BY session LIMIT -1 OFFSET ?",
            most,
        )
        return [row[0] for row in rows]

    def last_volume(self, barcode: str) -> int:
        """Return the highest volume of a medium that was found, or is remembered; 0 without one."""
        row = self._sql.one(
            "SELECT coalesce(max(volume), 0) FROM (SELECT volume FROM found WHERE medium = ?1 UNION ALL"
            " SELECT volume FROM memory WHERE barcode = ?1)",
            barcode,
        )
        return int(row[0])

    def volumes_of(self, barcode: str) -> list[int]:
        """Return the volumes of a medium that are of open sessions that write."""
        rows = self._sql.execute(
            "SELECT DISTINCT volume FROM main.session WHERE medium = ? AND state = 'open' AND access = 'write'"
            " ORDER BY volume",
            barcode,
        )
        return [row[0] for row in rows]

    def began_at(self, barcode: str, volume: int) -> str | None:
        """Return when a volume began at the latest: its first session that was not imported; None without one."""
        row = self._sql.first(
            f"SELECT opened_at FROM found WHERE medium = ? AND volume = ? AND {_OWN} ORDER BY session LIMIT 1",
            *(barcode, volume),
        )
        return None if row is None else str(row[0])

    def retentions(self, barcode: str, volume: int) -> list[tuple[RetainMode, int | None, str | None]]:
        """Return how the headers of a volume's sessions say that it is retained: mode, seconds, and until when.

        A session that left no tape file has no say.
        """
        rows = self._sql.execute(
            "SELECT rule_mode, max(rule_seconds), NULL FROM found WHERE medium = ?1 AND volume = ?2"
            " AND rule_mode IS NOT NULL AND (ending IS NULL OR tape_file IS NOT NULL) GROUP BY rule_mode UNION ALL"
            " SELECT retain_mode, NULL, max(retain_until) FROM found WHERE medium = ?1 AND volume = ?2"
            " AND retain_mode IS NOT NULL GROUP BY retain_mode",
            *(barcode, volume),
        )
        return [(RetainMode(mode), seconds, until) for mode, seconds, until in rows]

    def is_written(self, barcode: str, volume: int) -> bool:
        """Tell whether a volume has a tape file, or was found to have one, or may get one of a session without an end.

        What retains for ever begins with the first tape file: an empty volume may have ended before it.
        """
        return bool(
            self._sql.first(
                "SELECT 1 FROM tape_file WHERE medium = ?1 AND volume = ?2 UNION ALL SELECT 1 FROM found"
                " WHERE medium = ?1 AND volume = ?2 AND (ending IS NULL OR tape_file IS NOT NULL) LIMIT 1",
                *(barcode, volume),
            )
        )

    # --- media and volumes ------------------------------------------------------------------------------------------

    def add_media(self, at: str) -> None:
        """Add the media of sessions that were found, in the order of their first sessions. `at`: the time.

        Identifiers tell which session was first: `opened_at` may come from a clock that was wrong; and from that of
        another library, where the session was imported: then it is not believed.
        """
        self._sql.execute(
            "INSERT INTO medium (barcode, added_at, begun_at) SELECT medium, began, began FROM (SELECT medium, session,"
            f" iif({_OWN}, opened_at, ?) AS began FROM found) WHERE session IN"
            " (SELECT min(session) FROM found WHERE medium NOT IN (SELECT barcode FROM main.medium) GROUP BY medium)"
            " ORDER BY session",
            at,
        )
        self._sql.execute(
            "INSERT INTO medium (barcode, added_at, begun_at) SELECT barcode, json_extract(document, '$.added_at'),"
            " json_extract(document, '$.added_at') FROM memory WHERE barcode NOT IN (SELECT barcode FROM main.medium)"
            " ORDER BY barcode"
        )

    def to_replay(self) -> list[Medium]:
        """Return the media to which something may come, as they are: also those that were removed."""
        rows = self._sql.execute(
            f"SELECT {MEDIUM} FROM main.medium WHERE barcode IN (SELECT medium FROM found UNION SELECT barcode"
            " FROM memory) ORDER BY barcode"
        )
        return [medium_of(row) for row in rows]

    def open_medium(self, barcode: str, *, unlimited: bool) -> None:
        """Have a medium take whatever was once written to it; `close_medium` comes last."""
        limit = ", capacity = NULL" if unlimited else ""
        self._sql.execute(f"UPDATE medium SET state = 'in use'{limit} WHERE barcode = ?", barcode)
        self._sql.execute(
            "UPDATE main.session SET volume = found.volume FROM found WHERE found.session = id AND state = 'open'"
            " AND found.medium = ? AND main.session.volume < found.volume",
            barcode,
        )

    def begin_volume(self, barcode: str, number: int, at: str) -> None:
        """End the current volume of a medium, and all up to a later one, which begins; without a look at anything."""
        current = self._sql.one("SELECT volume FROM medium WHERE barcode = ?", barcode)[0]
        self._sql.execute(
            "UPDATE volume SET ended_at = ?, ended = epoch, bytes = medium.bytes, tape_files = medium.tape_files"
            " FROM medium, library WHERE barcode = volume.medium AND volume.medium = ? AND number = ?",
            *(at, barcode, current),
        )
        self._sql.execute(
            "WITH RECURSIVE more (number) AS (SELECT ?1 + 1 UNION ALL SELECT number + 1 FROM more WHERE number < ?2)"
            " INSERT INTO volume (medium, number, begun_at, begun, ended_at, ended) SELECT ?3, number, ?4, epoch,"
            " iif(number < ?2, ?4, NULL), iif(number < ?2, epoch, NULL) FROM more, library",
            *(current, number, barcode, at),
        )
        self._sql.execute(
            "UPDATE medium SET volume = ?, begun_at = ?, bytes = 0, tape_files = 0, written_at = NULL"
            " WHERE barcode = ?",
            *(number, at, barcode),
        )

    def retain(self, barcode: str, number: int, mode: RetainMode, seconds: int | None, until: str | None) -> None:
        """Set how a volume is retained."""
        self._sql.execute(
            "UPDATE volume SET retain_mode = ?, retain_seconds = ?, retain_until = ? WHERE medium = ? AND number = ?",
            *(str(mode), seconds, until, barcode, number),
        )

    def close_medium(self, barcode: str, capacity: int | None, *, protected: bool) -> None:
        """Set the capacity of a medium, and its write-protect tab."""
        self._sql.execute(
            "UPDATE medium SET capacity = ?, protected = ? WHERE barcode = ?", capacity, int(protected), barcode
        )

    def set_holds(self, barcode: str, holds: Iterable[Hold]) -> None:
        """Have a medium be under these holds, and no others."""
        self._sql.execute("DELETE FROM hold WHERE medium = ?", barcode)
        self._sql.execute_many(
            "INSERT OR IGNORE INTO hold (medium, name, reason, placed_at, uid, host) VALUES (?, ?, ?, ?, ?, ?)",
            ((barcode, one.name, one.reason, one.placed_at, one.uid, one.host) for one in holds),
        )

    # --- volumes that have ended --------------------------------------------------------------------------------------

    def forget_reclaimed(self, disks: Iterable[int], at: str) -> set[int]:
        """Record as deleted what no disk has any more of volumes that have ended, and that no snapshot shows.

        `disks`: those that there are. Nothing is said of a session that has extents on other ones. Return the sessions.
        """
        there = json.dumps([*disks])
        rows = self._sql.execute(
            f"{UNSHOWN} AND NOT reclaimed AND NOT EXISTS (SELECT 1 FROM present WHERE present.session = session.id)"
            " AND NOT EXISTS (SELECT 1 FROM json_each(session.disks) AS one WHERE one.value NOT IN"
            " (SELECT value FROM json_each(?)) AND one.value NOT IN"
            " (SELECT number FROM main.disk WHERE state = 'retired'))",
            there,
        )
        found = {int(row[0]) for row in rows}
        gone = json.dumps(sorted(found))
        for table in ("extent", "parity", "lack", "hurt"):
            self._sql.execute(f"DELETE FROM main.{table} WHERE session IN (SELECT value FROM json_each(?))", gone)
        self._sql.execute(
            "UPDATE main.session SET reclaimed = 1, disks = '[]' WHERE id IN (SELECT value FROM json_each(?))", gone
        )
        self._sql.execute(
            "UPDATE volume SET reclaimed_at = ? WHERE ended IS NOT NULL AND reclaimed_at IS NULL AND (medium, number)"
            " IN (SELECT medium, volume FROM main.session WHERE id IN (SELECT value FROM json_each(?)))"
            " AND NOT EXISTS (SELECT 1 FROM main.session AS one WHERE one.medium = volume.medium"
            " AND one.volume = number AND tape_file IS NOT NULL AND NOT reclaimed)",
            *(at, gone),
        )
        return found

    def unshown(self) -> set[int]:
        """Return the sessions with a tape file on a volume that has ended, and that no snapshot shows."""
        return {int(row[0]) for row in self._sql.execute(UNSHOWN)}

    def has_ended_volumes(self) -> bool:
        """Tell whether a medium was ever erased."""
        return self._sql.first("SELECT 1 FROM volume WHERE ended IS NOT NULL LIMIT 1") is not None
