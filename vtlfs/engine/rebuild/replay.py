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
from vtlfs.engine.rebuild.candidates import Streams
from vtlfs.engine.rebuild.found import Lost, ReplayReport, ending_of, opening_of
from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import Access, Mount, Opener, State

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
        self._rebuilding = tracking.rebuilding
        self._report = report
        self._complete = complete
        self._at = at
        self._progress = progress
        self._streams = Streams(tracking, disks, at)
        self._placeholders: set[int] = set()

    def run(self) -> None:
        """Bring the database up to what was found."""
        # Numbers may have been given to sessions and snapshots that left no trace.
        self._rebuilding.skip_numbers(SPARE_SNAPSHOTS, SPARE_SESSIONS)
        self._rebuilding.cancel_reservations()
        self._add_sessions()
        for barcode in self._scanned.media():
            self._add_tape_files(barcode)
        for mount in self._tracking.mounts.live():
            ended = recover.recover_mount(self._tracking, mount, self._at)
            self._report.recovered += [session for session in ended if session.access is Access.WRITE]
        self._note_losses()

    # --- sessions ---------------------------------------------------------------------------------------------------

    def _add_sessions(self) -> None:
        """Add media, drives and the sessions that the database does not know, all of them open, with their extents."""
        self._rebuilding.add_media()
        self._rebuilding.add_volumes()
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
                    Mount(0, None, "?", 0, 0, "?", "", "mounted", first or opening.opened_at, None)
                )
            self._tracking.sessions.open(
                *(session, mount, opening.opener, Access.WRITE, opening.drive, opening.medium, opening.stripe_unit),
                opening.opened_at,
                parity=opening.parity,
                volume=opening.volume,
            )
            self._streams.record_new(session, opening.stripe_unit, length)

    # --- tape files -------------------------------------------------------------------------------------------------

    def _add_tape_files(self, barcode: str) -> None:
        """Put the sessions that have ended on their medium, each where it was; then those that left no tape file."""
        for session, text in self._scanned.ended_on(barcode):
            ending = ending_of(text)
            if ending.tape_file is not None and self._takes_placeholder(session, barcode, ending):
                continue
            if ending.tape_file is None or self._reach(barcode, ending):
                self._end(session, ending)
            else:
                self._report.tell(
                    [f"session {session}: tape file {ending.tape_file:04d} of {barcode} is another's; it comes last"]
                )

    def _reach(self, barcode: str, ending: Ending) -> bool:
        """Fill up what lies before a tape file, so that it comes where it was. Return False where it can't be there."""
        medium = self._tracking.media.get(barcode)
        count, size = (ending.tape_file or 0) - medium.tape_files, (ending.start or 0) - medium.bytes
        if count == size == 0:
            return medium.capacity is None or medium.bytes + (ending.bytes or 0) <= medium.capacity
        if count <= 0 or size < count or size > MAX_GAP or count > MAX_GAP_FILES:
            return False
        if medium.capacity is not None and medium.bytes + size + (ending.bytes or 0) > medium.capacity:
            return False
        for session, length in self._fitting(barcode, count, size):
            number, start = medium.tape_files, medium.bytes
            if session is None:
                session = self._placeholder(barcode, number, length)
            else:
                self._note_guess(session, barcode, number)
            self._end(session, Ending(State.RECOVERED, None, self._at, number, start, length))
            medium = self._tracking.media.get(barcode)
        return True

    def _takes_placeholder(self, session: int, barcode: str, ending: Ending) -> bool:
        """Put a session in the place of its placeholder, from a rebuild without its disk; False without one."""
        placeholder = self._rebuilding.placeholder(barcode, ending, NOBODY)
        if placeholder is None:
            return False
        self._rebuilding.replace_placeholder(placeholder, session, barcode, ending)
        return True

    def _fitting(self, barcode: str, count: int, size: int) -> Sequence[tuple[int | None, int]]:
        """Return which sessions fill a gap of so many tape files and bytes, and their lengths; None: nobody knows.

        A power cut can take the last headers, but not what was acknowledged: then a stream without an end fits exactly.
        """
        open_ones = self._scanned.endless_on(barcode)
        exact = [(session, length) for session, length in open_ones if length == size]
        if count == 1 and exact:
            return exact[:1]
        if count == len(open_ones) and sum(length for _, length in open_ones) == size:
            return open_ones
        longer = [session for session, length in open_ones if length > size]
        if count == 1 and self._complete and len(longer) == 1 and self._scanned.has_end(longer[0], size):
            session = longer[0]
            self._streams.record(session, self._tracking.sessions.get(session).stripe_unit, size)
            return [(session, size)]
        return [*[(None, 1)] * (count - 1), (None, size - count + 1)]

    def _note_guess(self, session: int, barcode: str, number: int) -> None:
        self._report.recovered.append(replace(self._tracking.sessions.get(session), tape_file=number))

    def _placeholder(self, barcode: str, number: int, size: int) -> int:
        """Add a session for a tape file of which nothing is left, so that those behind it stay where they are."""
        session = self._tracking.library.take_sessions(1)[0]
        mount = self._tracking.mounts.live()[-1].id
        self._tracking.sessions.open(session, mount, NOBODY, Access.WRITE, 0, barcode, MAX_STRIPE_UNIT, self._at)
        self._streams.record_new(session, MAX_STRIPE_UNIT, size)
        self._placeholders.add(session)
        self._report.lost.append(Lost(barcode, number, None, size, 0, 0))
        return session

    def _end(self, session: int, ending: Ending) -> None:
        """End a session; what it has bytes of becomes the next tape file of its medium."""
        self._tracking.sessions.release(session, ending.state, ending.error, ending.released_at, ending.requests)

    # --- what is not there ------------------------------------------------------------------------------------------

    def _note_losses(self) -> None:
        """Find the tape files of which an extent lies on no disk that is there, and can't be computed either."""
        for number in (self._scanned.incomplete() | self._streams.lacking) - self._placeholders:
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
