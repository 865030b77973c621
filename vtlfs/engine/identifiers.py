"""The identifiers of a mount's sessions: leased from the library, many at a time, so that no open() waits for a commit.

An identifier is given once in the life of a library. A mount that dies leaves a gap. Used in the trio loop.
"""

import logging
from collections import deque

import trio

from vtlfs.engine.tracking.committer import GroupCommitter
from vtlfs.errors import VtlfsError

LEASE = 1000  # identifiers that a mount takes at a time
LEASE_AGAIN = 900  # so many are there for readers while the database is busy: they do not wait for it

log = logging.getLogger(__name__)


class SessionIdentifiers:
    """See the module."""

    def __init__(self, committer: GroupCommitter, nursery: trio.Nursery) -> None:
        """`nursery`: where the next lease is taken while the last one is used up."""
        self._committer = committer
        self._nursery = nursery
        self._leased: deque[int] = deque()
        self._leasing = trio.Lock()

    async def take(self) -> int:
        """Return an identifier that nobody else gets. Waits only where none is leased. Raises TrackingError."""
        if len(self._leased) <= LEASE_AGAIN and not self._leasing.locked():
            self._nursery.start_soon(self._lease_ahead)
        while not self._leased:
            await self.lease()
        return self._leased.popleft()

    async def lease(self) -> None:
        """Lease more identifiers, if few are left. Raises TrackingError."""
        async with self._leasing:
            if len(self._leased) <= LEASE_AGAIN:
                self._leased.extend(await self._committer.call(lambda tracking: tracking.library.lease_sessions(LEASE)))

    def unused(self) -> range:
        """Return the leased identifiers that can be given back: all, if they are those of one lease."""
        left = range(self._leased[0], self._leased[-1] + 1) if self._leased else range(0)
        return left if len(left) == len(self._leased) else range(0)

    async def _lease_ahead(self) -> None:
        try:
            await self.lease()
        except VtlfsError as error:
            log.error("leasing session identifiers: %s; trying again", error)
