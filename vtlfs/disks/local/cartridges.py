"""The files of the cartridge memory on a disk; `disks/cartridges.py` says what it is for.

    DISK/cartridges/A00001L9.cartridge
    DISK/cartridges/snapshots.memory

The second is the snapshot memory, of `disks/snapshots.py`. docs/format.md specifies them.
A file has its name only when it is whole and durable. No symbolic link is followed. May block; any thread may call.
"""

import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vtlfs.disks import cartridges, records, snapshots
from vtlfs.disks.cartridges import Cartridge
from vtlfs.disks.local import whole
from vtlfs.disks.local.opening import kept
from vtlfs.disks.snapshots import Runs, union
from vtlfs.durable import sync_directory
from vtlfs.failpoints import reached
from vtlfs.model import BARCODE, MIB

DIRECTORY = "cartridges"
MAX_BYTES = MIB  # of a file
WORTH_ALL = 8  # files that are synced sooner with their whole file system than one after the other

SNAPSHOTS = "snapshots.memory"
_SUFFIX = ".cartridge"
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def put(disk: Path, library: str, found: Sequence[Cartridge]) -> None:
    """Have the disk remember media durably; what it knows that is as new stays. Raises OSError.

    Raises ValueError where a medium has more holds than a file has room for; the others are remembered.
    Several processes may do so at the same time: they wait for each other.
    """
    too_large: ValueError | None = None
    with kept(disk, DIRECTORY, _made) as directory:
        fcntl.flock(directory, fcntl.LOCK_EX)
        written = []
        is_synced = len(found) >= WORTH_ALL and whole.can_be_synced(directory)
        for one in found:
            known = _read(directory, f"{one.barcode}{_SUFFIX}", library)
            if known is None or known.commits < one.commits:
                try:
                    content = _encoded(library, one)
                except ValueError as error:
                    too_large = error
                    continue
                _write(directory, _temporary(f"{one.barcode}{_SUFFIX}"), content, synced=not is_synced)
                written.append(one)
        if is_synced:
            whole.sync(directory)
        _name(directory, [f"{one.barcode}{_SUFFIX}" for one in written])
    sync_directory(disk)
    if too_large is not None:
        raise too_large


def read_all(disk: Path, library: str) -> Iterator[tuple[str, Cartridge | None]]:
    """Yield what the disk remembers, by the names of the files; None for one that does not tell. Raises OSError."""
    try:
        with kept(disk, DIRECTORY) as directory:
            for name in sorted(os.listdir(directory)):
                if not name.startswith(".") and name != SNAPSHOTS:  # the first: what was not finished
                    yield name, _read(directory, name, library)
    except FileNotFoundError:
        return


def _encoded(library: str, one: Cartridge) -> bytes:
    """Return the content of a medium's file, without events where holds leave no room for them. Raises ValueError."""
    with suppress(ValueError):
        return records.encode_file(cartridges.document(library, one), MAX_BYTES)
    return records.encode_file(cartridges.document(library, replace(one, events=())), MAX_BYTES)


def put_snapshots(disk: Path, library: str, deleted: Runs) -> None:
    """Have the disk remember durably that snapshots are deleted, beside those of which it knows. Raises OSError.

    Raises ValueError where there are more runs of snapshots than the file has room for.
    """
    with kept(disk, DIRECTORY, _made) as directory:
        fcntl.flock(directory, fcntl.LOCK_EX)
        known = _read_snapshots(directory, library)
        if (wanted := union([*known, *deleted])) == known:
            return
        content = records.encode_file(snapshots.document(library, wanted), MAX_BYTES)
        _write(directory, _temporary(SNAPSHOTS), content, synced=True)
        _name(directory, [SNAPSHOTS])
    sync_directory(disk)


def read_snapshots(disk: Path, library: str) -> Runs:
    """Return which snapshots the disk knows to be deleted. Raises OSError."""
    try:
        with kept(disk, DIRECTORY) as directory:
            return _read_snapshots(directory, library)
    except FileNotFoundError:
        return ()


def _name(directory: int, names: Sequence[str]) -> None:
    """Give files that are written under temporary names their own names, durably."""
    reached("cartridge.written")
    for name in names:
        os.rename(_temporary(name), name, src_dir_fd=directory, dst_dir_fd=directory)
    reached("cartridge.named")
    os.fsync(directory)
    reached("cartridge.kept")


def _temporary(name: str) -> str:
    return f".{name}.tmp"


def _write(directory: int, name: str, content: bytes, *, synced: bool) -> None:
    with suppress(FileNotFoundError):  # left by a crash
        os.unlink(name, dir_fd=directory)
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600, dir_fd=directory)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if synced:
            os.fsync(descriptor)
    except BaseException:
        os.unlink(name, dir_fd=directory)
        raise
    finally:
        os.close(descriptor)


def _read(directory: int, name: str, library: str) -> Cartridge | None:
    """Return what a file says; None where there is none, or none of this library that can be read."""
    barcode = name.removesuffix(_SUFFIX)
    if barcode == name or not BARCODE.fullmatch(barcode):
        return None
    said = _content(directory, name)
    return None if said is None else cartridges.read(said, library, barcode)


def _read_snapshots(directory: int, library: str) -> Runs:
    said = _content(directory, SNAPSHOTS)
    return (None if said is None else snapshots.read(said, library)) or ()


def _content(directory: int, name: str) -> dict[str, Any] | None:
    """Return the JSON object of a file; None where there is none that can be read."""
    try:
        descriptor = os.open(name, os.O_RDONLY | _FLAGS, dir_fd=directory)
    except OSError:
        return None
    try:
        with open(descriptor, "rb") as file:
            content = file.read(MAX_BYTES + 1) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    except OSError:
        return None
    return records.decode_file(content) if len(content) <= MAX_BYTES else None


def _made() -> None:
    reached("cartridge.directory_made")
