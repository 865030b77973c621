"""The arguments and options that several commands have: parsers of a word, decorators, and the example of a help text.

An invalid word is refused before the command begins, so nothing has been changed then.
"""

import pwd
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from vtlfs.cli import times
from vtlfs.cli.default_library import library_of
from vtlfs.cli.library_argument import NAME, LibraryArgument
from vtlfs.config import parse_duration
from vtlfs.errors import UsageError
from vtlfs.model import check_barcode, format_size, format_time, parse_size

MAX_NUMBER = (1 << 63) - 1  # the largest integer of SQLite
MAX_CAPACITY = 1 << 60  # 1 EiB
MAX_REASON = 1000  # characters

C = TypeVar("C", bound=Callable[..., Any])


def text(word: str) -> str:
    """Return the word; refuse a word that is not UTF-8, because neither TOML nor the tracking database can hold it."""
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


def reason(word: str) -> str:
    """Read a reason."""
    if not word.strip() or len(word) > MAX_REASON or not word.isprintable():
        raise click.BadParameter(f"a reason has 1 to {MAX_REASON} printable characters")
    return text(word)


def capacity(word: str) -> int:
    """Read a medium's capacity in bytes."""
    found = size(word)
    if not 0 < found <= MAX_CAPACITY:
        raise click.BadParameter(f"a capacity of {word} is not from 1 byte to {format_size(MAX_CAPACITY)}")
    return found


def number(word: str) -> int:
    """Read a number from 0."""
    if not (word.isascii() and word.isdigit() and len(word) < 20 and int(word) <= MAX_NUMBER):
        raise click.BadParameter(f"{word!r} is not a number from 0 to {MAX_NUMBER}")
    return int(word)


def rate(word: str) -> int:
    """Read bytes a second, such as 100MB/s. A number without a unit is refused: nobody means bytes."""
    said = word.strip().removesuffix("/s")
    if said.isdigit() and int(said):
        raise click.BadParameter(f"{word!r} has no unit; write it like {said}MB/s, or {said}B/s for bytes a second")
    try:
        found = parse_size(said)
    except UsageError:
        found = 0
    if not found:
        raise click.BadParameter(f"{word!r} is not a speed; write it like 100MB/s")
    return found


def duration(word: str) -> int:
    """Read a duration, such as 90d, as seconds: 1 or more."""
    try:
        found = int(parse_duration(word))
    except UsageError as error:
        raise click.BadParameter(str(error)) from None
    if found < 1:
        raise click.BadParameter(f"{word!r} is not a duration of 1s or more")
    return found


def time(word: str) -> str:
    """Read a date, which is its beginning, or a time; in UTC unless it says otherwise."""
    try:
        found = datetime.fromisoformat(word)
        return format_time(found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC))
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{word!r} is not a time; write it like 2027-01-31 or 2027-01-31T18:00:00Z") from None


def since(word: str) -> str:
    """Read a time in the words of people, see `times.moment`."""
    return times.moment(word)


def user(word: str) -> int:
    """Read the name or the number of a user."""
    try:
        return number(word) if word.isdigit() else pwd.getpwnam(text(word)).pw_uid
    except KeyError:
        raise click.BadParameter(f"no user {word!r} on this machine; give the number of the user") from None


def library(word: str) -> Path:
    """Read the name of a library: its directory, or a path in a mount of it."""
    return library_of(directory(word))


def library_argument(command: C) -> C:
    """Give a command its first argument, LIBRARY, which may be left out."""
    return click.argument(NAME, metavar="[LIBRARY]", cls=LibraryArgument, type=library)(command)


def library_before_paths(command: C) -> C:
    """Give a command its first argument, LIBRARY, as `library_argument` does; paths or patterns follow it."""
    return click.argument(NAME, metavar="[LIBRARY]", cls=LibraryArgument, type=library, paths=True)(command)


def media_argument(command: C) -> C:
    """Give a command the argument BARCODE...: barcodes, ranges and patterns."""
    return click.argument("words", metavar="BARCODE...", nargs=-1, required=True, type=text)(command)


def reason_option(command: C) -> C:
    """Give a command the option --reason."""
    what = "Why it is done: goes into the event that records it."
    return click.option("--reason", metavar="TEXT", type=reason, help=what)(command)


def json_option(command: C) -> C:
    """Give a command the option --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(command)


def limit_option(command: C) -> C:
    """Give a command that repairs the option --limit."""
    text = "Read and write at most at this speed, all disks together: such as 100MB/s."
    return click.option("--limit", metavar="SPEED", type=rate, help=text)(command)


def example(*lines: str) -> str:
    """Return the end of a help text: the lines of an example, as a user types them."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
