"""Stripe units: where each piece of a session's stream lies, and its BLAKE3."""

from vtlfs.engine.tracking.rows import STRIPE_UNIT, stripe_unit_of
from vtlfs.engine.tracking.statements import Repository
from vtlfs.model import StripeUnit


class StripeUnits(Repository):
    """The rows of the table `stripe_unit`, which `Sessions.record_progress` adds."""

    def of(self, session: int, first: int, count: int) -> list[StripeUnit]:
        """Return up to `count` stripe units of a session from number `first`."""
        rows = self._sql.execute(
            f"SELECT {STRIPE_UNIT} FROM stripe_unit WHERE session = ? AND unit >= ? ORDER BY unit LIMIT ?",
            *(session, first, count),
        )
        return [stripe_unit_of(row) for row in rows]

    def on_disk(self, disk: int, session: int, after: int, count: int) -> list[StripeUnit]:
        """Return up to `count` stripe units of a session on one disk, behind number `after`."""
        rows = self._sql.execute(
            f"SELECT {STRIPE_UNIT} FROM stripe_unit WHERE session = ? AND unit > ? AND disk = ? ORDER BY unit LIMIT ?",
            *(session, after, disk, count),
        )
        return [stripe_unit_of(row) for row in rows]

    def slots(self, session: int) -> dict[int, int]:
        """Return for each disk how many slots of the session's member file on it are recorded."""
        return dict(
            self._sql.execute("SELECT disk, max(slot) + 1 FROM stripe_unit WHERE session = ? GROUP BY disk", session)
        )
