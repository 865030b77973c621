"""Permissions: the rules of `library.toml` for drives, media and changer, and the rights that follow from both. Pure.

The kernel checks one owner, one group and one mode of a file, and those of the directories above it. An open() of a
medium through a drive must satisfy two rules. The directory /drives/N has the drive's rights, which shut out users who
may neither read nor write through the drive; the file in it has the rights that `through` makes of both rules.
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
MAX_ID = 2**32 - 2  # of a user or a group; for the kernel, the next number means "none"

_OWNER, _GROUP, _OTHERS = 6, 3, 0  # the position of a class's bits in a mode
_ANYBODY = -1  # a user or a group that no rule names
_PATTERN = re.compile(r"[A-Za-z0-9_.\-*?\[\]!]+")


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule of a section for one drive or some media. Users and groups are names or numbers; None if left out."""

    owner: str | int | None = None
    group: str | int | None = None
    mode: int | None = None


@dataclass(frozen=True, slots=True)
class Rights:
    """Owner, group and mode, as the kernel checks them: the first class of owner, group, others that the user is in."""

    owner: int
    group: int
    mode: int

    def of(self, user: int, groups: frozenset[int]) -> int:
        """Return the user's rights: READ, WRITE, both or none."""
        return self.mode >> self.class_of(user, groups) & (READ | WRITE)

    def class_of(self, user: int, groups: frozenset[int]) -> int:
        """Return the class that the user is in, as the position of its bits."""
        return _OWNER if user == self.owner else _GROUP if self.group in groups else _OTHERS


@cache
def through(drive: Rights, medium: Rights) -> Rights:
    """Return the rights of a medium's file in a drive's directory.

    No user who may search that directory gets more than both rules allow. A user may get less, if one owner, one group
    and one mode can't express both rules, see `says_all`. Of the owners and groups of the two rules, `through` takes
    those that let in most of the users whom both rules allow.
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
    """Tell whether `through` gives every user all that both rules allow."""
    same_for_all = len({drive.mode >> shift & (READ | WRITE) for shift in (_OWNER, _GROUP, _OTHERS)} - {0}) < 2
    if same_for_all or (drive.owner, drive.group) == (medium.owner, medium.group):
        return True  # a short cut, which tests compare with the computation below
    file = through(drive, medium)
    return all(file.of(*who) == drive.of(*who) & medium.of(*who) for who in _who_passes(drive, medium))


@cache
def lets_all_in(drive: Rights, medium: Rights) -> bool:
    """Tell whether the drive's rule allows all that the medium's rule allows. Root is left out, since it may do all."""
    return all(not medium.of(*who) & ~drive.of(*who) for who in _users(drive, medium) if who[0] != 0)


def _who_passes(drive: Rights, medium: Rights) -> Iterator[tuple[int, frozenset[int]]]:
    return (who for who in _users(drive, medium) if drive.of(*who))


def _users(one: Rights, other: Rights) -> Iterator[tuple[int, frozenset[int]]]:
    """Yield one user, with the user's groups, for each combination of classes in the two rules; the last is in none."""
    groups = {one.group, other.group}
    for user in dict.fromkeys((one.owner, other.owner, _ANYBODY)):
        for member in product((True, False), repeat=len(groups)):
            yield user, frozenset(group for group, is_in in zip(groups, member, strict=True) if is_in)


def as_directory(rights: Rights) -> Rights:
    """Return the rights of a directory that users with READ or WRITE may search."""
    return Rights(rights.owner, rights.group, rights.mode | (rights.mode >> 2 | rights.mode >> 1) & 0o111)


# --- reading the sections of library.toml -----------------------------------------------------------------------------


class RuleError(UsageError):
    """A rule in library.toml is invalid. `keys`: the path to it in the table that was read."""

    def __init__(self, message: str, *keys: str) -> None:
        super().__init__(message)
        self.keys = keys


def read_drive_rules(value: Any) -> dict[int, Rule]:
    """Read [permissions.drives]. Raises RuleError."""
    rules = {}
    for name, table in _table(value).items():
        if not re.fullmatch(r"0|[1-9][0-9]{0,3}", name):
            raise RuleError("the name must be a drive's number", name)
        rules[int(name)] = _rule(table, name)
    return rules


def read_media_rules(value: Any) -> dict[str, Rule]:
    """Read [permissions.media], in the order of the file. Raises RuleError."""
    rules = {}
    for pattern, table in _table(value).items():
        try:
            check_pattern(pattern)
        except UsageError as error:
            raise RuleError(str(error), pattern) from None
        rules[pattern] = _rule(table, pattern)
    return rules


def read_rule(value: Any) -> Rule:
    """Read [permissions.changer]. Raises RuleError."""
    return _rule(value)


def check_pattern(pattern: Any) -> str:
    """Return the pattern if barcodes can match it, else raise UsageError."""
    if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern) or re.search(r"\\[\[\]]", translate(pattern)):
        raise UsageError("no barcode is like that; write a shell pattern, such as A0*, A?0001L9 or [AB]*")
    return pattern


def _rule(value: Any, *names: str) -> Rule:
    fields: dict[str, Any] = {}
    for key, said in _table(value, *names).items():
        if key not in _READ:
            raise RuleError(f"unknown key; a rule has {', '.join(_READ)}", *names, key)
        try:
            fields[key] = _READ[key](said)
        except UsageError as error:
            raise RuleError(str(error), *names, key) from None
    return Rule(**fields)


def _table(value: Any, *keys: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RuleError("the value must be a table", *keys)
    return value


def _who(value: Any) -> str | int:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise UsageError("the value must be a name in quotes or a number")
    if isinstance(value, str) and not re.fullmatch("[0-9]{1,10}", value):
        return value
    if not 0 <= int(value) <= MAX_ID:
        raise UsageError(f"the value must be 0 to {MAX_ID}")
    return int(value)


def _mode(value: Any) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
        raise UsageError('the value must be an octal number in quotes, such as "0640"')
    return int(value, 8)


_READ = {"owner": _who, "group": _who, "mode": _mode}
