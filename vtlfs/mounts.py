"""The kernel's side of a mount: the checks before a mount, and unmounting.

Used by the commands `mount`, `umount` and `tui`, by the programs behind mount(8) and umount(8), and by the daemon.
Everything here may block.
"""

import errno
import logging
import os
import select
import stat
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from shutil import which

import psutil
from psutil import Process

from vtlfs.engine.lease import Leases
from vtlfs.engine.library import Library
from vtlfs.engine.scrub import soundness
from vtlfs.errors import MountError, VtlfsError
from vtlfs.fs.options import MountOptions
from vtlfs.model import Mount
from vtlfs.mount_table import FILE_SYSTEM_TYPE, Entry, entry_at, mounted_at, table

FUSE_DEVICE = "/dev/fuse"
IN_CONTAINER = "start a container with `--device /dev/fuse --cap-add SYS_ADMIN`"
CONNECTIONS = Path("/sys/fs/fuse/connections")
UNMOUNT_SECONDS = 60.0  # the longest that an unmount waits for the end of the serving process
UNUSUAL_SECONDS = 2.0  # a serving process that takes longer to end may hang, or be mounted elsewhere too

log = logging.getLogger("vtlfs")


def prepare(library: Path, mountpoint: Path, options: MountOptions) -> tuple[Library, Path]:
    """Check that the library can be mounted there; return it, and the mount point by its real path.

    A dead vtlfs mount at the mount point is unmounted. Raises VtlfsError.
    """
    from vtlfs.fs.rights import Permissions  # needs trio, whose import takes longer than unmounting

    opened = Library.open(library)
    soundness.check_before_mount(opened, read_only=options.read_only)
    if not options.read_only:
        opened.disks()
    Permissions(opened.config, options).warn()
    mountpoint = Path(os.path.realpath(mountpoint))
    check_fuse(mountpoint, options)
    check_mountpoint(mountpoint)
    return opened, mountpoint


def check_fuse(mountpoint: Path, options: MountOptions) -> None:
    """Raise MountError unless this process may use FUSE to mount at the mount point."""
    try:
        os.close(os.open(FUSE_DEVICE, os.O_RDWR))
    except FileNotFoundError:
        raise MountError(f"no {FUSE_DEVICE}; load the kernel's module with `modprobe fuse`; {IN_CONTAINER}") from None
    except OSError as error:
        if error.errno == errno.EPERM:  # of a device that a control group keeps from a container
            raise MountError(f"{FUSE_DEVICE}: {error.strerror}; {IN_CONTAINER}") from None
        raise MountError(f"{FUSE_DEVICE}: {error.strerror}; allow this user to read and write it") from None
    if os.geteuid() == 0:
        return
    if which("fusermount3") is None:
        raise MountError("fusermount3 is missing, without which only root can mount; install fuse3")
    if options.allow_other and "user_allow_other" not in _fuse_configuration():
        raise MountError(
            "mount option 'allow_other': only root may use it here; leave it out, or have root add the line"
            " user_allow_other to /etc/fuse.conf"
        )
    if mountpoint.is_dir() and not os.access(mountpoint, os.W_OK):
        raise MountError(f"{mountpoint}: you may not write to this directory; mount on one that you may write to")


def _fuse_configuration() -> list[str]:
    try:
        return [line.strip() for line in Path("/etc/fuse.conf").read_text().splitlines()]
    except OSError:
        return []


def check_mountpoint(mountpoint: Path) -> None:
    """Raise MountError unless the mount point is an empty directory. Unmounts a dead vtlfs mount there first."""
    try:
        status = mountpoint.stat()
        os.statvfs(mountpoint)  # asks the serving process; stat() of a dead mount may be answered from a cache
    except OSError as error:
        if error.errno != errno.ENOTCONN or mounted_at(mountpoint) is None:
            raise MountError(f"{mountpoint}: {error.strerror}; mount on an empty directory") from None
        log.warning("%s: the mount here is dead; unmounting it", mountpoint)
        _run_umount(mountpoint, lazy=True)
        status = mountpoint.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise MountError(f"{mountpoint}: not a directory; mount on an empty directory")
    if (source := mounted_at(mountpoint)) is not None:
        raise MountError(f"{mountpoint}: {source} is mounted here already; `vtlfs umount` it, or mount elsewhere")
    if any(entry.path == str(mountpoint) and entry.kind != "autofs" for entry in table()):
        raise MountError(f"{mountpoint}: another file system is mounted here; unmount it, or mount elsewhere")
    try:
        if any(mountpoint.iterdir()):
            raise MountError(f"{mountpoint}: not empty; mount on an empty directory")
    except OSError as error:
        raise MountError(f"{mountpoint}: {error.strerror}; mount on an empty directory that you may read") from None


# --- telling mount(8) ------------------------------------------------------------------------------------------------


def tell_system(mountpoint: Path, options: str) -> None:
    """Write options that the kernel does not keep into /run/mount/utab, the table of mount(8). Only for root's mounts.

    `uhelper`: without it, root's umount(8) asks statfs() for the type, gets `fuse`, and does not start
    /sbin/umount.fuse.vtlfs, which waits for the serving process. `_netdev`: without it, systemd takes the mount for
    one of a local file system. A missing or left-over entry does no other harm.
    """
    place = Path(os.path.realpath(mountpoint))
    if os.geteuid() == 0 and (source := mounted_at(place)) is not None:
        remarks = [f"uhelper={FILE_SYSTEM_TYPE}", *({"_netdev"} & set(options.split(",")))]
        words = ["mount", "-i", "-f", "-t", FILE_SYSTEM_TYPE, "-o", ",".join(remarks), "--"]
        subprocess.run([*words, source, place], capture_output=True, check=False)


# --- unmounting -----------------------------------------------------------------------------------------------------


def unmount(mountpoint: Path, *, lazy: bool = False, force: bool = False) -> None:
    """Unmount, and return when everything is written and the serving process has ended.

    Does not wait where the serving process goes on: after a lazy unmount, or while the file system is mounted elsewhere
    too. Raises MountError, which names the processes that hold a mount in use.
    """
    path = Path(os.path.abspath(mountpoint))
    entry = entry_at(path)
    if entry is None:  # a symbolic link; not looked up at first, since realpath() may ask a mount that hangs
        path = Path(os.path.realpath(mountpoint))
        entry = entry_at(path)
    if entry is None:
        raise MountError(f"{path}: no vtlfs is mounted here; `findmnt -t {FILE_SYSTEM_TYPE}` lists its mounts")
    if lazy or force:
        _run_umount(path, lazy=lazy, force=force)
        return
    serving = _serving(Path(entry.source), path)
    try:
        _run_umount(path)
        _wait(serving, entry)
    finally:
        for descriptor in serving:
            os.close(descriptor)


def _wait(serving: dict[int, int], entry: Entry) -> None:
    """Wait for the serving processes to end. Return early if they go on serving elsewhere, or hang with a disk.

    `serving`: process numbers by pidfd. Raises MountError after UNMOUNT_SECONDS.
    """
    began = time.monotonic()
    running = dict(serving)
    while running:
        ended, _, _ = select.select(running, [], [], 0.02)
        waited = time.monotonic() - began
        running = {one: pid for one, pid in running.items() if one not in ended and not _hangs(pid, waited)}
        if running and _goes_on(entry, waited):
            return
        if running and waited > UNMOUNT_SECONDS:
            pid = next(iter(running.values()))
            raise MountError(f"{entry.path}: unmounted, but process {pid} is still writing; wait until it has ended")


def _hangs(pid: int, waited: float) -> bool:
    """Tell whether the process has ended but for a thread that waits for a disk."""
    try:
        return waited > UNUSUAL_SECONDS and Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _goes_on(entry: Entry, waited: float) -> bool:
    """Tell whether the file system is still mounted elsewhere: by a bind mount, or in a container's mount table.

    A container's mount shows only in the kernel's list of FUSE connections, by a number that may by now belong to
    another mount. So the list is read only when the process takes unusually long to end.
    """
    if any((other.device, other.source) == (entry.device, entry.source) for other in table()):
        return True
    return waited > UNUSUAL_SECONDS and (CONNECTIONS / entry.device.partition(":")[2]).exists()


def _serving(library: Path, mountpoint: Path) -> dict[int, int]:
    """Return the processes that serve the library at the mount point, by pidfd. The caller closes the pidfds.

    Empty where the library can't be opened, or belongs to another user.
    """
    try:
        opened = Library.open(library)
        tracking = opened.tracking(read_only=True)
    except VtlfsError:
        return {}
    found: dict[int, int] = {}
    try:
        for mount in tracking.mounts.live():
            if mount.mountpoint == str(mountpoint):
                with suppress(psutil.Error, OSError):
                    _add_server(found, opened.leases, mount)
    finally:
        tracking.close()
    return found


def _add_server(found: dict[int, int], leases: Leases, mount: Mount) -> None:
    """Add the mount's process, if the process of that number holds the mount's lease.

    Otherwise the mount is on another machine, or its process has died and another process has got the number.
    """
    descriptor = os.pidfd_open(mount.pid)
    try:
        if leases.is_held_by(mount.id, mount.pid):
            found[descriptor] = mount.pid
    finally:
        if descriptor not in found:
            os.close(descriptor)


def _run_umount(mountpoint: Path, *, lazy: bool = False, force: bool = False) -> None:
    """Unmount with umount(8), or fusermount3 for users. `-i` keeps umount(8) from starting umount.fuse.vtlfs again."""
    words = ["umount", "-i"] if os.geteuid() == 0 else ["fusermount3", "-u"]
    if lazy:
        words.append("-l" if os.geteuid() == 0 else "-z")
    if force and os.geteuid() == 0:
        words.append("-f")
    for pause in (0.1, 0.5, 0.0):
        done = subprocess.run([*words, "--", mountpoint], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        holders = _holders(mountpoint)
        if holders:
            raise MountError(f"{mountpoint}: in use by {', '.join(holders)}; end what uses it, then unmount again")
        if "busy" not in done.stderr:
            break
        time.sleep(pause)  # the mount was in use, and the process that held it has ended since: try again
    raise MountError(done.stderr.strip().replace("\n", "; ") or f"{mountpoint}: {words[0]} failed")


def _holders(mountpoint: Path) -> list[str]:
    """Return the processes that hold the mount by an open file, their working directory, root or program."""
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
