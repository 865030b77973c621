"""Volumes: the lives of media. Here a volume is ended, after a look at all that can forbid it; holds are here too."""

from collections.abc import Sequence
from dataclasses import replace

from vtlfs.engine.tracking.repositories.media import Media
from vtlfs.engine.tracking.rows import VOLUME, volume_of
from vtlfs.engine.tracking.statements import Repository, Statements
from vtlfs.errors import MediumBusy, NoSuchHold, NoSuchMedium, Retained, UsageError
from vtlfs.failpoints import reached
from vtlfs.model import Hold, Medium, RetainMode, Retention, Volume
from vtlfs.rules import MediaRule

_HOLD = "medium, name, reason, placed_at, uid, host"


class Volumes(Repository):
    """The rows of the tables `volume` and `hold`."""

    def __init__(self, sql: Statements, media: Media) -> None:
        super().__init__(sql)
        self._media = media

    # --- looking at them --------------------------------------------------------------------------------------------

    def get(self, barcode: str, number: int) -> Volume:
        """Return one volume, also of a medium that was removed. Raises NoSuchMedium."""
        row = self._sql.first(f"SELECT {VOLUME} WHERE volume.medium = ? AND number = ?", barcode, number)
        if row is None:
            raise NoSuchMedium(barcode)
        return volume_of(row)

    def of(self, barcode: str) -> list[Volume]:
        """Return the volumes of a medium, the first one first; also of a medium that was removed."""
        return [
            volume_of(row) for row in self._sql.execute(f"SELECT {VOLUME} WHERE medium = ? ORDER BY number", barcode)
        ]

    def current(self) -> dict[str, Volume]:
        """Return the current volume of each medium that was not removed."""
        rows = self._sql.execute(
            f"SELECT {VOLUME} AND volume.number = medium.volume WHERE medium.state <> 'removed' ORDER BY barcode"
        )
        return {volume.medium: volume for volume in map(volume_of, rows)}

    def now(self, at: str) -> str:
        """Return the time by which retention is told: `at`, or the highest time that was ever recorded, if later.

        So a clock that is set back ends nothing sooner, nor makes a new retention shorter.
        """
        return max(at, str(self._sql.one("SELECT latest FROM library")[0]))

    # --- retention --------------------------------------------------------------------------------------------------

    def begin_retention(self, barcode: str, rule: MediaRule) -> None:
        """Have a rule hold for what is written to the current volume from now on. It never makes retention less.

        To be called when a session records its first bytes, of which a tape file will come.
        """
        if rule.mode is None:
            return
        known = self.get(barcode, self._media.get(barcode).volume)
        under = under_rule(known, rule)
        if under != known:
            self._sql.execute(
                "UPDATE volume SET retain_mode = ?, retain_seconds = ? WHERE medium = ? AND number = ?",
                *(str(under.retain_mode), under.retain_seconds, barcode, known.number),
            )
            reached("tracking.retention_begun")

    def extend(self, barcode: str, mode: RetainMode, until: str | None) -> None:
        """Retain the current volume more strictly, or for longer. Raises UsageError where it would be less."""
        known = self.get(barcode, self._media.get(barcode).volume)
        if known.retain_mode is not None and mode.strictness < known.retain_mode.strictness:
            raise UsageError(
                f"medium {barcode} is retained as {known.retain_mode}; retention is never made less strict"
            )
        if mode is not RetainMode.WORM and until is not None and until < (known.retain_until or ""):
            raise UsageError(f"medium {barcode} is retained until {known.retain_until}; retention is never shortened")
        kept = (None, None) if mode is RetainMode.WORM else (known.retain_seconds, until or known.retain_until)
        self._sql.execute(
            "UPDATE volume SET retain_mode = ?, retain_seconds = ?, retain_until = ? WHERE medium = ? AND number = ?",
            *(str(mode), *kept, barcode, known.number),
        )
        reached("tracking.retention_extended")

    def in_force(self, medium: Medium, at: str) -> Retention | None:
        """Return what retains a medium's current volume at a time; None: nothing does, or it is over."""
        retention = self.get(medium.barcode, medium.volume).retention
        if retention is None or (retention.until is not None and retention.until <= self.now(at)):
            return None
        return retention

    def check_idle(self, barcode: str, *, but: int | None = None) -> None:
        """Raise MediumBusy while a session writes to a medium; `but` the one with this identifier."""
        writer = self._sql.first(
            "SELECT id, host FROM session WHERE state = 'open' AND medium = ? AND access = 'write' AND id IS NOT ?"
            " LIMIT 1",
            *(barcode, but),
        )
        if writer is not None:
            raise MediumBusy(barcode, *writer)

    def check_may_end(
        self, medium: Medium, at: str, *, override: bool = False, by_session: int | None = None, act: str = "erased"
    ) -> None:
        """Raise what forbids to end a medium's current volume: MediumBusy, or Retained with the reason and the date.

        `override`: retention in governance mode does not count. `by_session`: as for `end_current`. `act`: what is to
        be done to the medium, for the message.
        """
        barcode = medium.barcode
        self.check_idle(barcode, but=by_session)
        if medium.protected:
            why = "it is write-protected; `vtlfs media protect --off` takes the protection away"
            raise Retained(barcode, why, act)
        if held := self.holds(barcode):
            names = ", ".join(f"{hold.name} ({hold.reason})" for hold in held)
            raise Retained(barcode, f"it is under legal hold: {names}; `vtlfs media release` ends a hold", act)
        retention = self.in_force(medium, at)
        if retention is not None and not (override and retention.mode is RetainMode.GOVERNANCE):
            may = "; root may do so with --override and --reason" if retention.mode is RetainMode.GOVERNANCE else ""
            raise Retained(barcode, f"it is retained {retention}{may if act == 'erased' else ''}", act)

    def end_current(self, barcode: str, at: str, *, override: bool = False, by_session: int | None = None) -> Medium:
        """End the current volume of a medium, and begin an empty one; return the medium as it was.

        `by_session`: a session that writes, and has written nothing yet, may do so itself, and is of the new volume.
        Raises NoSuchMedium, MediumBusy, Retained; the caller must not commit then.
        """
        medium = self._media.get(barcode)
        self.check_may_end(medium, at, override=override, by_session=by_session)
        self._sql.execute(
            "UPDATE volume SET ended_at = ?, ended = (SELECT epoch FROM library), bytes = ?, tape_files = ?"
            " WHERE medium = ? AND number = ?",
            *(at, medium.bytes, medium.tape_files, barcode, medium.volume),
        )
        self._sql.execute(
            "INSERT INTO volume (medium, number, begun_at, begun) SELECT ?, ?, ?, epoch FROM library",
            *(barcode, medium.volume + 1, at),
        )
        self._sql.execute(
            "UPDATE medium SET volume = volume + 1, begun_at = ?, bytes = 0, tape_files = 0, reserved = 0,"
            " written_at = NULL WHERE barcode = ?",
            *(at, barcode),
        )
        if by_session is not None:
            self._sql.execute("UPDATE session SET volume = ?, reserved = 0 WHERE id = ?", medium.volume + 1, by_session)
        self.note_time(at)
        reached("tracking.volume_ended")
        return medium

    def note_time(self, at: str) -> None:
        """Note a time that was recorded: no retention is told by an earlier one from now on."""
        self._sql.execute("UPDATE library SET latest = ?1 WHERE latest < ?1", at)

    # --- legal holds ------------------------------------------------------------------------------------------------

    def holds(self, barcode: str | None = None) -> list[Hold]:
        """Return the holds on a medium, or on all media."""
        where, values = ("", ()) if barcode is None else ("WHERE medium = ?", (barcode,))
        return [
            Hold(*row) for row in self._sql.execute(f"SELECT {_HOLD} FROM hold {where} ORDER BY medium, name", *values)
        ]

    def hold(self, hold: Hold) -> None:
        """Place a hold. Raises UsageError where the medium has one of that name."""
        values: Sequence[object] = (hold.medium, hold.name, hold.reason, hold.placed_at, hold.uid, hold.host)
        cursor = self._sql.execute(
            f"INSERT INTO hold ({_HOLD}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", *values
        )
        if not cursor.rowcount:
            raise UsageError(f"medium {hold.medium} has a hold {hold.name!r} already; choose another name")
        reached("tracking.held")

    def release(self, barcode: str, name: str) -> Hold:
        """End a hold, and return it. Raises NoSuchHold."""
        row = self._sql.first(f"DELETE FROM hold WHERE medium = ? AND name = ? RETURNING {_HOLD}", barcode, name)
        if row is None:
            raise NoSuchHold(barcode, name)
        reached("tracking.hold_released")
        return Hold(*row)


def under_rule(volume: Volume, rule: MediaRule) -> Volume:
    """Return a volume as it is retained once bytes are written to it under a rule. Pure."""
    if rule.mode is None:
        return volume
    mode = max((one for one in (volume.retain_mode, rule.mode) if one), key=lambda one: one.strictness)
    seconds = None if mode is RetainMode.WORM else max(volume.retain_seconds or 0, rule.retain_seconds or 0)
    return replace(volume, retain_mode=mode, retain_seconds=seconds)
