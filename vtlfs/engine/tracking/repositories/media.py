"""Media: their lengths and capacities, their slots, and the room on them that is reserved for open sessions."""

from collections.abc import Iterator, Sequence
from itertools import count

from vtlfs.engine.tracking.rows import MEDIUM, contradiction, medium_of, number_of
from vtlfs.engine.tracking.statements import Repository
from vtlfs.errors import MediumFull, NoSuchMedium, ReadOnlyMedium, SessionEnded, UsageError
from vtlfs.failpoints import reached
from vtlfs.model import Medium, MediumState, format_size


class Media(Repository):
    """The rows of the table `medium`."""

    def add(self, barcodes: Sequence[str], capacity: int | None, at: str) -> None:
        """Add empty media, also ones that were removed; each gets the lowest slot that no other medium has.

        Raises UsageError if one exists already; the caller must not commit then.
        """
        for barcode in barcodes:
            cursor = self._sql.execute(
                "INSERT INTO medium (barcode, capacity, added_at, begun_at) VALUES (?1, ?2, ?3, ?3)"
                " ON CONFLICT (barcode) DO UPDATE SET capacity = excluded.capacity, added_at = excluded.added_at,"
                " begun_at = excluded.begun_at, state = 'in use', protected = 0 WHERE state = 'removed'",
                *(barcode, capacity, at),
            )
            if not cursor.rowcount:
                raise UsageError(f"medium {barcode} exists already; nothing was added, choose other barcodes")
        self.give_slots()
        reached("tracking.media_added")

    def give_slots(self) -> int:
        """Give each medium without a slot the lowest one that no other has, in the order of adding; return how many."""
        lacking = self._sql.execute("SELECT id FROM medium WHERE slot IS NULL AND state <> 'removed' ORDER BY id")
        given = list(zip(self._free_slots(), [number for (number,) in lacking], strict=False))
        self._sql.execute_many("UPDATE medium SET slot = ? WHERE id = ?", given)
        return len(given)

    def _free_slots(self) -> Iterator[int]:
        """Yield the slots that no medium has, from the lowest on, without an end."""
        slot = 1
        for (taken,) in self._sql.execute("SELECT slot FROM medium WHERE slot IS NOT NULL ORDER BY slot").fetchall():
            yield from range(slot, taken)
            slot = taken + 1
        yield from count(slot)

    def by_slot(self) -> dict[int, str]:
        """Return the barcodes of the media that were not removed by their slots, in the order of the slots."""
        rows = self._sql.execute("SELECT slot, barcode FROM medium WHERE slot IS NOT NULL ORDER BY slot")
        return {number_of(slot, "slot"): str(barcode) for slot, barcode in rows}

    def set_slot(self, barcode: str, slot: int | None) -> None:
        """Give a medium a slot that no other medium has, or none until it is given one in the same transaction."""
        self._sql.execute("UPDATE medium SET slot = ? WHERE barcode = ?", slot, barcode)
        reached("tracking.slot_set")

    def get(self, barcode: str) -> Medium:
        """Return one medium that was not removed. Raises NoSuchMedium."""
        row = self._sql.first(f"SELECT {MEDIUM} FROM medium WHERE barcode = ? AND state <> 'removed'", barcode)
        if row is None:
            raise NoSuchMedium(barcode)
        return medium_of(row)

    def find(self, barcode: str) -> Medium | None:
        """Return one medium; None where there is none, or it was removed."""
        try:
            return self.get(barcode)
        except NoSuchMedium:
            return None

    def get_announced(self, barcode: str, mount: int, after: int) -> tuple[Medium, int, int | None]:
        """Return one medium, and the numbers of two announcements of a close(): the last one in the library, and
        the earliest after number `after` of the sessions on the medium that are open in another mount than `mount`.

        Raises NoSuchMedium.
        """
        row = self._sql.first(
            f"SELECT {MEDIUM}, (SELECT announced FROM library), (SELECT min(announced) FROM session"
            " WHERE session.state = 'open' AND session.medium = medium.barcode AND mount <> ? AND announced > ?)"
            " FROM medium WHERE barcode = ? AND medium.state <> 'removed'",
            *(mount, after, barcode),
        )
        if row is None:
            raise NoSuchMedium(barcode)
        closing = None if row[-1] is None else number_of(row[-1], "announcement")
        return medium_of(row[:-2]), number_of(row[-2], "announcement"), closing

    def all(self) -> list[Medium]:
        """Return the media that were not removed, in the order of their barcodes."""
        rows = self._sql.execute(f"SELECT {MEDIUM} FROM medium WHERE state <> 'removed' ORDER BY barcode")
        return [medium_of(row) for row in rows]

    def totals(self) -> tuple[int, int]:
        """Return how many bytes there are on all media, in how many tape files: of their current volumes."""
        row = self._sql.one(
            "SELECT coalesce(sum(bytes), 0), coalesce(sum(tape_files), 0) FROM medium WHERE state <> 'removed'"
        )
        return int(row[0]), int(row[1])

    def barcodes(self) -> list[str]:
        """Return the barcodes of all media, also those that were removed, unchecked."""
        return [row[0] for row in self._sql.execute("SELECT barcode FROM medium")]

    def set_state(self, barcode: str, state: MediumState) -> None:
        """Take a medium out of use, or into use again, or remove it; one that is removed leaves its slot empty."""
        self._sql.execute(
            "UPDATE medium SET state = ?1, slot = iif(?1 = 'removed', NULL, slot) WHERE barcode = ?2",
            *(str(state), barcode),
        )
        reached("tracking.medium_state_set")

    def set_protected(self, barcode: str, protected: bool) -> None:
        """Set the write-protect tab of a medium, or take it off."""
        self._sql.execute("UPDATE medium SET protected = ? WHERE barcode = ?", int(protected), barcode)
        reached("tracking.medium_protected")

    def set_capacity(self, barcode: str, capacity: int | None) -> None:
        """Set the capacity of a medium. Raises UsageError where there is more on it, or promised to open sessions.

        A session that began while the medium had none has no room promised: nobody may write when it gets its first.
        """
        medium = self.get(barcode)
        if capacity is not None and capacity < medium.bytes + medium.reserved:
            there = format_size(medium.bytes + medium.reserved)
            raise UsageError(f"medium {barcode} has {there} already; choose a larger capacity")
        self._sql.execute("UPDATE medium SET capacity = ? WHERE barcode = ?", capacity, barcode)
        reached("tracking.capacity_set")

    def check_writable(self, barcode: str) -> Medium:
        """Return a medium to which streams may be written. Raises NoSuchMedium, ReadOnlyMedium."""
        medium = self.get(barcode)
        if medium.protected:
            raise ReadOnlyMedium(
                barcode, "it is write-protected; `vtlfs media protect --off` takes the protection away"
            )
        if medium.state is MediumState.RETIRED:
            raise ReadOnlyMedium(barcode, "it is out of use; choose another medium")
        return medium

    def after(self, number: int, limit: int) -> list[Medium]:
        """Return the media that were added after the one with the id `number`, in that order: the first `limit`."""
        rows = self._sql.execute(
            f"SELECT {MEDIUM} FROM medium WHERE id > ? AND state <> 'removed' ORDER BY id LIMIT ?", number, limit
        )
        return [medium_of(row) for row in rows]

    def check_length(self, barcode: str) -> None:
        """Raise TrackingError unless a medium's length is the end of its current volume's last tape file."""
        row = self._sql.first(
            "SELECT (bytes, tape_files) IS (SELECT start + bytes, number + 1 FROM tape_file WHERE medium = barcode"
            " AND tape_file.volume = medium.volume ORDER BY number DESC LIMIT 1) OR (bytes = 0 AND tape_files = 0"
            " AND NOT EXISTS (SELECT 1 FROM tape_file WHERE medium = barcode AND tape_file.volume = medium.volume))"
            " FROM medium WHERE barcode = ?",
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
