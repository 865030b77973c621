"""Unfinished headers, which do not say how their session ended: a verification examines each again before reporting it.

A mount finishes a header after the release is recorded. If the mount dies first, recovery finishes the header, and
then removes the mount's lease. So a live mount may finish a header at any moment; and an unfinished header of a dead
mount whose lease is still there is no defect, because `vtlfs check` reports the lease. The age of the release is no
criterion, because the wall clock may have jumped. Used in the trio loop of a verification.
"""

from collections.abc import Callable, Iterable

import trio

from vtlfs.disks.base import Disk
from vtlfs.disks.contents import Flaw, Part
from vtlfs.disks.executor import DiskExecutor
from vtlfs.engine.library import Library
from vtlfs.engine.member_headers import header_of
from vtlfs.engine.reading import stored
from vtlfs.engine.scrub import verification as verifications
from vtlfs.engine.scrub.verification import Verification
from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import Session, TapeFile
from vtlfs.sizes import Sizes
from vtlfs.timing import Timing

Tell = Callable[[Iterable[Flaw], TapeFile], None]


class Unfinished:
    """The headers of one verification that are to be examined again; `Verification.unfinished` keeps them for --resume.

    The sessions that are verified were released before the verification began. So a header that is still unfinished
    `timing.finished` seconds after that is a defect.
    """

    def __init__(
        self, library: Library, tracking: Tracking, verification: Verification, timing: Timing, sizes: Sizes
    ) -> None:
        self._library = library
        self._tracking = tracking
        self._verification = verification
        self._until = trio.current_time() + timing.finished
        self._look = timing.look
        self._most = sizes.unfinished

    @property
    def are_many(self) -> bool:
        """Tell whether so many headers are kept that they have to be examined before more are added."""
        return len(self._verification.unfinished) >= self._most

    def add(self, disk: int, session: Session) -> None:
        """Keep a header to be examined again."""
        self._verification.unfinished.append((disk, session.id))

    async def look_again(self, disk: Disk, executor: DiskExecutor, tell: Tell) -> None:
        """Examine a disk's kept headers until each is finished, or its time is up; call `tell` with its flaws then.

        Raises DiskError if the disk is gone.
        """
        while left := [session for number, session in self._verification.unfinished if number == disk.number]:
            for number in left:
                file, session = next(
                    verifications.tape_files(self._tracking, self._verification, number, 1), (None, None)
                )
                if file is None or session is None or session.id != number:  # a row that only tampering explains
                    self._verification.unfinished.remove((disk.number, number))
                    continue
                lives = self._library.leases.is_alive(session.mount)  # both before the header is read
                is_dead = self._library.leases.needs_recovery(session.mount)
                part = Part(session.id, session.stripe_unit, *header_of(file, session), (), is_first=True)
                flaws = await executor.run(stored.examine, disk, part)
                is_unfinished = any(one.is_unfinished for one in flaws)
                if is_unfinished and lives and trio.current_time() < self._until:
                    continue
                self._verification.unfinished.remove((disk.number, number))
                if not (is_unfinished and is_dead):
                    tell(flaws, file)
            await trio.sleep(self._look)
