"""`vtlfs init`: making a library."""

import stat
from pathlib import Path

import click

from vtlfs.cli import default_library, params, show
from vtlfs.model import format_size, utc_now

PROMISES = (
    "a disk that dies takes what lies on it along",
    "any one disk may die without loss",
    "any two disks may die without loss",
)


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
@click.option(
    "--parity",
    metavar="M",
    type=params.number,
    help="How many disks may die without loss: 0, 1 or 2. Default: 1 with three disks or more, else 0.",
)
def init(library: Path, disks: tuple[Path, ...], drives: int, stripe_unit: int, parity: int | None) -> None:
    """Make a library in a new or empty directory.

    Each disk is labelled as the library's own; what else lies on it is left alone. The library's directory becomes
    readable by you only, and so does a disk's if nothing else lies in it.
    """
    from vtlfs.engine.condition import sharing
    from vtlfs.engine.library import create

    parity = int(len(disks) > 2) if parity is None else parity
    made = create(
        *(library, list(disks)), drives=drives, stripe_unit=stripe_unit, parity=parity, at=utc_now(), snapshots=True
    )
    where = show.word(made.path)
    show.line(
        f"made library {made.path}: {show.count(len(disks), 'disk')}, {show.count(drives, 'drive')},"
        f" stripe unit {format_size(stripe_unit)}, parity {parity}"
    )
    show.line(PROMISES[parity] + ("; --parity 1 mirrors" if not parity and len(disks) == 2 else ""))
    _remember(made.path)
    for note in sharing({str(disk): disk.stat().st_dev for disk in made.config.disks}, parity):
        show.line(f"note: {note}")
    for disk in made.config.disks:
        mode = stat.S_IMODE(disk.stat().st_mode)
        if mode & 0o022 and not mode & stat.S_ISVTX:
            show.line(f"note: other users can remove what lies on {disk} (mode {mode:04o}); chmod go-w ends that")
    show.line(f"next: vtlfs media add {where} A00001L9..A00004L9, then vtlfs mount {where} MOUNTPOINT")


def _remember(library: Path) -> None:
    try:
        default_library.remember(library)
    except OSError as error:  # the library is made; only the list of libraries lacks it
        why = f"{default_library.list_file()}: {error.strerror}"
        show.line(f"note: {why}; commands find this library by its name, by {default_library.NAMED}, or while mounted")
