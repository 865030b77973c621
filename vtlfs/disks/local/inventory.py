"""What lies on a disk, by names and sizes: the member files as the directories show them, without opening one."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vtlfs.disks.contents import SESSIONS_PER_GROUP, Entry, Listing
from vtlfs.disks.local.opening import SESSIONS, NotAFile, entered, member_path

_GROUP = re.compile(r"[0-9]{6,}")
_MEMBER = re.compile(r"([0-9]{12,})\.member")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def groups(disk: Path) -> tuple[set[int], list[str]]:
    """Return the numbers of the disk's directories of member files, and what lies beside them that is none.

    Directory G has sessions G * SESSIONS_PER_GROUP and on. Raises OSError.
    """
    numbers, strange = set(), []
    with _listed(disk, SESSIONS) as entries:
        for entry in entries:
            name = entry.name
            if _GROUP.fullmatch(name) and f"{int(name):06d}" == name and entry.is_dir(follow_symlinks=False):
                numbers.add(int(name))
            else:
                strange.append(str(disk / SESSIONS / name))
    return numbers, sorted(strange)


def members(disk: Path, group: int) -> Listing:
    """Return what is in one of these directories; nothing where there is none. Raises OSError."""
    directory = member_path(disk, group * SESSIONS_PER_GROUP).parent
    found = Listing({}, [])
    with _listed(disk, SESSIONS, directory.name) as entries:
        for entry in entries:
            session = _session(entry.name, group)
            if session is None:
                found.strange.append(str(directory / entry.name))
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # a file whose header could not be written is taken away again
                continue
            mode = status.st_mode
            found.members[session] = Entry(status.st_size, stat.S_ISREG(mode), not mode & _OTHERS)
    return found


def sessions_from(disk: Path, first: int) -> set[int]:
    """Return which sessions from number `first` on have a member file on the disk, by names alone. Raises OSError."""
    numbers, _ = groups(disk)
    found: set[int] = set()
    for group in sorted(number for number in numbers if number >= first // SESSIONS_PER_GROUP):
        directory = member_path(disk, group * SESSIONS_PER_GROUP).parent
        with _listed(disk, SESSIONS, directory.name) as entries:
            sessions = {_session(entry.name, group) for entry in entries}
        found.update(session for session in sessions if session is not None and session >= first)
    return found


def _session(name: str, group: int) -> int | None:
    """Return whose member file has this name in directory `group`; None: it is no such name."""
    match = _MEMBER.fullmatch(name)
    session = int(match[1]) if match else -1
    return session if session // SESSIONS_PER_GROUP == group and f"{session:012d}.member" == name else None


@contextmanager
def _listed(disk: Path, *names: str) -> Iterator[Iterator["os.DirEntry[str]"]]:
    """Yield what is in a directory of the disk; nothing where there is none. Raises OSError."""
    with ExitStack() as stack:
        entries: Iterator[os.DirEntry[str]] = iter(())
        try:
            directory = stack.enter_context(entered(disk, *names, flags=os.O_RDONLY))
            entries = stack.enter_context(os.scandir(directory))
        except FileNotFoundError:
            pass
        except NotAFile as error:
            raise OSError(errno.ELOOP, str(error), str(disk.joinpath(*names))) from None
        yield entries
