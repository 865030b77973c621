"""`vtlfs fstab`: the line for /etc/fstab."""

import os
from pathlib import Path

import click

from vtlfs.cli import params, show
from vtlfs.cli.commands import install

# Boot goes on without the library. Mounted after the local disks and the network, unmounted before they go.
USUAL = ("nofail", "_netdev")
BACKSLASH = "\\"
UNSPEAKABLE = '\\"\n'  # characters that mount(8) and systemd don't read alike in the value of an option
REQUIRES = "x-systemd.requires-mounts-for"


@click.command(epilog=params.example("vtlfs fstab /srv/vtl /mnt/vtl -o host=alpha,allow_other >> /etc/fstab"))
@params.library_argument
@click.argument("mountpoint", metavar="MOUNTPOINT", type=params.directory)
@click.option(
    "-o",
    "options",
    metavar="OPTIONS",
    multiple=True,
    type=params.text,
    help="Mount options, separated by commas: those of `vtlfs mount` and of mount(8), such as noauto, user or"
    " x-systemd.automount.",
)
def fstab(library: Path, mountpoint: Path, options: tuple[str, ...]) -> None:
    """Print the line for /etc/fstab that mounts a library.

    The options nofail and _netdev are added, and for systemd the mounts that the library and its disks are on.
    """
    from vtlfs.engine.library import Library
    from vtlfs.fs.options import parse
    from vtlfs.mounts import mount_point_of

    parse(",".join(options))
    opened = Library.open(library)
    source, target = os.path.realpath(library), os.path.realpath(mountpoint)
    places = [source, *(disk.path for disk in opened.disks())]
    required = dict.fromkeys(str(mount_point_of(Path(place))) for place in places)
    required.pop("/", None)
    wanted = [word for word in ",".join(options).split(",") if word]
    wanted += [word for word in USUAL if word not in wanted]
    wanted += [_requirement(place) for place in required if not any(c in place for c in UNSPEAKABLE)]
    click.echo(" ".join([_escape(source), _escape(target), "vtlfs", _escape(",".join(wanted)), "0", "0"]))
    _remark(target, [place for place in required if any(c in place for c in UNSPEAKABLE)])


def _remark(target: str, unnamed: list[str]) -> None:
    """Say on standard error what is still to be done."""
    for place in unnamed:
        click.echo(f"vtlfs: fstab can't say that the mount on {show.printable(place)} has to come first", err=True)
    script = install.DIRECTORY / "mount.vtlfs"
    if not script.exists():
        click.echo(f"vtlfs: there is no {script} yet: run `vtlfs install` as root", err=True)
    if not os.path.isdir(target):
        click.echo(f"vtlfs: there is no {show.printable(target)} yet: run `mkdir -p {show.word(target)}`", err=True)


def _escape(field: str) -> str:
    """Return a field as fstab(5) wants it."""
    return "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in field)


def _requirement(path: str) -> str:
    """Return the option that names a mount. mount(8) wants quotes around a comma, systemd wants it escaped."""
    strange = any(c in path for c in " \t,")
    return f'{REQUIRES}="{path.replace(",", f"{BACKSLASH},")}"' if strange else f"{REQUIRES}={path}"
