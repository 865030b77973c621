"""How volumes are retained: what a new tape file adds to that. Nothing here makes a retention less."""

from vtlfs.engine.tracking.statements import Repository
from vtlfs.failpoints import reached
from vtlfs.model import RetainMode, Retention, later


class Retentions(Repository):
    """The columns of the table `volume` that say how a volume is retained."""

    def retain(self, barcode: str, volume: int, at: str, least: Retention | None = None) -> Retention | None:
        """Retain a volume for the tape file that it gets at the time `at`; return the retention of that.

        It is counted from the highest time that was ever recorded, as a clock may have been set back. `least`: at least
        so strictly and for so long.
        """
        if least is not None:
            self._retain_as(barcode, volume, least)
        mode, seconds, known = self._sql.one(
            "SELECT retain_mode, retain_seconds, retain_until FROM volume WHERE medium = ? AND number = ?",
            *(barcode, volume),
        )
        self._sql.execute("UPDATE library SET latest = ?1 WHERE latest < ?1", at)
        if mode is None:
            return None
        if mode == RetainMode.WORM:
            return Retention(RetainMode.WORM, None)
        until = known or ""  # a time that `vtlfs media set`, or an import, has named for the whole volume
        if seconds:
            until = later(self._sql.one("SELECT latest FROM library")[0], seconds)
        if least is not None and least.until is not None:
            until = max(until, least.until)
        if not until:
            return None
        self._sql.execute(
            "UPDATE volume SET retain_until = ?1 WHERE medium = ?2 AND number = ?3 AND coalesce(retain_until, '') < ?1",
            *(until, barcode, volume),
        )
        reached("tracking.retained")
        return Retention(RetainMode(mode), until)

    def _retain_as(self, barcode: str, volume: int, least: Retention) -> None:
        """Retain a volume at least as strictly and as long as another one. It never makes retention less."""
        mode, seconds = self._sql.one(
            "SELECT retain_mode, retain_seconds FROM volume WHERE medium = ? AND number = ?", barcode, volume
        )
        known = least.mode if mode is None else RetainMode(mode)
        strictest = max(known, least.mode, key=lambda one: one.strictness)
        period = None if strictest is RetainMode.WORM else seconds or 0
        self._sql.execute(
            "UPDATE volume SET retain_mode = ?, retain_seconds = ? WHERE medium = ? AND number = ?",
            *(str(strictest), period, barcode, volume),
        )
