"""What the commands' arguments and options have in common: how their words are read, and their names in the help.

What a word can't mean is told before a command begins, so that nothing has been changed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from vtlfs.errors import UsageError
from vtlfs.model import check_barcode, format_size, parse_size

MAX_NUMBER = (1 << 63) - 1  # the tracking database's largest
MAX_CAPACITY = 1 << 60  # 1 EiB

C = TypeVar("C", bound=Callable[..., Any])


def text(word: str) -> str:
    """Return the word; refuse one that is not UTF-8, which neither TOML nor the tracking database can hold."""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise click.BadParameter(f"{word!r} is not UTF-8") from None
    return word


def directory(word: str) -> Path:
    """Read the name of a directory, which need not exist."""
    if not word:
        raise click.BadParameter("an empty name is no directory")
    return Path(text(word))


def barcode(word: str) -> str:
    """Read a barcode."""
    try:
        return check_barcode(word)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


def size(word: str) -> int:
    """Read a size in bytes."""
    try:
        return parse_size(word)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None
    except (ValueError, OverflowError):  # more digits than Python converts
        raise click.BadParameter("a size with that many digits won't do") from None


def capacity(word: str) -> int:
    """Read a medium's capacity in bytes."""
    found = size(word)
    if not 0 < found <= MAX_CAPACITY:
        raise click.BadParameter(f"a capacity of {word} won't do: 1 byte to {format_size(MAX_CAPACITY)}")
    return found


def number(word: str) -> int:
    """Read a number from 0."""
    if not (word.isascii() and word.isdigit() and len(word) < 20 and int(word) <= MAX_NUMBER):
        raise click.BadParameter(f"{word!r} is no number from 0")
    return int(word)


def library_argument(command: C) -> C:
    """Give a command its first argument, LIBRARY."""
    return click.argument("library", metavar="LIBRARY", type=directory)(command)


def json_option(command: C) -> C:
    """Give a command that lists something --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(command)


def example(*lines: str) -> str:
    """Return the end of a help text: an example, line by line as it is typed."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
