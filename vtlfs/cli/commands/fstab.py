"""`vtlfs fstab`: prints the line for /etc/fstab that mounts a library."""

import os
import re
from pathlib import Path

import click

from vtlfs.cli import params, show
from vtlfs.cli.commands import install

# nofail: a boot goes on without the library. _netdev: mounted after local disks and network, unmounted before these.
USUAL = ("nofail", "_netdev")
BACKSLASH = "\\"
PLAIN = re.compile("[A-Za-z0-9:_./-]+")
AMBIGUOUS = '\\"\n'  # characters that mount(8) and systemd read differently in the value of an option
REQUIRES = "x-systemd.requires-mounts-for"
AFTER = "x-systemd.after"


@click.command(epilog=params.example("vtlfs fstab /srv/vtl /mnt/vtl -o host=alpha,allow_other >> /etc/fstab"))
@params.library_before_paths
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

    The line has the options nofail and _netdev, and for systemd the mounts that the library and its disks are on. With
    parity, systemd waits for the mounts of the disks, but mounts the library even if some of them fail.
    """
    from vtlfs.disks.missing import MissingDisk
    from vtlfs.engine.library import Library
    from vtlfs.fs.options import parse
    from vtlfs.mount_table import mount_point_of

    parse(",".join(options))
    opened = Library.open(library)
    source, target = os.path.realpath(library), os.path.realpath(mountpoint)
    disks = opened.disks()
    needed = {str(mount_point_of(Path(source))): REQUIRES}
    for disk in disks:
        needed.setdefault(str(mount_point_of(Path(disk.path))), AFTER if opened.config.parity else REQUIRES)
    needed.pop("/", None)
    wanted = [word for word in ",".join(options).split(",") if word]
    wanted += [word for word in USUAL if word not in wanted]
    named = {place: _need(option, place) for place, option in needed.items()}
    wanted += [option for option in named.values() if option is not None]
    click.echo(" ".join([_escape(source), _escape(target), "vtlfs", _escape(",".join(wanted)), "0", "0"]))
    _remark(target, [place for place, option in named.items() if option is None])
    for disk in disks:
        if isinstance(disk, MissingDisk):
            where = show.printable(f"disk {disk.number} ({disk.path})")
            click.echo(
                f"vtlfs: {where} is missing: the line may lack its mount; run this again with all disks", err=True
            )


def has_line(table: str, library: Path) -> bool:
    """Tell whether the text of an fstab has a line for a library."""
    fields = [line.split()[:3] for line in table.splitlines()]
    source = _escape(os.path.realpath(library))
    return any(len(some) == 3 and (some[0], some[2]) == (source, "vtlfs") for some in fields)


def _remark(target: str, unnamed: list[str]) -> None:
    """Say on standard error what is still to be done before the line works. `unnamed`: mounts that it can't name."""
    for place in unnamed:
        click.echo(
            f"vtlfs: the line can't name the mount on {show.printable(place)}; see that it is mounted first", err=True
        )
    script = Path("/") / install.SBIN / "mount.vtlfs"
    if not script.exists():
        click.echo(f"vtlfs: there is no {script} yet: run `vtlfs install` as root", err=True)
    if not os.path.isdir(target):
        click.echo(f"vtlfs: there is no {show.printable(target)} yet: run `mkdir -p {show.word(target)}`", err=True)


def _escape(field: str) -> str:
    """Return a field of the line, escaped as fstab(5) says."""
    return "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in field)


def _need(option: str, path: str) -> str | None:
    """Return the option that names a mount for systemd; None if no option can name this path."""
    if option == AFTER:
        return f"{AFTER}={path if PLAIN.fullmatch(path) else _unit(path)}"
    if any(c in path for c in AMBIGUOUS):
        return None
    strange = any(c in path for c in " \t,")  # mount(8) wants quotes around a comma, systemd wants it escaped
    return f'{option}="{path.replace(",", f"{BACKSLASH},")}"' if strange else f"{option}={path}"


def _unit(path: str) -> str:
    """Return systemd's name for the mount at a path, as systemd-escape(1) does: x-systemd.after takes no quotes."""
    name = "-".join(
        "".join(c if PLAIN.fullmatch(c) and c not in "/-" else _escaped(c) for c in part)
        for part in path.strip("/").split("/")
    )
    return f"{f'{BACKSLASH}x2e{name[1:]}' if name.startswith('.') else name}.mount"


def _escaped(character: str) -> str:
    return "".join(f"{BACKSLASH}x{byte:02x}" for byte in os.fsencode(character))
