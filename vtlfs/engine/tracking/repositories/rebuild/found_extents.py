"""The extents that a rebuild has found, by the records of data and of parity. The tables are those of `Scanned`."""

from collections.abc import Iterator
from dataclasses import dataclass

from vtlfs.engine.tracking.rows import UNKNOWN_BLAKE3
from vtlfs.engine.tracking.statements import Repository
from vtlfs.model import NO_CODEC, NOWHERE, Extent

NO_DISK = -1  # the disk of a data extent that only the parity of its stripe describes

_RECORD = "session, stripe, place, offset, bytes, codec, disk, position, stored, blake3"
_DESCRIBED = f"session, stripe, place, offset, bytes, codec, {NO_DISK}, {NOWHERE}, stored, blake3"
_PARITY = f"session, stripe, place, NULL, 0, '{NO_CODEC}', disk, position, stored, blake3"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An extent that a record describes. `is_trusted`: the database had the record, too."""

    extent: Extent
    is_trusted: bool


@dataclass(frozen=True, slots=True)
class FoundStripe:
    """A stripe that has parity. `members`: its data extents by place, without disk; then the records of the stripe."""

    members: list[Extent]
    data: list[Extent]
    parity: list[Extent]


class FoundExtents(Repository):
    """See the module. Some verbs look at the extents, or change them, that the database has recorded by now."""

    def candidates(self, session: int, *, trusted_first: bool) -> Iterator[Candidate]:
        """Return what a session's data extents may be by their offsets, of each the best first.

        The higher stripe is better, for the lower one was dealt anew; with `trusted_first`, what the database had is
        better than both. Extents that parity describes and no record does have no disk. They are read as they are asked
        for.
        """
        order = "trusted DESC, stripe DESC" if trusted_first else "stripe DESC, trusted DESC"
        rows = self._sql.execute(
            f"SELECT {_RECORD}, trusted FROM record WHERE session = ?1 UNION ALL"
            f" SELECT {_DESCRIBED}, 0 FROM described AS lost WHERE session = ?1 AND NOT EXISTS (SELECT 1 FROM record"
            " WHERE (session, offset, stripe, place) = (lost.session, lost.offset, lost.stripe, lost.place))"
            f" ORDER BY offset, {order}, disk, position",
            session,
        )
        return (Candidate(Extent(*row[:10]), bool(row[10])) for row in rows)

    def stripe(self, session: int, stripe: int) -> FoundStripe:
        """Return the records of a stripe. Without a record of its parity, `members` is empty."""
        key = (session, stripe)
        members = self._sql.execute(
            f"SELECT {_DESCRIBED} FROM described WHERE session = ? AND stripe = ? ORDER BY place", *key
        )
        data = self._sql.execute(
            f"SELECT {_RECORD} FROM record WHERE session = ?1 AND stripe = ?2 AND (offset, place, blake3) IN"
            " (SELECT offset, place, blake3 FROM described WHERE session = ?1 AND stripe = ?2) ORDER BY place",
            *key,
        )
        parity = self._sql.execute(
            f"SELECT {_PARITY} FROM parity_record WHERE session = ? AND stripe = ? ORDER BY place", *key
        )
        return FoundStripe(*([Extent(*row) for row in rows] for rows in (members, data, parity)))

    def torn(self, session: int) -> list[int]:
        """Return the stripes of a session that have parity, and of which only some data extents are recorded."""
        rows = self._sql.execute(
            "SELECT stripe FROM described JOIN (SELECT stripe, count(*) AS there FROM main.extent WHERE session = ?1"
            " GROUP BY stripe) USING (stripe) WHERE session = ?1 GROUP BY stripe HAVING count(*) > there",
            session,
        )
        return [row[0] for row in rows]

    def parity(self, session: int) -> Iterator[Candidate]:
        """Return the parity of a session's stripes whose data extents are all recorded, by stripe and place."""
        rows = self._sql.execute(
            f"SELECT {_PARITY}, trusted FROM parity_record AS one WHERE session = ? AND NOT EXISTS"
            " (SELECT 1 FROM described AS member LEFT JOIN main.extent AS extent USING (session, offset)"
            " WHERE member.session = one.session AND member.stripe = one.stripe"
            " AND (extent.stripe, extent.place, extent.blake3) IS NOT (member.stripe, member.place, member.blake3))"
            " ORDER BY stripe, place, trusted DESC, disk, position",
            session,
        )
        return (Candidate(Extent(*row[:10]), bool(row[10])) for row in rows)

    def recorded(self, session: int, stripe: int) -> list[Extent]:
        """Return the extents of a stripe that the database has, and that lie somewhere."""
        rows = self._sql.execute(
            f"SELECT {_RECORD} FROM main.extent WHERE session = ?1 AND stripe = ?2 AND position <> ?3"
            f" UNION ALL SELECT {_PARITY} FROM main.parity WHERE session = ?1 AND stripe = ?2",
            *(session, stripe, NOWHERE),
        )
        return [Extent(*row) for row in rows]

    def places_of(self, extent: Extent) -> list[Extent]:
        """Return all records that tell of an extent, wherever they lie."""
        key = (extent.session, extent.stripe, extent.place, extent.blake3)
        where = "WHERE session = ? AND stripe = ? AND place = ? AND blake3 = ?"
        if extent.is_parity:
            rows = self._sql.execute(f"SELECT {_PARITY} FROM parity_record {where}", *key)
        else:
            rows = self._sql.execute(f"SELECT {_RECORD} FROM record {where} AND offset = ?", *key, extent.offset)
        return [Extent(*row) for row in rows]

    def take_recorded(self, session: int) -> None:
        """Take a session's extents from the database into the records, as ones that are trusted.

        Those on disks that have retired are described only: where they have gone to is not known.
        """
        is_placed = "disk NOT IN (SELECT number FROM main.disk WHERE state = 'retired')"
        recorded = "FROM main.extent AS data WHERE session = ?1 AND blake3 <> ?2"
        for table in ("record", "parity_record"):
            self._sql.execute(f"DELETE FROM {table} WHERE session = ? AND trusted", session)
        self._sql.execute(
            f"INSERT INTO record SELECT {_RECORD}, 1 {recorded} AND position <> ?3 AND {is_placed}",
            session,
            UNKNOWN_BLAKE3,
            NOWHERE,
        )
        self._sql.execute(
            "INSERT INTO parity_record SELECT session, stripe, place, disk, position, stored, blake3, 1"
            f" FROM main.parity WHERE session = ? AND {is_placed}",
            session,
        )
        self._sql.execute(
            "INSERT OR IGNORE INTO described SELECT session, stripe, place, offset, bytes, codec, stored, blake3"
            f" {recorded} AND EXISTS (SELECT 1 FROM main.parity WHERE session = ?1 AND stripe = data.stripe)",
            *(session, UNKNOWN_BLAKE3),
        )
        for table in ("extent", "parity"):
            self._sql.execute(f"DELETE FROM main.{table} WHERE session = ?", session)

    def unused_stripe(self, session: int) -> int:
        """Return a number above those of all stripes of a session."""
        row = self._sql.one(
            "SELECT coalesce(max(stripe), -1) + 1 FROM (SELECT stripe FROM record WHERE session = ?1"
            " UNION ALL SELECT stripe FROM parity_record WHERE session = ?1)",
            session,
        )
        return int(row[0])

    def has_end(self, session: int, size: int) -> bool:
        """Tell whether a recorded extent of a session ends at the offset `size` of its stream."""
        query = "SELECT 1 FROM main.extent WHERE session = ? AND offset + bytes = ? LIMIT 1"
        return self._sql.first(query, session, size) is not None
