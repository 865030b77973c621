"""The library's configuration, `library.toml`: what may stand in it, and errors that name the line and the key."""

import os
import re
import stat
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from vtlfs.errors import LibraryError, UsageError
from vtlfs.model import GIB, KIB, MAX_PARITY, MIB, parse_size
from vtlfs.permissions import Rule, RuleError, read_drive_rules, read_media_rules

FILE_NAME = "library.toml"
UNFINISHED = "library.toml.init"  # until all that a library needs is there
MIN_STRIPE_UNIT = 4 * KIB
MAX_STRIPE_UNIT = 64 * MIB
MIN_MEMORY = 64 * MIB
MAX_MEMORY = 1 << 40
MAX_DRIVES = 1000
MAX_BYTES = 1 << 20  # of the file
MAX_SECONDS = 36500 * 86400  # a hundred years
SNAPSHOT_RULES = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
MAX_KEPT = 1_000_000  # snapshots by one rule
NEW_DRIVES = 4
NEW_EVERY = 900.0  # what a new library has
NEW_KEEP = {"last": 10, "hourly": 24, "daily": 7, "weekly": 5, "monthly": 12}

_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Config:
    """What `library.toml` says.

    Sizes are bytes, times seconds. `low_space`: with less than this left on the medium or on a disk, an open for
    writing goes direct and room for extents is set aside before their bytes are taken. `parity`: how many
    parity extents stripes are to have. `checkpoint`: how often the
    progress of a running stream is made durable. `copy_every`: how often mounts copy the tracking database to the
    disks, None where they don't. `snapshot_every`: how often mounts take a snapshot, None where they
    don't; `snapshot_keep`: how many of them each rule keeps, no rules: all. `memory_limit`: of a mount's buffers.
    `repair_after`: for how long a disk is away before a mount has what lies on it computed anew, None: for ever;
    `repair_limit`: bytes a second that a mount's repair reads and writes at most, None: as many as it can.
    `drive_rules`: who may use which drive;
    `media_rules`: who may use the media whose barcodes match a pattern, the first that matches.
    """

    uuid: str
    disks: tuple[Path, ...]
    drives: int = 4
    stripe_unit: int = MIB
    parity: int = 0
    low_space: int = GIB
    checkpoint: float = 5.0
    snapshot_every: float | None = None
    snapshot_keep: dict[str, int] = field(default_factory=dict)
    drive_rules: dict[int, Rule] = field(default_factory=dict)
    media_rules: dict[str, Rule] = field(default_factory=dict)
    copy_every: float | None = 3600.0
    memory_limit: int = 256 * MIB
    repair_after: float | None = 3600.0
    repair_limit: int | None = 100 * MIB


class ConfigError(LibraryError):
    """`library.toml` is wrong; the message names its line and key."""


def parse_duration(text: str) -> float:
    """Read a duration in seconds: `5s`, `15min`, `1h`, `2d`. Raises UsageError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(s|min|h|d)", text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no duration; write it like 5s, 15min, 1h or 2d")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > MAX_SECONDS:
        raise UsageError(f"{text[:40]!r} is too long: {MAX_SECONDS // _SECONDS['d']}d at most")
    return seconds


def check_stripe_unit(size: int) -> int:
    """Return the size if a stripe unit may have it, else raise UsageError."""
    if size % MIN_STRIPE_UNIT or not MIN_STRIPE_UNIT <= size <= MAX_STRIPE_UNIT:
        raise UsageError(f"a stripe unit of {size} bytes won't do: a multiple of 4KiB from 4KiB to 64MiB")
    return size


def check_parity(parity: int) -> int:
    """Return how many parity extents stripes are to have if they may have so many, else raise UsageError."""
    if not 0 <= parity <= MAX_PARITY:
        raise UsageError(f"parity {parity} won't do: 0 to {MAX_PARITY}")
    return parity


def check_drives(count: int) -> int:
    """Return the number of drives if a library may have so many, else raise UsageError."""
    if not 1 <= count <= MAX_DRIVES:
        raise UsageError(f"{count} drives won't do: 1 to {MAX_DRIVES}")
    return count


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError("it must be a text in quotes")
    return value


def _paths(value: Any) -> tuple[Path, ...]:
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(item, str) and item for item in value):
        raise UsageError("it must be a list of two or more directories")
    if any("\0" in item for item in value):
        raise UsageError("the name of a directory has no NUL")
    return tuple(Path(item) for item in value)


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError("it must be a whole number")
    return value


def _size(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else parse_size(_text(value))


def _duration(value: Any) -> float:
    seconds = parse_duration(_text(value))
    if seconds <= 0:
        raise UsageError("it must be more than 0")
    return seconds


def _interval(value: Any) -> float:
    seconds = _duration(value)
    if seconds < 1:
        raise UsageError("it must be 1s or more")
    return seconds


def _copy(value: Any) -> float | None:
    return None if value == "never" else _interval(value)


def _after(value: Any) -> float | None:
    return None if value == "never" else _duration(value)


def _rate(value: Any) -> int | None:
    if value == "none":
        return None
    rate = _size(value.removesuffix("/s") if isinstance(value, str) else value)
    if not rate:
        raise UsageError('it must be more than 0, or "none"')
    return rate


def _memory(value: Any) -> int:
    size = _size(value)
    if not MIN_MEMORY <= size <= MAX_MEMORY:
        raise UsageError("it must be 64MiB to 1TiB")
    return size


def _keep(value: Any) -> dict[str, int]:
    if not isinstance(value, dict) or not value:
        raise UsageError("it must be a table such as { last = 10, daily = 7 }")
    for rule, count in value.items():
        if rule not in SNAPSHOT_RULES:
            raise UsageError(f"unknown rule {rule!r}; there are {', '.join(SNAPSHOT_RULES)}")
        if not 0 <= _number(count) <= MAX_KEPT:
            raise UsageError(f"{rule} must be 0 to {MAX_KEPT:,}")
    if not any(value.values()):
        raise UsageError("it keeps nothing; leave it out to keep everything")
    return value


_KEYS: dict[str, dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "library": {
        "uuid": ("uuid", _text),
        "disks": ("disks", _paths),
        "drives": ("drives", lambda value: check_drives(_number(value))),
    },
    "stripe": {
        "unit": ("stripe_unit", lambda value: check_stripe_unit(_size(value))),
        "parity": ("parity", lambda value: check_parity(_number(value))),
    },
    "io": {"low_space": ("low_space", _size)},
    "memory": {"limit": ("memory_limit", _memory)},
    "tracking": {"checkpoint": ("checkpoint", _duration), "copy": ("copy_every", _copy)},
    "repair": {"after": ("repair_after", _after), "limit": ("repair_limit", _rate)},
    "snapshots": {"every": ("snapshot_every", _interval), "keep": ("snapshot_keep", _keep)},
    "permissions": {"drives": ("drive_rules", read_drive_rules), "media": ("media_rules", read_media_rules)},
}
_REQUIRED = {"uuid": "library.uuid", "disks": "library.disks"}


def load(library: Path, name: str = FILE_NAME) -> Config:
    """Read the configuration of the library in this directory. Raises LibraryError or ConfigError."""
    path = library / name
    try:
        text = _read(path)
    except FileNotFoundError:
        raise LibraryError(f"{library}: no vtlfs library here (no {FILE_NAME}); `vtlfs init` makes one") from None
    except PermissionError:
        raise LibraryError(f"{path}: Permission denied; a library can be used by its owner only") from None
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise LibraryError(f"{path}: {why}") from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: its values are nested too deeply") from None
    except ValueError:  # more digits than Python converts
        raise ConfigError(f"{path}: a number in it is too large") from None
    return _interpret(document, path, text)


def _read(path: Path) -> str:
    """Return the text of the file. Raises OSError, UnicodeDecodeError, ConfigError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigError(f"{path}: not a file")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: it has more than {MAX_BYTES} bytes")
    return content.decode().replace("\r\n", "\n")


def _interpret(document: dict[str, Any], path: Path, text: str) -> Config:
    fields: dict[str, Any] = {}
    for section, keys in document.items():
        known = _KEYS.get(section)
        if known is None or not isinstance(keys, dict):
            raise ConfigError(f"{path}: line {_line(text, section)}: unknown section or key {section!r}")
        for key, value in keys.items():
            if key not in known:
                raise ConfigError(
                    f"{_where(path, text, section, key)}: unknown key; [{section}] has {', '.join(known)}"
                )
            field, read = known[key]
            try:
                fields[field] = read(value)
            except UsageError as error:
                within = error.keys if isinstance(error, RuleError) else ()
                raise ConfigError(f"{_where(path, text, section, key, *within)}: {error}") from None
    for field, name in _REQUIRED.items():
        if field not in fields:
            raise ConfigError(f"{path}: {name} is missing")
    config = Config(**fields | {"disks": tuple(path.absolute().parent / disk for disk in fields["disks"])})
    if config.parity >= len(config.disks):
        raise ConfigError(
            f"{_where(path, text, 'stripe', 'parity')}: {config.parity} needs {config.parity + 1} disks or more"
        )
    for drive in config.drive_rules:
        if drive >= config.drives:
            where = _where(path, text, "permissions", "drives", str(drive))
            raise ConfigError(f"{where}: the library has drives 0 to {config.drives - 1}")
    return config


def _where(path: Path, text: str, *keys: str) -> str:
    """Return file, line and key, for an error."""
    name = ".".join(key if _BARE.fullmatch(key) else _quote(key) for key in keys)
    return f"{path}: line {_line(text, *keys)}: {name}"


def _line(text: str, *keys: str) -> int:
    """Return the number of the line where the key stands, or where what it lies in does if that is all that shows."""
    section: tuple[str, ...] = ()
    found, best = 1, 0
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            name = section = _split(header[1])
        elif assignment := _ASSIGNMENT.match(line):
            name = section + _split(assignment[1])
        else:
            continue
        agree = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(name, keys, strict=False))))
        if agree > best:
            found, best = number, agree
    return found


_KEY = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)"""
_DOTTED = rf"\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*"
_HEADER, _ASSIGNMENT = re.compile(rf"\s*\[\[?{_DOTTED}\]"), re.compile(f"{_DOTTED}=")
_BARE = re.compile("[A-Za-z0-9_-]+")


def _split(dotted: str) -> tuple[str, ...]:
    """Return the keys of a dotted one, without their quotes."""
    return tuple(key.strip("\"'") for key in re.findall(_KEY, dotted))


def render(config: Config) -> str:
    """Write the configuration as the text of a new `library.toml`."""
    disks = ", ".join(_quote(str(path)) for path in config.disks)
    return f"""\
# A vtlfs library. Read at every mount and by every command; docs/configuration.md explains each key.

[library]
uuid = "{config.uuid}"  # names the library; the disks carry it too
disks = [{disks}]  # where the disks are now; their labels say which is which
drives = {config.drives}

[stripe]
unit = "{_size_text(config.stripe_unit)}"  # for new sessions
parity = {config.parity}  # disks that may die without loss; for new sessions

[io]
low_space = "{_size_text(config.low_space)}"  # io=auto goes direct with less than this left

[memory]
limit = "{_size_text(config.memory_limit)}"  # of a mount's buffers

[tracking]
checkpoint = "{config.checkpoint:g}s"  # how often a running stream is made durable
copy = "{_duration_text(config.copy_every) if config.copy_every else "never"}"  # of the database, kept on the disks

[repair]
after = "{_duration_text(config.repair_after) if config.repair_after else "never"}"  # a disk may be away for so long
limit = "{f"{_size_text(config.repair_limit)}/s" if config.repair_limit else "none"}"  # of a mount; commands: --limit
{_snapshots(config)}{_permissions(config)}"""


def _snapshots(config: Config) -> str:
    if config.snapshot_every is None and not config.snapshot_keep:
        return ""
    lines = ["", "[snapshots]"]
    if config.snapshot_every is not None:
        lines.append(f'every = "{_duration_text(config.snapshot_every)}"  # while mounted, if something has changed')
    if config.snapshot_keep:
        rules = ", ".join(f"{rule} = {count}" for rule, count in config.snapshot_keep.items())
        lines.append(f"keep = {{ {rules} }}  # and those that have a name")
    return "\n".join([*lines, ""])


def _permissions(config: Config) -> str:
    names = {f"drives.{number}": rule for number, rule in config.drive_rules.items()}
    names |= {f"media.{_quote(pattern)}": rule for pattern, rule in config.media_rules.items()}
    return "".join(f"\n[permissions.{name}]\n{_rule(rule)}" for name, rule in names.items())


def _rule(rule: Rule) -> str:
    said = {"owner": rule.owner, "group": rule.group, "mode": None if rule.mode is None else f"{rule.mode:04o}"}
    return "".join(
        f"{key} = {value if isinstance(value, int) else _quote(value)}\n"
        for key, value in said.items()
        if value is not None
    )


def _quote(text: str) -> str:
    escaped = "".join(
        f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else f"\\{c}" if c in '"\\' else c for c in text
    )
    return f'"{escaped}"'


def _duration_text(seconds: float) -> str:
    for suffix in ("d", "h", "min"):
        if seconds % _SECONDS[suffix] == 0:
            return f"{int(seconds) // _SECONDS[suffix]}{suffix}"
    return f"{int(seconds) if seconds == int(seconds) else seconds}s"


def _size_text(size: int) -> str:
    for suffix, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size and size % factor == 0:
            return f"{size // factor}{suffix}"
    return str(size)
