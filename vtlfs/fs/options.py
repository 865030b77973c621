"""Mount options: what stands behind `-o`."""

import grp
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vtlfs.errors import UsageError
from vtlfs.model import IoMode, SyncMode, check_host

DEFAULT_MODE = 0o660  # as tape devices have it
LOG_LEVELS = ("debug", "info", "warning", "error")

# Options of mount(8) that the kernel takes care of; they are passed on.
PASSED_ON = frozenset(
    "ro nosuid nodev noexec noatime nodiratime sync dirsync nosymfollow".split(),
)
# Options of mount(8) that are about when and by whom, or that ask for what is so anyway.
IGNORED = frozenset(
    "defaults rw suid dev exec async atime diratime relatime norelatime strictatime nostrictatime lazytime nolazytime "
    "auto noauto user nouser users owner group _netdev nofail silent loud".split()
)


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What was asked for with `-o`. `uid` and `gid` of None: those of the process that mounts."""

    host: str | None = None
    io: IoMode = IoMode.AUTO
    sync: SyncMode = SyncMode.CLOSE
    allow_other: bool = False
    uid: int | None = None
    gid: int | None = None
    mode: int = DEFAULT_MODE
    log: str = "info"
    passed_on: tuple[str, ...] = ()
    text: str = ""

    @property
    def read_only(self) -> bool:
        """Tell whether nothing may be written through the mount."""
        return "ro" in self.passed_on


def parse(text: str) -> MountOptions:
    """Read a comma-separated list of mount options. Raises UsageError, which names the option."""
    fields: dict[str, Any] = {"text": text}
    passed_on: list[str] = []
    for word in filter(None, text.split(",")):
        name, equals, value = word.partition("=")
        if name.startswith("x-") or name == "comment" or (not equals and name in IGNORED):
            if name == "rw" and "ro" in passed_on:
                passed_on.remove("ro")
        elif not equals and name in PASSED_ON:
            passed_on.append(name)
        elif not equals and name == "allow_other":
            fields["allow_other"] = True
        elif equals and name in _VALUES:
            fields[name] = _value(name, value)
        else:
            raise UsageError(_unknown(name, equals))
    return MountOptions(passed_on=tuple(dict.fromkeys(passed_on)), **fields)


def _unknown(name: str, equals: str) -> str:
    if name in _VALUES:
        return f"mount option {name!r} wants a value: {name}=…"
    if equals and name in {"allow_other"} | PASSED_ON | IGNORED:
        return f"mount option {name!r} takes no value"
    known = ", ".join([*(f"{name}=" for name in _VALUES), "allow_other", "ro"])
    return f"unknown mount option {name!r}; there are {known} and those of mount(8)"


def _value(name: str, value: str) -> Any:
    try:
        return _VALUES[name](value)
    except (ValueError, KeyError):
        raise UsageError(f"mount option {name}={value}: {_WANTED[name]}") from None


def _uid(value: str) -> int:
    return int(value) if value.isdecimal() else pwd.getpwnam(value).pw_uid


def _gid(value: str) -> int:
    return int(value) if value.isdecimal() else grp.getgrnam(value).gr_gid


def _mode(value: str) -> int:
    mode = int(value, 8)
    if not 0 <= mode <= 0o777:
        raise ValueError
    return mode


def _log(value: str) -> str:
    if value not in LOG_LEVELS:
        raise ValueError
    return value


_VALUES: dict[str, Callable[[str], Any]] = {
    "host": check_host,
    "io": IoMode,
    "sync": SyncMode,
    "uid": _uid,
    "gid": _gid,
    "mode": _mode,
    "log": _log,
}
_WANTED = {
    "io": "auto, cached or direct",
    "sync": "close or none",
    "uid": "a user's number or name",
    "gid": "a group's number or name",
    "mode": "permission bits in octal, such as 0660",
    "log": "debug, info, warning or error",
}
