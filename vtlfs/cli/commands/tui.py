"""`vtlfs tui`: the terminal UI."""

import sys
from pathlib import Path

import click

from vtlfs.cli import params
from vtlfs.cli.library_argument import LibraryArgument
from vtlfs.errors import UsageError


@click.command(epilog=params.example("vtlfs tui /srv/vtl", "vtlfs tui tuesday.db"))
@click.argument("library", metavar="[LIBRARY|FILE.db]", cls=LibraryArgument, type=params.library)
@click.option("--light", "theme", flag_value="textual-light", help="Colours for a light background.")
@click.option("--dark", "theme", flag_value="textual-dark", help="Colours for a dark background.")
@click.option("--ansi", "theme", flag_value="ansi-dark", help="The terminal's own 16 colours.")
def tui(library: Path, theme: str | None) -> None:
    """Show all states of a library, or an exported snapshot, in the terminal.

    A state is a snapshot, or now. See who wrote what, compare two states, look at data, extract it and verify it.
    The UI changes nothing, except that it can take a snapshot. The last line shows the keys; ctrl+p lists all.
    """
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout and sys.stdout.isatty()):
        raise UsageError("the terminal UI needs a terminal; `vtlfs snapshot list` and `vtlfs sessions` don't")
    from vtlfs.tui.app import run

    run(library, theme)
