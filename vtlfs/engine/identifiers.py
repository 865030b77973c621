"""The identifiers of a mount's sessions: many are fetched from the library at a time, so that no open() waits.

Fetching is a commit. An identifier is given once in the life of a library. A mount that dies leaves a gap.
Used in the trio loop.
"""

import logging
from collections import deque

import trio

from vtlfs.engine.tracking.committer import GroupCommitter
from vtlfs.errors import VtlfsError

FETCHED_AT_ONCE = 1000  # identifiers that a mount takes at a time
FETCH_AGAIN = 900  # so many are there for readers while the database is busy: they do not wait for it

log = logging.getLogger(__name__)


class SessionIdentifiers:
    """See the module."""

    def __init__(self, committer: GroupCommitter, nursery: trio.Nursery) -> None:
        """`nursery`: where the next identifiers are fetched while the last ones are used up."""
        self._committer = committer
        self._nursery = nursery
        self._fetched: deque[int] = deque()
        self._fetching = trio.Lock()

    async def take(self) -> int:
        """Return an identifier that nobody else gets. Waits only where none is fetched. Raises TrackingError."""
        if len(self._fetched) <= FETCH_AGAIN and not self._fetching.locked():
            self._nursery.start_soon(self._fetch_ahead)
        while not self._fetched:
            await self.fetch()
        return self._fetched.popleft()

    async def fetch(self) -> None:
        """Fetch more identifiers, if few are left. Raises TrackingError."""
        async with self._fetching:
            if len(self._fetched) <= FETCH_AGAIN:
                self._fetched.extend(
                    await self._committer.call(lambda tracking: tracking.library.take_sessions(FETCHED_AT_ONCE))
                )

    def unused(self) -> range:
        """Return the fetched identifiers that can be given back: all, if they were fetched together."""
        left = range(self._fetched[0], self._fetched[-1] + 1) if self._fetched else range(0)
        return left if len(left) == len(self._fetched) else range(0)

    async def _fetch_ahead(self) -> None:
        try:
            await self.fetch()
        except VtlfsError as error:
            log.error("fetching session identifiers: %s; trying again", error)
