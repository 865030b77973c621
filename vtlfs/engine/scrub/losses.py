"""Computes how many bytes tape files lose without the missing disks. Used by a verification.

Only the tracking database is read, in a thread with a connection of its own. Whether the rest of a stripe is damaged
does not matter here: the verification reports such damage as defects of their own.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing

import trio

from vtlfs.engine.library import Library
from vtlfs.engine.scrub import verification as verifications
from vtlfs.engine.scrub.verification import Verification
from vtlfs.sizes import Sizes


class Losses:
    """Finds the tape files of one verification that lose bytes if some disks are missing."""

    def __init__(self, library: Library, verification: Verification, sizes: Sizes) -> None:
        self._library = library
        self._verification = verification
        self._at_once = sizes.files_at_once

    async def are_none(self, disks: Collection[int]) -> bool:
        """Tell whether all extents on these disks can be computed from the other disks."""
        return await trio.to_thread.run_sync(lambda: next(self._without(disks), None) is None, abandon_on_cancel=True)

    async def all(self, disks: Collection[int]) -> Counter[int]:
        """Return by session how many bytes are lost without these disks."""
        return await trio.to_thread.run_sync(lambda: Counter(dict(self._without(disks))), abandon_on_cancel=True)

    def _without(self, disks: Collection[int]) -> Iterator[tuple[int, int]]:
        if not disks:
            return
        with closing(self._library.tracking(read_only=True)) as tracking:
            for _, session in verifications.tape_files(tracking, self._verification, 0, self._at_once):
                if not set(disks).isdisjoint(session.disks) and (
                    lost := tracking.extents.lost_bytes(session.id, disks)
                ):
                    yield session.id, lost
