"""Examining what lies on a disk: whether extents are what was written, and what describes them is right too.

Reads past the page cache (O_DIRECT) where the file system lets one: what is examined is the disk, not the memory of the
machine, and nobody's cached pages have to make room. Called by the threads of one disk's executor.
"""

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from blake3 import blake3

from vtlfs.disks import headers, records
from vtlfs.disks.contents import NO_ENDING, Flaw, Kind, Part
from vtlfs.disks.local.directory import Directory
from vtlfs.disks.local.opening import GONE, NotAFile, opened
from vtlfs.disks.records import BLOCK, Owner
from vtlfs.model import MIB, NOWHERE, Extent

CHUNK = 2 * MIB  # that are read with one call


class Examiner:
    """Examines the member files of one disk. Several threads may call it at the same time."""

    def __init__(self, disk: Directory) -> None:
        self._disk = disk
        self._buffers: SimpleQueue[mmap.mmap] = SimpleQueue()  # that nobody uses

    def examine(self, part: Part) -> list[Flaw]:
        """Read the part and return what is wrong with it. Raises DiskError where the whole disk is gone."""
        buffer = self._buffer(max(CHUNK, *(BLOCK + records.padded(extent.stored) for extent in part.extents), 0))
        try:
            flaws = self._examine(part, _Buffer(buffer))
        finally:
            self._buffers.put(buffer)
        if any(flaw.kind in (Kind.MISSING, Kind.UNREADABLE) for flaw in flaws):
            with self._disk.errors():
                self._disk.check_label()
        return [_located(flaw) for flaw in flaws]

    def _buffer(self, size: int) -> mmap.mmap:
        """Return memory that nobody uses; extents of different sessions may be of different sizes."""
        try:
            found = self._buffers.get_nowait()
        except Empty:
            return mmap.mmap(-1, size)
        return found if len(found) >= size else mmap.mmap(-1, size)

    def _examine(self, part: Part, buffer: "_Buffer") -> list[Flaw]:
        try:
            with _unbuffered(self._disk.root, part.session) as descriptor:
                member = _Member(descriptor, part, self._disk.owner(part.session), buffer)
                return list(member.flaws())
        except NotAFile as error:
            return _of_all(part, Kind.REPLACED, str(error))
        except OSError as error:
            kind = Kind.MISSING if error.errno in GONE else Kind.UNREADABLE
            why = "its member file is gone" if kind is Kind.MISSING else _strerror(error)
            return _of_all(part, kind, why)


def _located(flaw: Flaw) -> Flaw:
    """Say where in the member file the bytes of a flaw lie: those of a record, or of an extent."""
    if flaw.extent is None or flaw.kind is Kind.UNMAPPED:
        return flaw
    record = flaw.extent.position
    return replace(flaw, position=record if flaw.kind is Kind.RECORD else record + BLOCK)


def _of_all(part: Part, kind: Kind, why: str) -> list[Flaw]:
    """Return the same flaw for each extent of a part; for the header where nothing else was to be examined."""
    return [Flaw(kind, extent, why) for extent in part.extents] or [Flaw(Kind.HEADER, None, why)]


class _Buffer:
    """Memory that O_DIRECT can read into."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory

    def read(self, descriptor: int, offset: int, size: int) -> tuple[memoryview, OSError | None]:
        """Read; return what came before the file's end or an error, and the error. `offset` is a multiple of BLOCK."""
        view = memoryview(self._memory)[: -(-size // BLOCK) * BLOCK]
        got = 0
        while got < size:
            try:
                count = os.preadv(descriptor, [view[got:]], offset + got)
            except OSError as error:
                if error.errno == errno.EINVAL and _give_up_direct(descriptor):
                    continue
                return view[:got], error
            got += count
            if count == 0 or got % BLOCK:
                break
        if not _is_direct(descriptor):
            os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)
        return view[: min(got, size)], None


class _Member:
    """One open member file, of which a part is examined."""

    def __init__(self, descriptor: int, part: Part, owner: Owner, buffer: _Buffer) -> None:
        self._descriptor = descriptor
        self._part = part
        self._owner = owner
        self._buffer = buffer
        self._belongs: tuple[Kind, str] | None = None  # what is known of a whole file that is not the right one

    def flaws(self) -> Iterator[Flaw]:
        """Examine the header, where that is wanted, and all extents."""
        block, error = self._buffer.read(self._descriptor, 0, BLOCK)
        header = records.decode(bytes(block))
        wrong = f"its header: {_strerror(error)}" if error else self._header_is_wrong(header[0] if header else None)
        if header is not None:
            self._belongs = self._elsewhere(header[0])
        if wrong is not None and self._part.is_first:
            yield Flaw(Kind.HEADER, None, wrong)
        for extent in self._part.extents:
            if extent.position == NOWHERE:
                yield Flaw(Kind.UNMAPPED, extent, "nobody knows where it lies")
        for run in self._runs():
            yield from self._run(run)

    def _header_is_wrong(self, header: dict[str, Any] | None) -> str | None:
        if header is None:
            return "its header is damaged"
        right = self._owner.document() | headers.document(self._part.opening, self._part.ending)
        for key, wanted in right.items():
            if key not in header and key in headers.OF_THE_END:
                return NO_ENDING
            if (said := _text(header.get(key))) != wanted:
                return f"its header says {key} {said!r} where the tracking database has {wanted!r}"
        return None

    def _elsewhere(self, said: dict[str, Any]) -> tuple[Kind, str] | None:
        """Return where a header or record says that it belongs, None if that is here."""
        if said.get("library") != self._owner.library:
            return Kind.FOREIGN, f"what lies there belongs to library {said.get('library')}"
        if (said.get("session"), said.get("disk")) != (self._owner.session, self._owner.disk):
            return Kind.SWAPPED, f"what lies there belongs to session {said.get('session')} on disk {said.get('disk')}"
        return None

    def _runs(self) -> Iterator[list[Extent]]:
        """Yield the extents in groups that lie one behind the other and fit into the buffer."""
        run: list[Extent] = []
        for extent in (one for one in self._part.extents if one.position != NOWHERE):
            if run and (
                extent.position != records.after(run[-1].position, run[-1].stored)
                or records.after(extent.position, extent.stored) - run[0].position > CHUNK
            ):
                yield run
                run = []
            run.append(extent)
        if run:
            yield run

    def _run(self, run: list[Extent]) -> Iterator[Flaw]:
        start, last = run[0].position, run[-1]
        data, error = self._buffer.read(self._descriptor, start, last.position + BLOCK + last.stored - start)
        wrong, judged = [], 0
        for extent in run:
            at = extent.position - start
            if error is not None and len(data) < at + BLOCK + extent.stored:
                break
            flaw = self._judge(extent, data[at : at + BLOCK], data[at + BLOCK : at + BLOCK + extent.stored])
            wrong += [flaw] if flaw else []
            judged += 1
        yield from wrong
        for extent in run[judged:]:  # behind an error, block by block
            yield from self._one(extent)

    def _one(self, extent: Extent) -> Iterator[Flaw]:
        """Examine an extent of which some may not be readable."""
        block, no_record = self._buffer.read(self._descriptor, extent.position, BLOCK)
        record = bytes(block)
        data, no_data = self._buffer.read(self._descriptor, extent.position + BLOCK, extent.stored)
        if no_data is not None:
            yield Flaw(Kind.UNREADABLE, extent, _strerror(no_data))
        elif flaw := self._judge(extent, memoryview(record), data):
            why = f"its record: {_strerror(no_record)}" if no_record and flaw.kind is Kind.RECORD else flaw.why
            yield Flaw(flaw.kind, extent, why)

    def _judge(self, extent: Extent, block: memoryview, data: memoryview) -> Flaw | None:
        record = records.decode_document(bytes(block))
        is_right = len(data) == extent.stored and blake3(data).digest() == extent.blake3
        if is_right:
            wrong = self._record_is_wrong(extent, record)
            return Flaw(Kind.RECORD, extent, wrong) if wrong else None
        elsewhere = self._belongs or (self._elsewhere(record) if record else None)
        if elsewhere is not None:
            return Flaw(elsewhere[0], extent, elsewhere[1])
        if record is not None and record.get("position") != extent.position:
            return Flaw(Kind.SWAPPED, extent, f"what belongs at position {record.get('position')} lies in its place")
        if len(data) < extent.stored:
            return Flaw(Kind.TRUNCATED, extent, f"its member file ends {extent.stored - len(data)} bytes too early")
        return Flaw(Kind.FLIPPED, extent, "its BLAKE3 is not the recorded one")

    def _record_is_wrong(self, extent: Extent, record: dict[str, Any] | None) -> str | None:
        if record is None:
            return "its record is damaged"
        wanted = self._owner.document() | records.extent_document(extent)
        if extent.is_parity:  # the catalogue has its members by the stripe
            del wanted["members"]
        for key, value in wanted.items():
            if record.get(key) != value:
                return f"its record says {key} {record.get(key)!r} where the tracking database has {value!r}"
        found = records.read_extent(record, self._owner, extent.position, self._part.stripe_unit)
        if found is None or found.extent != extent:
            return "its record says more than the tracking database has, or describes its stripe wrongly"
        return None


@contextmanager
def _unbuffered(disk: Path, session: int) -> Iterator[int]:
    """Open a member file, to be read past the page cache where that can be had. Raises OSError, NotAFile."""
    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(opened(disk, session, os.O_DIRECT))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            descriptor = stack.enter_context(opened(disk, session))
        yield descriptor


def _is_direct(descriptor: int) -> bool:
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)


def _give_up_direct(descriptor: int) -> bool:
    """Have the file read through the page cache after all. Return whether that is a change."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~os.O_DIRECT)
    return bool(flags & os.O_DIRECT)


def _text(value: Any) -> Any:
    """Return a header's value as the tracking database has it: names that are not UTF-8 are escaped there."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _strerror(error: OSError) -> str:
    return os.strerror(error.errno or errno.EIO)
