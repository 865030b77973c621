"""`vtlfs extract`: writes a tape file or a whole medium to a file or to standard output, and checks it on the way."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vtlfs.cli import params, show
from vtlfs.cli.progress import progress
from vtlfs.errors import DamagedExtent

if TYPE_CHECKING:
    from vtlfs.engine.library import Library
    from vtlfs.engine.reading.saving import Hole
    from vtlfs.engine.tracking.database import Tracking


@click.command(
    epilog=params.example(
        "vtlfs extract /srv/vtl A00001L9 0 -o home.tar",
        "vtlfs extract /srv/vtl A00001L9 --snapshot 3 | tar tif -",
        "vtlfs extract /srv/vtl A00001L9 0 --skip-damaged -o what-is-left.tar",
    )
)
@params.library_argument
@click.argument("barcode", metavar="BARCODE", type=params.barcode)
@click.argument("number", metavar="[NUMBER]", type=params.number, required=False)
@click.option(
    "--snapshot", metavar="ID|NAME|latest", type=params.text, help="Read the medium as this snapshot shows it."
)
@click.option("-o", "--output", metavar="FILE", help="Where to write; `-` is standard output, also without -o.")
@click.option("--skip-damaged", is_flag=True, help="Go on past lost bytes, with zeros in their place.")
def extract(
    library: Path, barcode: str, number: int | None, snapshot: str | None, output: str | None, skip_damaged: bool
) -> None:
    """Write a tape file or a whole medium to a file or to standard output.

    Without NUMBER, all tape files of the medium are written, one after the other. The BLAKE3 of each extent is checked
    before the extent is written. FILE appears under its name once it is complete and durable. If extract fails, no part
    of FILE is left, and an older FILE stays as it was. The library need not be mounted.

    With --skip-damaged, all bytes that can be read are saved, even if more disks are missing than parity makes up for.
    Zeros take the place of lost bytes. Each such hole is reported as a line on standard error; with any hole, the exit
    status is 3, and FILE is kept.
    """
    from vtlfs.cli.output import open_output
    from vtlfs.engine.library import Library
    from vtlfs.engine.reading import extract as engine

    opened = Library.open(library)
    if output not in (None, "-"):
        opened.check_outside(Path(output))
    opening = None if snapshot is None else partial(_open_view, opened, _number_of(opened, snapshot))
    total = engine.size_of(opened, barcode, number, opening)
    with open_output(output) as target, progress(_name(barcode, number), total) as advance:
        holes: list[Hole] = []

        def lost(hole: "Hole") -> None:
            holes.append(hole)
            click.echo(f"vtlfs: {show.printable(hole)}", err=True)

        done = (opened, barcode, number, target.write, advance, opening)
        engine.extract(*done, lost=lost if skip_damaged else None)
    if holes:
        missing = sum(hole.bytes for hole in holes)
        click.echo(f"vtlfs: {show.count(len(holes), 'hole')}: {missing} of {total} bytes are lost", err=True)
        click.get_current_context().exit(DamagedExtent.exit_status)


def _number_of(library: "Library", snapshot: str) -> int:
    from vtlfs.snap import store

    return store.number_of(library, snapshot)


def _open_view(library: "Library", snapshot: int) -> "Tracking":
    from vtlfs.snap.view import open_view

    return open_view(library, snapshot)


def _name(barcode: str, number: int | None) -> str:
    return barcode if number is None else f"{barcode} {number:04d}"
