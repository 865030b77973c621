"""`vtlfs mount`, `vtlfs umount` and `vtlfs recover`: begin and end a mount, and recover after one that died."""

from pathlib import Path

import click

from vtlfs.cli import params, show
from vtlfs.model import Session, format_size


@click.command(epilog=params.example("vtlfs mount /srv/vtl /mnt/vtl -o host=alpha,allow_other"))
@params.library_before_paths
@click.argument("mountpoint", metavar="MOUNTPOINT", type=params.directory)
@click.option(
    "-o",
    "options",
    metavar="OPTIONS",
    multiple=True,
    type=params.text,
    help="Mount options, separated by commas: host=NAME, io=auto|cached|direct, reopen=refuse|allow,"
    " sync=close|none, allow_other,"
    " uid=, gid=, mode=, log=LEVEL, metrics=ADDRESS:PORT, ro, and those of mount(8).",
)
@click.option("-f", "--foreground", is_flag=True, help="Serve until unmounted instead of returning.")
def mount(library: Path, mountpoint: Path, options: tuple[str, ...], foreground: bool) -> None:
    """Mount a library on an empty directory. Returns when the mount is usable.

    A library may be mounted any number of times at once, each time with another host name.
    """
    from vtlfs import daemon, mounts

    daemon.mount(library, mountpoint, ",".join(options), foreground)
    if not foreground:
        mounts.tell_system(mountpoint, ",".join(options))


@click.command(epilog=params.example("vtlfs umount /mnt/vtl"))
@click.argument("mountpoint", metavar="MOUNTPOINT", type=params.directory)
def umount(mountpoint: Path) -> None:
    """Unmount a library, and wait until all bytes are written. If a program uses the mount, name it, and do nothing."""
    from vtlfs import mounts

    mounts.unmount(mountpoint)


@click.command(epilog=params.example("vtlfs recover /srv/vtl"))
@params.library_argument
@params.json_option
def recover(library: Path, as_json: bool) -> None:
    """End the sessions that a dead mount left open.

    The durable bytes of each session become a tape file. Sessions of live mounts go on.
    """
    from vtlfs.engine import recover as recovery
    from vtlfs.engine.library import Library

    found = recovery.recover(Library.open(library))
    if as_json:
        show.as_json([session.as_json() for session in found])
        return
    for session in found:
        show.line(_describe(session))
    if not found:
        show.line("nothing to recover: no dead mount has left a session open")


def _describe(session: Session) -> str:
    who = f"session {session.id} of {session.host} on {session.medium}"
    if session.tape_file is None:
        return f"{who}: ended, no bytes were recorded"
    return f"{who}: {format_size(session.bytes)} kept as tape file {session.tape_file:04d}"
