"""Mending what a verification finds, while it goes on: `vtlfs verify --repair`. In the trio loop of the verification.

The stripes and headers are noted in the table `lack` first, and are mended from there as any repair does it. Where a
mount or another command repairs the library just then, it is left to that.
"""

from collections import Counter

from vtlfs.engine import lease
from vtlfs.engine.layout import isal
from vtlfs.engine.library import Library
from vtlfs.engine.repair.foreground import workshop
from vtlfs.engine.repair.repair import NAME, mend_sessions
from vtlfs.engine.repair.result import RepairResult
from vtlfs.engine.tracking.database import Tracking


class Mending:
    """What a verification has found and had noted, as far as it is not whole again."""

    def __init__(self, library: Library, tracking: Tracking, limit: int | None) -> None:
        """`limit`: bytes a second."""
        self.result = RepairResult()
        self.was_busy = False  # somebody else was repairing, when this was to begin the last time
        self._library = library
        self._tracking = tracking
        self._limit = limit
        self._found: Counter[tuple[int, int]] = Counter()  # defects, by session and stripe
        self._tried: Counter[tuple[int, int]] = Counter()  # of these, those that could not be mended
        if library.config.parity:
            isal.check()

    def add(self, session: int, stripe: int) -> None:
        """Take note of a defect of a stripe, or of a session's header."""
        self._found[session, stripe] += 1

    async def mend(self, *, again: bool = False) -> int:
        """Mend what was noted; return how many defects are whole now. `again`: also what could not be mended before.

        Raises TrackingError.
        """
        if again:
            self._found, self._tried = self._found + self._tried, Counter()
        if not self._found:
            return 0
        with lease.work(self._library.path, NAME) as mine:
            self.was_busy = not mine
            if not mine:
                return 0
            tried, self._found = self._found, Counter()
            self._tried += tried  # also where it is interrupted
            async with workshop(self._library) as at:
                sessions = sorted({session for session, _ in tried})
                work = (self._library, at.pool, at.catalogue, at.change, sessions)
                self.result = await mend_sessions(*work, out=at.out, limit=self._limit)
        return self._settled(tried)

    def _settled(self, tried: Counter[tuple[int, int]]) -> int:
        """Forget what is whole; return how many defects that were."""
        left = {
            (lack.session, lack.stripe)
            for session in {session for session, _ in tried}
            for lack in self._tracking.lacks.of(session)
            if lack.damaged
        }
        whole = 0
        for key, count in tried.items():
            if key not in left:
                whole += count
                del self._tried[key]
        return whole
