"""Arguments and options that several commands have: functions that read a word, and decorators for the help.

An invalid word is refused before the command begins, so that nothing has been changed.
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
        raise click.BadParameter(f"{word!r} is not UTF-8; choose another name") from None
    return word


def directory(word: str) -> Path:
    """Read the name of a directory, which need not exist."""
    if not word:
        raise click.BadParameter("the name of the directory is empty")
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
        raise click.BadParameter("the size has too many digits") from None


def capacity(word: str) -> int:
    """Read a medium's capacity in bytes."""
    found = size(word)
    if not 0 < found <= MAX_CAPACITY:
        raise click.BadParameter(f"a capacity of {word} is not from 1 byte to {format_size(MAX_CAPACITY)}")
    return found


def number(word: str) -> int:
    """Read a number from 0."""
    if not (word.isascii() and word.isdigit() and len(word) < 20 and int(word) <= MAX_NUMBER):
        raise click.BadParameter(f"{word!r} is no number from 0 to {MAX_NUMBER}")
    return int(word)


def rate(word: str) -> int:
    """Read bytes a second, such as 100MB/s."""
    try:
        found = parse_size(word.strip().removesuffix("/s"))
    except UsageError:
        found = 0
    if not found:
        raise click.BadParameter(f"{word!r} is no speed; write it like 100MB/s")
    return found


def library_argument(command: C) -> C:
    """Give a command its first argument, LIBRARY."""
    return click.argument("library", metavar="LIBRARY", type=directory)(command)


def json_option(command: C) -> C:
    """Give a command the option --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(command)


def limit_option(command: C) -> C:
    """Give a command that repairs --limit."""
    what = "The fastest that all disks together are read and written, such as 100MB/s."
    return click.option("--limit", metavar="SPEED", type=rate, help=what)(command)


def example(*lines: str) -> str:
    """Return the end of a help text: an example, with its lines as a user types them."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
