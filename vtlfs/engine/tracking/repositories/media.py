"""Media: their lengths and capacities, and the room on them that is reserved for open sessions."""

from collections.abc import Sequence

from vtlfs.engine.tracking.rows import MEDIUM, contradiction, medium_of, number_of
from vtlfs.engine.tracking.statements import Repository
from vtlfs.errors import MediumFull, NoSuchMedium, SessionEnded, UsageError
from vtlfs.failpoints import reached
from vtlfs.model import Medium


class Media(Repository):
    """The rows of the table `medium`."""

    def add(self, barcodes: Sequence[str], capacity: int | None, at: str) -> None:
        """Add empty media. Raises UsageError if one exists already; the caller must not commit then."""
        for barcode in barcodes:
            cursor = self._sql.execute(
                "INSERT INTO medium (barcode, capacity, added_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                *(barcode, capacity, at),
            )
            if not cursor.rowcount:
                raise UsageError(f"medium {barcode} exists already; nothing was added, choose other barcodes")
        reached("tracking.media_added")

    def get(self, barcode: str) -> Medium:
        """Return one medium. Raises NoSuchMedium."""
        row = self._sql.first(f"SELECT {MEDIUM} FROM medium WHERE barcode = ?", barcode)
        if row is None:
            raise NoSuchMedium(barcode)
        return medium_of(row)

    def get_announced(self, barcode: str, mount: int, after: int) -> tuple[Medium, int, int | None]:
        """Return one medium, and the numbers of two announcements of a close(): the last one in the library, and
        the earliest after number `after` of the sessions on the medium that are open in another mount than `mount`.

        Raises NoSuchMedium.
        """
        row = self._sql.first(
            f"SELECT {MEDIUM}, (SELECT announced FROM library), (SELECT min(announced) FROM session"
            " WHERE state = 'open' AND session.medium = medium.barcode AND mount <> ? AND announced > ?)"
            " FROM medium WHERE barcode = ?",
            *(mount, after, barcode),
        )
        if row is None:
            raise NoSuchMedium(barcode)
        closing = None if row[-1] is None else number_of(row[-1], "announcement")
        return medium_of(row[:-2]), number_of(row[-2], "announcement"), closing

    def all(self) -> list[Medium]:
        """Return the media in the order of their barcodes."""
        return [medium_of(row) for row in self._sql.execute(f"SELECT {MEDIUM} FROM medium ORDER BY barcode")]

    def barcodes(self) -> list[str]:
        """Return the barcodes of all media, unchecked."""
        return [row[0] for row in self._sql.execute("SELECT barcode FROM medium")]

    def after(self, number: int, limit: int) -> list[Medium]:
        """Return the media that were added after the one with the id `number`, in that order: the first `limit`."""
        rows = self._sql.execute(f"SELECT {MEDIUM} FROM medium WHERE id > ? ORDER BY id LIMIT ?", number, limit)
        return [medium_of(row) for row in rows]

    def check_length(self, barcode: str) -> None:
        """Raise TrackingError unless a medium's length is the end of its last tape file."""
        row = self._sql.first(
            "SELECT (bytes, tape_files) IS (SELECT start + bytes, number + 1 FROM tape_file WHERE medium = barcode"
            " ORDER BY number DESC LIMIT 1) OR (bytes = 0 AND tape_files = 0 AND NOT EXISTS"
            " (SELECT 1 FROM tape_file WHERE medium = barcode)) FROM medium WHERE barcode = ?",
            barcode,
        )
        if row is not None and not row[0]:
            raise contradiction(f"medium {barcode}")

    def reserve(self, session: int, barcode: str, need: int, want: int) -> int:
        """Reserve room on a medium for an open session: `want` bytes more, or else `need`.

        Return how many bytes were reserved. Raises MediumFull if not even `need` fit, SessionEnded if the session is
        not open.
        """
        for more in (want, need):
            cursor = self._sql.execute(
                "UPDATE medium SET reserved = reserved + ?1"
                " WHERE barcode = ?2 AND bytes + reserved + ?1 <= coalesce(capacity, 1 << 62)",
                *(more, barcode),
            )
            if cursor.rowcount:
                told = self._sql.execute(
                    "UPDATE session SET reserved = reserved + ? WHERE id = ? AND state = 'open'", more, session
                )
                if not told.rowcount:
                    raise SessionEnded(session)
                reached("tracking.space_reserved")
                return more
        raise MediumFull(barcode)
