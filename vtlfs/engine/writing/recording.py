"""What the tracking database knows of one stream: how far it is recorded, and how it ended.

Rows are recorded once the disks have the bytes: durable first, then recorded. Used in the trio loop; the group
committer runs the transactions.
"""

import logging
import math

import trio

from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.writing.context import WriteContext
from vtlfs.engine.writing.units import StripeUnits
from vtlfs.errors import TrackingError
from vtlfs.model import State, TapeFile, utc_now

log = logging.getLogger(__name__)


class _HasConcurrentWriters(Exception):
    """Other streams could take the place on the medium of the one that was to be released; nothing was changed."""


class Recording:
    """See the module. One write session has one; `length` is that of the stream as it is recorded."""

    __slots__ = (
        *("_announced_at", "_announced_seconds", "_closing", "_committer", "_session", "_stripe_unit", "_units"),
        *("length", "next", "tail_is_durable"),
    )

    def __init__(self, session: int, stripe_unit: int, units: StripeUnits, context: WriteContext) -> None:
        self._session = session
        self._stripe_unit = stripe_unit
        self._units = units
        self._committer = context.committer
        self._closing = context.closing
        self._announced_seconds = context.timing.announced
        self._announced_at = -math.inf  # when other mounts were told of a close(), or of a sync that may come before it
        self.length = 0
        self.next = 0  # the first stripe unit that is not recorded in full
        # The last recorded unit is unfinished and would survive a power cut. What it grows by is then recorded when it
        # would survive, too, also with sync=none: a row that tells of more than there is makes all of the unit useless.
        self.tail_is_durable = False

    @property
    def was_announced(self) -> bool:
        """Tell whether other mounts were ever told that the stream may be about to be released."""
        return self._announced_at > -math.inf

    async def progress(self, requests: int, *, durable: bool, announce: bool) -> None:
        """Record the units that the disks have, up to the first that is lacking. A TrackingError leaves all as it was.

        `durable`: only what was synced. `announce`: and that the stream may be about to be released.
        """
        rows = self._units.recordable(self.next, durable=durable)
        if not rows:
            return
        length = rows[-1].unit * self._stripe_unit + rows[-1].bytes
        at, now = utc_now() if announce else None, trio.current_time()
        await self._committer.call(
            lambda tracking: tracking.sessions.record_progress(self._session, rows, length, requests, at),
            durable=durable,
        )
        if announce:
            self._announced_at = now  # which is long ago where the commit has taken long
            self._closing.begin(self)
        self.length = length
        self.next = rows[-1].unit + (rows[-1].bytes == self._stripe_unit)
        self.tail_is_durable = durable and self.has_tail
        self._units.recorded(rows)

    @property
    def has_tail(self) -> bool:
        """Tell whether the last recorded stripe unit is not full."""
        return self.length % self._stripe_unit > 0

    async def announce_close(self) -> None:
        """Let other mounts know that the stream may be about to be released. Nothing is lost where that fails."""
        if not self.length:
            return
        if trio.current_time() <= self._announced_at + self._announced_seconds:
            if self._closing.has(self):
                self._closing.begin(self)
            return
        try:
            await self._committer.call(
                lambda tracking: tracking.sessions.announce(self._session, utc_now()), durable=False
            )
        except TrackingError as error:
            log.warning("session %d: %s", self._session, error)
        else:
            self._closing.begin(self)

    def go_on(self) -> None:
        """Withdraw what was announced, if it was: the stream is written further."""
        if self._closing.has(self):
            self.withdraw()

    def withdraw(self) -> None:
        """Have other mounts no longer wait for the release."""
        self._closing.end(self)
        self._announced_at = 0.0  # long ago
        session = self._session
        self._committer.post(lambda tracking: tracking.sessions.withdraw(session))

    def begin_release(self) -> None:
        """Let the announcement stand until the release is recorded."""
        self._closing.end(self)

    async def sync_log(self) -> None:
        """Make durable what was recorded without waiting for the disk of the database."""
        await self._committer.call(lambda tracking: tracking.sync_log())

    async def release(self, state: State, error: str | None, at: str, requests: int) -> TapeFile | None:
        """Record that the session has ended; return its tape file. Raises SessionEnded, TrackingError.

        What is lost of that in a power cut, recovery does again: it gives the stream the same place on the medium, as
        long as no other stream could take it. So an orderly end waits for a sync of the database only where there is
        one, and an end with an error always.
        """

        def release(tracking: Tracking) -> TapeFile | None:
            if not durable and tracking.sessions.has_concurrent_writers(self._session):
                raise _HasConcurrentWriters
            return tracking.sessions.release(self._session, state, error, at, requests)

        durable = error is not None or state is not State.RELEASED
        try:
            return await self._committer.call(release, durable=durable)
        except _HasConcurrentWriters:
            durable = True
            return await self._committer.call(release)
