"""The bytes of archive members, out of the stream in which the archive lies. Runs in the worker process.

A member of an archive that is not compressed is read where it lies, and nothing else is. Compressed data is unpacked
from its beginning, up to the end of the last member that is wanted, in one go as long as members are asked for in their
order.
"""

from collections.abc import Callable
from dataclasses import dataclass

from vtlfs.members.inputs import MIB, Unpacked
from vtlfs.members.values import NO_COMPRESSION, ArchiveMember
from vtlfs.restore.extracting import BadMember

Block = Callable[[], bytes]
"""Returns the next bytes of a member, none at their end."""


@dataclass(slots=True)
class StreamBytes:
    """A stream: how long it is, and how to read bytes at an offset; fewer come only at its end.

    `unit`: its stripe unit: of an extent, all is loaded and checked in any case.
    """

    size: int
    unit: int
    read: Callable[[int, int], bytes]


class Source:
    """Hands over the bytes of members of one stream. Close it after use."""

    def __init__(self, stream: StreamBytes, alive: Callable[[], object] = lambda: None) -> None:
        """`alive` is called for each block that is unpacked."""
        self._stream = stream
        self._alive = alive
        self._blocks = _Blocks(stream)
        self._unpacked: Unpacked | None = None
        self._start = 0  # of what is unpacked, in the stream

    def close(self) -> None:
        """Free what libarchive has allocated."""
        if self._unpacked is not None:
            self._unpacked.close()
            self._unpacked = None

    def open(self, member: ArchiveMember) -> Block:
        """Return what returns the next bytes of a member, and ends the one before.

        It raises BadMember where what is compressed is damaged, and what reading the stream raises.
        """
        if member.compression == NO_COMPRESSION:
            return _Range(self._blocks, member.start, member.end).block
        unpacked = self._unpacked
        if unpacked is None or self._start != member.archive_start or unpacked.at > member.start:
            self.close()
            self._start = member.archive_start
            unpacked = self._unpacked = Unpacked(self._stream, member.archive_start, member.compression)
        while unpacked.at < member.start:
            self._alive()
            if not _up_to(unpacked, member.start):
                raise BadMember("lies behind where the compressed data can be unpacked to")

        def block() -> bytes:
            self._alive()
            return _up_to(unpacked, member.end)

        return block


class _Blocks:
    """The stream in blocks, of which the last one is kept: many small members lie in one, and are read together."""

    def __init__(self, stream: StreamBytes) -> None:
        self._stream = stream
        self._start = 0
        self._last = b""

    def read(self, at: int, end: int) -> bytes:
        """Return bytes from an offset on, up to `end` at most; none there, or at the end of the stream."""
        if at >= end:
            return b""
        if not self._start <= at < self._start + len(self._last):
            unit = self._stream.unit
            whole = min(-(-end // unit) * unit, self._stream.size)
            self._start, self._last = at, self._stream.read(at, min(MIB - at % MIB, max(0, whole - at)))
        return self._last[at - self._start : end - self._start]


class _Range:
    """Bytes of the stream from one offset up to another."""

    def __init__(self, blocks: _Blocks, start: int, end: int) -> None:
        self._blocks = blocks
        self._at = start
        self._end = end

    def block(self) -> bytes:
        found = self._blocks.read(self._at, self._end)
        self._at += len(found)
        return found


def _up_to(unpacked: Unpacked, end: int) -> bytes:
    """Return the next bytes of what is unpacked, none from an offset on."""
    begin = unpacked.at
    found = unpacked.block(begin) if begin < end else b""
    if not found and begin < end:
        if unpacked.failure is not None:
            raise unpacked.failure
        if unpacked.error is not None:
            raise BadMember(f"can't be unpacked: {unpacked.error}")
    if begin + len(found) > end:
        found = found[: end - begin]
        unpacked.rewind(end)
    return found
