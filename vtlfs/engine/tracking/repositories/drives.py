"""Drives, and which medium each one's `loaded` points to."""

from vtlfs.engine.tracking.repositories.media import Media
from vtlfs.engine.tracking.statements import Repository, Statements
from vtlfs.errors import NoSuchDrive
from vtlfs.failpoints import reached
from vtlfs.model import Drive


class Drives(Repository):
    """The rows of the table `drive`."""

    def __init__(self, sql: Statements, media: Media) -> None:
        super().__init__(sql)
        self._media = media

    def all(self) -> list[Drive]:
        """Return the drives by number."""
        rows = self._sql.execute("SELECT number, loaded, loaded_at FROM drive ORDER BY number")
        return [Drive(*row) for row in rows]

    def get(self, number: int) -> Drive:
        """Return one drive. Raises NoSuchDrive."""
        row = self._sql.first("SELECT number, loaded, loaded_at FROM drive WHERE number = ?", number)
        if row is None:
            raise NoSuchDrive(number, self._sql.one("SELECT count(*) FROM drive")[0])
        return Drive(*row)

    def ensure(self, count: int) -> None:
        """Add the drives below `count` that are missing. Drives are never removed, since sessions may name them."""
        for number in range(count):
            self._sql.execute("INSERT INTO drive (number) VALUES (?) ON CONFLICT DO NOTHING", number)
        reached("tracking.drives_set")

    def load(self, number: int, barcode: str, at: str) -> None:
        """Point a drive's `loaded` to a medium. Raises NoSuchDrive or NoSuchMedium."""
        self.get(number)
        self._media.get(barcode)
        self._sql.execute("UPDATE drive SET loaded = ?, loaded_at = ? WHERE number = ?", barcode, at, number)
        reached("tracking.loaded")

    def unload(self, number: int) -> str | None:
        """Point a drive's `loaded` to nothing. Return what it pointed to. Raises NoSuchDrive."""
        loaded = self.get(number).loaded
        if loaded is not None:
            self._sql.execute("UPDATE drive SET loaded = NULL, loaded_at = NULL WHERE number = ?", number)
        reached("tracking.unloaded")
        return loaded
