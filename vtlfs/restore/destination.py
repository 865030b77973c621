"""The directory beneath which files are restored, and nowhere else. Runs in a worker thread.

Every directory on the way is opened relative to the one above it, without following a symbolic link, so neither an
archive nor another user can lead a restore out of the directory. A file is made under a temporary name beside its own,
and gets its name when it is whole. Rejected: libarchive's ARCHIVE_EXTRACT_SECURE_SYMLINKS, which looks at a path before
it uses the path, and leaves a part of a file under its name after an error.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vtlfs.errors import VtlfsError

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HIDDEN = 0o700  # of a directory until all that lies in it is restored
MAX_OPEN = 64  # directories on the way to the last file that stay open

Components = Sequence[bytes]
Make = Callable[[int, bytes], list[str]]
"""Makes a file in an open directory, under a name; returns what it could not do, as clauses."""


class Exists(VtlfsError):
    """Something has the name already."""

    def __init__(self) -> None:
        super().__init__("exists already; restore to another directory (-C), or with --overwrite")


class OutOfBounds(VtlfsError):
    """The path of an archive member leads out of the directory."""

    exit_status = 3


def components(path: str) -> list[bytes]:
    """Return a member's path as the names on the way: without `.` and slashes at its ends. Raises OutOfBounds."""
    names = [name for name in os.fsencode(path).split(b"/") if name not in (b"", b".")]
    if b".." in names:
        raise OutOfBounds("its path has `..`, which would lead out of the directory")
    return names


class Destination:
    """See the module. Close it after use."""

    def __init__(self, path: Path, *, overwrite: bool, forbidden: Iterable[Path] = ()) -> None:
        """`forbidden`: directories beneath it in which nothing may be made. Raises OSError."""
        self.path = path
        self._overwrite = overwrite
        self._chain: list[tuple[bytes, int]] = []  # names and descriptors of the directories that are open
        self._root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._forbidden = {_identity(os.stat(one)) for one in forbidden if one.exists()}
        self._made: set[tuple[bytes, ...]] = set()  # directories that this restore has made, or may set attributes of
        self._number = 0
        self._replaceable: tuple[bytes, ...] | None = None

    def close(self) -> None:
        """Close the directories."""
        self._leave(0)
        os.close(self._root)

    def check_free(self, names: Components) -> None:
        """Raise Exists where something has the name, and may not be replaced."""
        if self._may_be_replaced(names):
            return
        directory = self._directory(names[:-1], mode=None)
        if directory is not None and _kind(directory, names[-1]) is not None:
            raise Exists

    def may_replace(self, names: Components) -> None:
        """Let the next file of that name replace the one that is there."""
        self._replaceable = tuple(names)

    def file(self, names: Components, make: Make) -> list[str]:
        """Have a file made under a temporary name, then give it its own. Raises Exists, OSError, what `make` raises."""
        self.check_free(names)
        with self._temporary(names) as (directory, temporary):
            said = make(directory, temporary)
            self._place(directory, temporary, names)
            return said

    def link(self, target: Components, names: Components) -> None:
        """Give a restored file another name. Raises Exists, OSError."""
        self.check_free(names)
        found = self._directory(target[:-1], mode=None)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "what it is a hard link to is not there")
        source = os.dup(found)
        try:
            with self._temporary(names) as (directory, temporary):
                os.link(target[-1], temporary, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
                self._place(directory, temporary, names)
        finally:
            os.close(source)

    def directory(self, names: Components) -> bool:
        """Make a directory, closed to others; tell whether it is to get its attributes: an old one keeps its own."""
        if not names:
            return self._overwrite
        parent = self._opened(names[:-1])
        try:
            os.mkdir(names[-1], _HIDDEN, dir_fd=parent)
        except FileExistsError:
            if tuple(names) in self._made:
                return True
            found = _kind(parent, names[-1])
            if found is None or not stat.S_ISDIR(found):
                raise NotADirectoryError(errno.ENOTDIR, "is there already, and is no directory") from None
            if not self._overwrite:
                return False
        self._made.add(tuple(names))
        return True

    def attributes(self, names: Components, make: Callable[[int], list[str]]) -> list[str]:
        """Have the attributes of an open directory set. Deeper ones first. Raises OSError, what `make` raises."""
        return make(self._opened(names))

    # --- on the way -------------------------------------------------------------------------------------------------

    def _opened(self, names: Components) -> int:
        found = self._directory(names, mode=0o777)
        assert found is not None
        return found

    def _directory(self, names: Components, mode: int | None) -> int | None:
        """Return the open directory with these names on the way. `mode`: of those that are made; None: none is."""
        shared = 0
        while shared < min(len(names), len(self._chain)) and self._chain[shared][0] == names[shared]:
            shared += 1
        self._leave(shared)
        for name in names[shared:]:
            parent = self._chain[-1][1] if self._chain else self._root
            try:
                if mode is not None:
                    with suppress(FileExistsError):
                        os.mkdir(name, mode, dir_fd=parent)
                        self._made.add((*(one for one, _ in self._chain), name))
                descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
            except FileNotFoundError:
                if mode is None:
                    return None
                raise
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    text = "is on the way, and is a link or no directory; restore to another directory (-C)"
                    raise NotADirectoryError(errno.ENOTDIR, f"{os.fsdecode(name)!r} {text}") from None
                raise
            self._chain.append((name, descriptor))
            if _identity(os.fstat(descriptor)) in self._forbidden:
                raise OutOfBounds("would lie inside the library or one of its disks; restore elsewhere (-C)")
        return self._chain[-1][1] if self._chain else self._root

    def _leave(self, depth: int) -> None:
        while len(self._chain) > depth:
            os.close(self._chain.pop()[1])

    @contextmanager
    def _temporary(self, names: Components) -> Iterator[tuple[int, bytes]]:
        """Yield the directory of a file, and a temporary name in it, which is gone afterwards."""
        directory = self._opened(names[:-1])
        self._number += 1
        temporary = b".vtlfs-restore.%d.%d.tmp" % (os.getpid(), self._number)
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)
        try:
            yield directory, temporary
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)

    def _may_be_replaced(self, names: Components) -> bool:
        return self._overwrite or self._replaceable == tuple(names)

    def _place(self, directory: int, temporary: bytes, names: Components) -> None:
        name = names[-1]
        if self._may_be_replaced(names):
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            return
        try:
            os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
        except FileExistsError:
            raise Exists from None
        except OSError as error:  # a file system without hard links
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            if _kind(directory, name) is not None:
                raise Exists from None
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def _identity(status: os.stat_result) -> tuple[int, int]:
    """Return by what a directory is known whatever its path."""
    return status.st_dev, status.st_ino


def _kind(directory: int, name: bytes) -> int | None:
    """Return the mode of what has a name in a directory; None: nothing has."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None
