"""`vtlfs extract`: a tape file or a whole medium, checked on the way, to a file or to standard output."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vtlfs.cli import params
from vtlfs.cli.progress import progress

if TYPE_CHECKING:
    from vtlfs.engine.library import Library
    from vtlfs.engine.tracking.database import Tracking


@click.command(
    epilog=params.example(
        "vtlfs extract /srv/vtl A00001L9 0 -o home.tar", "vtlfs extract /srv/vtl A00001L9 --snapshot 3 | tar tif -"
    )
)
@params.library_argument
@click.argument("barcode", metavar="BARCODE", type=params.barcode)
@click.argument("number", metavar="[NUMBER]", type=params.number, required=False)
@click.option("--snapshot", metavar="ID", type=params.number, help="Read the medium as this snapshot shows it.")
@click.option("-o", "--output", metavar="FILE", help="Where to write; `-` is standard output, also without -o.")
def extract(library: Path, barcode: str, number: int | None, snapshot: int | None, output: str | None) -> None:
    """Write a tape file or a whole medium to a file or to standard output.

    Without NUMBER, all tape files of the medium are written, one after the other. The BLAKE3 of each extent is checked
    before the extent is written. FILE appears under its name once it is whole and durable. If extract fails,
    no part of FILE is left, and an older FILE stays as it was. The library need not be mounted.
    """
    from vtlfs.cli.output import open_output
    from vtlfs.engine.library import Library
    from vtlfs.engine.reading import extract as engine

    opened = Library.open(library)
    opening = None if snapshot is None else partial(_open_view, opened, snapshot)
    total = engine.size_of(opened, barcode, number, opening)
    with open_output(output) as target, progress(_name(barcode, number), total) as advance:
        engine.extract(opened, barcode, number, target.write, advance, opening)


def _open_view(library: "Library", snapshot: int) -> "Tracking":
    from vtlfs.snap.view import open_view

    return open_view(library, snapshot)


def _name(barcode: str, number: int | None) -> str:
    return barcode if number is None else f"{barcode} {number:04d}"
