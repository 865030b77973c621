"""A rehearsal: a few tape files, chosen at random, are restored in both ways, and what comes out is compared.

Each is read by the readers' door, which compares every extent with its recorded BLAKE3, and computes it from parity if
it is lost; and through the mount, by its path, as a program reads it. Both must give the same bytes, as many as are
recorded.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

from vtlfs.engine.library import Library
from vtlfs.engine.reading.extract import extract
from vtlfs.errors import NoSuchMedium, NoSuchTapeFile, Reclaimed, VtlfsError
from vtlfs.model import MIB, TapeFile, format_size

READ_BYTES = MIB


class NotRestored(VtlfsError):
    """A tape file can't be restored as it was written."""


@dataclass(slots=True)
class Outcome:
    """What came of a rehearsal. `failed`: of which tape files, by name, and why; `gone`: erased meanwhile."""

    tape_files: int = 0
    bytes: int = 0
    gone: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def in_words(self) -> str:
        """Return the outcome in a clause."""
        files = f"{self.tape_files:,} tape file{'' if self.tape_files == 1 else 's'}"
        told = f"{files} with {format_size(self.bytes)} restored by both ways"
        if not self.failed:
            return f"{told}: all are whole"
        name, why = next(iter(self.failed.items()))
        return f"{told}: {len(self.failed):,} failed, the first {name}: {why}"


def rehearse(library: Library, mountpoint: Path, tape_files: list[TapeFile], pace: Callable[[int], None]) -> Outcome:
    """Restore tape files and compare them. `pace` is told the bytes of each piece, and may wait, or raise."""
    outcome = Outcome()
    for one in tape_files:
        name = f"{one.medium}/{one.number:04d}"
        try:
            by_door = _by_door(library, one, pace)
            by_path = _by_path(mountpoint / "files" / one.medium / f"{one.number:04d}", pace)
            _compare(one, by_door, by_path)
        except (NoSuchMedium, NoSuchTapeFile, Reclaimed, FileNotFoundError):
            outcome.gone += 1
            continue
        except VtlfsError as error:
            outcome.failed[name] = str(error)
        except OSError as error:
            outcome.failed[name] = f"through the mount: {error.strerror}"
        outcome.tape_files += 1
        outcome.bytes += one.bytes
    return outcome


def _by_door(library: Library, one: TapeFile, pace: Callable[[int], None]) -> tuple[int, bytes]:
    """Return the length and the BLAKE3 of a tape file, as the readers' door returns it."""
    digest = blake3()
    size = extract(library, one.medium, one.number, digest.update, pace, volume=one.volume)
    return size, digest.digest()


def _by_path(path: Path, pace: Callable[[int], None]) -> tuple[int, bytes]:
    """Return the length and the BLAKE3 of a tape file, as the mount returns it."""
    digest, size = blake3(), 0
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while part := file.read(READ_BYTES):
            digest.update(part)
            size += len(part)
            pace(len(part))
    return size, digest.digest()


def _compare(one: TapeFile, by_door: tuple[int, bytes], by_path: tuple[int, bytes]) -> None:
    for way, (size, _) in (("without the mount", by_door), ("through the mount", by_path)):
        if size != one.bytes:
            raise NotRestored(f"{way} it has {size:,} bytes, and {one.bytes:,} were recorded")
    if by_door != by_path:
        raise NotRestored("what is read through the mount differs from what is read without it")
