"""libarchive's half of a restore: reads one archive member from its bytes, and makes the file with all its attributes.

Runs in the worker process. libarchive is C, and an archive may be hostile: it gets the bytes of one member at a time,
and never a path that the archive has chosen. The file is made at a path of ours, in a directory that is held open.
"""

import os
from collections.abc import Callable
from ctypes import (
    CFUNCTYPE,
    POINTER,
    c_char_p,
    c_int,
    c_int64,
    c_size_t,
    c_ssize_t,
    c_uint,
    c_ulong,
    c_void_p,
    string_at,
)
from functools import lru_cache, partial
from grp import getgrnam
from pwd import getpwnam

from libarchive import ffi

from vtlfs.errors import VtlfsError
from vtlfs.members.inputs import Opened, function, next_header
from vtlfs.members.values import ArchiveMember, Kind

OWNER, PERM, TIME, ACL, FFLAGS, XATTR = 0x1, 0x2, 0x4, 0x20, 0x40, 0x80  # ARCHIVE_EXTRACT_...
AS_ROOT = OWNER | PERM | TIME | ACL | FFLAGS | XATTR
AS_USER = PERM | TIME | ACL | XATTR  # as GNU tar: the umask counts, and files belong to the user
_LOOKUP = CFUNCTYPE(c_int64, c_void_p, c_char_p, c_int64)
_UNKNOWN_ID = -1
_FIXED = 0x10 | 0x20  # FS_IMMUTABLE_FL, FS_APPEND_FL


class BadMember(VtlfsError):
    """The bytes of an archive member are not what the index says, or end inside it."""

    exit_status = 3


class NotWritten(VtlfsError):
    """A file, or one of its attributes, can't be made."""


_data_block = function("read_data_block", [c_void_p, POINTER(c_void_p), POINTER(c_size_t), POINTER(c_int64)], c_int)
_error = function("error_string", [c_void_p], c_char_p)
_errno = function("errno", [c_void_p], c_int)
_pathname = function("entry_pathname", [c_void_p], c_char_p)
_copy_pathname = function("entry_copy_pathname", [c_void_p, c_char_p], None)
_copy_hardlink = function("entry_copy_hardlink", [c_void_p, c_char_p], None)
_hardlink = function("entry_hardlink", [c_void_p], c_char_p)
_perm = function("entry_perm", [c_void_p], c_uint)
_set_perm = function("entry_set_perm", [c_void_p, c_uint], None)
_size = function("entry_size", [c_void_p], c_int64)
_fflags = function("entry_fflags", [c_void_p, POINTER(c_ulong), POINTER(c_ulong)], None)
_set_fflags = function("entry_set_fflags", [c_void_p, c_ulong, c_ulong], None)
_xattr_clear = function("entry_xattr_clear", [c_void_p], None)
_xattr_reset = function("entry_xattr_reset", [c_void_p], c_int)
_xattr_next = function("entry_xattr_next", [c_void_p, POINTER(c_char_p), POINTER(c_void_p), POINTER(c_size_t)], c_int)
_xattr_add = function("entry_xattr_add_entry", [c_void_p, c_char_p, c_char_p, c_size_t], None)
_disk_new = function("write_disk_new", [], c_void_p)
_disk_options = function("write_disk_set_options", [c_void_p, c_int], c_int)
_user_lookup = function("write_disk_set_user_lookup", [c_void_p, c_void_p, _LOOKUP, c_void_p], c_int)
_group_lookup = function("write_disk_set_group_lookup", [c_void_p, c_void_p, _LOOKUP, c_void_p], c_int)
_write_header = function("write_header", [c_void_p, c_void_p], c_int)
_write_block = function("write_data_block", [c_void_p, c_void_p, c_size_t, c_int64], c_ssize_t)
_finish = function("write_finish_entry", [c_void_p], c_int)
_close = function("write_close", [c_void_p], c_int)
_free = function("write_free", [c_void_p], c_int)


class _Bytes:
    """The bytes of a member as an input of libarchive. `block` returns the next ones, none at their end."""

    at = end = 0
    skips = False

    def __init__(self, block: Callable[[], bytes]) -> None:
        self._block = block

    def block(self, consumed: int) -> bytes:
        return self._block()

    def rewind(self, offset: int) -> None:
        raise NotImplementedError

    def skip(self, size: int) -> int:
        return 0

    def peek(self, offset: int, size: int) -> bytes:
        raise NotImplementedError


class Extraction:
    """One archive member, out of its bytes. Close it after use."""

    def __init__(self, member: ArchiveMember, block: Callable[[], bytes]) -> None:
        """`block` returns the next bytes, none at their end; what it raises, this raises.

        Raises BadMember where the bytes do not begin with the headers of the member.
        """
        self._is_directory = member.kind is Kind.DIRECTORY
        self._opened = Opened(_Bytes(block), "tar cpio")
        self._entry = ffi.entry_new()
        try:
            result = self._opened.result
            if result >= ffi.ARCHIVE_WARN:
                result = next_header(self._opened.pointer, self._entry)
            if result == ffi.ARCHIVE_EOF or result < ffi.ARCHIVE_WARN:
                raise self._bad("has no header where the index says")
            name = _pathname(self._entry) or b""
            if (name.rstrip(b"/") or name) != os.fsencode(member.path):
                raise BadMember("is not where the index says; `vtlfs index --anew` makes a new index")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Free what libarchive has allocated."""
        ffi.entry_free(self._entry)
        self._opened.close()

    def write(self, path: bytes, flags: int) -> list[str]:
        """Make the file at `path`, which does not exist, or set the attributes of the directory there.

        Returns which attributes could not be set, as clauses. Raises BadMember, NotWritten, and what the bytes raise: a
        part of the file may be left then.
        """
        entry = self._entry
        if _hardlink(entry) is not None:
            _copy_hardlink(entry, None)  # one that has the data itself
        _copy_pathname(entry, path)
        if not flags & OWNER:
            _set_perm(entry, _perm(entry) & 0o777 & ~_umask())
            _keep_user_xattrs(entry)
        warnings = _loosened(entry) if flags & FFLAGS and not self._is_directory else []
        disk = _disk_new()
        try:
            _disk_options(disk, flags)
            _user_lookup(disk, None, _USER, None)
            _group_lookup(disk, None, _GROUP, None)
            _check(disk, _write_header(disk, entry), warnings)
            if _size(entry) > 0:
                self._copy(disk)
            _check(disk, _finish(disk), warnings)
            _check(disk, _close(disk), warnings)
        except NotWritten as error:
            raise NotWritten(_without(path, str(error))) from None
        else:
            return [_without(path, said) for said in warnings]
        finally:
            _free(disk)

    def _copy(self, disk: int) -> None:
        """Write the data, with holes where the archive has them."""
        buffer, size, offset = c_void_p(), c_size_t(), c_int64()
        while (result := _data_block(self._opened.pointer, buffer, size, offset)) != ffi.ARCHIVE_EOF:
            if result < ffi.ARCHIVE_WARN:
                raise self._bad("can't be read to its end")
            if size.value and _write_block(disk, buffer, size, offset) < 0:
                raise NotWritten(_said(disk))  # libarchive calls that a warning

    def _bad(self, what: str) -> BaseException:
        """Return why the member can't be read: what its bytes have raised, or else libarchive's own error."""
        return self._opened.failure or BadMember(f"{what}: {self._opened.error()}")


def _without(path: bytes, said: str) -> str:
    """Return what libarchive says without the temporary name, which says nothing to anybody."""
    return said.replace(f"'{os.fsdecode(path)}'", "it")


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _loosened(entry: int) -> list[str]:
    """Forget the flags that would keep a file from getting its name, or further names; say so."""
    wanted, cleared = c_ulong(), c_ulong()
    _fflags(entry, wanted, cleared)
    if not wanted.value & _FIXED:
        return []
    _set_fflags(entry, wanted.value & ~_FIXED, cleared.value)
    return ["not immutable or append-only, as the archive has it; `chattr` makes it so"]


def _keep_user_xattrs(entry: int) -> None:
    """Forget the extended attributes that only root may set."""
    kept: list[tuple[bytes, bytes]] = []
    name, value, size = c_char_p(), c_void_p(), c_size_t()
    _xattr_reset(entry)
    while _xattr_next(entry, name, value, size) == ffi.ARCHIVE_OK:
        if name.value is not None and name.value.startswith(b"user."):
            kept.append((name.value, string_at(value, size.value) if size.value else b""))
    _xattr_clear(entry)
    for key, data in kept:
        _xattr_add(entry, key, data, len(data))


def _check(disk: int, result: int, warnings: list[str]) -> None:
    if result == ffi.ARCHIVE_OK:
        return
    if result < ffi.ARCHIVE_WARN:
        raise NotWritten(_said(disk))
    warnings.append(_said(disk))


def _said(archive: int) -> str:
    """Return libarchive's last error as a clause."""
    said = (_error(archive) or b"libarchive gives no reason").decode("utf-8", "backslashreplace")
    number = _errno(archive)
    why = os.strerror(number) if number > 0 else ""
    return said if not why or why in said else f"{said}: {why}"


def _lookup(find: Callable[[str], int], _data: int, name: bytes | None, number: int) -> int:
    """Return the number of a user or a group: that of the archive; by name only where an ACL names it without one."""
    return number if number != _UNKNOWN_ID or not name else _number(find, os.fsdecode(name))


@lru_cache(maxsize=1024)
def _number(find: Callable[[str], int], name: str) -> int:
    try:
        return find(name)
    except (KeyError, ValueError):
        return _UNKNOWN_ID


def _user(name: str) -> int:
    return getpwnam(name).pw_uid


def _group(name: str) -> int:
    return getgrnam(name).gr_gid


_USER = _LOOKUP(partial(_lookup, _user))
_GROUP = _LOOKUP(partial(_lookup, _group))
