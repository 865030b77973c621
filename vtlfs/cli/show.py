"""The output of commands: lines and tables for people, JSON for programs.

The package rich is imported by the first table on a terminal, since importing it takes longer than most commands.
"""

import json
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from shlex import quote
from shutil import get_terminal_size
from typing import Literal, NamedTuple

import click

from vtlfs.model import format_size, local_time

BATCH = 1000  # pieces of a text that are printed together


class Column(NamedTuple):
    """A table's column: its heading, whether it has figures (aligned right), and whether its text may fold.

    `rank`: on a terminal that is too narrow, columns are left out from the highest rank on; those of rank 0 never.
    """

    heading: str
    figures: bool = False
    folds: bool = True
    rank: int = 0


def printable(value: object) -> str:
    """Return the value as text, with every character escaped that would steer a terminal or begin a new line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


def line(message: str) -> None:
    """Print one line."""
    click.echo(printable(message))


def as_json(document: object) -> None:
    """Print an object or a list as JSON in ASCII."""
    click.echo(json.dumps(document, indent=2))


def pieces(text: Iterable[str]) -> None:
    """Print the pieces of a text as they come."""
    batch: list[str] = []
    for piece in text:
        batch.append(piece)
        if len(batch) == BATCH:
            click.echo("".join(batch), nl=False)
            batch.clear()
    click.echo("".join(batch), nl=False)


def table(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> None:
    """Print a table: in full width, or to the width of a terminal.

    There, whole columns are left out by their rank, and named in a line below; if that is not enough, text folds.
    """
    cells = [["-" if value is None else printable(value) for value in row] for row in rows]
    if sys.stdout is None or not sys.stdout.isatty():
        click.echo("\n".join(shown_line.rstrip() for shown_line in _aligned(columns, cells)))
        return
    kept, cells, left_out = _fitting(columns, cells, get_terminal_size().columns)
    click.echo("\n".join(shown_line.rstrip() for shown_line in _folded(kept, cells)))
    if left_out:
        line(f"left out: {', '.join(left_out)}; a wider terminal, `| cat` or --json shows them")


def _fitting(
    columns: Sequence[Column], rows: list[list[str]], width: int
) -> tuple[list[Column], list[list[str]], list[str]]:
    """Return the columns and the rows for a terminal of a width, and the headings that are left out."""
    widths = [max(map(_width, [column.heading, *(row[at] for row in rows)])) for at, column in enumerate(columns)]
    kept = list(range(len(columns)))
    while sum(widths[at] + 1 for at in kept) - 1 > width:
        last = max(kept, key=lambda at: (columns[at].rank, at))
        if not columns[last].rank:
            break
        kept.remove(last)
    left_out = [column.heading for at, column in enumerate(columns) if at not in kept]
    return [columns[at] for at in kept], [[row[at] for at in kept] for row in rows], left_out


def _aligned(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Return the lines of a table of any width, without rich, whose import takes longer than most commands."""
    everything = [[column.heading for column in columns], *rows]
    widths = [max(_width(row[place]) for row in everything) for place in range(len(columns))]
    for row in everything:
        cells = []
        for cell, width, column in zip(row, widths, columns, strict=True):
            space = " " * (width - _width(cell))
            cells.append(space + cell if column.figures else cell + space)
        yield " ".join(cells)


def _width(text: str) -> int:
    """Return how many columns of a terminal the text takes: two for a wide character, none for one that combines."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(bool(unicodedata.combining(character)) for character in text)


def _folded(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table that is at most as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    shown = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.figures else "left"
        shown.add_column(column.heading, justify=justify, overflow="fold", no_wrap=column.figures or not column.folds)
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    with console.capture() as captured:  # click prints the lines, so that a closed pipe is a BrokenPipeError
        console.print(shown)
    return captured.get().splitlines()


def seconds(time: str | None) -> str | None:
    """Return a time of the tracking database, to the second: local, for people."""
    return None if time is None else local_time(time)


def minutes(time: str | None) -> str | None:
    """Return a time of the tracking database, to the minute: local, for people."""
    return None if time is None else local_time(time)[:16]


def human(size: int | None) -> str | None:
    """Return a size for people; None stays None."""
    return None if size is None else format_size(size)


def count(number: int, noun: str) -> str:
    """Return `1 disk` or `2 disks`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def word(path: Path | str) -> str:
    """Return a path, quoted for a shell if it needs that."""
    return quote(str(path))
