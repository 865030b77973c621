"""The record of one stream in the tracking database: how far the stream is recorded, and how it ended.

Rows are recorded once the disks have the bytes: durable first, then recorded. Used in the trio loop; the group
committer runs the transactions.
"""

import logging
import math

import trio

from vtlfs.disks.headers import Opening
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.writing.context import WriteContext
from vtlfs.engine.writing.striping.stripes import Stripes
from vtlfs.errors import TrackingError
from vtlfs.model import ImportedEnd, State, TapeFile, utc_now
from vtlfs.rules import MediaRule

log = logging.getLogger(__name__)


class _HasConcurrentWriters(Exception):
    """Other open streams of the medium have recorded bytes, so the release must be durable; nothing was changed."""


class Recording:
    """See the module. One write session has one; `length` is that of the stream as it is recorded."""

    __slots__ = (
        *("_announced_at", "_announced_seconds", "_announcements", "_committer", "_session", "_stripes"),
        "length",
    )

    def __init__(self, session: int, stripes: Stripes, context: WriteContext) -> None:
        self._session = session
        self._stripes = stripes
        self._committer = context.committer
        self._announcements = context.announcements
        self._announced_seconds = context.timing.announced
        self._announced_at = -math.inf  # when the stream was last announced to other mounts
        self.length = 0

    @property
    def was_announced(self) -> bool:
        """Tell whether the stream was ever announced."""
        return self._announced_at > -math.inf

    def note_program(self, program: str) -> None:
        """Have recorded soon which program writes."""
        self._committer.post(lambda tracking: tracking.sessions.note_program(self._session, program))

    async def progress(self, opening: Opening, requests: int, *, durable: bool, announce: bool) -> None:
        """Record the written stripes up to the first unwritten one. A TrackingError leaves all as it was.

        `durable`: only durable stripes, and sync the commit. `announce`: the same transaction announces a close(). With
        the first bytes the retention begins that `opening` tells of: they will be a tape file, however the stream ends.
        """
        stripes = self._stripes.recordable(durable=durable)
        if not stripes:
            return
        rows = [row for stripe in stripes for row in stripe.rows]
        length = max(row.end for row in rows)
        at, now = utc_now() if announce else None, trio.current_time()

        def record(tracking: Tracking) -> None:
            tracking.sessions.record_progress(self._session, rows, length, requests, at)
            if not self.length and opening.origin is None:
                _retain(tracking, opening)

        await self._committer.call(record, durable=durable)
        if announce:
            self._announced_at = now  # the time before the commit: a slow commit leaves the announcement old
            self._announcements.begin(self)
        self.length = length
        self._stripes.recorded(stripes)

    async def announce_close(self) -> None:
        """Announce a close() to other mounts, unless it was announced just now. After a failure, no look-up waits."""
        if not self.length:
            return
        if trio.current_time() <= self._announced_at + self._announced_seconds:
            if self._announcements.has(self):
                self._announcements.begin(self)
            return
        try:
            await self._committer.call(
                lambda tracking: tracking.sessions.announce(self._session, utc_now()), durable=False
            )
        except TrackingError as error:
            log.warning("session %d: %s", self._session, error)
        else:
            self._announcements.begin(self)

    def go_on(self) -> None:
        """Withdraw the announcement, if there is one, since a write has come."""
        if self._announcements.has(self):
            self.withdraw()

    def withdraw(self) -> None:
        """Withdraw the announcement: look-ups in other mounts wait no longer."""
        self._announcements.end(self)
        self._announced_at = 0.0  # long ago
        session = self._session
        self._committer.post(lambda tracking: tracking.sessions.withdraw(session))

    def begin_release(self) -> None:
        """Keep the announcement until the release is recorded: `OwnAnnouncements` no longer withdraws it."""
        self._announcements.end(self)

    async def sync_log(self) -> None:
        """Sync the database's write-ahead log, for commits that were not synced."""
        await self._committer.call(lambda tracking: tracking.sync_log())

    async def release(
        self,
        opening: Opening,
        state: State,
        error: str | None,
        at: str,
        requests: int,
        imported: ImportedEnd | None = None,
    ) -> TapeFile | None:
        """Record that the session has ended; return its tape file. Raises SessionEnded, TrackingError.

        The retention that `opening` tells of begins here for an imported stream, of which only this makes a tape file.

        The release is synced after an error, or where another open stream of the medium has recorded bytes. Otherwise a
        power cut may lose the release: recovery then releases the stream again, and gives it the same place on the
        medium, for no other stream can have taken that place.
        """

        def release(tracking: Tracking) -> TapeFile | None:
            if not durable and tracking.sessions.has_concurrent_writers(self._session):
                raise _HasConcurrentWriters
            if imported is not None:
                _retain(tracking, opening)
            return tracking.sessions.release(self._session, state, error, at, requests, imported=imported)

        durable = imported is not None or error is not None or state is not State.RELEASED
        try:
            return await self._committer.call(release, durable=durable, is_essential=True)
        except _HasConcurrentWriters:
            durable = True
            return await self._committer.call(release, is_essential=True)


def _retain(tracking: Tracking, opening: Opening) -> None:
    tracking.volumes.begin_retention(opening.medium, MediaRule(opening.retain_mode, opening.retain_seconds))
