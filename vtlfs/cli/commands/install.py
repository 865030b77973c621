"""`vtlfs install` and `vtlfs uninstall`: the scripts in /sbin through which mount(8) and umount(8) find vtlfs.

Each script starts the Python interpreter that ran `vtlfs install`, be it the system's or a virtual environment's.
"""

import os
import subprocess
import sys
from pathlib import Path
from shlex import quote

import click

from vtlfs.cli import params, show
from vtlfs.durable import sync_directory, write_file
from vtlfs.errors import UsageError, VtlfsError

MARK = b"#!/bin/sh\n# Written by `vtlfs install`"  # how each of our scripts begins
BEGINNING = """\
#!/bin/sh
# Written by `vtlfs install`, removed by `vtlfs uninstall`. mount(8) or umount(8) starts it.
PATH=${{PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}}
export PATH
python={python}
module={module}
"""
MOUNT = """\
if [ ! -x "$python" ] || [ ! -r "$module" ]; then
    echo "${{0##*/}}: $python and its vtlfs are gone, or closed to you; run 'vtlfs install' of the vtlfs to use" >&2
    exit 2
fi
exec "$python" -I -X utf8 -m vtlfs.cli.helper mount "$@"
"""
UMOUNT = """\
if [ -x "$python" ] && [ -r "$module" ]; then
    "$python" -I -X utf8 -m vtlfs.cli.helper umount "$@"
    status=$?
    [ $status = 1 ] || exit $status # 1: it did not even begin
fi
exec umount -i "$@" # does not wait for the mount's last transaction: an unmount must be possible without vtlfs
"""
SCRIPTS = {  # umount(8) goes by the type that the kernel knows
    "mount.vtlfs": BEGINNING + MOUNT,
    "mount.fuse.vtlfs": BEGINNING + MOUNT,
    "umount.fuse.vtlfs": BEGINNING + UMOUNT,
}
HELPER = str(Path(__file__).absolute().parents[1] / "helper.py")  # what the scripts start
DIRECTORY = Path("/sbin")  # where mount(8) looks


class InstallError(VtlfsError):
    """The scripts can't be written or removed."""


def _root_option(command: params.C) -> params.C:
    return click.option(
        "--root",
        metavar="DIR",
        default="/",
        type=params.directory,
        help="Do it in DIR/sbin instead of /sbin: for those who make packages.",
    )(command)


@click.command(epilog=params.example("vtlfs install", "mount -t vtlfs /srv/vtl /mnt/vtl -o host=alpha"))
@_root_option
def install(root: Path) -> None:
    """Have mount(8), umount(8) and /etc/fstab know the type vtlfs.

    Writes /sbin/mount.vtlfs, /sbin/mount.fuse.vtlfs and /sbin/umount.fuse.vtlfs, which start this very vtlfs.
    Run it again when vtlfs has moved. `vtlfs fstab` prints a line for /etc/fstab.
    """
    _check_interpreter()
    directory = root / DIRECTORY.relative_to("/")
    found = {directory / name: _ours(directory / name) for name in SCRIPTS}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, old in found.items():
            script = _script(path.name)
            if old == script and path.stat().st_mode & 0o777 == 0o755:
                show.line(f"already there: {path}")
            else:
                write_file(path, script, mode=0o755)
                show.line(f"wrote {path}")
    except OSError as error:
        raise _refusal(error, directory, "install") from None


@click.command(epilog=params.example("vtlfs uninstall"))
@_root_option
def uninstall(root: Path) -> None:
    """Remove what `vtlfs install` has written. What is mounted stays mounted."""
    directory = root / DIRECTORY.relative_to("/")
    found = [path for path in (directory / name for name in SCRIPTS) if _ours(path) is not None]
    try:
        for path in found:
            path.unlink()
            show.line(f"removed {path}")
        if found:
            sync_directory(directory)
        else:
            show.line(f"nothing to remove: there is no mount.vtlfs in {directory}")
    except OSError as error:
        raise _refusal(error, directory, "uninstall") from None


def _check_interpreter() -> None:
    """Raise InstallError unless this interpreter finds vtlfs by itself, as it will have to."""
    words = [sys.executable, "-I", "-c", "import vtlfs.cli.helper"]
    done = subprocess.run(words, cwd="/", env={}, capture_output=True, check=False)
    if done.returncode:
        raise InstallError(f"{sys.executable} does not find vtlfs by itself; `pip install` it there first")


def _script(name: str) -> bytes:
    """Return the script, which starts the interpreter that runs now."""
    words = {"python": quote(sys.executable), "module": quote(HELPER)}
    return os.fsencode(SCRIPTS[name].format(**words))


def _ours(path: Path) -> bytes | None:
    """Return a script that `vtlfs install` wrote; None where nothing is. Raises UsageError for anything else."""
    try:
        if not path.is_symlink() and (text := path.read_bytes()).startswith(MARK):
            return text
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InstallError(f"{path}: {error.strerror}") from None
    raise UsageError(f"{path}: `vtlfs install` has not written this; remove it first if it isn't needed")


def _refusal(error: OSError, directory: Path, command: str) -> InstallError:
    where = directory if error.filename is None else error.filename
    if isinstance(error, PermissionError):
        return InstallError(f"{directory}: {error.strerror}; run `vtlfs {command}` as root")
    return InstallError(f"{where}: {error.strerror}")
