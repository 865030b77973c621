"""`vtlfs media`, `vtlfs load` and `vtlfs unload`: media, and the medium to which a drive's `loaded` points."""

from contextlib import closing
from pathlib import Path

import click

from vtlfs.cli import params, show
from vtlfs.cli.show import Column
from vtlfs.model import Medium, expand_barcodes, utc_now


@click.group(no_args_is_help=False, epilog=params.example("vtlfs media list /srv/vtl"))
def media() -> None:
    """Add media to a library, or list them."""


@media.command(epilog=params.example("vtlfs media add /srv/vtl A00001L9..A00020L9 --capacity 12TB"))
@params.library_argument
@click.argument("barcodes", metavar="BARCODE...", nargs=-1, required=True)
@click.option(
    "--capacity",
    metavar="SIZE",
    type=params.capacity,
    help="The capacity of each medium, such as 800GiB or 12TB. Without it, only the disks limit a medium.",
)
def add(library: Path, barcodes: tuple[str, ...], capacity: int | None) -> None:
    """Add empty media. If one can't be added, none is. A00001L9..A00020L9 is a range."""
    from vtlfs.engine.library import Library

    new = expand_barcodes(barcodes)
    with closing(Library.open(library).tracking()) as tracking, tracking.transaction():
        tracking.media.add(new, capacity, utc_now())
    which = new[0] if len(new) == 1 else f"{new[0]} to {new[-1]}"
    limit = "no capacity limit" if capacity is None else f"capacity {show.human(capacity)} each"
    show.line(f"added {len(new):,} {'medium' if len(new) == 1 else 'media'}: {which}, {limit}")


@media.command("list", epilog=params.example("vtlfs media list /srv/vtl --json"))
@params.library_argument
@params.json_option
def list_media(library: Path, as_json: bool) -> None:
    """List the media and how full they are."""
    from vtlfs.engine.library import Library

    with closing(Library.open(library).tracking(read_only=True)) as tracking:
        found = tracking.media.all()
    if as_json:
        show.as_json([_document(medium) for medium in found])
    elif not found:
        show.line(f"no media; vtlfs media add {show.word(library)} BARCODE... adds some")
    else:
        times = [Column(text, folds=False) for text in ("ADDED", "WRITTEN")]
        figures = [Column(text, figures=True) for text in ("CAPACITY", "BYTES", "FILES", "FILL")]
        show.table([Column("BARCODE"), *figures, *times], [_row(medium) for medium in found])


@click.command(epilog=params.example("vtlfs load /srv/vtl 0 A00001L9"))
@params.library_argument
@click.argument("drive", metavar="N", type=params.number)
@click.argument("barcode", metavar="BARCODE", type=params.barcode)
def load(library: Path, drive: int, barcode: str) -> None:
    """Point /drives/N/loaded to a medium.

    Programs that want a fixed device path can use this link. All other paths to the drive and the medium stay usable.
    """
    from vtlfs.engine.library import Library

    opened = Library.open(library)
    with closing(opened.tracking()) as tracking, tracking.transaction():
        tracking.drives.ensure(opened.config.drives)
        tracking.drives.load(drive, barcode, utc_now())
    show.line(f"drive {drive}: {barcode} loaded")


@click.command(epilog=params.example("vtlfs unload /srv/vtl 0"))
@params.library_argument
@click.argument("drive", metavar="N", type=params.number)
def unload(library: Path, drive: int) -> None:
    """Remove the link /drives/N/loaded. Open sessions go on."""
    from vtlfs.engine.library import Library

    opened = Library.open(library)
    with closing(opened.tracking()) as tracking, tracking.transaction():
        tracking.drives.ensure(opened.config.drives)
        unloaded = tracking.drives.unload(drive)
    show.line(f"drive {drive}: " + ("was empty" if unloaded is None else f"{unloaded} unloaded"))


def _document(medium: Medium) -> dict[str, object]:
    return {
        "barcode": medium.barcode,
        "capacity": medium.capacity,
        "bytes": medium.bytes,
        "tape_files": medium.tape_files,
        "reserved": medium.reserved,
        "left": medium.left,
        "added_at": medium.added_at,
        "written_at": medium.written_at,
    }


def _row(medium: Medium) -> list[object]:
    fill = None if medium.capacity is None else f"{100 * medium.bytes // medium.capacity}%"
    return [
        medium.barcode,
        show.human(medium.capacity),
        show.human(medium.bytes),
        medium.tape_files,
        fill,
        show.seconds(medium.added_at),
        show.seconds(medium.written_at),
    ]
