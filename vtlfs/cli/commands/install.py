"""`vtlfs install` and `vtlfs uninstall`: what the system is to know of vtlfs.

The scripts in /sbin, which mount(8) and umount(8) call for the type vtlfs; manual pages, completion for shells, and a
template of a systemd unit. Each script starts the Python interpreter that ran `vtlfs install`: the system's, or that of
a virtual environment.
"""

import os
import subprocess
import sys
from pathlib import Path
from shlex import quote

import click

from vtlfs.cli import completion, params, show
from vtlfs.durable import sync_directory, write_file
from vtlfs.errors import UsageError, VtlfsError

MARK = b"Written by `vtlfs install`"  # stands near the beginning of each file
MARKED_BYTES = 400  # of a file, in which the mark stands
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
SBIN = Path("sbin")  # where mount(8) looks
REMARK = "Written by `vtlfs install`, removed by `vtlfs uninstall`."
PAGES = Path(__file__).absolute().parents[2] / "man"
COMPLETION = {  # where a shell looks, below the prefix
    "bash": "share/bash-completion/completions/vtlfs",
    "zsh": "share/zsh/site-functions/_vtlfs",
    "fish": "share/fish/vendor_completions.d/vtlfs.fish",
}
UNIT_PATH = "lib/systemd/system/vtlfs@.service"
UNIT = """\
# {remark}
# A mount as a service, for libraries that do not stand in /etc/fstab: `systemctl enable --now vtlfs@NAME` mounts what
# /etc/vtlfs/NAME.conf says, see docs/fstab.md:
#   LIBRARY=/srv/vtl
#   MOUNTPOINT=/mnt/vtl
#   OPTIONS=host=alpha,allow_other

[Unit]
Description=vtlfs library %I
After=local-fs.target remote-fs.target network.target
Wants=remote-fs.target

[Service]
Type=forking
Environment=OPTIONS=rw
EnvironmentFile=/etc/vtlfs/%i.conf
ExecStart={python} -I -X utf8 -m vtlfs mount -o ${{OPTIONS}} ${{LIBRARY}} ${{MOUNTPOINT}}
ExecStop={python} -I -X utf8 -m vtlfs umount ${{MOUNTPOINT}}
Restart=on-failure
RestartSec=10
TimeoutStartSec=5min
TimeoutStopSec=5min
KillMode=mixed
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""


class InstallError(VtlfsError):
    """The scripts can't be written or removed."""


def _where_options(command: params.C) -> params.C:
    command = click.option(
        "--prefix",
        metavar="DIR",
        default="/usr/local",
        type=params.directory,
        show_default=True,
        help="Where manual pages, completion and the unit go: /usr for a package.",
    )(command)
    return click.option(
        "--root",
        metavar="DIR",
        default="/",
        type=params.directory,
        help="Write below DIR instead of /, as when a package is made.",
    )(command)


@click.command(epilog=params.example("vtlfs install", "mount -t vtlfs /srv/vtl /mnt/vtl -o host=alpha"))
@_where_options
@click.option("--python", metavar="FILE", help="The Python that has vtlfs, if not this one: as when a package is made.")
def install(root: Path, prefix: Path, python: str | None) -> None:
    """Make vtlfs known to mount(8) and /etc/fstab, to man(1), to shells and to systemd.

    Writes /sbin/mount.vtlfs, /sbin/mount.fuse.vtlfs and /sbin/umount.fuse.vtlfs; the manual pages; completion for bash,
    zsh and fish; and the unit template vtlfs@.service. All start the same vtlfs that runs this command, so run the
    command again after vtlfs has moved. `vtlfs fstab` prints a line for /etc/fstab.
    """
    if python is None:
        _check_interpreter()
    wanted = _files(root, prefix, python or sys.executable)
    found = {path: _ours(path) for path in wanted}
    written = set()
    try:
        for path, (content, mode) in wanted.items():
            if found[path] != content or path.stat().st_mode & 0o777 != mode:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_file(path, content, mode=mode)
                written.add(path)
    except OSError as error:
        raise _refusal(error, root / SBIN, "install") from None
    for path in list(wanted)[: len(SCRIPTS)]:
        show.line(f"wrote {path}" if path in written else f"already there: {path}")
    what = "manual pages, completion for shells, and vtlfs@.service"
    state = f"{len(written)} of {len(wanted)} files written" if written else "all files were there already"
    show.line(f"{what} below {_below(root, prefix)}: {state}")


@click.command(epilog=params.example("vtlfs uninstall"))
@_where_options
def uninstall(root: Path, prefix: Path) -> None:
    """Remove what `vtlfs install` has written. Libraries that are mounted stay mounted."""
    found = [path for path in _installed(root, prefix) if _ours(path) is not None]
    try:
        for path in found:
            path.unlink()
        for directory in {path.parent for path in found}:
            sync_directory(directory)
    except OSError as error:
        raise _refusal(error, root / SBIN, "uninstall") from None
    for path in found:
        if path.name in SCRIPTS:
            show.line(f"removed {path}")
    if found:
        show.line(f"removed {len(found)} files in all")
    else:
        show.line(f"nothing to remove: there is no mount.vtlfs in {root / SBIN}")


def _below(root: Path, prefix: Path) -> Path:
    return root / os.path.relpath(prefix, "/")


def _files(root: Path, prefix: Path, python: str = sys.executable) -> dict[Path, tuple[bytes, int]]:
    """Return what to write: content and permissions by path, the scripts for mount(8) first.

    `python`: the interpreter that the files start.
    """
    below = _below(root, prefix)
    made = {root / SBIN / name: (_script(name, python), 0o755) for name in SCRIPTS}
    for page in sorted(PAGES.iterdir()):
        made[below / "share/man" / f"man{page.suffix[1:]}" / page.name] = (_page(page), 0o644)
    for shell, path in COMPLETION.items():
        made[below / path] = (_completion(shell), 0o644)
    made[below / UNIT_PATH] = (UNIT.format(remark=REMARK, python=_of_unit(python)).encode(), 0o644)
    return made


def _installed(root: Path, prefix: Path) -> list[Path]:
    """Return what there may be of this version of vtlfs, and the manual pages of others."""
    below = _below(root, prefix)
    pages = sorted(path for number in "18" for path in (below / f"share/man/man{number}").glob("*vtlfs*"))
    return list(dict.fromkeys([*_files(root, prefix), *(path for path in pages if _is_marked(path))]))


def _page(path: Path) -> bytes:
    """Return a manual page with the mark behind its first line, which may be a request that has to come first."""
    first, _, rest = path.read_text().partition("\n")
    return f'{first}\n.\\" {REMARK}\n{rest}'.encode()


def _completion(shell: str) -> bytes:
    """Return a shell's script with the mark behind its first line, which zsh reads."""
    from vtlfs.cli.main import program

    first, _, rest = completion.script(shell, program).lstrip().partition("\n")
    return f"{first}\n# {REMARK}\n{rest}".encode()


def _of_unit(path: str) -> str:
    """Return a path as a word of a unit's command."""
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$") + '"'


def _check_interpreter() -> None:
    """Raise InstallError unless this interpreter finds vtlfs without environment variables, as the scripts need."""
    words = [sys.executable, "-I", "-c", "import vtlfs.cli.helper"]
    done = subprocess.run(words, cwd="/", env={}, capture_output=True, check=False)
    if done.returncode:
        raise InstallError(f"{sys.executable} does not find vtlfs by itself; `pip install` vtlfs there first")


def _script(name: str, python: str) -> bytes:
    """Return the text of a script that starts vtlfs by this interpreter."""
    module = HELPER if python == sys.executable else python
    words = {"python": quote(python), "module": quote(module)}
    return os.fsencode(SCRIPTS[name].format(**words))


def _ours(path: Path) -> bytes | None:
    """Return the text of a file that `vtlfs install` wrote; None if there is no file.

    Raises UsageError if another program wrote the file.
    """
    try:
        if _is_marked(path):
            return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InstallError(f"{path}: {error.strerror}") from None
    raise UsageError(f"{path}: `vtlfs install` has not written this file; remove it first if nothing needs it")


def _is_marked(path: Path) -> bool:
    """Tell whether `vtlfs install` wrote a file. Raises OSError."""
    return not path.is_symlink() and MARK in path.read_bytes()[:MARKED_BYTES]


def _refusal(error: OSError, directory: Path, command: str) -> InstallError:
    where = directory if error.filename is None else error.filename
    if isinstance(error, PermissionError):
        return InstallError(f"{directory}: {error.strerror}; run `vtlfs {command}` as root")
    return InstallError(f"{where}: {error.strerror}")
