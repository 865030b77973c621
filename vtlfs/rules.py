"""The rules of `library.toml` for the lives of media, and for pools. Pure.

[media."PATTERN"] says how what is written to the media is retained, and what a program that truncates means. The first
section whose pattern matches a barcode is the one that counts. [pools.NAME] says which media a pool takes, and how.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from vtlfs.errors import UsageError
from vtlfs.model import RetainMode
from vtlfs.permissions import RuleError, check_pattern

Choice = TypeVar("Choice", bound=StrEnum)

POOL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


class OnTruncate(StrEnum):
    """What it means for a medium that a program truncates it."""

    APPEND = "append"  # nothing: the stream comes behind what there is
    ERASE = "erase"  # a new volume begins


class Reuse(StrEnum):
    """Which written media a pool may erase, to write to them again."""

    NEVER = "never"
    OLDEST_EXPIRED = "oldest expired"


@dataclass(frozen=True, slots=True)
class MediaRule:
    """The rule for some media. `mode` is None without retention; `retain_seconds` is None then, and for WORM."""

    mode: RetainMode | None = None
    retain_seconds: int | None = None
    on_truncate: OnTruncate = OnTruncate.APPEND


NO_RULE = MediaRule()


@dataclass(frozen=True, slots=True)
class PoolRule:
    """The rule of a pool: `media` is the pattern of its barcodes.

    `capacity`: of media that the pool adds, in bytes, None: no limit. `grow`: it adds a barcode when none is left.
    `span`: a stream that fills a medium goes on on the next one by itself.
    """

    media: str
    reuse: Reuse = Reuse.NEVER
    capacity: int | None = None
    grow: bool = False
    span: bool = False


def rule_for(rules: Mapping[str, MediaRule], barcode: str) -> MediaRule:
    """Return the rule of the first pattern that matches a barcode."""
    return next((rule for pattern, rule in rules.items() if fnmatchcase(barcode, pattern)), NO_RULE)


def read_media(value: Any, duration: Callable[[Any], float]) -> dict[str, MediaRule]:
    """Read the sections [media."PATTERN"], in the order of the file. `duration` reads one. Raises RuleError."""
    return {pattern: _media_rule(table, pattern, duration) for pattern, table in _tables(value, check_pattern)}


def _media_rule(table: dict[str, Any], pattern: str, duration: Callable[[Any], float]) -> MediaRule:
    known = ("retain", "mode", "worm", "on_truncate")
    _check_keys(table, known, pattern)
    worm = _read(table, "worm", _truth, False, pattern)
    seconds = _read(table, "retain", lambda value: _whole(duration(value)), None, pattern)
    mode = _read(table, "mode", lambda value: _choice(RetainMode, value), None, pattern)
    if mode is RetainMode.WORM:
        raise RuleError('it is "governance" or "compliance"; for ever is worm = true', pattern, "mode")
    if worm and (seconds is not None or mode is not None):
        raise RuleError("it retains for ever: retain and mode don't go with it", pattern, "worm")
    if mode is not None and seconds is None:
        raise RuleError('it needs retain, such as retain = "90d"', pattern, "mode")
    if worm:
        mode = RetainMode.WORM
    elif seconds is not None:
        mode = mode or RetainMode.GOVERNANCE
    on_truncate = _read(table, "on_truncate", lambda value: _choice(OnTruncate, value), OnTruncate.APPEND, pattern)
    return MediaRule(mode, seconds, on_truncate)


def read_pools(value: Any, size: Callable[[Any], int]) -> dict[str, PoolRule]:
    """Read the sections [pools.NAME]. `size` reads a capacity. Raises RuleError."""
    return {name: _pool_rule(table, name, size) for name, table in _tables(value, _check_name)}


def _pool_rule(table: dict[str, Any], name: str, size: Callable[[Any], int]) -> PoolRule:
    _check_keys(table, ("media", "reuse", "capacity", "grow", "span"), name)
    if "media" not in table:
        raise RuleError("media is missing: the pattern of the pool's barcodes", name)
    pattern = _read(table, "media", check_pattern, "", name)
    return PoolRule(
        pattern,
        _read(table, "reuse", lambda value: _choice(Reuse, value), Reuse.NEVER, name),
        _read(table, "capacity", size, None, name),
        _read(table, "grow", _truth, False, name),
        _read(table, "span", _truth, False, name),
    )


def _check_name(name: str) -> str:
    if not POOL_NAME.fullmatch(name):
        raise UsageError("a pool's name has 1 to 32 letters, digits, _ or -, and begins with a letter or digit")
    return name


def _tables(value: Any, check: Callable[[str], str]) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(value, dict):
        raise RuleError("the value must be a table")
    for name, table in value.items():
        try:
            check(name)
        except UsageError as error:
            raise RuleError(str(error), name) from None
        if not isinstance(table, dict):
            raise RuleError("the value must be a table", name)
    return list(value.items())


def _check_keys(table: dict[str, Any], known: tuple[str, ...], name: str) -> None:
    for key in table:
        if key not in known:
            raise RuleError(f"unknown key; there are {', '.join(known)}", name, key)


def _read(table: dict[str, Any], key: str, read: Callable[[Any], Any], otherwise: Any, name: str) -> Any:
    if key not in table:
        return otherwise
    try:
        return read(table[key])
    except UsageError as error:
        raise RuleError(str(error), name, key) from None


def _whole(seconds: float) -> int:
    if seconds < 1:
        raise UsageError("the value must be 1s or more")
    return int(seconds)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError("the value must be true or false")
    return value


def _choice(kind: type[Choice], value: Any) -> Choice:
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"the value must be {' or '.join(repr(str(one)) for one in kind)}") from None
