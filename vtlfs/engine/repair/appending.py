"""Appending extents to the member of a session that has ended. Used by the writing thread of the member's disk.

They go behind all that is in the member, whether it is recorded or not: what is not may be the garbage of a repair that
was interrupted, or the only copy of an extent that a rebuild has not found.
"""

import errno
from dataclasses import replace

from vtlfs.disks import records
from vtlfs.disks.base import Disk, Member
from vtlfs.engine.repair.stripes import Ended, Written
from vtlfs.errors import DiskError
from vtlfs.model import MAX_SIZE, Extent


class Appending:
    """The member of one session on one disk."""

    def __init__(self, disk: Disk, ended: Ended, end: int) -> None:
        """`end`: where the last recorded extent of the session on the disk ends; 0 without any."""
        self._disk = disk
        self._ended = ended
        self._is_there = disk.number in ended.session.disks
        self._position = max(records.BLOCK, records.padded(end))
        self.member: Member | None = None
        self.is_abandoned = False  # the disk hung: once it answers, somebody else may be appending

    def write(self, extents: list[Written]) -> list[Extent]:
        """Write extents; return their rows, with their positions. Raises DiskError."""
        written = []
        for one in extents:
            assert one.data is not None
            try:
                row = self._write(one, memoryview(one.data))
            except DiskError as error:
                if error.errno != errno.EEXIST or self._is_there:
                    raise
                self.member, self._is_there = None, True  # left by a repair that was interrupted, or from before
                row = self._write(one, memoryview(one.data))
            self._position = records.after(row.position, row.stored)
            if row.blake3 != one.row.blake3 and not row.is_parity:
                raise DiskError(
                    self._disk.number, self._disk.path, OSError(errno.EIO, "the bytes changed in memory before a write")
                )
            written.append(row)
        return written

    def _write(self, one: Written, data: memoryview) -> Extent:
        if self.is_abandoned:
            raise DiskError(self._disk.number, self._disk.path, OSError(errno.ECANCELED, "it did not answer in time"))
        if self.member is None:
            self.member = self._open()
        extent = replace(one.row, position=self._position, stored=len(data))
        return self.member.write(extent, [data], one.members)

    def _open(self) -> Member:
        session, opening = self._ended.number, self._ended.opening
        member = self._disk.reopen(session, MAX_SIZE) if self._is_there else None
        if member is not None:
            if self._disk.number not in self._ended.session.disks:  # its header may have been lost with a crash
                self._disk.restore_header(session, opening, self._ended.ending)
            self._position = max(self._position, member.end)
            return member
        return self._disk.member(session, opening.stripe_unit, opening, self._ended.ending)

    def close(self) -> None:
        """Close the member."""
        member, self.member = self.member, None
        if member is not None:
            member.finish(None)
