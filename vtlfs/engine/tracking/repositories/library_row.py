"""The one row of the table `library`: the library's identity, its counters, and its next identifiers."""

from dataclasses import dataclass

from vtlfs.engine.tracking.statements import Repository
from vtlfs.failpoints import reached
from vtlfs.model import Watermark

_WATERMARK = (
    "commits, next_session, epoch, media, sessions, tape_files, bytes,"
    " (SELECT coalesce(max(id), 0) FROM snapshot) AS snapshot, disks, moves, latest"
)  # the fields of `Watermark`


@dataclass(frozen=True, slots=True)
class Counters:
    """How much a library has; `bytes` are those in tape files."""

    media: int
    sessions: int
    tape_files: int
    bytes: int


class LibraryRow(Repository):
    """Reads the library's row, counts its commits and hands out the identifiers of sessions."""

    def uuid(self) -> str:
        """Return the library's UUID."""
        return str(self._sql.one("SELECT uuid FROM library")[0])

    def watermark(self) -> Watermark:
        """Return how far the database has come."""
        return Watermark(*self._sql.one(f"SELECT {_WATERMARK} FROM library"))

    def count_commit(self) -> Watermark:
        """Count one more commit. Return how far the database has come with it."""
        return Watermark(*self._sql.one(f"UPDATE library SET commits = commits + 1 RETURNING {_WATERMARK}"))

    def epoch(self) -> int:
        """Return the current epoch: the number that the next snapshot gets."""
        return int(self._sql.one("SELECT epoch FROM library")[0])

    def counters(self) -> Counters:
        """Return how much the library has. Triggers count each row when it is added, so this reads one row."""
        return Counters(*self._sql.one("SELECT media, sessions, tape_files, bytes FROM library"))

    def last_ordinal(self) -> int:
        """Return the ordinal of the newest tape file of all media; 0 before the first."""
        return int(self._sql.one("SELECT tape_files FROM library")[0])

    def count_move(self) -> None:
        """Count a change of the places of extents, which older copies of this database do not know."""
        self._sql.execute("UPDATE library SET moves = moves + 1")

    # --- identifiers of sessions ------------------------------------------------------------------------------------

    def next_session(self) -> int:
        """Return the lowest session identifier that no mount has been given."""
        return int(self._sql.one("SELECT next_session FROM library")[0])

    def take_sessions(self, count: int) -> range:
        """Return the next `count` session identifiers, which nobody else will ever get."""
        row = self._sql.one("UPDATE library SET next_session = next_session + ? RETURNING next_session", count)
        reached("tracking.sessions_taken")
        return range(row[0] - count, row[0])

    def skip_sessions(self, first: int) -> None:
        """Give no session identifier below `first` any more: the disks show that these were given already."""
        self._sql.execute("UPDATE library SET next_session = ?1 WHERE next_session < ?1", first)
        reached("tracking.sessions_skipped")

    def return_sessions(self, unused: range) -> None:
        """Give back the unused last identifiers of a `take_sessions`, if nobody has taken any since."""
        self._sql.execute("UPDATE library SET next_session = ? WHERE next_session = ?", unused.start, unused.stop)
        reached("tracking.sessions_returned")
