"""Restoring: the members of each chosen stream, one after the other, into one directory.

A trio run of its own reads the tape files; a worker thread makes the files, with a worker process (`child`) that
unpacks and writes. The thread's reads run in the trio loop. What fails is told, and the next member follows.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from heapq import merge
from pathlib import Path

import trio

from vtlfs.disks.pool import DiskPool
from vtlfs.engine.jobs import foreground
from vtlfs.engine.library import Library
from vtlfs.engine.reading.reader import MediumReader
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.errors import VtlfsError, first_of, with_advice
from vtlfs.members.database import MemberIndex
from vtlfs.members.finding import not_indexed
from vtlfs.members.stream import StreamReader, held
from vtlfs.members.values import NO_COMPRESSION, ArchiveMember, IndexedStream, Kind, StreamState
from vtlfs.restore.child import Extractor, Limits
from vtlfs.restore.destination import Destination, components
from vtlfs.restore.directories import DirectoryHeaders
from vtlfs.restore.extracting import AS_ROOT, AS_USER, NotWritten
from vtlfs.restore.source import StreamBytes
from vtlfs.restore.wanted import Choice, HardLinks

AHEAD_UNITS_A_DISK = 3
DAMAGED = 3  # exit status

OpenTracking = Callable[[], Tracking]


@dataclass
class Restored:
    """What came of it.

    `status`: the exit status of the worst failure, 0 without one. `pending`: tape files that are not indexed yet, so
    that nobody looked at them. `interrupted`: the signal that stopped it, if one did.
    """

    files: int = 0
    directories: int = 0
    bytes: int = 0
    failed: int = 0
    status: int = 0
    pending: int = 0
    interrupted: signal.Signals | None = None


class NoFile(VtlfsError):
    """An archive member is of a kind that is no file by itself."""

    exit_status = DAMAGED

    def __init__(self) -> None:
        super().__init__(
            "is no file by itself, but such as the rest of one that begins in another tape file (tar -M);"
            " `vtlfs extract` both tape files, then `tar -xM` puts it together"
        )


@dataclass(frozen=True, slots=True)
class Report:
    """Who is told of a restore, in the worker thread; what these raise ends it."""

    begins: Callable[[Choice], object] = lambda choice: None
    failed: Callable[[str, str], object] = lambda path, why: None  # a member's path, or a tape file; a clause
    progress: Callable[[int], object] = lambda size: None  # bytes that were read of the tape files


@dataclass(frozen=True, slots=True)
class Request:
    """What to restore, and where to. `choose`: tells what of a state of the library, `wanted.choose` for one."""

    choose: Callable[[Tracking, MemberIndex], list[Choice]]
    directory: Path
    overwrite: bool = False


def restore(
    library: Library,
    request: Request,
    open_tracking: OpenTracking,
    report: Report,
    *,
    stoppable: bool = False,
    limits: Limits | None = None,
) -> Restored:
    """Restore archive members. `open_tracking`: opens the state of the library that counts.

    What can't be restored is reported, and counted; of it, nothing is left. `stoppable`: SIGINT, SIGTERM and SIGHUP
    stop it. Raises UsageError where the directory is in the library or in one of its disks, NoIndex, IndexDamaged,
    OSError of the directory, and what choosing or the reports raise.
    """
    library.check_outside(request.directory)
    restored = Restored()
    work = partial(_restore, library, request, open_tracking, report, restored, limits)
    if stoppable:
        restored.interrupted = foreground.run(work)
        return restored
    try:
        trio.run(work, strict_exception_groups=True)
    except BaseExceptionGroup as group:
        raise first_of(group) from None
    return restored


async def _restore(
    library: Library,
    request: Request,
    open_tracking: OpenTracking,
    report: Report,
    restored: Restored,
    limits: Limits | None,
) -> None:
    own = (library.path, *library.config.disks)
    with (
        closing(open_tracking()) as tracking,
        closing(MemberIndex.open(library.path, library.config.uuid)) as index,
        closing(Destination(request.directory, overwrite=request.overwrite, forbidden=own)) as destination,
        closing(Extractor(trio.from_thread.check_cancelled, limits)) as extractor,
    ):
        restored.pending = not_indexed(index, tracking).pending
        choices = request.choose(tracking, index)
        pool = DiskPool([*library.disks_to_read()], library.config.stripe_unit)
        try:
            for choice in choices:
                report.begins(choice)
                with held(library, choice.stream):
                    ahead = _ReadAhead(library.config.stripe_unit, AHEAD_UNITS_A_DISK * len(pool))
                    open_reader = partial(_open_reader, Catalogue(tracking), pool, ahead)
                    with closing(StreamReader(choice.stream, open_reader)) as reader:
                        read = partial(_read, reader, ahead, report)
                        work = _Restoring(choice, index, destination, extractor, read, ahead, report, restored)
                        await trio.to_thread.run_sync(work.run)
        finally:
            pool.close()


def _open_reader(
    catalogue: Catalogue, pool: DiskPool, ahead: "_ReadAhead", barcode: str, volume: int, size: int
) -> MediumReader:
    return MediumReader(barcode, volume, size, catalogue, pool, ahead.units)


def _read(reader: StreamReader, ahead: "_ReadAhead", report: Report, offset: int, size: int) -> bytes:
    """Read bytes of the stream, from the worker thread."""
    ahead.at = offset + size
    data = trio.from_thread.run(reader.read, offset, size)
    report.progress(len(data))
    return data


@dataclass
class _ReadAhead:
    """How many stripe units to fetch ahead: none that is not needed. `until`: offset in the stream."""

    unit: int
    most: int
    at: int = 0
    until: int = 0

    def units(self) -> int:
        """Return how many."""
        return max(0, min(self.most, (self.until - self.at) // self.unit))


@dataclass
class _Restoring:
    """One stream's part, in the worker thread."""

    choice: Choice
    index: MemberIndex
    destination: Destination
    extractor: Extractor
    read: Callable[[int, int], bytes]
    ahead: _ReadAhead
    report: Report
    restored: Restored
    flags: int = field(default_factory=lambda: AS_USER if os.geteuid() else AS_ROOT)

    def __post_init__(self) -> None:
        stream = self.choice.stream
        self._links = HardLinks(self.index, stream.session)
        self.extractor.open(StreamBytes(stream.bytes, stream.parts[0].stripe_unit, self.read))
        self._elsewhere: dict[int, list[ArchiveMember]] = {}  # by the member that has their data
        self._failed: set[str] = set()  # paths
        self._directories = DirectoryHeaders()
        self._is_tree = "" in self.choice.roots

    def run(self) -> None:
        """Restore what is wanted of the stream."""
        indexed = self._indexed()
        with closing(self._directories):
            self._look_at_links()
            for member, is_wanted in self._in_order():
                trio.from_thread.check_cancelled()
                self._is_tree |= is_wanted and self._is_of_tree(member)
                self._try(member, partial(self._member, member, is_wanted))
            self._tell_what_may_be_missing(indexed)
            for member, headers in self._directories.deepest_first():
                self._try(member, partial(self._attributes, member, headers))

    def _indexed(self) -> IndexedStream | None:
        return self.index.stream(self.choice.stream.session)

    def _is_of_tree(self, member: ArchiveMember) -> bool:
        """Tell whether a directory is restored, to which the member belongs, whether the archive has it or not."""
        return self.choice.only is None and (member.kind is Kind.DIRECTORY or member.path not in self.choice.roots)

    def _tell_what_may_be_missing(self, before: IndexedStream | None) -> None:
        """Say so where the index does not have all of the stream, for a directory may lack something then.

        `before`: what the index had of the stream before its members were looked for.
        """
        indexed = self._indexed()
        if not self._is_tree:
            return
        if indexed is None or indexed != before or indexed.state is StreamState.PENDING:
            why = "not all of it is indexed yet, so files may be missing; run `vtlfs index`, then restore again"
        elif indexed.note is not None:
            why = f"not all of it could be indexed, so files may be missing: {indexed.note}"
        else:
            return
        part = self.choice.stream.parts[0]
        self._report(f"{part.medium}/{part.number:04d}", why, DAMAGED)

    def _look_at_links(self) -> None:
        """Note the wanted members whose data lies in a member that isn't wanted, or comes later."""
        for member in self.choice.members(self.index):
            if member.kind is not Kind.HARD_LINK and (member.kind is not Kind.FILE or member.size):
                continue
            try:
                source = self._links.source(member)
            except VtlfsError:
                continue  # told when it is its turn
            if source.id != member.id and not (self.choice.covers(source) and source.id < member.id):
                self._elsewhere.setdefault(source.id, []).append(member)

    def _in_order(self) -> Iterator[tuple[ArchiveMember, bool]]:
        """Yield the wanted members, and those that only have the data of wanted ones, in the order of the archive."""
        found = (self.index.member(number) for number in sorted(self._elsewhere))
        others = ((one, False) for one in found if one is not None and not self.choice.covers(one))
        wanted = ((one, True) for one in self.choice.members(self.index))
        return merge(wanted, others, key=lambda item: item[0].id)

    def _try(self, member: ArchiveMember, work: Callable[[], list[str]]) -> None:
        """Do something for a member; report why it fails, and attributes that it could not set."""
        try:
            said = work()
        except (VtlfsError, OSError) as error:
            why = with_advice(error) if isinstance(error, VtlfsError) else error.strerror or str(error)
            self._failed.add(member.path)
            self._report(member.path, why, error.exit_status if isinstance(error, VtlfsError) else 1)
            return
        for clause in said:
            self._report(member.path, f"restored, but {clause}", 1)

    def _report(self, what: str, why: str, status: int) -> None:
        self.restored.failed += 1
        self.restored.status = max(self.restored.status, status)
        self.report.failed(what, why)

    def _member(self, member: ArchiveMember, is_wanted: bool) -> list[str]:
        others = self._elsewhere.get(member.id)
        if others is not None:
            return self._group(member, [*others, member] if is_wanted else others)
        if member.kind is Kind.DIRECTORY:
            return self._directory(member)
        if member.kind is Kind.HARD_LINK or (member.kind is Kind.FILE and not member.size):
            source = self._links.source(member)
            if source.id in self._elsewhere:
                return []  # with the others of its group
            if source.id != member.id:
                if source.path in self._failed:
                    raise NotWritten(f"is a hard link to {source.path}, which could not be restored")
                return self._link(source.path, member)
        return self._file(member, member.path)

    def _group(self, source: ArchiveMember, places: list[ArchiveMember]) -> list[str]:
        """Restore a file under the first of several paths, and link the others to it."""
        said = self._file(source, places[0].path)
        for place in places[1:]:
            said += self._link(places[0].path, place)
        return said

    def _file(self, source: ArchiveMember, path: str) -> list[str]:
        names = components(path)
        if source.kind is Kind.OTHER:
            raise NoFile
        is_again = self._replaces(source, path)
        self.destination.check_free(names)

        def make(directory: int, temporary: bytes) -> list[str]:
            self._look_ahead(source)
            return self.extractor.write(source, directory, temporary, self.flags)

        said = self.destination.file(names, make)
        self.restored.files += not is_again
        self.restored.bytes += source.size
        self._failed.discard(path)
        return said

    def _link(self, target: str, member: ArchiveMember) -> list[str]:
        is_again = self._replaces(member, member.path)
        self.destination.link(components(target), components(member.path))
        self.restored.files += not is_again
        return []

    def _directory(self, member: ArchiveMember) -> list[str]:
        if self.destination.directory(components(member.path)):
            self._look_ahead(member)
            self._directories.add(member, self.extractor.headers(member))
        self.restored.directories += 1
        return []

    def _attributes(self, member: ArchiveMember, headers: bytes) -> list[str]:
        names = components(member.path)
        return self.destination.attributes(
            names, lambda directory: self.extractor.attributes(member, headers, directory, self.flags)
        )

    def _replaces(self, member: ArchiveMember, path: str) -> bool:
        """Tell whether an older member of the same path was restored just now; then it may be replaced."""
        if path in self._failed or self.choice.only is not None:
            return False
        named = self.index.named(self.choice.stream.session, path)
        if not any(one.id < member.id for one in named):
            return False
        self.destination.may_replace(components(path))
        return True

    def _look_ahead(self, member: ArchiveMember) -> None:
        """Let bytes be fetched ahead as far as the member needs them."""
        is_packed = member.compression != NO_COMPRESSION
        self.ahead.until = self.choice.stream.bytes if is_packed else member.end
