"""Appends extents to the member file of a session that has ended. Used by the writing thread of the member's disk.

New extents go behind everything in the member file, also behind unrecorded bytes: these may be left over from an
interrupted repair, but they may also be the only copy of an extent that a rebuild has not found.
"""

import errno
from dataclasses import replace

from vtlfs.disks import records
from vtlfs.disks.base import Disk, Member
from vtlfs.engine.repair.stripes import Ended, Written
from vtlfs.errors import DiskError
from vtlfs.model import MAX_SIZE, Extent


class Appending:
    """The member file of one session on one disk, open for new extents."""

    def __init__(self, disk: Disk, ended: Ended, end: int) -> None:
        """`end`: where the last recorded extent of the session on the disk ends, in bytes; 0 if there is none."""
        self._disk = disk
        self._ended = ended
        self._is_there = disk.number in ended.session.disks
        self._position = max(records.BLOCK, records.padded(end))
        self.member: Member | None = None
        self.is_abandoned = False  # the disk hung; when it answers again, another repair may be writing to the member

    def write(self, extents: list[Written]) -> list[Extent]:
        """Write extents; return their rows with the positions at which they lie. Raises DiskError."""
        written = []
        for one in extents:
            assert one.data is not None
            try:
                row = self._write(one, memoryview(one.data))
            except DiskError as error:
                if error.errno != errno.EEXIST or self._is_there:
                    raise
                # An interrupted repair made the member file, or the session once had extents here: open it.
                self.member, self._is_there = None, True
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
            raise DiskError(
                self._disk.number, self._disk.path, OSError(errno.ECANCELED, "the disk did not answer in time")
            )
        if self.member is None:
            self.member = self._open()
        extent = replace(one.row, position=self._position, stored=len(data))
        return self.member.write(extent, [data], one.members)

    def _open(self) -> Member:
        session, opening = self._ended.number, self._ended.opening
        member = self._disk.reopen(session, MAX_SIZE) if self._is_there else None
        if member is not None:
            if self._disk.number not in self._ended.session.disks:  # a crash may have cost the member its header
                self._disk.restore_header(session, opening, self._ended.ending)
            self._position = max(self._position, member.end)
            return member
        return self._disk.member(session, opening.stripe_unit, opening, self._ended.ending)

    def close(self) -> None:
        """Close the member file."""
        member, self.member = self.member, None
        if member is not None:
            member.finish(None)
