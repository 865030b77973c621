"""A session's member file in a local directory, while it is written. The disk's writing and syncing threads use it."""

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from blake3 import blake3

from vtlfs.disks import headers, records
from vtlfs.disks.headers import Ending
from vtlfs.disks.local import whole, write_behind
from vtlfs.disks.local.directory import Directory
from vtlfs.disks.local.opening import SESSIONS, NotAFile, entered, member_path
from vtlfs.disks.records import BLOCK
from vtlfs.durable import check_synced, sync_directory
from vtlfs.failpoints import reached
from vtlfs.model import GIB, Extent

MAX_PIECES = os.sysconf("SC_IOV_MAX")
PLENTY = 16 * GIB  # with less free than this, each write looks at what is left; with more, the probes are enough


class LocalMember:
    """A member file that is being written."""

    def __init__(self, disk: Directory, session: int, stripe_unit: int, header: dict[str, Any]) -> None:
        """`header`: what the file's header says, or is to say, whose it is included. Empty: damaged, and left so."""
        self._disk = disk
        self._path = member_path(Path(disk.path), session)
        self._stripe_unit = stripe_unit
        self._header = header
        self.owner = disk.owner(session)
        self._descriptor: int | None = None
        self._watching: int | None = None  # a descriptor of its own, see `write_behind.drop`
        self._is_behind = False  # `Directory.write_behind` knows it, which only the writing thread may ask
        self._generation = 1  # of the header, for `finish`
        self._new_entries: list[Path] = []  # directories with entries that are not durable yet
        self._used = BLOCK  # up to where the file counts
        self._allocated = 0  # up to where room was set aside
        self._reaches = 0  # the file may be so long: what does not count is cut off at the end

    def adopt(self, descriptor: int, end: int, generation: int) -> None:
        """Go on with a file that exists, which counts up to position `end`."""
        self._descriptor = descriptor
        self._generation = generation
        self._used = max(BLOCK, end)
        self._reaches = os.fstat(descriptor).st_size
        self._new_entries = self._undurable()

    def allocate(self, end: int) -> None:
        """Have the file system set aside the room up to position `end`."""
        with self._disk.errors():
            descriptor = self._open()
            start = max(self._used, self._allocated)
            if start < end:
                self._reaches = max(self._reaches, end)  # in part, also where it fails
                os.posix_fallocate(descriptor, start, end - start)
                self._allocated = end
        reached("extent.allocated")

    def write(self, extent: Extent, pieces: list[memoryview], members: Sequence[Extent] = ()) -> Extent:
        """Write an extent and its record."""
        hasher = blake3()
        for piece in pieces:
            hasher.update(piece)
        written = replace(extent, stored=sum(map(len, pieces)), blake3=hasher.digest())
        record = records.encode_extent(self.owner, written, members)
        size = BLOCK + written.stored
        with self._disk.errors():
            descriptor = self._open()
            self._reaches = max(self._reaches, extent.position + size)  # in part, also where it fails
            _write_all(descriptor, [record, *pieces], extent.position)
            if extent.is_parity:
                reached("parity.written")
            else:
                reached("extent.written")
            if size >= self._stripe_unit:
                self._is_behind = True
                self._disk.write_behind.written(self, descriptor, extent.position, size)
            if self._disk.free < PLENTY:
                self._disk.note_space(os.fstatvfs(descriptor))
        self._used = max(self._used, extent.position + size)
        return written

    def drop(self, position: int, size: int) -> None:
        """Wait until an extent is on the device, and drop it from memory."""
        if self._watching is None:
            try:
                self._watching = os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:  # too many open files, or no /proc: then the extent stays in memory, which is no harm
                return
        write_behind.drop(self._watching, position, size)

    def sync(self) -> None:
        """Make durable what has been written, and the file's name."""
        with self._disk.errors():
            descriptor = self._descriptor
            if descriptor is None:
                return
            entries, self._new_entries = self._new_entries, []
            try:
                (os.fsync if entries else os.fdatasync)(descriptor)
                reached("member.synced")
                for directory in entries:
                    sync_directory(directory)
                check_synced(descriptor)
                if entries:
                    self._disk.note_durable(self._path.parent, self._path.parent.parent)
            except OSError:
                self._new_entries = entries
                raise

    @property
    def is_made(self) -> bool:
        """Tell whether there is a file, which `write` may not have come to."""
        return self._descriptor is not None

    def sync_file_system(self) -> bool:
        """Make durable all that was written to the file system since this member file was opened, names included.

        Return False where that does not make it durable.
        """
        with self._disk.errors():
            if self._descriptor is None or not whole.can_be_synced(self._descriptor):
                return False
            whole.sync(self._descriptor)
            reached("disk.synced")
            check_synced(self._descriptor)
            return True

    def note_synced(self) -> None:
        """Take note that the file was made durable with all others of its file system."""
        if self._new_entries:
            self._new_entries = []
            self._disk.note_durable(self._path.parent, self._path.parent.parent)

    @property
    def end(self) -> int:
        """The first position behind all that is in the file."""
        return max(BLOCK, records.padded(self._reaches))

    def finish(self, ending: Ending | None) -> None:
        """Cut off what does not count, add to the header how the session ended, and close.

        The header is not synced: the tracking database has it, and the kernel writes it within its half minute.
        """
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        if self._is_behind:
            self._disk.write_behind.forget(self)
        try:
            with self._disk.errors():
                is_longer = os.fstat(descriptor).st_size > self._reaches  # a repair has appended to it meanwhile
                if self._reaches > self._used and not is_longer:
                    os.ftruncate(descriptor, self._used)
                    reached("member.cut")
                said = {} if ending is None else headers.document_of_end(ending)
                if self._header and not said.items() <= self._header.items():
                    record = records.encode(self._header | said, self._generation)
                    _write_all(descriptor, [record], records.place(self._generation))
                    reached("member.finished")
        finally:
            os.close(descriptor)
            watching, self._watching = self._watching, None
            if watching is not None:
                with suppress(OSError):  # nothing was written by way of it
                    os.close(watching)

    def _open(self) -> int:
        """Return the file's descriptor; make the file and its header the first time."""
        if self._descriptor is None:
            self._disk.check_here()
            descriptor = self._make()
            self._new_entries = self._undurable()
            self._descriptor = descriptor
        return self._descriptor

    def _undurable(self) -> list[Path]:
        """Return the directories whose entries on the way to the file may not be durable, the file's own among them.

        Another session or mount may have made the directories, or a dead one the file, and not have synced them.
        """
        directory = self._path.parent
        unsure = [path for path in (directory, directory.parent) if str(path) not in self._disk.durable]
        return [directory, *(path.parent for path in unsure)]

    def _make(self) -> int:
        """Make the file with its header, where no symbolic link leads elsewhere; return its descriptor."""
        root, names = Path(self._disk.path), (SESSIONS, self._path.parent.name)
        try:
            try:
                with entered(root, *names) as directory:
                    return self._make_in(directory)
            except FileNotFoundError:
                for depth, new in enumerate(names):
                    with entered(root, *names[:depth]) as within, suppress(FileExistsError):
                        os.mkdir(new, 0o700, dir_fd=within)
                        reached("member.directory_made")
            with entered(root, *names) as directory:
                return self._make_in(directory)
        except NotAFile as error:
            raise OSError(errno.ELOOP, str(error)) from None

    def _make_in(self, directory: int) -> int:
        name, flags = self._path.name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=directory)
        reached("member.made")
        try:
            _write_all(descriptor, [records.encode(self._header, 0).ljust(BLOCK, b"\0")], 0)
        except OSError:
            os.close(descriptor)
            os.unlink(name, dir_fd=directory)
            reached("member.given_up")
            raise
        reached("member.described")
        return descriptor


def _write_all(descriptor: int, pieces: Sequence[bytes | memoryview], offset: int) -> None:
    """Write the pieces one after the other at the offset, however many calls it takes."""
    rest = [memoryview(piece) for piece in pieces if piece]
    while rest:
        written = os.pwritev(descriptor, rest[:MAX_PIECES], offset)
        offset += written
        while rest and written >= len(rest[0]):
            written -= len(rest.pop(0))
        if rest:
            rest[0] = rest[0][written:]
