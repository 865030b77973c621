"""`vtlfs install` and `vtlfs uninstall`: the scripts in /sbin that mount(8) and umount(8) call for the type vtlfs.

Each script starts the Python interpreter that ran `vtlfs install`: the system's, or that of a virtual environment.
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

MARK = b"#!/bin/sh\n# Written by `vtlfs install`"  # the beginning of each script
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
    echo "${{0##*/}}: $python or its vtlfs is gone, or you may not read it; run 'vtlfs install' again" >&2
    exit 2
fi
exec "$python" -I -X utf8 -m vtlfs.cli.helper mount "$@"
"""
UMOUNT = """\
if [ -x "$python" ] && [ -r "$module" ]; then
    "$python" -I -X utf8 -m vtlfs.cli.helper umount "$@"
    status=$?
    [ $status = 1 ] || exit $status # 1: Python did not start, or the arguments are wrong
fi
exec umount -i "$@" # does not wait for the mount's last transaction: an unmount must be possible without vtlfs
"""
SCRIPTS = {  # umount(8) takes the type that the kernel has for the mount: fuse.vtlfs
    "mount.vtlfs": BEGINNING + MOUNT,
    "mount.fuse.vtlfs": BEGINNING + MOUNT,
    "umount.fuse.vtlfs": BEGINNING + UMOUNT,
}
HELPER = str(Path(__file__).absolute().parents[1] / "helper.py")  # the program that the scripts start
DIRECTORY = Path("/sbin")  # where mount(8) looks


class InstallError(VtlfsError):
    """The scripts can't be written or removed."""


def _root_option(command: params.C) -> params.C:
    return click.option(
        "--root",
        metavar="DIR",
        default="/",
        type=params.directory,
        help="Use DIR/sbin instead of /sbin, as when a package is made.",
    )(command)


@click.command(epilog=params.example("vtlfs install", "mount -t vtlfs /srv/vtl /mnt/vtl -o host=alpha"))
@_root_option
def install(root: Path) -> None:
    """Make the type vtlfs known to mount(8), umount(8) and /etc/fstab.

    Writes /sbin/mount.vtlfs, /sbin/mount.fuse.vtlfs and /sbin/umount.fuse.vtlfs. They start the same vtlfs that runs
    this command, so run the command again after vtlfs has moved. `vtlfs fstab` prints a line for /etc/fstab.
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
    """Remove the scripts that `vtlfs install` has written. Libraries that are mounted stay mounted."""
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
    """Raise InstallError unless this interpreter finds vtlfs without environment variables, as the scripts need."""
    words = [sys.executable, "-I", "-c", "import vtlfs.cli.helper"]
    done = subprocess.run(words, cwd="/", env={}, capture_output=True, check=False)
    if done.returncode:
        raise InstallError(f"{sys.executable} does not find vtlfs by itself; `pip install` vtlfs there first")


def _script(name: str) -> bytes:
    """Return the text of a script that starts the interpreter which runs this command."""
    words = {"python": quote(sys.executable), "module": quote(HELPER)}
    return os.fsencode(SCRIPTS[name].format(**words))


def _ours(path: Path) -> bytes | None:
    """Return the text of a script that `vtlfs install` wrote; None if there is no file.

    Raises UsageError if another program wrote the file.
    """
    try:
        if not path.is_symlink() and (text := path.read_bytes()).startswith(MARK):
            return text
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InstallError(f"{path}: {error.strerror}") from None
    raise UsageError(f"{path}: `vtlfs install` has not written this file; remove it first if nothing needs it")


def _refusal(error: OSError, directory: Path, command: str) -> InstallError:
    where = directory if error.filename is None else error.filename
    if isinstance(error, PermissionError):
        return InstallError(f"{directory}: {error.strerror}; run `vtlfs {command}` as root")
    return InstallError(f"{where}: {error.strerror}")
