"""Owner, group and mode of each node in the tree, which the kernel checks.

Rules never change during a mount. A medium that is write-protected, or out of use, shows no write bits.

A medium has the rights of the first rule in `library.toml` that matches its barcode, else those of the mount's `uid=`,
`gid=` and `mode=`. A drive's rule only restricts: a drive without a rule allows all that the medium allows. Files have
no execute bits.
"""

import grp
import logging
import os
import pwd
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import translate

from vtlfs.config import FILE_NAME, Config, ConfigError
from vtlfs.fs.nodes import (
    MEDIA,
    POOLS,
    ChangerNode,
    DriveDirectory,
    FilesDirectory,
    LoadedLink,
    MediumNode,
    Node,
    PastFilesDirectory,
    PastMediumNode,
    PoolFileNode,
    PoolNode,
    SessionNode,
    TapeFileNode,
)
from vtlfs.fs.options import MountOptions
from vtlfs.permissions import (
    READ_ALL,
    READ_WRITE_ALL,
    Rights,
    Rule,
    as_directory,
    lets_all_in,
    says_all,
    through,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _MediaRule:
    """The rights of the media whose barcodes match a pattern."""

    pattern: str
    matches: re.Pattern[str]
    rights: Rights


class Permissions:
    """The rights of all nodes of one mount."""

    def __init__(self, config: Config, options: MountOptions) -> None:
        """Raise ConfigError if a rule names a user or a group that this machine does not know."""
        uid = os.getuid() if options.uid is None else options.uid
        gid = os.getgid() if options.gid is None else options.gid
        self._mount = Rights(uid, gid, options.mode & READ_WRITE_ALL)
        self._drives = {
            number: self._resolve(rule, f"permissions.drives.{number}") for number, rule in config.drive_rules.items()
        }
        self._media = [
            _MediaRule(pattern, re.compile(translate(pattern)), self._resolve(rule, f'permissions.media."{pattern}"'))
            for pattern, rule in config.media_rules.items()
        ]
        self._changer = self._resolve(config.changer_rule, "permissions.changer")
        self._count = config.drives
        self._known: dict[str, Rights] = {}  # by barcode
        self._open_to: dict[Rights, list[int]] = {}  # drives, by the rights of a medium

    def medium(self, barcode: str) -> Rights:
        """Return the rights of a medium, without those of any drive."""
        if barcode not in self._known:
            rules = (rule.rights for rule in self._media if rule.matches.match(barcode))
            self._known[barcode] = next(rules, self._mount)
        return self._known[barcode]

    def by_any_drive(self, barcode: str) -> Rights:
        """Return the rights of a medium by whatever drive: /media/BARCODE."""
        rights = self.medium(barcode)
        return rights if self.drives_for(barcode) else _only(rights, 0)

    def drives_for(self, barcode: str) -> list[int]:
        """Return the drives that allow all that the medium allows; an open() through /media gets one of them."""
        medium, ruled = self.medium(barcode), self._drives
        if medium not in self._open_to:
            self._open_to[medium] = [
                number for number in range(self._count) if number not in ruled or lets_all_in(ruled[number], medium)
            ]
        return self._open_to[medium]

    def of(self, node: Node) -> Rights:
        """Return owner, group and mode of a node."""
        match node:
            case MediumNode(medium, drive):
                rights = self.by_any_drive(medium.barcode) if drive is None else self._through(medium.barcode, drive)
                return rights if medium.is_writable else _only(rights, READ_ALL)
            case TapeFileNode(medium) | PastMediumNode(_, medium):
                return _only(self.medium(medium.barcode), READ_ALL)
            case FilesDirectory(medium) | PastFilesDirectory(_, medium):
                return as_directory(self.medium(medium.barcode))
            case PoolNode():
                return self._pool(node)
            case PoolFileNode(file):  # OpenFiles checks those of the other parts
                return _only(self.medium(file.parts[0].medium), READ_ALL)
            case SessionNode():
                return self._session(node)
            case ChangerNode():
                return self._changer
            case DriveDirectory(drive) if drive in self._drives:
                return as_directory(self._drives[drive])
            case DriveDirectory() | LoadedLink():
                return self._directory(READ_WRITE_ALL)
            case _:
                return self._directory(READ_WRITE_ALL if node in (MEDIA, POOLS) else READ_ALL)

    def _through(self, barcode: str, drive: int) -> Rights:
        """Return the rights of a medium in a drive's directory."""
        rights = self.medium(barcode)
        return through(self._drives[drive], rights) if drive in self._drives else rights

    def warn(self) -> None:
        """Log the pairs of rules that one owner, one group and one mode can't express: some users are refused then."""
        media = {f'permissions.media."{rule.pattern}"': rule.rights for rule in self._media}
        if "*" not in (rule.pattern for rule in self._media):
            media["the mount's uid=, gid= and mode="] = self._mount
        for number, drive in self._drives.items():
            untold = [name for name, rights in media.items() if not says_all(drive, rights)]
            if untold:
                more = f" and {len(untold) - 1} more" if untold[1:] else ""
                rules = f"{FILE_NAME}: permissions.drives.{number} with {untold[0]}{more}"
                log.warning(
                    "%s: some users whom both rules allow are refused; give both the same owner and group", rules
                )

    def _pool(self, node: PoolNode) -> Rights:
        """Return the rights of a pool: to write, those of the medium where a stream would go; to read, of the current.

        The first are those of both where the two media have different owners or groups. OpenFiles checks the rights of
        the medium to which an open() comes.
        """
        target = self.by_any_drive(node.target)
        current = target if node.medium is None else self.by_any_drive(node.medium.barcode)
        if (target.owner, target.group) != (current.owner, current.group):
            return target
        return Rights(target.owner, target.group, target.mode & ~READ_ALL | current.mode & READ_ALL)

    def _directory(self, for_all: int) -> Rights:
        """Return the rights of a directory that belongs to no medium and no drive.

        Without rules for media, only users who may use the media may enter the directory. With such rules everybody
        may, since each medium has rights of its own.
        """
        mount = self._mount
        mode = mount.mode | for_all if self._media else mount.mode
        return as_directory(Rights(mount.owner, mount.group, mode))

    def _session(self, node: SessionNode) -> Rights:
        """Return the rights of a session's text: its opener may read it, and whoever may read its medium.

        A file has one owner, here the opener. The medium's owner reads another's session as one of the group or others.
        """
        medium = _only(self.medium(node.medium), READ_ALL)
        if node.uid == 0:
            return medium
        shut_out = node.uid != medium.owner and not medium.mode & 0o400  # the medium's owner, even if others may read
        return Rights(node.uid, medium.group, 0o400 | (0 if shut_out else medium.mode & 0o044))

    def _resolve(self, rule: Rule, section: str) -> Rights:
        mount = self._mount
        owner = _number(rule.owner, mount.owner, lambda name: pwd.getpwnam(name).pw_uid, f"{section}.owner", "user")
        group = _number(rule.group, mount.group, lambda name: grp.getgrnam(name).gr_gid, f"{section}.group", "group")
        return Rights(owner, group, mount.mode if rule.mode is None else rule.mode & READ_WRITE_ALL)


def _only(rights: Rights, mask: int) -> Rights:
    return Rights(rights.owner, rights.group, rights.mode & mask)


def _number(who: str | int | None, otherwise: int, look_up: Callable[[str], int], where: str, kind: str) -> int:
    if isinstance(who, str):
        try:
            return look_up(who)
        except KeyError:
            raise ConfigError(f"{FILE_NAME}: {where}: this machine has no {kind} {who!r}") from None
    return otherwise if who is None else who
