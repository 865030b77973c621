"""The configuration of a library, `library.toml`: reads and checks it; errors name the line and the key."""

import os
import re
import stat
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from vtlfs.care_rules import CareRule, NotifyRule, read_care, read_notify
from vtlfs.errors import LibraryError, UsageError
from vtlfs.model import GIB, KIB, MAX_PARITY, MIB, parse_size
from vtlfs.permissions import Rule, RuleError, read_drive_rules, read_media_rules, read_rule
from vtlfs.rules import MediaRule, PoolRule, read_media, read_pools

FILE_NAME = "library.toml"
UNFINISHED = "library.toml.init"  # the file's name while `vtlfs init` has not finished
MIN_STRIPE_UNIT = 4 * KIB
MAX_STRIPE_UNIT = 64 * MIB
MIN_MEMORY = 64 * MIB
MAX_MEMORY = 1 << 40
MAX_DRIVES = 1000
MAX_BYTES = 1 << 20  # the largest file that is read
MAX_SECONDS = 36500 * 86400  # a hundred years
SNAPSHOT_RULES = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
MAX_KEPT = 1_000_000  # the most snapshots that one rule may keep
NEW_DRIVES = 4  # in a new library, as the next two
NEW_EVERY = 900.0  # seconds between scheduled snapshots
NEW_KEEP = {"last": 10, "hourly": 24, "daily": 7, "weekly": 5, "monthly": 12}

_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of `library.toml`. Sizes are bytes, times seconds.

    - `parity`: how many parity extents a new session's stripes are to have.
    - `low_space`: with less room than this on the medium or a disk, an open for writing goes direct, and room for its
      extents is set aside before their bytes are taken.
    - `checkpoint`: the time between two checkpoints of a running stream.
    - `copy_every`: the time between two copies of the tracking database to the disks; None: none are made.
    - `snapshot_every`: the time between two scheduled snapshots; None: none are taken. `snapshot_keep`: how many of
      them each rule keeps; without rules, all are kept.
    - `memory_limit`: of the buffers of a mount, together.
    - `repair_after`: for how long a disk is away before a mount computes its extents anew; None: a mount never does.
      `repair_limit`: the most bytes a second that a mount's repair reads and writes; None: no limit.
    - `reclaim_limit`: the most stored bytes a second that a mount reclaims; None: no limit.
    - `index_background`: mounts index new tape files. `index_limit`: the most bytes a second that a mount reads for
      that; None: no limit.
    - `drive_rules`: who may use which drive. `media_rules`: who may use the media whose barcodes match a pattern.
      `changer_rule`: who may use the changer through a mount.
      `media`: how these media are retained, and what truncating them means. Of both, the first match counts.
    - `pools`: the pools by name.
    - `notify`: who is told what goes wrong; None: nobody. `care`: what mounts verify and rehearse by themselves.
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
    changer_rule: Rule = field(default_factory=Rule)
    copy_every: float | None = 3600.0
    memory_limit: int = 256 * MIB
    repair_after: float | None = 3600.0
    repair_limit: int | None = 100 * MIB
    reclaim_limit: int | None = None
    index_background: bool = True
    index_limit: int | None = 100 * MIB
    media: dict[str, MediaRule] = field(default_factory=dict)
    pools: dict[str, PoolRule] = field(default_factory=dict)
    notify: NotifyRule | None = None
    care: CareRule = field(default_factory=CareRule)


class ConfigError(LibraryError):
    """`library.toml` has an error; the message names its line and key."""


def parse_duration(text: str) -> float:
    """Read a duration in seconds: `5s`, `15min`, `1h`, `2d`. Raises UsageError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(s|min|h|d)", text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a duration; write it like 5s, 15min, 1h or 2d")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > MAX_SECONDS:
        raise UsageError(f"{text[:40]!r} is too long; give {MAX_SECONDS // _SECONDS['d']}d at most")
    return seconds


def check_stripe_unit(size: int) -> int:
    """Return the size if a stripe unit may have it, else raise UsageError."""
    if size % MIN_STRIPE_UNIT or not MIN_STRIPE_UNIT <= size <= MAX_STRIPE_UNIT:
        raise UsageError(f"a stripe unit of {size} bytes won't do; give a multiple of 4KiB, from 4KiB to 64MiB")
    return size


def check_parity(parity: int) -> int:
    """Return the number of parity extents for stripes if a library may have so many, else raise UsageError."""
    if not 0 <= parity <= MAX_PARITY:
        raise UsageError(f"parity {parity} won't do; give a number from 0 to {MAX_PARITY}")
    return parity


def check_drives(count: int) -> int:
    """Return the number of drives if a library may have so many, else raise UsageError."""
    if not 1 <= count <= MAX_DRIVES:
        raise UsageError(f"{count} drives won't do; give a number from 1 to {MAX_DRIVES}")
    return count


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError("the value must be a text in quotes")
    return value


def _paths(value: Any) -> tuple[Path, ...]:
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(item, str) and item for item in value):
        raise UsageError("the value must be a list of two or more directories")
    if any("\0" in item for item in value):
        raise UsageError("the name of a directory can't have a NUL character")
    return tuple(Path(item) for item in value)


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError("the value must be a whole number")
    return value


def _size(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else parse_size(_text(value))


def _duration(value: Any) -> float:
    seconds = parse_duration(_text(value))
    if seconds <= 0:
        raise UsageError("the value must be more than 0")
    return seconds


def _interval(value: Any) -> float:
    seconds = _duration(value)
    if seconds < 1:
        raise UsageError("the value must be 1s or more")
    return seconds


def _copy(value: Any) -> float | None:
    return None if value == "never" else _interval(value)


def _after(value: Any) -> float | None:
    return None if value == "never" else _duration(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError("the value must be true or false")
    return value


def _rate(value: Any) -> int | None:
    if value == "none":
        return None
    rate = _size(value.removesuffix("/s") if isinstance(value, str) else value)
    if not rate:
        raise UsageError('the value must be more than 0, or "none"')
    return rate


def _memory(value: Any) -> int:
    size = _size(value)
    if not MIN_MEMORY <= size <= MAX_MEMORY:
        raise UsageError("the value must be 64MiB to 1TiB")
    return size


def _keep(value: Any) -> dict[str, int]:
    if not isinstance(value, dict) or not value:
        raise UsageError("the value must be a table such as { last = 10, daily = 7 }")
    for rule, count in value.items():
        if rule not in SNAPSHOT_RULES:
            raise UsageError(f"unknown rule {rule!r}; there are {', '.join(SNAPSHOT_RULES)}")
        if not 0 <= _number(count) <= MAX_KEPT:
            raise UsageError(f"{rule} must be 0 to {MAX_KEPT:,}")
    if not any(value.values()):
        raise UsageError("these rules keep no snapshot; leave the key out to keep all")
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
    "reclaim": {"limit": ("reclaim_limit", _rate)},
    "index": {"background": ("index_background", _flag), "limit": ("index_limit", _rate)},
    "snapshots": {"every": ("snapshot_every", _interval), "keep": ("snapshot_keep", _keep)},
    "permissions": {
        "drives": ("drive_rules", read_drive_rules),
        "media": ("media_rules", read_media_rules),
        "changer": ("changer_rule", read_rule),
    },
}
_BY_NAME: dict[str, Callable[[Any], Any]] = {
    "media": lambda tables: read_media(tables, _duration),
    "pools": lambda tables: read_pools(tables, _size),
    "notify": lambda table: read_notify(table, _duration, _size),
    "care": lambda table: read_care(table, _duration, _rate),
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
        raise LibraryError(f"{path}: Permission denied; only the owner of a library can use it") from None
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise LibraryError(f"{path}: {why}") from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: the file nests values too deeply") from None
    except ValueError:  # more digits than Python converts
        raise ConfigError(f"{path}: the file has a number that is too large") from None
    return _interpret(document, path, text)


def _read(path: Path) -> str:
    """Return the text of the file. Raises OSError, UnicodeDecodeError, ConfigError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigError(f"{path}: not a file")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: the file has more than {MAX_BYTES} bytes")
    return content.decode().replace("\r\n", "\n")


def _interpret(document: dict[str, Any], path: Path, text: str) -> Config:
    fields: dict[str, Any] = {}
    for section, keys in document.items():
        if section in _BY_NAME:
            fields[section] = _read_by_name(section, keys, path, text)
            continue
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
            f"{_where(path, text, 'stripe', 'parity')}: parity {config.parity} needs {config.parity + 1} disks or more"
        )
    for drive in config.drive_rules:
        if drive >= config.drives:
            where = _where(path, text, "permissions", "drives", str(drive))
            raise ConfigError(f"{where}: the library has drives 0 to {config.drives - 1}")
    return config


def _read_by_name(section: str, tables: Any, path: Path, text: str) -> Any:
    """Read a section whose tables have names that the administrator has chosen, or whose keys go together."""
    try:
        return _BY_NAME[section](tables)
    except RuleError as error:
        raise ConfigError(f"{_where(path, text, section, *error.keys)}: {error}") from None


def _where(path: Path, text: str, *keys: str) -> str:
    """Return the file, the line and the key that an error message names."""
    name = ".".join(key if _BARE.fullmatch(key) else _quote(key) for key in keys)
    return f"{path}: line {_line(text, *keys)}: {name}"


def _line(text: str, *keys: str) -> int:
    """Return the number of the line with the key, or else of the line with the innermost table around the key."""
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
    """Return the parts of a dotted key, without their quotes."""
    return tuple(key.strip("\"'") for key in re.findall(_KEY, dotted))


def render(config: Config) -> str:
    """Return the configuration as the text of a new `library.toml`."""
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
    names |= {} if config.changer_rule == Rule() else {"changer": config.changer_rule}
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
