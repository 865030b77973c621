"""`vtlfs init`: making a library."""

import stat
from pathlib import Path

import click

from vtlfs.cli import params, show
from vtlfs.model import format_size, utc_now


@click.command(epilog=params.example("vtlfs init /srv/vtl --disk /disk1 --disk /disk2 --drives 8"))
@click.argument("library", metavar="LIBRARY", type=params.directory)
@click.option(
    "--disk",
    "disks",
    metavar="DIR",
    multiple=True,
    required=True,
    type=params.directory,
    help="A directory on a disk of its own. Give two or more.",
)
@click.option("--drives", metavar="N", type=params.number, default="4", show_default=True, help="How many drives.")
@click.option(
    "--stripe-unit",
    metavar="SIZE",
    type=params.size,
    default="1MiB",
    show_default=True,
    help="Bytes that go to one disk before it is the next one's turn: a multiple of 4KiB, up to 64MiB.",
)
def init(library: Path, disks: tuple[Path, ...], drives: int, stripe_unit: int) -> None:
    """Make a library in a new or empty directory.

    Each disk is labelled as the library's own; what else lies on it is left alone. The library's directory becomes
    readable by you only, and so does a disk's if nothing else lies in it.
    """
    from vtlfs.engine.library import create

    made = create(library, list(disks), drives=drives, stripe_unit=stripe_unit, at=utc_now(), snapshots=True)
    where = show.word(made.path)
    show.line(
        f"made library {made.path}: {show.count(len(disks), 'disk')}, {show.count(drives, 'drive')},"
        f" stripe unit {format_size(stripe_unit)}"
    )
    for disk in made.config.disks:
        mode = stat.S_IMODE(disk.stat().st_mode)
        if mode & 0o022 and not mode & stat.S_ISVTX:
            show.line(f"note: other users can remove what lies on {disk} (mode {mode:04o}); chmod go-w ends that")
    show.line(f"next: vtlfs media add {where} A00001L9..A00004L9, then vtlfs mount {where} MOUNTPOINT")
