"""The values of what lies on a disk, each checked: nothing is believed unseen. Pure. All raise TypeError or VtlfsError.

Used by the codecs of headers and of the cartridge memory.
"""

import re
from typing import Any

from vtlfs.model import LAST_TIME, RetainMode, epoch_ns

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")


def text(value: Any, *, least: int = 1) -> str:
    """Return a text of at least so many and less than 1000 characters."""
    if not isinstance(value, str) or not least <= len(value) < 1000:
        raise TypeError
    return value.encode(errors="backslashreplace").decode()


def time(value: Any) -> str:
    """Return a time in the product's form."""
    if not _TIME.fullmatch(text(value)):
        raise TypeError
    epoch_ns(value)
    return str(value)


def number(value: Any, most: int = (1 << 63) - 1, *, least: int = 0) -> int:
    """Return a whole number."""
    if type(value) is not int or not least <= value <= most:
        raise TypeError
    return value


def until(value: Any) -> str:
    """Return the end of a retention: a time up to LAST_TIME. What lies behind that was written by no vtlfs."""
    if (found := time(value)) > LAST_TIME:
        raise TypeError
    return found


def mode(value: Any) -> RetainMode:
    """Return how strictly something is retained."""
    if value not in list(RetainMode):
        raise TypeError
    return RetainMode(value)
