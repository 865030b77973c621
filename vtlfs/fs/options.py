"""Mount options: the text after `-o` as a value. Used by the commands, the daemon and the adapter. Pure."""

import grp
import pwd
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vtlfs.errors import UsageError
from vtlfs.model import IoMode, SyncMode, check_host
from vtlfs.permissions import MAX_ID

DEFAULT_MODE = 0o660  # as tape devices have it
LOG_LEVELS = ("debug", "info", "warning", "error")

# Options of mount(8) that are passed on to the kernel, each with the option that cancels it.
PASSED_ON = {
    "ro": "rw",
    "nosuid": "suid",
    "nodev": "dev",
    "noexec": "exec",
    "noatime": "atime",
    "sync": "async",
    "dirsync": "",
}
# Options of mount(8) that are left out: they say who may mount and when, or ask for what every mount of vtlfs has. A
# library has no set-uid programs and no devices, keeps no access times, and has no symbolic links but `loaded`.
IGNORED = frozenset(
    "defaults rw suid dev exec async atime diratime nodiratime relatime norelatime strictatime nostrictatime lazytime "
    "nolazytime nomand noiversion symfollow auto noauto user nouser users owner group _netdev nofail silent loud "
    "default_permissions".split()
)
# Options of mount(8) that are refused, since vtlfs can't do what they ask for; and why.
REFUSED = {
    "remount": "options can't be changed while mounted; umount and mount again, or forbid writing with remount,bind,ro",
    "bind": "a library is mounted, not bound; `mount --bind` binds what is mounted",
    "rbind": "a library is mounted, not bound; `mount --rbind` binds what is mounted",
    "move": "`mount --move` without a type moves a mount",
    "loop": "a library is a directory, not an image",
    "nonempty": "the mount point has to be empty, since the mount would hide what is there",
    "mand": "there is no mandatory locking",
    "nosymfollow": "drives/N/loaded is a symbolic link",
}


HIGHEST_PORT = 65_535
_ADDRESS = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: an address or a name of the machine, and a port; 0: any port that is free."""

    host: str
    port: int

    @property
    def host_in_url(self) -> str:
        """The host as URLs have it."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        return f"{self.host_in_url}:{self.port}"


@dataclass(frozen=True, slots=True)
class MountOptions:
    """The options of one mount. `uid` and `gid`: None for those of the process that mounts."""

    host: str | None = None
    io: IoMode = IoMode.AUTO
    reopen: bool = False  # a program may open its own output once more
    sync: SyncMode = SyncMode.CLOSE
    allow_other: bool = False
    uid: int | None = None
    gid: int | None = None
    mode: int = DEFAULT_MODE
    log: str = "info"
    check: bool = True
    metrics: Address | None = None  # where Prometheus finds the metrics of the mount
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
    words = [word.partition("=") for word in text.split(",") if word]
    for name, _, _ in sorted(words, key=lambda word: word[0] != "remount"):  # mount(8) adds others to remount
        if name in REFUSED:
            raise UsageError(f"mount option {name!r}: {REFUSED[name]}")
    for name, equals, value in words:
        if _is_remark(name):
            continue
        if not equals and name in PASSED_ON:
            passed_on.append(name)
        elif not equals and name in IGNORED:
            passed_on = [one for one in passed_on if PASSED_ON[one] != name]
        elif not equals and name == "allow_other":
            fields["allow_other"] = True
        elif equals and name in _VALUES:
            fields[name] = _value(name, value)
        else:
            raise UsageError(_unknown(name, equals))
    if fields.get("reopen") and fields.get("io") is IoMode.CACHED:
        raise UsageError("mount option reopen=allow: with io=cached no output can be opened again; use io=auto")
    return MountOptions(passed_on=tuple(dict.fromkeys(passed_on)), **fields)


def names() -> list[str]:
    """Return what can be said in a list of mount options; `=` at the end where a value follows."""
    return [*(f"{name}=" for name in _VALUES), "allow_other", *PASSED_ON]


def without_unknown(text: str) -> str:
    """Return the list without unknown options, as `mount -s` asks for."""
    names = ((word, word.partition("=")[0]) for word in text.split(","))
    return ",".join(word for word, name in names if _is_known(name) or _is_remark(name) or name in REFUSED)


def _is_known(name: str) -> bool:
    return name in _VALUES or name in PASSED_ON or name in IGNORED or name == "allow_other"


def _is_remark(name: str) -> bool:
    """Tell whether the option is for other programs that read /etc/fstab."""
    return name.startswith(("x-", "X-")) or name == "comment"


def _unknown(name: str, equals: str) -> str:
    if name in _VALUES:
        return f"mount option {name!r} needs a value: {name}=…"
    if equals and _is_known(name):
        return f"mount option {name!r} takes no value"
    known = ", ".join([*(f"{name}=" for name in _VALUES), "allow_other", "ro"])
    return f"unknown mount option {name!r}; the options are {known} and those of mount(8)"


def _value(name: str, value: str) -> Any:
    try:
        return _VALUES[name](value)
    except (ValueError, KeyError):
        raise UsageError(f"mount option {name}={value}: {_WANTED[name]}") from None


def _uid(value: str) -> int:
    return _number(value) if value.isdecimal() else pwd.getpwnam(value).pw_uid


def _gid(value: str) -> int:
    return _number(value) if value.isdecimal() else grp.getgrnam(value).gr_gid


def _number(value: str) -> int:
    number = int(value)
    if number > MAX_ID:
        raise ValueError
    return number


def _mode(value: str) -> int:
    mode = int(value, 8)
    if not 0 <= mode <= 0o777:
        raise ValueError
    return mode


def _log(value: str) -> str:
    if value not in LOG_LEVELS:
        raise ValueError
    return value


def _reopen(value: str) -> bool:
    return {"allow": True, "refuse": False}[value]


def _on_off(value: str) -> bool:
    return {"on": True, "off": False}[value]


def _address(value: str) -> Address:
    found = _ADDRESS.fullmatch(value)
    if found is None or int(found["port"]) > HIGHEST_PORT:
        raise ValueError
    return Address(found["six"] or found["host"], int(found["port"]))


_VALUES: dict[str, Callable[[str], Any]] = {
    "host": check_host,
    "io": IoMode,
    "reopen": _reopen,
    "sync": SyncMode,
    "uid": _uid,
    "gid": _gid,
    "mode": _mode,
    "log": _log,
    "check": _on_off,
    "metrics": _address,
}
_WANTED = {
    "io": "auto, cached or direct",
    "reopen": "allow or refuse",
    "sync": "close or none",
    "uid": "a user's number or name",
    "gid": "a group's number or name",
    "mode": "permission bits in octal, such as 0660",
    "log": "debug, info, warning or error",
    "check": "on or off",
    "metrics": "an address and a port, such as 127.0.0.1:9471 or [::1]:9471",
}
