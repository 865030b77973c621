"""Bringing a tracking database up to what lies on the disks: sessions that it does not know, or knows as open only.

The database is one that nobody else uses yet: the newest copy that was kept, or an empty one. Everything happens in one
transaction of the caller's.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from vtlfs.config import MAX_STRIPE_UNIT
from vtlfs.disks.base import Disk
from vtlfs.disks.headers import Ending
from vtlfs.engine import recover
from vtlfs.engine.rebuild import pool_parts
from vtlfs.engine.rebuild.candidates import Streams
from vtlfs.engine.rebuild.found import Lost, ReplayReport, ending_of, opening_of
from vtlfs.engine.rebuild.lives import Lives
from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import UNKNOWN_MACHINE, Access, ImportedEnd, Mount, Opener, State

SPARE_SESSIONS = 100_000  # identifiers that are left out, for some that were given are on no disk
SPARE_SNAPSHOTS = 100  # numbers likewise
MAX_GAP = 1 << 47  # bytes of a medium of which nothing is left; more is not believed
MAX_GAP_FILES = 1_000_000
TOLD_EVERY = 500
NOBODY = Opener("unknown", 0, 0, 0, "?")  # who wrote a tape file of which nothing is left

Progress = Callable[[str, int], None]


class Replay:
    """One replay of what `Found` has taken in."""

    def __init__(
        self,
        tracking: Tracking,
        report: ReplayReport,
        lives: Lives,
        disks: dict[int, Disk],
        complete: bool,
        at: str,
        progress: Progress,
    ) -> None:
        """`disks` are those that there are, by number; `complete`: they are all; `at` is the time.

        `progress` is told what is done and how many of it so far.
        """
        self._tracking = tracking
        self._scanned = tracking.scanned
        self._found_extents = tracking.found_extents
        self._rebuilding = tracking.rebuilding
        self._relived = tracking.relived
        self._late_files = tracking.late_files
        self._report = report
        self._complete = complete
        self._at = at
        self._progress = progress
        self._lives = lives
        self._disks = disks
        self._streams = Streams(tracking, disks, at)
        self._placeholders: dict[int, Lost] = {}

    def run(self) -> None:
        """Bring the database up to what was found."""
        # Numbers may have been given to sessions and snapshots that left no trace.
        self._rebuilding.skip_numbers(SPARE_SNAPSHOTS, SPARE_SESSIONS)
        self._rebuilding.cancel_reservations()
        self._lives.begin()
        self._add_sessions()
        for barcode in self._lives.media():
            self._replay_medium(barcode)
        for mount in self._tracking.mounts.live():
            ended = recover.recover_mount(self._tracking, mount, self._at)
            self._report.recovered += [session for session in ended if session.access is Access.WRITE]
        pool_parts.rejoin(self._tracking, self._report)
        self._lives.finish()
        self._note_losses()

    # --- sessions ---------------------------------------------------------------------------------------------------

    def _add_sessions(self) -> None:
        """Add drives and the sessions that the database does not know, all of them open, with their extents."""
        drives, self._report.replayed, first = self._scanned.summary()
        self._tracking.drives.ensure(drives)
        mount: int | None = None
        for done, found in enumerate(self._scanned.sessions()):
            if done % TOLD_EVERY == 0:
                self._progress("sessions", done)
            session = found.session
            opening = opening_of(found.opening)
            length = None if found.ending is None else (ending_of(found.ending).bytes or 0)
            if found.state is not None:
                if found.state != State.OPEN:  # it has a tape file of that length already
                    length = found.bytes
                self._streams.record(session, opening.stripe_unit, length)
                continue
            if mount is None:  # it stands for those that nobody knows any more
                mount = self._tracking.mounts.add(
                    Mount(0, None, UNKNOWN_MACHINE, 0, 0, "?", "", "mounted", first or opening.opened_at, None)
                )
            self._tracking.sessions.open(
                *(session, mount, opening.opener, Access.WRITE, opening.drive, opening.medium, opening.stripe_unit),
                opening.opened_at,
                parity=opening.parity,
                volume=opening.volume,
                origin=opening.origin,
            )
            self._streams.record_new(session, opening.stripe_unit, length)

    # --- tape files -------------------------------------------------------------------------------------------------

    def _replay_medium(self, barcode: str) -> None:
        """Put sessions on their medium, one volume after the other."""
        for volume in self._lives.ended_volumes(barcode):
            self._lives.retain(barcode, volume)
            self._add_late(barcode, volume)
        volumes = self._lives.volumes(barcode)
        for volume in volumes:
            self._lives.begin_volume(barcode, volume)
            self._add_tape_files(barcode, volume)
            if volume != volumes[-1]:
                self._recover(barcode, volume)

    def _add_late(self, barcode: str, volume: int) -> None:
        """Put sessions on a volume that the base has ended without them: it was rebuilt while their disks were away."""
        ended = ((session, ending_of(text)) for session, text in self._scanned.ended_on(barcode, volume))
        endless = ((session, self._cut_off) for session in self._scanned.open_on(barcode, volume))
        for session, ending in [*ended, *endless]:
            if self._tracking.sessions.get(session).state is not State.OPEN:
                continue
            if ending.tape_file is not None and self._takes_placeholder(session, barcode, volume, ending):
                continue
            number = self._late_files.end_late(session, barcode, volume, ending)
            if ending is self._cut_off:
                self._report.recovered.append(self._tracking.sessions.get(session))
            elif number != ending.tape_file:
                self._tell_moved(session, barcode, ending)

    @property
    def _cut_off(self) -> Ending:
        """The end of a session of which nobody knows it."""
        return Ending(State.RECOVERED, None, self._at, None, None, None)

    def _add_tape_files(self, barcode: str, volume: int) -> None:
        """Put the sessions that have ended on their volume, each where it was; then those that left no tape file."""
        for session, text in self._scanned.ended_on(barcode, volume):
            ending = ending_of(text)
            if ending.tape_file is not None and self._takes_placeholder(session, barcode, volume, ending):
                continue
            if ending.tape_file is None or self._reach(barcode, volume, ending):
                self._end(session, ending)
            else:
                self._tell_moved(session, barcode, ending)

    def _tell_moved(self, session: int, barcode: str, ending: Ending) -> None:
        self._report.tell(
            [f"session {session}: tape file {ending.tape_file:04d} of {barcode} is another's; it comes last"]
        )

    def _recover(self, barcode: str, volume: int) -> None:
        """End the sessions of a volume of which nobody knows how they ended, before the volume ends."""
        for session in self._scanned.open_on(barcode, volume):
            self._tracking.sessions.release(session, State.RECOVERED, None, self._at)
            self._report.recovered.append(self._tracking.sessions.get(session))

    def _reach(self, barcode: str, volume: int, ending: Ending) -> bool:
        """Fill up what lies before a tape file, so that it comes where it was. Return False where it can't be there."""
        medium = self._tracking.media.get(barcode)
        count, size = (ending.tape_file or 0) - medium.tape_files, (ending.start or 0) - medium.bytes
        if count == size == 0:
            return medium.capacity is None or medium.bytes + (ending.bytes or 0) <= medium.capacity
        if count <= 0 or size < count or size > MAX_GAP or count > MAX_GAP_FILES:
            return False
        if medium.capacity is not None and medium.bytes + size + (ending.bytes or 0) > medium.capacity:
            return False
        for session, length in self._fitting(barcode, volume, count, size):
            number, start = medium.tape_files, medium.bytes
            if session is None:
                session = self._placeholder(barcode, volume, number, length)
            else:
                self._note_guess(session, barcode, number)
            end = Ending(State.RECOVERED, None, self._at, number, start, length)
            self._end(session, end, by_rule=session not in self._placeholders)
            medium = self._tracking.media.get(barcode)
        return True

    def _takes_placeholder(self, session: int, barcode: str, volume: int, ending: Ending) -> bool:
        """Put a session in the place of its placeholder, from a rebuild without its disk; False without one."""
        placeholder = self._late_files.placeholder(barcode, volume, ending, NOBODY)
        if placeholder is None:
            return False
        self._late_files.replace_placeholder(placeholder, session, barcode, ending)
        return True

    def _fitting(self, barcode: str, volume: int, count: int, size: int) -> Sequence[tuple[int | None, int]]:
        """Return which sessions fill a gap of so many tape files and bytes, and their lengths; None: nobody knows.

        A power cut can take the last headers, but not what was acknowledged: then a stream without an end fits exactly.
        """
        open_ones = self._scanned.endless_on(barcode, volume)
        exact = [(session, length) for session, length in open_ones if length == size]
        if count == 1 and exact:
            return exact[:1]
        if count == len(open_ones) and sum(length for _, length in open_ones) == size:
            return open_ones
        longer = [session for session, length in open_ones if length > size]
        if count == 1 and self._complete and len(longer) == 1 and self._found_extents.has_end(longer[0], size):
            session = longer[0]
            self._streams.record(session, self._tracking.sessions.get(session).stripe_unit, size)
            return [(session, size)]
        return [*[(None, 1)] * (count - 1), (None, size - count + 1)]

    def _note_guess(self, session: int, barcode: str, number: int) -> None:
        self._report.recovered.append(replace(self._tracking.sessions.get(session), tape_file=number))

    def _placeholder(self, barcode: str, volume: int, number: int, size: int) -> int:
        """Add a session for a tape file of which nothing is left, so that those behind it stay where they are."""
        session = self._tracking.library.take_sessions(1)[0]
        mount = self._tracking.mounts.live()[-1].id
        self._tracking.sessions.open(session, mount, NOBODY, Access.WRITE, 0, barcode, MAX_STRIPE_UNIT, self._at)
        self._streams.record_new(session, MAX_STRIPE_UNIT, size)
        self._placeholders[session] = Lost(barcode, number, None, size, 0, 0)
        return session

    def _end(self, session: int, ending: Ending, *, by_rule: bool = False) -> None:
        """End a session; what it has bytes of becomes the next tape file of its medium.

        `by_rule`: nobody knows how it is retained.
        """
        imported = None
        if ending.tape_file is not None and self._tracking.sessions.get(session).origin is not None:
            requests = ending.requests or 0
            imported = ImportedEnd(ending.state, ending.error, ending.released_at, requests, self._at)
        said = (ending.state, ending.error, ending.released_at, ending.requests)
        self._tracking.sessions.release(session, *said, retention=ending.retention, by_rule=by_rule, imported=imported)

    # --- what is not there ------------------------------------------------------------------------------------------

    def _note_losses(self) -> None:
        """Find the tape files of which an extent lies on no disk that is there, and can't be computed either."""
        reclaimed = self._relived.forget_reclaimed(self._disks, self._at)
        if reclaimed:
            self._report.tell(
                ignored=[f"{len(reclaimed):,} tape files of erased volumes are on no disk: their bytes were reclaimed"]
            )
        unshown = self._relived.unshown()
        self._report.lost += [lost for session, lost in self._placeholders.items() if session not in unshown]
        incomplete = (self._scanned.incomplete() | self._streams.lacking | self._placeholders.keys()) - reclaimed
        if left := incomplete & unshown:
            what = "of erased volumes, which no snapshot shows, may not be whole"
            self._report.tell(ignored=[f"{len(left):,} tape files {what}"])
            self._tracking.reclaiming.mark(sorted(left))  # which had begun already: what is gone is no damage
        for number in incomplete - unshown - self._placeholders.keys():
            extents, missing = self._scanned.count_lost(number)
            if missing:
                session = self._tracking.sessions.get(number)
                lost = Lost(session.medium, session.tape_file or 0, number, session.bytes, extents, missing)
                self._report.lost.append(lost)
        self._report.tell(
            ignored=[
                f"session {session}: an extent that a disk describes is not whole; if no power cut was the cause,"
                " the stream has lost its end"
                for session in sorted(self._streams.torn)
            ]
        )
        self._report.lost.sort(key=lambda lost: (lost.medium, lost.tape_file))
