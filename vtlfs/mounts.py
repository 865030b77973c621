"""What is mounted where, what has to be so before a mount, and unmounting: the kernel's side of a mount."""

import errno
import logging
import os
import re
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shutil import which

from vtlfs.engine.library import Library
from vtlfs.engine.recover import is_alive
from vtlfs.errors import MountError, VtlfsError
from vtlfs.fs.options import MountOptions
from vtlfs.model import Mount

FUSE_DEVICE = "/dev/fuse"
FILE_SYSTEM_TYPE = "fuse.vtlfs"
UNMOUNT_SECONDS = 60.0

log = logging.getLogger("vtlfs")


def check_fuse(mountpoint: Path, options: MountOptions) -> None:
    try:
        os.close(os.open(FUSE_DEVICE, os.O_RDWR))
    except FileNotFoundError:
        raise MountError(f"no {FUSE_DEVICE}: load the kernel's module with `modprobe fuse`") from None
    except OSError as error:
        raise MountError(f"{FUSE_DEVICE}: {error.strerror}") from None
    if os.geteuid() == 0:
        return
    if which("fusermount3") is None:
        raise MountError("fusermount3 is missing, which mounts for users other than root; install fuse3")
    if options.allow_other and "user_allow_other" not in _fuse_configuration():
        raise MountError("allow_other is root's, unless /etc/fuse.conf has the line user_allow_other")
    if mountpoint.is_dir() and not os.access(mountpoint, os.W_OK):
        raise MountError(f"{mountpoint}: not enough rights to mount here: it must be writable by you")


def _fuse_configuration() -> list[str]:
    try:
        return [line.strip() for line in Path("/etc/fuse.conf").read_text().splitlines()]
    except OSError:
        return []


def check_mountpoint(mountpoint: Path) -> None:
    """Raise MountError unless the mount point is an empty directory. A dead vtlfs that is mounted there goes first."""
    try:
        status = mountpoint.stat()
        os.statvfs(mountpoint)  # for the kernel still answers stat() for a while for one that is dead
    except OSError as error:
        if error.errno != errno.ENOTCONN or mounted_at(mountpoint) is None:
            raise MountError(f"{mountpoint}: {error.strerror}") from None
        log.warning("%s: the mount here is dead; unmounting it", mountpoint)
        _run_umount(mountpoint, lazy=True)
        status = mountpoint.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise MountError(f"{mountpoint}: not a directory")
    if (source := mounted_at(mountpoint)) is not None:
        raise MountError(f"{mountpoint}: {source} is mounted here already; `vtlfs umount` it, or mount elsewhere")
    if os.path.ismount(mountpoint):
        raise MountError(f"{mountpoint}: in use, another file system is mounted here")
    try:
        if any(mountpoint.iterdir()):
            raise MountError(f"{mountpoint}: not empty")
    except OSError as error:
        raise MountError(f"{mountpoint}: {error.strerror}") from None


def mounted_at(mountpoint: Path) -> str | None:
    """Return the source of the vtlfs that is mounted there, the last one on top; None without one.

    Reads the kernel's table and touches no mount, for a dead one answers nothing.
    """
    there = [source for _, path, source in _table() if path == str(mountpoint)]
    return there[-1] if there else None


def device_at(mountpoint: Path) -> str | None:
    """Return the device, such as 0:45, of the vtlfs that is mounted there; None without one."""
    there = [device for device, path, _ in _table() if path == str(mountpoint)]
    return there[-1] if there else None


def _table() -> Iterator[tuple[str, str, str]]:
    """Yield the device, the mount point and the source of each vtlfs that is mounted."""
    for line in os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).split("\n"):
        fields, _, rest = line.partition(" - ")
        kind, source = rest.split(" ")[:2] if rest else ("", "")
        if kind == FILE_SYSTEM_TYPE:
            _, _, device, _, path = fields.split(" ")[:5]
            yield device, _unescape(path), _unescape(source)


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), field)


# --- unmounting -----------------------------------------------------------------------------------------------------


def unmount(mountpoint: Path) -> None:
    """Unmount, and return when everything is written and the serving process has ended.

    Raises MountError; of a mount that is in use it says who holds it.
    """
    mountpoint = Path(os.path.realpath(mountpoint))
    source = mounted_at(mountpoint)
    if source is None:
        raise MountError(f"{mountpoint}: no vtlfs is mounted here")
    serving = _serving(Path(source), mountpoint)
    _run_umount(mountpoint, lazy=False)
    deadline = time.monotonic() + UNMOUNT_SECONDS
    while any(is_alive(Path(source), mount.id) for mount in serving):
        if time.monotonic() > deadline:
            raise MountError(f"{mountpoint}: unmounted, but process {serving[0].pid} has not finished writing yet")
        time.sleep(0.02)


def _serving(library: Path, mountpoint: Path) -> list[Mount]:
    """Return the live mounts of the library at the mount point; none where the library is not to be had."""
    try:
        tracking = Library.open(library).tracking(read_only=True)
    except VtlfsError:
        return []
    try:
        return [mount for mount in tracking.mounts() if mount.mountpoint == str(mountpoint)]
    finally:
        tracking.close()


def _run_umount(mountpoint: Path, *, lazy: bool) -> None:
    flags = ["-l" if os.geteuid() == 0 else "-z"] if lazy else []
    program = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
    done = subprocess.run([*program, *flags, "--", mountpoint], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    holders = _holders(mountpoint)
    if holders:
        raise MountError(f"{mountpoint}: in use by {', '.join(holders)}")
    raise MountError(done.stderr.strip().replace("\n", "; ") or f"{mountpoint}: {program[0]} failed")


def _holders(mountpoint: Path) -> list[str]:
    """Return the processes that hold the mount: with an open file, as their directory or as their program."""
    found = []
    for process in sorted(
        (entry for entry in Path("/proc").iterdir() if entry.name.isdecimal()), key=lambda p: int(p.name)
    ):
        links = [process / "cwd", process / "root", process / "exe"]
        with suppress(OSError):
            links += (process / "fd").iterdir()
        for link in links:
            with suppress(OSError):
                target = os.readlink(link)
                if target == str(mountpoint) or target.startswith(f"{mountpoint}/"):
                    found.append(f"{(process / 'comm').read_text().strip()} (pid {process.name})")
                    break
    return found
