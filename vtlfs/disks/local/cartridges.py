"""The files of the cartridge memory on a disk; `disks/cartridges.py` says what it is for.

    DISK/cartridges/A00001L9.cartridge

docs/format.md specifies them.
A file has its name only when it is whole and durable. No symbolic link is followed. May block; any thread may call.
"""

import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from vtlfs.disks import cartridges, records
from vtlfs.disks.cartridges import Cartridge
from vtlfs.disks.local import whole
from vtlfs.disks.local.opening import kept
from vtlfs.durable import sync_directory
from vtlfs.failpoints import reached
from vtlfs.model import BARCODE, MIB

DIRECTORY = "cartridges"
MAX_BYTES = MIB  # of a file
WORTH_ALL = 8  # files that are synced sooner with their whole file system than one after the other

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
                    content = records.encode_file(cartridges.document(library, one), MAX_BYTES)
                except ValueError as error:
                    too_large = error
                    continue
                _write(directory, _temporary(one), content, synced=not is_synced)
                written.append(one)
        if is_synced:
            whole.sync(directory)
        reached("cartridge.written")
        for one in written:
            os.rename(_temporary(one), f"{one.barcode}{_SUFFIX}", src_dir_fd=directory, dst_dir_fd=directory)
        reached("cartridge.named")
        os.fsync(directory)
        reached("cartridge.kept")
    sync_directory(disk)
    if too_large is not None:
        raise too_large


def read_all(disk: Path, library: str) -> Iterator[tuple[str, Cartridge | None]]:
    """Yield what the disk remembers, by the names of the files; None for one that does not tell. Raises OSError."""
    try:
        with kept(disk, DIRECTORY) as directory:
            for name in sorted(os.listdir(directory)):
                if not name.startswith("."):  # what was not finished
                    yield name, _read(directory, name, library)
    except FileNotFoundError:
        return


def _temporary(cartridge: Cartridge) -> str:
    return f".{cartridge.barcode}{_SUFFIX}.tmp"


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
    try:
        descriptor = os.open(name, os.O_RDONLY | _FLAGS, dir_fd=directory)
    except OSError:
        return None
    try:
        with open(descriptor, "rb") as file:
            content = file.read(MAX_BYTES + 1) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    except OSError:
        return None
    said = records.decode_file(content) if len(content) <= MAX_BYTES else None
    return None if said is None else cartridges.read(said, library, barcode)


def _made() -> None:
    reached("cartridge.directory_made")
