"""Durable writes of small files, so that a power cut leaves the old file or the new one; and a check of syncs.

A file is written as temporary file, fsync, rename, fsync of the directory. Any thread may call these functions, which
may block.
"""

import os
from pathlib import Path

from vtlfs.failpoints import reached


def check_synced(descriptor: int) -> None:
    """Raise OSError if a sync that has just succeeded can't be trusted. `descriptor`: a file on the same file system.

    When ext4 or xfs shuts down, as xfs does if it can't write its log, a sync under way may succeed although its data
    is lost. The file system refuses every operation after that, also a read of no bytes, which costs a quarter of a
    microsecond.
    """
    os.pread(descriptor, 0, 0)


def sync_directory(path: Path) -> None:
    """Make the directory's entries durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    reached("directory.synced")


def follow_owner(descriptor: int, directory: Path) -> None:
    """Give a new file or directory to the owner of the directory that it is in, where root has made it for another.

    A library belongs to one user. What a command of root's makes there must not shut that user out.
    """
    if os.geteuid() == 0:
        owner, mine = os.stat(directory), os.fstat(descriptor)
        if (owner.st_uid, owner.st_gid) != (mine.st_uid, mine.st_gid):
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def write_file(
    path: Path, content: bytes, *, exclusive: bool = False, mode: int = 0o600, owner: tuple[int, int] | None = None
) -> None:
    """Write the file durably, with these permissions. `exclusive`: raise FileExistsError where there is one.

    `owner`: the user and the group whose file it is to be; None: those of the process.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # left by a crash, or a link that another user has put there
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            if owner is not None:
                os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
            reached("file.written")
            os.fsync(descriptor)
            reached("file.synced")
        finally:
            os.close(descriptor)
        if exclusive:
            os.link(temporary, path)
            reached("file.linked")
            temporary.unlink()
        else:
            temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    reached("file.named")
    sync_directory(path.parent)
