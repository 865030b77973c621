"""`vtlfs tui`: the terminal UI."""

import sys
from pathlib import Path

import click

from vtlfs.cli import params
from vtlfs.errors import UsageError


@click.command(epilog=params.example("vtlfs tui /srv/vtl", "vtlfs tui tuesday.db"))
@click.argument("library", metavar="LIBRARY|FILE.db", type=params.directory)
@click.option("--light", "theme", flag_value="textual-light", help="Colours for a light background.")
@click.option("--dark", "theme", flag_value="textual-dark", help="Colours for a dark background.")
@click.option("--ansi", "theme", flag_value="ansi-dark", help="The terminal's own 16 colours.")
def tui(library: Path, theme: str | None) -> None:
    """Look at the states of a library, or at an exported snapshot, in a window of the terminal.

    Every snapshot and now: what was written by whom, what is different between two of them, and the data.
    It changes nothing, but for taking a snapshot when asked to. Each key is in the last line; ctrl+p lists them all.
    """
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout and sys.stdout.isatty()):
        raise UsageError("the terminal UI wants a terminal; `vtlfs snapshot list` and `vtlfs sessions` don't")
    from vtlfs.tui.app import run

    run(library, theme)
