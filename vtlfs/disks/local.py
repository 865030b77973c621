"""A disk that is a directory of a local file system. docs/format.md specifies what lies in it.

    DISK/vtlfs-disk.json                         the label
    DISK/sessions/000000/000000000017.member     session 17's member file

A member file is a header block, then slots: each a record block and the bytes of one stripe unit.
"""

import errno
import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from blake3 import blake3

from vtlfs.disks import behind, records
from vtlfs.disks import label as labels
from vtlfs.disks.behind import WriteBehind
from vtlfs.disks.durable import check_synced, sync_directory
from vtlfs.disks.opening import GONE, SESSIONS, NotAFile, entered, member_path, opened, read_small
from vtlfs.disks.records import BLOCK
from vtlfs.errors import DamagedUnit, DiskError, LibraryError
from vtlfs.failpoints import reached
from vtlfs.model import GIB, MIB, StripeUnit

MAX_PIECES = os.sysconf("SC_IOV_MAX")
TRIAL = ".trial.tmp"
TRIAL_BYTES = 16 * MIB  # room that a disk must have to be used again
DURABLE_DIRECTORIES = 8  # that a disk remembers; more than there are with new streams at the same time
PLENTY = 16 * GIB  # with less free than this, each write looks at what is left; with more, the probes are enough


def slot_offset(slot: int, stripe_unit: int) -> int:
    """Return the offset of a slot's record block; the unit's bytes follow that block."""
    return BLOCK + slot * (BLOCK + stripe_unit)


class LocalDisk:
    """A directory as a disk."""

    def __init__(self, number: int, path: Path, library: str, *, check: bool = True) -> None:
        """`library` is the library's UUID, which goes into every record. `check`: compare BLAKE3s on reading."""
        self.number = number
        self.path = str(path)
        self.free = self.total = self.device = 0
        self._root = path
        self._library = library
        self._check = check
        self._behind = WriteBehind()
        # The latest directories whose names this process has made durable. To forget one costs a sync; to keep all,
        # memory: each is small, and lies among the objects of the thousand sessions of its time.
        self._durable: tuple[str, ...] = ()

    def measure(self) -> None:
        """Bring `free`, `total` and `device` up to date. Raises DiskError, also where the disk's label is gone."""
        with self._errors():
            self._check_label()
            self.device = os.stat(self._root).st_dev
            self._note(os.statvfs(self._root))

    def try_out(self) -> None:
        """Write, sync and remove a file. Raises DiskError."""
        self.measure()
        path = self._root / TRIAL
        with self._errors():
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

    def member(self, session: int, stripe_unit: int, header: dict[str, Any]) -> "LocalMember":
        """Return a new member file for the session, not yet made."""
        identity = {"library": self._library, "disk": self.number, "session": session}
        return LocalMember(self, session, stripe_unit, identity | header)

    def reopen(self, session: int, stripe_unit: int, slots: int) -> "LocalMember | None":
        """Return a session's member file after a crash, of which `slots` slots count; None without one.

        A file that says that it is another one is left alone, and so is one that says nothing and has another name too.
        """
        with self._errors():
            try:
                with opened(self._root, session, os.O_RDWR) as found:
                    header = records.decode(os.pread(found, BLOCK, 0))
                    is_other = not self._is_of(session, header[0]) if header else os.fstat(found).st_nlink > 1
                    if is_other:
                        raise OSError(errno.EINVAL, "another file is in the place of a member file")
                    descriptor = os.dup(found)
            except FileNotFoundError:
                return None
            except NotAFile as error:
                raise OSError(errno.ELOOP, str(error)) from None
        member = LocalMember(self, session, stripe_unit, header[0] if header else {})
        member.adopt(descriptor, slots, header[1] + 1 if header else 0)
        return member

    def _is_of(self, session: int, header: dict[str, Any]) -> bool:
        said = tuple(header.get(key) for key in ("library", "disk", "session"))
        return said == (self._library, self.number, session)

    def read(self, unit: StripeUnit, stripe_unit: int) -> bytes:
        """Read a stripe unit and check it. Raises DamagedUnit or DiskError."""
        try:
            with self._errors(), opened(self._root, unit.session) as descriptor:
                data = os.pread(descriptor, unit.bytes, slot_offset(unit.slot, stripe_unit) + BLOCK)
        except NotAFile as error:
            raise DamagedUnit(unit.session, unit.unit, self.number, str(error)) from None
        except DiskError as error:
            if error.errno in GONE:
                raise DamagedUnit(unit.session, unit.unit, self.number, "its member file is gone") from None
            raise
        if len(data) < unit.bytes:
            raise DamagedUnit(unit.session, unit.unit, self.number, f"{len(data)} bytes are left of {unit.bytes}")
        if self._check and blake3(data).digest() != unit.blake3:
            raise DamagedUnit(unit.session, unit.unit, self.number, "its BLAKE3 is not the recorded one")
        return data

    def _check_label(self) -> None:
        try:
            label = labels.parse(read_small(self._root / labels.FILE_NAME))
            ours = (label.library, label.number) == (self._library, self.number)
        except (FileNotFoundError, NotAFile, LibraryError):
            ours = False
        if not ours:
            raise OSError(errno.ENODEV, "its label is not there; is the right device mounted?")

    def check_here(self) -> None:
        """Raise OSError where the disk's device is no longer mounted: what is written would lie elsewhere."""
        if self.device and os.stat(self._root).st_dev != self.device:
            raise OSError(errno.ENODEV, "another device is mounted there")

    def _note_durable(self, *directories: Path) -> None:
        """Remember that the names of directories are durable. Called by any thread; at worst, one is forgotten."""
        new = tuple(str(path) for path in directories if str(path) not in self._durable)
        if new:
            self._durable = (*self._durable, *new)[-DURABLE_DIRECTORIES:]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DiskError(self.number, self.path, error) from error

    def _note(self, status: os.statvfs_result) -> None:
        self.free = status.f_bavail * status.f_frsize
        self.total = status.f_blocks * status.f_frsize


class LocalMember:
    """A member file that is being written."""

    def __init__(self, disk: LocalDisk, session: int, stripe_unit: int, header: dict[str, Any]) -> None:
        self._disk = disk
        self._path = member_path(Path(disk.path), session)
        self._session = session
        self._stripe_unit = stripe_unit
        self._header = header
        self._identity = {key: header.get(key) for key in ("library", "disk", "session")}
        self._descriptor: int | None = None
        self._watching: int | None = None  # a descriptor of its own, see `behind.drop`
        self._generation = 1  # of the header, for `finish`
        self._new_entries: list[Path] = []  # directories with entries that are not durable yet
        self._used = BLOCK  # length of the file that counts
        self._allocated = 0

    def adopt(self, descriptor: int, slots: int, generation: int) -> None:
        """Go on with a file that exists, of which `slots` slots count."""
        self._descriptor = descriptor
        self._generation = generation
        self._used = slot_offset(slots, self._stripe_unit)
        self._allocated = max(self._used, os.fstat(descriptor).st_size)

    def allocate(self, slot: int) -> None:
        """Have the file system set aside the room for a slot."""
        with self._disk._errors():
            descriptor = self._open()
            offset = slot_offset(slot, self._stripe_unit)
            self._allocated = max(self._allocated, offset + BLOCK + self._stripe_unit)  # in part, also where it fails
            os.posix_fallocate(descriptor, offset, BLOCK + self._stripe_unit)
        reached("slot.allocated")

    def write(self, unit: int, slot: int, pieces: list[memoryview], start: int, generation: int) -> StripeUnit:
        """Write the bytes of a stripe unit from `start` on, and its record."""
        hasher = blake3()
        for piece in pieces:
            hasher.update(piece)
        digest, size = hasher.digest(), sum(len(piece) for piece in pieces)
        place = {"unit": unit, "bytes": size, "blake3": digest.hex()}
        record = records.encode(self._identity | place, generation)
        offset = slot_offset(slot, self._stripe_unit)
        with self._disk._errors():
            descriptor = self._open()
            if start == 0:
                _write_all(descriptor, [record.ljust(BLOCK, b"\0"), *pieces], offset)
                reached("unit.written")
            else:
                _write_all(descriptor, _from(pieces, start), offset + BLOCK + start)
                reached("unit.grown")
                _write_all(descriptor, [record], offset + records.place(generation))
                reached("unit.described")
            if size == self._stripe_unit:
                self._disk._behind.written(self, slot, descriptor, offset, BLOCK + size)
            if self._disk.free < PLENTY:
                self._disk._note(os.fstatvfs(descriptor))
        self._used = max(self._used, offset + BLOCK + size)
        return StripeUnit(self._session, unit, self._disk.number, slot, size, digest)

    def drop(self, slot: int) -> None:
        """Wait until a slot is on the device, and drop it from memory."""
        if self._watching is None:
            try:
                self._watching = os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:  # too many open files, or no /proc: then the slot stays in memory, which is no harm
                return
        behind.drop(self._watching, slot_offset(slot, self._stripe_unit), BLOCK + self._stripe_unit)

    def sync(self) -> None:
        """Make durable what has been written, and the file's name."""
        with self._disk._errors():
            if self._descriptor is None:
                return
            entries, self._new_entries = self._new_entries, []
            try:
                (os.fsync if entries else os.fdatasync)(self._descriptor)
                reached("member.synced")
                for directory in entries:
                    sync_directory(directory)
                check_synced(self._descriptor)
                if entries:
                    self._disk._note_durable(self._path.parent, self._path.parent.parent)
            except OSError:
                self._new_entries = entries
                raise

    def finish(self, release: dict[str, Any] | None) -> None:
        """Cut off what does not count, add to the header how the session ended, and close.

        The header is not synced: the tracking database has it, and the kernel writes it within its half minute.
        """
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        self._disk._behind.forget(self)
        try:
            with self._disk._errors():
                if self._allocated > self._used:
                    os.ftruncate(descriptor, self._used)
                    reached("member.cut")
                if release is not None and not release.items() <= self._header.items():
                    record = records.encode(self._header | release, self._generation)
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
            directory = self._path.parent
            self._disk.check_here()
            descriptor = self._make()
            # Another session or mount may have made the directories and not have synced them yet.
            unsure = [path for path in (directory, directory.parent) if str(path) not in self._disk._durable]
            self._new_entries = [directory, *(path.parent for path in unsure)]
            self._descriptor = descriptor
        return self._descriptor

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


def _most(size: int) -> int:
    """Return how much of so many bytes this process may put into a file: its limit says nothing about the disk."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return size if limit == resource.RLIM_INFINITY else max(BLOCK, min(size, limit))


def _from(pieces: list[memoryview], start: int) -> list[memoryview]:
    """Return the pieces without their first `start` bytes."""
    rest = []
    for piece in pieces:
        rest.append(piece[min(start, len(piece)) :])
        start = max(0, start - len(piece))
    return rest


def _write_all(descriptor: int, pieces: Sequence[bytes | memoryview], offset: int) -> None:
    """Write the pieces one after the other at the offset, however many calls it takes."""
    rest = [memoryview(piece) for piece in pieces if piece]
    while rest:
        written = os.pwritev(descriptor, rest[:MAX_PIECES], offset)
        offset += written
        rest = [piece for piece in _from(rest, written) if piece]
