"""Rules in library.toml for watching a library: `[notify]`, who is told what goes wrong, and `[care]`, what is tried.

Reads and checks the sections; errors name the key.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from vtlfs.errors import UsageError
from vtlfs.permissions import RuleError

GROUPS = ("disk", "stream", "degraded", "space", "verification", "copy", "retention", "rehearsal")
MAX_LIMIT = 600.0  # seconds that a command or a request may take
WEEK = 7 * 86_400.0
NAMED = {"daily": 86_400.0, "weekly": WEEK, "monthly": 30 * 86_400.0}
MAX_FILES = 1000

Duration = Callable[[Any], float]
Size = Callable[[Any], int]


@dataclass(frozen=True, slots=True)
class NotifyRule:
    """Who is told what goes wrong. Times are seconds.

    - `command`: its words, run without a shell; None: no command. `url`: JSON is posted there; None: nowhere.
      `headers`: of the request.
    - `kinds`: groups of incidents that are told, of GROUPS.
    - `limit`: that a command or a request may take. `gather`: between two messages about the same thing.
    - `remind`: after which it is told again what has not ended; None: never.
    - `space`: the level below which too little data fits: bytes, or with `space_is_share` a share of all bytes in
      per cent; None: it is not looked at.
    - `copy`: the age at which a copy of the tracking database is too old; None: it is not looked at.
    """

    command: tuple[str, ...] | None = None
    url: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    kinds: tuple[str, ...] = GROUPS
    limit: float = 30.0
    gather: float = 300.0
    remind: float | None = 86_400.0
    space: int | None = 10
    space_is_share: bool = True
    copy: float | None = 86_400.0


@dataclass(frozen=True, slots=True)
class CareRule:
    """What mounts try by themselves. Times are seconds.

    - `verify`: all data is verified once in so long; None: never. `limit`: bytes a second that this reads at most;
      None: no limit.
    - `rehearse`: tape files are restored and compared once in so long; None: never. `files`: how many.
    """

    verify: float | None = None
    limit: int | None = 50_000_000
    rehearse: float | None = None
    files: int = 3


def read_notify(value: Any, duration: Duration, size: Size) -> NotifyRule:
    """Read the section [notify]. Raises RuleError."""
    readers: dict[str, Callable[[Any], Any]] = {
        "command": _command,
        "url": _url,
        "headers": _headers,
        "kinds": _kinds,
        "limit": lambda word: _limit(duration(word)),
        "gather": duration,
        "remind": lambda word: None if word == "never" else duration(word),
        "space": lambda word: _space(word, size),
        "copy": lambda word: None if word == "never" else duration(word),
    }
    found = _read(value, readers)
    if "command" not in found and "url" not in found:
        raise RuleError("command or url is missing: how it is told")
    if "headers" in found and "url" not in found:
        raise RuleError("headers go with url, which is missing", "headers")
    if "space" in found:
        found["space"], found["space_is_share"] = found["space"]
    return NotifyRule(**found)


def read_care(value: Any, duration: Duration, rate: Callable[[Any], int | None]) -> CareRule:
    """Read the section [care]. `rate`: reads bytes a second. Raises RuleError."""
    readers: dict[str, Callable[[Any], Any]] = {
        "verify": lambda word: _often(word, duration),
        "limit": rate,
        "rehearse": lambda word: _often(word, duration),
        "files": _files,
    }
    return CareRule(**_read(value, readers))


def _read(value: Any, readers: dict[str, Callable[[Any], Any]]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RuleError("the value must be a table")
    found = {}
    for key, word in value.items():
        if key not in readers:
            raise RuleError(f"unknown key; there are {', '.join(readers)}", key)
        try:
            found[key] = readers[key](word)
        except UsageError as error:
            raise RuleError(str(error), key) from None
    return found


def _command(value: Any) -> tuple[str, ...]:
    words = [value] if isinstance(value, str) else value
    if (
        not isinstance(words, list)
        or not words
        or not all(isinstance(word, str) and "\0" not in word for word in words)
    ):
        raise UsageError('the value must be a program, or a list of words such as ["/usr/local/bin/tell", "admins"]')
    if not words[0].startswith("/"):
        raise UsageError(f"{words[0]!r} is not the absolute path of a program; no shell runs it")
    return tuple(words)


def _url(value: Any) -> str:
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_url = False
    if not is_url or not re.fullmatch(r"[!-~]+", value):
        raise UsageError("the value must be a URL that begins with https:// or http://")
    return str(value)


def _headers(value: Any) -> dict[str, str]:
    def is_header(name: object, text: object) -> bool:
        return bool(re.fullmatch(r"[A-Za-z0-9-]+", str(name))) and isinstance(text, str) and text.isprintable()

    if not isinstance(value, dict) or not all(is_header(*pair) and str(pair[1]).isascii() for pair in value.items()):
        raise UsageError('the value must be a table such as { Authorization = "Bearer ..." }')
    return value


def _kinds(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(word in GROUPS for word in value):
        raise UsageError(f"the value must be a list of some of {', '.join(GROUPS)}")
    return tuple(value)


def _limit(seconds: float) -> float:
    if not 1 <= seconds <= MAX_LIMIT:
        raise UsageError(f"the value must be 1s to {int(MAX_LIMIT // 60)}min")
    return seconds


def _space(value: Any, size: Size) -> tuple[int | None, bool]:
    if value == "never":
        return None, False
    if isinstance(value, str) and (share := re.fullmatch(r"([0-9]{1,2})\s*%", value.strip())):
        return int(share[1]), True
    return size(value), False


def _often(value: Any, duration: Duration) -> float | None:
    if value == "never":
        return None
    if isinstance(value, str) and value in NAMED:
        return NAMED[value]
    seconds = duration(value)
    if seconds < 1:
        raise UsageError("the value must be 1s or more")
    return seconds


def _files(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_FILES:
        raise UsageError(f"the value must be a number from 1 to {MAX_FILES}")
    return value
