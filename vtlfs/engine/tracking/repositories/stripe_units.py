"""Stripe units: where each piece of a session's stream lies, and its BLAKE3."""

import json

from vtlfs.engine.tracking.rows import STRIPE_UNIT, UNKNOWN_BLAKE3, stripe_unit_of
from vtlfs.engine.tracking.statements import Repository
from vtlfs.model import Session, StripeUnit


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

    def has_unknown(self) -> bool:
        """Tell whether there is a stripe unit of which a rebuild has found nothing."""
        return self._sql.first("SELECT 1 FROM stripe_unit WHERE blake3 = ? LIMIT 1", UNKNOWN_BLAKE3) is not None

    def mapped_bytes(self, session: Session) -> int:
        """Return of how many bytes of a session's stream the place is recorded, on disks that the session has."""
        row = self._sql.one(
            "SELECT coalesce(sum(bytes), 0) FROM stripe_unit WHERE session = ?"
            " AND disk IN (SELECT value FROM json_each(?))",
            *(session.id, json.dumps(session.disks)),
        )
        return int(row[0])

    def member_lengths(self, first: int, last: int, block: int) -> dict[int, dict[int, int]]:
        """Return for each disk the least length of the member files of sessions `first` to `last`, by session.

        `block`: the size of the header and of each record.
        """
        found: dict[int, dict[int, int]] = {}
        rows = self._sql.execute(
            "SELECT session, disk, max(slot * (stripe_unit + ?1) + 2 * ?1 + stripe_unit.bytes) FROM stripe_unit"
            " JOIN session ON id = session WHERE session BETWEEN ?2 AND ?3 GROUP BY session, disk",
            *(block, first, last),
        )
        for session, disk, length in rows:
            found.setdefault(disk, {})[session] = length
        return found
