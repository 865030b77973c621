"""A disk that is a directory of a local file system. docs/format.md specifies what lies in it.

    DISK/vtlfs-disk.json                         the label
    DISK/sessions/000000/000000000017.member     session 17's member file
    DISK/cartridges/A00001L9.cartridge           what the disk remembers of the medium A00001L9
    DISK/cartridges/snapshots.memory             which snapshots it knows to be deleted

A member file is a header block, then extents: each a record block and the stored bytes of an extent.
"""

import errno
import os
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from blake3 import blake3

from vtlfs.disks import headers, records
from vtlfs.disks.base import Fill, Member
from vtlfs.disks.cartridges import Cartridge
from vtlfs.disks.contents import Batch, Flaw, Listing, Part
from vtlfs.disks.headers import Ending, Header, Opening
from vtlfs.disks.local import cartridges, copies, holes, inventory, marks
from vtlfs.disks.local.directory import Directory
from vtlfs.disks.local.examine import Examiner
from vtlfs.disks.local.member import LocalMember
from vtlfs.disks.local.opening import GONE, SESSIONS, NotAFile, entered, member_path, opened
from vtlfs.disks.local.scan import Scan
from vtlfs.disks.records import BLOCK
from vtlfs.disks.snapshots import Runs
from vtlfs.errors import DamagedExtent, DiskError
from vtlfs.failpoints import reached
from vtlfs.model import MIB, NOWHERE, Extent, Watermark

TRIAL = ".trial.tmp"
TRIAL_BYTES = 16 * MIB  # room that a disk must have to be used again
WORTH_ALL = 8  # member files that are synced sooner with their whole file system than one after the other


class LocalDisk(Directory):
    """A directory as a disk."""

    def __init__(self, number: int, path: Path, library: str, *, check: bool = True) -> None:
        """`library` is the library's UUID, which goes into every record. `check`: compare BLAKE3s on reading."""
        super().__init__(number, path, library)
        self.checks = check
        self._examiner = Examiner(self)

    def measure(self) -> None:
        """Bring `free`, `total`, `reserved` and `device` up to date. Raises DiskError, also where the label is gone."""
        with self.errors():
            self.check_label()
            self.device = os.stat(self.root).st_dev
            self.note_space(os.statvfs(self.root))

    def try_out(self) -> None:
        """Write, sync and remove a file. Raises DiskError."""
        self.measure()
        path = self.root / TRIAL
        with self.errors():
            path.unlink(missing_ok=True)  # what a crash or somebody else has left
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, _most(TRIAL_BYTES))
                os.pwrite(descriptor, bytes(BLOCK), 0)
                os.fsync(descriptor)
                reached("trial.made")
            finally:
                os.close(descriptor)
                path.unlink(missing_ok=True)
                reached("trial.removed")

    def member(self, session: int, stripe_unit: int, opening: Opening, ending: Ending | None = None) -> LocalMember:
        """Return a new member file for the session, not yet made."""
        header = self.owner(session).document() | headers.document(opening, ending)
        return LocalMember(self, session, stripe_unit, header)

    def reopen(self, session: int, end: int) -> LocalMember | None:
        """Return a session's member file, which counts up to position `end`; None without one.

        Not touched: a file whose header names another owner, and a file without a header that has a second hard link.
        """
        with self.errors():
            try:
                with opened(self.root, session, os.O_RDWR) as found:
                    header = records.decode(os.pread(found, BLOCK, 0))
                    is_other = not self.owner(session).owns(header[0]) if header else os.fstat(found).st_nlink > 1
                    if is_other:
                        raise OSError(errno.EINVAL, "another file is in the place of a member file")
                    descriptor = os.dup(found)
            except FileNotFoundError:
                return None
            except NotAFile as error:
                raise OSError(errno.ELOOP, str(error)) from None
        opening = headers.opening(header[0]) if header else None
        said = header[0] if header and opening else {}
        member = LocalMember(self, session, opening.stripe_unit if opening else 1, said)
        member.adopt(descriptor, end, header[1] + 1 if header else 0)
        return member

    def sync_members(self, members: Sequence[Member]) -> None:
        """Make durable what members have written. Many are synced with their whole file system. Raises DiskError."""
        ours = [member for member in members if isinstance(member, LocalMember) and member.is_made]
        if len(ours) >= WORTH_ALL and ours[0].sync_file_system():  # the one that was opened first, see `whole.sync`
            for member in ours:
                member.note_synced()
        else:
            for member in ours:
                member.sync()

    def read_stored(self, extent: Extent, *, check: bool = False) -> bytes:
        """Read the stored bytes of an extent, and check them if `check` or `checks`. Raises DamagedExtent, DiskError.

        Unchecked bytes may be those of a hole that `discard` has left: a reader may still know the place of an extent
        that a repair has moved.
        """
        if extent.position == NOWHERE:
            raise DamagedExtent(extent.session, extent.offset, extent.disk, "nobody knows where it lies")
        try:
            with self.errors(), opened(self.root, extent.session) as descriptor:
                data = os.pread(descriptor, extent.stored, extent.position + BLOCK)
        except NotAFile as error:
            raise DamagedExtent(extent.session, extent.offset, extent.disk, str(error)) from None
        except DiskError as error:
            if error.errno in GONE:
                raise DamagedExtent(extent.session, extent.offset, extent.disk, "its member file is gone") from None
            raise
        if len(data) < extent.stored:
            raise DamagedExtent(
                extent.session, extent.offset, extent.disk, f"{len(data)} bytes are left of {extent.stored}"
            )
        if (check or self.checks) and blake3(data).digest() != extent.blake3:
            raise DamagedExtent(extent.session, extent.offset, extent.disk, "its BLAKE3 is not the recorded one")
        return data

    def remove(self, session: int) -> None:
        """Remove a session's member file durably, if there is one. Raises DiskError."""
        path = member_path(self.root, session)
        try:
            with self.errors():
                self.check_label()  # where the disk is not mounted, that there is no member means nothing
                with suppress(FileNotFoundError), self._group_of(path) as directory:
                    with suppress(FileNotFoundError):
                        os.unlink(path.name, dir_fd=directory)
                        reached("member.removed")
                    os.fsync(directory)  # also for a removal that a crash kept from being durable
        except NotAFile as error:
            raise DiskError(self.number, self.path, OSError(errno.ELOOP, str(error))) from None

    def discard(self, extent: Extent) -> None:
        """Punch a hole where the stored bytes of an extent were, where the file system can."""
        start = extent.position + BLOCK
        with suppress(OSError, NotAFile), opened(self.root, extent.session, os.O_RDWR) as descriptor:
            holes.punch(descriptor, start, records.padded(extent.stored))

    def restore_header(self, session: int, opening: Opening, ending: Ending) -> None:
        """Write the header of a session's member file anew, durably, if there is a file. Raises DiskError."""
        document = self.owner(session).document() | headers.document(opening, ending)
        try:
            with self.errors(), opened(self.root, session, os.O_RDWR) as descriptor:
                found = records.decode(os.pread(descriptor, BLOCK, 0))
                generation = found[1] + 1 if found else 0
                os.pwrite(descriptor, records.encode(document, generation), records.place(generation))
                reached("header.restored")
                os.fdatasync(descriptor)
        except DiskError as error:
            if error.errno not in GONE:
                raise
        except NotAFile as error:
            raise DiskError(self.number, self.path, OSError(errno.ELOOP, str(error))) from None

    def _group_of(self, path: Path) -> AbstractContextManager[int]:
        return entered(self.root, SESSIONS, path.parent.name, flags=os.O_RDONLY)

    # --- looking at what is there -----------------------------------------------------------------------------------

    def where(self, session: int) -> str:
        """Return the path of a session's member file."""
        return str(member_path(self.root, session))

    def groups(self) -> tuple[set[int], list[str]]:
        """Return the groups of sessions that have a directory, and the paths beside those. Raises DiskError."""
        with self._errors_at():
            return inventory.groups(self.root)

    def members(self, group: int) -> Listing:
        """Return the member files of a group of sessions. Raises DiskError."""
        with self._errors_at():
            return inventory.members(self.root, group)

    def sessions_from(self, first: int) -> set[int]:
        """Return which sessions from number `first` on have a member file. Raises DiskError."""
        with self._errors_at():
            return inventory.sessions_from(self.root, first)

    def header(self, session: int) -> Header | None:
        """Return what a session's member file says of itself; None where that can't be had. Raises DiskError."""
        try:
            with self.errors(), opened(self.root, session) as descriptor:
                found = records.decode(os.pread(descriptor, BLOCK, 0))
        except NotAFile:
            return None
        except DiskError as error:
            if error.errno in GONE:
                return None
            raise
        return headers.read(found[0]) if found else None

    def scan(self, known: Callable[[int, int], set[int]]) -> Iterator[Batch]:
        """Yield all that is there. Raises DiskError."""
        with self.errors():
            yield from Scan(self.number, self.root, self.library).walk(known)

    def scan_member(self, session: int, stripe_unit: int) -> Iterator[Batch]:
        """Yield the records of one member file. Raises DiskError."""
        with self.errors():
            yield from Scan(self.number, self.root, self.library).member(session, stripe_unit)

    def examine(self, part: Part) -> list[Flaw]:
        """Read part of a member file and return what is wrong with it. Raises DiskError where the disk is gone."""
        return self._examiner.examine(part)

    @contextmanager
    def _errors_at(self) -> Iterator[None]:
        """Have an OSError in the block be a DiskError that names the directory it comes from."""
        try:
            yield
        except OSError as error:
            raise DiskError(self.number, str(error.filename or self.path), error) from error

    # --- copies of the catalogue, and the high-water mark -----------------------------------------------------------

    def copies(self) -> list[int]:
        """Return the numbers of the copies, the newest first. Raises DiskError."""
        with self.errors():
            return copies.numbers(self.root)

    def put_copy(self, number: int, fill: Fill) -> None:
        """Keep a copy, and remove those before the last two. Raises DiskError."""
        with self.errors():
            copies.put(self.root, number, fill)

    def read_copy(self, number: int) -> Iterator[bytes]:
        """Yield the bytes of a copy. Raises DiskError."""
        with self.errors():
            yield from copies.read(self.root, number)

    def where_copy(self, number: int) -> str:
        """Return the path of a copy."""
        return str(copies.path_of(self.root, number))

    def mark(self) -> Watermark | None:
        """Return the high-water mark; None without one of this library that can be read."""
        return marks.read(self.root, self.library)

    def raise_mark(self, mark: Watermark, *, durable: bool = False) -> None:
        """Raise the high-water mark, if it is lower. Raises DiskError."""
        with self.errors():
            marks.write(self.root, self.library, mark, durable=durable)

    # --- cartridge memory -------------------------------------------------------------------------------------------

    def put_cartridges(self, found: Sequence[Cartridge]) -> None:
        """Remember media durably. Raises DiskError."""
        with self.errors():
            self.check_label()
            try:
                cartridges.put(self.root, self.library, found)
            except ValueError as error:  # more holds than a file has room for
                raise OSError(errno.EFBIG, str(error)) from error

    def cartridges(self) -> Iterator[tuple[str, Cartridge | None]]:
        """Yield what is remembered. Raises DiskError."""
        with self.errors():
            yield from cartridges.read_all(self.root, self.library)

    def put_snapshots(self, deleted: Runs) -> None:
        """Remember durably that snapshots are deleted. Raises DiskError."""
        with self.errors():
            self.check_label()
            try:
                cartridges.put_snapshots(self.root, self.library, deleted)
            except ValueError as error:  # more runs of snapshots than a file has room for
                raise OSError(errno.EFBIG, str(error)) from error

    def snapshots(self) -> Runs:
        """Return which snapshots are remembered as deleted. Raises DiskError."""
        with self.errors():
            return cartridges.read_snapshots(self.root, self.library)


def _most(size: int) -> int:
    """Return how much of so many bytes this process may put into a file: its limit says nothing about the disk."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return size if limit == resource.RLIM_INFINITY else max(BLOCK, min(size, limit))
