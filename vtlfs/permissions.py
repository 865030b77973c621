"""Who may read and write: the rules of `library.toml`, and how a drive's and a medium's come together. Pure.

The kernel knows one owner, one group and one mode of a file, and those of the directories on the way to it. A medium
that is reached through a drive has two rules to keep: /drives/N carries the drive's, and keeps out whoever may neither
read nor write through it; the file carries what `through` makes of both.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import translate
from functools import cache
from itertools import product
from typing import Any

from vtlfs.errors import UsageError

READ, WRITE = 4, 2
READ_ALL, READ_WRITE_ALL = 0o444, 0o666
MAX_ID = 2**32 - 2  # of a user or a group; the number after it means "none" to the kernel

_OWNER, _GROUP, _OTHERS = 6, 3, 0  # by how many bits a class's rights are shifted in a mode
_ANYBODY = -1  # a user or a group that no rule names
_PATTERN = re.compile(r"[A-Za-z0-9_.\-*?\[\]!]+")


@dataclass(frozen=True, slots=True)
class Rule:
    """What a section says of one drive or of some media. Users and groups are names or numbers; None: not said."""

    owner: str | int | None = None
    group: str | int | None = None
    mode: int | None = None


@dataclass(frozen=True, slots=True)
class Rights:
    """What the kernel checks: a user has the rights of the first class that he is in of owner, group and others."""

    owner: int
    group: int
    mode: int

    def of(self, user: int, groups: frozenset[int]) -> int:
        """Return which of READ and WRITE the user has."""
        return self.mode >> self.class_of(user, groups) & (READ | WRITE)

    def class_of(self, user: int, groups: frozenset[int]) -> int:
        """Return the shift of the class that the user is in."""
        return _OWNER if user == self.owner else _GROUP if self.group in groups else _OTHERS


@cache
def through(drive: Rights, medium: Rights) -> Rights:
    """Return the rights of a medium's file in a drive's directory.

    Nobody who may search that directory has more than both rules allow. He may have less where one owner, one group
    and one mode can't say it, see `says_all`. Of the owners and groups of the two rules those are taken that let in
    most of the users whom both allow.
    """
    users = list(_who_passes(drive, medium))

    def narrowed(owner: int, group: int) -> tuple[int, Rights]:
        file, mode, let_in = Rights(owner, group, 0), 0, 0
        for shift in (_OWNER, _GROUP, _OTHERS):
            allowed = [drive.of(*who) & medium.of(*who) for who in users if file.class_of(*who) == shift]
            rights = READ | WRITE if allowed else 0
            for one in allowed:
                rights &= one
            mode |= rights << shift
            let_in += rights.bit_count() * len(allowed)
        return let_in, Rights(owner, group, mode)

    owners, groups = (medium.owner, drive.owner), (medium.group, drive.group)
    return max((narrowed(*chosen) for chosen in product(owners, groups)), key=lambda found: found[0])[1]


@cache
def says_all(drive: Rights, medium: Rights) -> bool:
    """Tell whether everybody whom both rules allow something is let in by `through`."""
    same_for_all = len({drive.mode >> shift & (READ | WRITE) for shift in (_OWNER, _GROUP, _OTHERS)} - {0}) < 2
    if same_for_all or (drive.owner, drive.group) == (medium.owner, medium.group):
        return True  # the directory, or one mode, says all; a short cut, the tests compare it with the long way
    file = through(drive, medium)
    return all(file.of(*who) == drive.of(*who) & medium.of(*who) for who in _who_passes(drive, medium))


@cache
def lets_all_in(drive: Rights, medium: Rights) -> bool:
    """Tell whether the drive's rule allows whatever the medium's allows. Root is not asked for: it may do all."""
    return all(not medium.of(*who) & ~drive.of(*who) for who in _users(drive, medium) if who[0] != 0)


def _who_passes(drive: Rights, medium: Rights) -> Iterator[tuple[int, frozenset[int]]]:
    return (who for who in _users(drive, medium) if drive.of(*who))


def _users(one: Rights, other: Rights) -> Iterator[tuple[int, frozenset[int]]]:
    """Yield a user and his groups for each way in which the two rules can see one. The last one sees all others."""
    groups = {one.group, other.group}
    for user in dict.fromkeys((one.owner, other.owner, _ANYBODY)):
        for member in product((True, False), repeat=len(groups)):
            yield user, frozenset(group for group, is_in in zip(groups, member, strict=True) if is_in)


def as_directory(rights: Rights) -> Rights:
    """Return the rights of a directory: it may be searched by whoever may read or write."""
    return Rights(rights.owner, rights.group, rights.mode | (rights.mode >> 2 | rights.mode >> 1) & 0o111)


# --- what stands in library.toml ------------------------------------------------------------------------------------


class RuleError(UsageError):
    """A rule won't do. `keys` lead to it from the table that was read."""

    def __init__(self, message: str, *keys: str) -> None:
        super().__init__(message)
        self.keys = keys


def read_drive_rules(value: Any) -> dict[int, Rule]:
    """Read [permissions.drives]. Raises RuleError."""
    rules = {}
    for name, table in _table(value).items():
        if not re.fullmatch(r"0|[1-9][0-9]{0,3}", name):
            raise RuleError("it must be a drive's number", name)
        rules[int(name)] = _rule(table, name)
    return rules


def read_media_rules(value: Any) -> dict[str, Rule]:
    """Read [permissions.media], in the order of the file. Raises RuleError."""
    rules = {}
    for pattern, table in _table(value).items():
        if not _PATTERN.fullmatch(pattern) or re.search(r"\\[\[\]]", translate(pattern)):
            raise RuleError("no barcode is like that; write a shell pattern, such as A0*, A?0001L9 or [AB]*", pattern)
        rules[pattern] = _rule(table, pattern)
    return rules


def _rule(value: Any, name: str) -> Rule:
    fields: dict[str, Any] = {}
    for key, said in _table(value, name).items():
        if key not in _READ:
            raise RuleError(f"unknown key; a rule has {', '.join(_READ)}", name, key)
        try:
            fields[key] = _READ[key](said)
        except UsageError as error:
            raise RuleError(str(error), name, key) from None
    return Rule(**fields)


def _table(value: Any, *keys: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RuleError("it must be a table", *keys)
    return value


def _who(value: Any) -> str | int:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise UsageError("it must be a name in quotes or a number")
    if isinstance(value, str) and not re.fullmatch("[0-9]{1,10}", value):
        return value
    if not 0 <= int(value) <= MAX_ID:
        raise UsageError(f"it must be 0 to {MAX_ID}")
    return int(value)


def _mode(value: Any) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
        raise UsageError('it must be an octal number in quotes, such as "0640"')
    return int(value, 8)


_READ = {"owner": _who, "group": _who, "mode": _mode}
