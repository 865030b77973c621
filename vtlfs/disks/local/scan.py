"""What lies on a disk, found by looking at all of it: member files, what their headers say, and their records.

For rebuilding the tracking database; docs/format.md is the reference. No symbolic link is followed, and whatever is not
a member file of this library is passed over with a note. Runs in a thread of its own for each disk.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vtlfs.disks import headers, records
from vtlfs.disks.contents import SESSIONS_PER_GROUP, Batch
from vtlfs.disks.local.opening import SESSIONS
from vtlfs.disks.records import BLOCK, Owner
from vtlfs.model import MAX_SESSION

BATCH_RECORDS = 2000
MOST_UNREADABLE = 1000  # blocks of a member file, each of which may keep the disk busy for seconds

_DIRECTORY = re.compile(r"[0-9]{6,18}")
_MEMBER = re.compile(r"([0-9]{12,21})\.member")


class Scan:
    """A walk over one disk. Raises OSError where the disk itself can't be read."""

    def __init__(self, number: int, path: Path, library: str) -> None:
        """`library` is its UUID: member files of others do not count."""
        self.number = number
        self._path = path
        self._library = library
        self._batch = Batch(number)

    def walk(self, known: Callable[[int, int], set[int]]) -> Iterator[Batch]:
        """Yield what is there, a directory at a time or less.

        `known(first, last)` returns the sessions among these of which nothing but the presence is wanted.
        """
        root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with _entered(SESSIONS, root) as sessions:
                for name in sorted(os.listdir(sessions)):
                    yield from self._directory(name, sessions, known)
        except FileNotFoundError:
            pass  # a disk that nothing was written to
        except NotADirectoryError:
            self._batch.ignored.append(f"{self._name()}: not a directory")
        finally:
            os.close(root)
        yield self._batch

    def member(self, session: int, stripe_unit: int) -> Iterator[Batch]:
        """Yield the records of one member file whose header can't be read."""
        directory = f"{session // SESSIONS_PER_GROUP:06d}"
        root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with _entered(SESSIONS, root) as sessions, _entered(directory, sessions) as opened:
                descriptor = os.open(f"{session:012d}.member", os.O_RDONLY | os.O_NOFOLLOW, dir_fd=opened)
                try:
                    yield from self._records(descriptor, session, stripe_unit)
                finally:
                    os.close(descriptor)
        finally:
            os.close(root)
        yield self._take()

    def _directory(self, name: str, sessions: int, known: Callable[[int, int], set[int]]) -> Iterator[Batch]:
        number = int(name) if _DIRECTORY.fullmatch(name) else -1
        if name != f"{number:06d}":
            self._batch.ignored.append(f"{self._name(name)}: not a directory of member files")
            return
        first = number * SESSIONS_PER_GROUP
        try:
            with _entered(name, sessions) as directory:
                enough = known(first, first + SESSIONS_PER_GROUP - 1)
                for entry in sorted(os.listdir(directory)):
                    match = _MEMBER.fullmatch(entry)
                    session = int(match[1]) if match else -1
                    if entry != f"{session:012d}.member" or not 0 < session - first + 1 <= SESSIONS_PER_GROUP:
                        self._batch.ignored.append(f"{self._name(name, entry)}: not a member file")
                    elif session in enough:
                        self._batch.present.append(session)
                    elif 0 < session < MAX_SESSION:
                        yield from self._file(entry, directory, session)
        except NotADirectoryError:
            self._batch.ignored.append(f"{self._name(name)}: not a directory")
        except OSError as error:
            self._batch.damaged.append(f"{self._name(name)}: {error.strerror}")
        yield self._take()

    def _file(self, entry: str, directory: int, session: int) -> Iterator[Batch]:
        where = self._name(f"{session // SESSIONS_PER_GROUP:06d}", entry)
        try:
            descriptor = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
        except OSError as error:
            if error.errno == errno.ELOOP:
                self._batch.ignored.append(f"{where}: a symbolic link")
            else:
                self._batch.damaged.append(f"{where}: {error.strerror}")
            return
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                self._batch.ignored.append(f"{where}: not a file")
                return
            found = records.decode(_block(descriptor, 0) or b"")
            header = found[0] if found else None
            if header is not None and not self._owner(session).owns(header):
                self._batch.ignored.append(f"{where}: belongs to something else")
                return
            if header is None and os.fstat(descriptor).st_size <= BLOCK:
                self._batch.ignored.append(f"{where}: holds nothing")
                return
            opening = headers.opening(header) if header else None
            self._batch.present.append(session)
            self._batch.headers.append((session, header if opening else None))
            if opening is None:
                self._batch.ignored.append(f"{where}: its header is damaged; another disk's is taken")
            else:
                yield from self._records(descriptor, session, opening.stripe_unit)
        except OSError as error:
            self._batch.damaged.append(f"{where}: {error.strerror}")
        finally:
            os.close(descriptor)

    def _records(self, descriptor: int, session: int, stripe_unit: int) -> Iterator[Batch]:
        """Take in the records of all extents.

        Holes in the file are skipped, and blocks without a record, or that can't be read.
        """
        where = self._name(f"{session // SESSIONS_PER_GROUP:06d}", f"{session:012d}.member")
        unreadable = 0
        end, owner, position = os.fstat(descriptor).st_size, self._owner(session), BLOCK
        while position < end:
            try:
                data = os.lseek(descriptor, position, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:  # only a hole is left
                    raise
                return
            position = max(position, data // BLOCK * BLOCK)
            block = _block(descriptor, position)
            if block is None:
                unreadable += 1
                if unreadable == 1:
                    self._batch.damaged.append(f"{where}: from byte {position}: {os.strerror(errno.EIO)}")
                if unreadable == MOST_UNREADABLE:
                    return
            found = records.decode_extent(block or b"", owner, position, stripe_unit)
            if found is None:
                position += BLOCK
                continue
            self._batch.records.append(found)
            position = records.after(position, found.extent.stored)
            if len(self._batch.records) >= BATCH_RECORDS:
                yield self._take()

    def _owner(self, session: int) -> Owner:
        return Owner(self._library, self.number, session)

    def _take(self) -> Batch:
        batch, self._batch = self._batch, Batch(self.number)
        return batch

    def _name(self, *parts: str) -> str:
        return f"disk {self.number}: {'/'.join((SESSIONS, *parts))}"


def _block(descriptor: int, position: int) -> bytes | None:
    """Read a block; return None where the disk can't. Raises OSError."""
    try:
        return os.pread(descriptor, BLOCK, position)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return None


@contextmanager
def _entered(name: str, within: int) -> Iterator[int]:
    """Open a directory in another one, which must not be a symbolic link."""
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
