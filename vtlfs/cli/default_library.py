"""Which library a command works on: that of a mount point, or the default one where none is named.

The default is VTLFS_LIBRARY; else the only library that is mounted; else the only one that is listed in
/etc/vtlfs/libraries, to which `vtlfs init` adds libraries that root makes.
"""

import fcntl
import os
from pathlib import Path

from vtlfs.config import FILE_NAME
from vtlfs.errors import UsageError
from vtlfs.mount_table import FILE_SYSTEM_TYPE, entry_around, table

NAMED = "VTLFS_LIBRARY"  # in the environment: the default library, or a path in a mount of it
LISTED_IN = "VTLFS_LIBRARIES"  # in the environment: another file in the place of LIST
LIST = "/etc/vtlfs/libraries"
SHOWN = 3  # libraries in an error message


class NoDefaultLibrary(UsageError):
    """A command names no library, and there is none, or more than one, that it could mean."""

    def __init__(self, why: str) -> None:
        super().__init__(f"which library? {why}; name LIBRARY, or set {NAMED}")


def library_of(path: Path) -> Path:
    """Return the library that a path names: its directory, or a path in a mount of it.

    Any other path is returned as it is. A mount that hangs is not asked.
    """
    if (entry := entry_around(path)) is not None:
        return Path(entry.source)
    if _is_there(path):
        return path
    entry = entry_around(Path(os.path.realpath(path)))
    return path if entry is None else Path(entry.source)


def names_library(word: str, *, mounted: bool = True) -> bool:
    """Tell whether a word is the path of a library; with `mounted`, or of something in a mount of one."""
    try:
        if not word or (Path(word) / FILE_NAME).exists():
            return bool(word)
        return mounted and entry_around(Path(os.path.realpath(word))) is not None
    except (OSError, ValueError):
        return False


def default() -> Path:
    """Return the library of a command that names none. Raises NoDefaultLibrary."""
    if named := os.environ.get(NAMED):
        library = library_of(Path(named))
        if not _is_there(library):
            raise NoDefaultLibrary(f"{NAMED} is {named}, where there is none")
        return library
    mounted = _mounted()
    found, where = (mounted, "mounted") if mounted else (_listed(), f"in {list_file()}")
    if not found:
        raise NoDefaultLibrary(f"none is mounted, and none is {where}")
    if len(found) > 1:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise NoDefaultLibrary(f"{len(found)} are {where}: {', '.join(found[:SHOWN])}{more}")
    return Path(found[0])


def known() -> list[str]:
    """Return the libraries that are mounted, and those of the machine's list."""
    return list(dict.fromkeys([*_mounted(), *_listed()]))


def list_file() -> Path:
    """Return the file that lists the machine's libraries, one path in a line."""
    return Path(os.environ.get(LISTED_IN) or LIST)


def remember(library: Path) -> None:
    """Add a library to the machine's list, if root runs this. Raises OSError.

    A path that has several lines is left out, since each line of the list is a path.
    """
    path = os.path.realpath(library)
    if os.geteuid() != 0 or "\n" in path:
        return
    file = list_file()
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    with open(descriptor, "r+b", buffering=0) as opened:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # two `vtlfs init` at once
        lines = opened.read()
        if os.fsencode(path) not in lines.split(b"\n"):
            opened.write((b"\n" if lines and not lines.endswith(b"\n") else b"") + os.fsencode(path) + b"\n")


def _mounted() -> list[str]:
    """Return the libraries that root or this user has mounted: anybody may give a mount the name of a library."""
    trusted = {0, os.geteuid()}
    return list(dict.fromkeys(one.source for one in table() if one.kind == FILE_SYSTEM_TYPE and one.user in trusted))


def _listed() -> list[str]:
    """Return the libraries of the machine's list that are there still, each once."""
    try:
        text = os.fsdecode(list_file().read_bytes())
    except OSError:
        return []
    paths = [line for line in text.split("\n") if line.startswith("/")]
    return list(dict.fromkeys(os.path.realpath(path) for path in paths if _is_there(Path(path))))


def _is_there(library: Path) -> bool:
    """Tell whether there is a library; one that this user may not look at counts."""
    try:
        return (library / FILE_NAME).exists()
    except PermissionError:
        return True
