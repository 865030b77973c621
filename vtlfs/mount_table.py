"""The kernel's table of mounts: what is mounted where, and from what. No mount is asked, so nothing here waits for one.

Used by the commands that take a mount point in the place of a library, and by everything that mounts and unmounts.
Any thread may call these functions.
"""

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

FILE_SYSTEM_TYPE = "fuse.vtlfs"


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the kernel's table of mounts. `device`: MAJOR:MINOR, as the kernel writes it.

    `user`: of a FUSE file system, who mounted it; None of any other.
    """

    device: str
    path: str
    kind: str
    source: str
    user: int | None = field(default=None, compare=False)


def table() -> list[Entry]:
    """Return what is mounted, in the order of mounting. No mount is asked, since a dead mount does not answer."""
    return read_table(Path("/proc/self/mountinfo").read_bytes())


def read_table(text: bytes) -> list[Entry]:
    """Read /proc/PID/mountinfo."""
    found = []
    for line in os.fsdecode(text).split("\n"):
        fields, _, rest = line.partition(" - ")
        if rest:
            mount, super_block = fields.split(" "), rest.split(" ")
            user = re.search(r"(?:^|,)user_id=([0-9]+)", super_block[-1])
            by = None if user is None else int(user[1])
            found.append(Entry(mount[2], _unescape(mount[4]), super_block[0], _unescape(super_block[1]), by))
    return found


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), field)


def entry_at(mountpoint: Path) -> Entry | None:
    """Return the vtlfs mount at a mount point; where several are stacked, the topmost."""
    found = [entry for entry in table() if entry.kind == FILE_SYSTEM_TYPE and entry.path == str(mountpoint)]
    return found[-1] if found else None


def mounted_at(mountpoint: Path) -> str | None:
    """Return the source of the vtlfs mount at a mount point: the library's path. None without such a mount."""
    entry = entry_at(mountpoint)
    return None if entry is None else entry.source


def path_of(mounted: Entry) -> Path | None:
    """Return where a file system is mounted now: the mount point or a directory above it may have been renamed.

    All other fields are compared, since the kernel gives the device number of an ended mount to the next mount.
    """
    return next((Path(entry.path) for entry in table() if replace(entry, path=mounted.path) == mounted), None)


def mount_point_of(path: Path) -> Path:
    """Return the mount point of the file system on which a path lies."""
    points = {entry.path for entry in table()}
    real = Path(os.path.realpath(path))
    return next((place for place in (real, *real.parents) if str(place) in points), Path("/"))


def entry_around(path: Path) -> Entry | None:
    """Return the vtlfs mount in which a path lies. The path itself is not looked up, so that a mount may hang."""
    where = os.path.abspath(path)
    around = [entry for entry in table() if where == entry.path or where.startswith(f"{entry.path.rstrip('/')}/")]
    innermost = max(around, key=lambda entry: len(entry.path), default=None)
    if innermost is None:
        return None
    topmost = [entry for entry in around if entry.path == innermost.path][-1]
    return topmost if topmost.kind == FILE_SYSTEM_TYPE else None
