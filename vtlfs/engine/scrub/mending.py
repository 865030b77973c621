"""Mends the defects of a verification while the verification goes on: `vtlfs verify --repair`. In its trio loop.

The verification first notes damaged stripes and headers in the table `lack`; they are mended from there, as by any
repair. If a mount or another command is repairing the library, the mending is left to that repair.
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
    """The defects that one verification has found and that are not mended yet."""

    def __init__(self, library: Library, tracking: Tracking, limit: int | None) -> None:
        """`limit`: bytes a second."""
        self.result = RepairResult()
        self.was_busy = False  # another process was repairing when `mend` was last called
        self._library = library
        self._tracking = tracking
        self._limit = limit
        self._found: Counter[tuple[int, int]] = Counter()  # defects, by session and stripe
        self._tried: Counter[tuple[int, int]] = Counter()  # of these, those that could not be mended
        if library.config.parity:
            isal.check()

    def add(self, session: int, stripe: int) -> None:
        """Add a defect of a stripe, or (`HEADERS`) of a session's headers; `lack` must get its row before `mend`."""
        self._found[session, stripe] += 1

    async def mend(self, *, again: bool = False) -> int:
        """Mend the defects added so far; return how many are mended now.

        `again`: also try those that could not be mended before. Raises TrackingError.
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
            self._tried += tried  # before the mending, which may be interrupted
            async with workshop(self._library) as at:
                sessions = sorted({session for session, _ in tried})
                work = (self._library, at.pool, at.catalogue, at.change, sessions)
                self.result = await mend_sessions(*work, out=at.out, limit=self._limit)
        return self._forget_mended(tried)

    def _forget_mended(self, tried: Counter[tuple[int, int]]) -> int:
        """Forget the defects that `lack` no longer has; return how many these were."""
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
