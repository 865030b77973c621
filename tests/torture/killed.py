"""A library whose mount was killed under acknowledged streams, and copies of it to be damaged."""

import itertools
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mounting import Mounted, OnDisks, random_bytes, shell, wait_until

from vtlfs.disks import records
from vtlfs.disks.local.opening import member_path
from vtlfs.engine.tracking.database import FILE_NAME
from vtlfs.model import KIB

UNIT = 64 * KIB
DISKS = 3
EARLY, LATE = 8, 24  # streams of the mount that ended in order, and of the one that was killed
MEDIA = "T1..T4"


@dataclass(frozen=True)
class Stream:
    """A stream whose close() has returned 0."""

    session: int
    barcode: str
    content: bytes


class Killed(OnDisks):
    """A copy of the library, at a place of its own, with the streams that were acknowledged."""

    def __init__(self, root: Path, like: Path, streams: list[Stream]) -> None:
        shutil.copytree(like, root, symlinks=True, ignore=shutil.ignore_patterns("mnt"))
        self.root = root
        self.path = root / "library"
        self.disks = [root / f"disk{number}" for number in range(DISKS)]
        self.streams = streams
        configuration = self.path / "library.toml"
        configuration.write_text(configuration.read_text().replace(str(like), str(root)))

    @property
    def database(self) -> Path:
        """The tracking database."""
        return self.path / FILE_NAME

    @property
    def log(self) -> Path:
        """Its write-ahead log."""
        return self.path / f"{FILE_NAME}-wal"

    def lose_end(self) -> None:
        """Cut the write-ahead log in half."""
        os.truncate(self.log, self.log.stat().st_size // 2)

    def take_ends(self, disks: Sequence[int]) -> int:
        """Take the ends of the late streams out of their headers on these disks. Return the number of headers.

        Headers are like this if the mount is killed before it writes the end, or the power fails soon afterwards.
        """
        taken = 0
        late = sorted(self.streams, key=lambda stream: stream.session)[EARLY:]
        for path, header in headers_of((self.disks[disk] for disk in disks), late):
            if "state" in header[0]:
                with path.open("r+b") as file:
                    file.seek(records.place(header[1]))
                    file.write(bytes(records.RECORD))
                taken += 1
        return taken


def headers_of(disks: Iterable[Path], streams: Iterable[Stream]) -> Iterator[tuple[Path, tuple[dict[str, Any], int]]]:
    """Yield the headers of the streams' member files on these disks, each with its place."""
    for disk, stream in itertools.product(disks, streams):
        path = member_path(disk, stream.session)
        if path.exists():
            header = records.decode(path.read_bytes()[: records.BLOCK])
            assert header is not None
            yield path, header


def make(root: Path) -> list[Stream]:
    """Make a library in an empty directory, write streams to it through two mounts, and kill the second."""
    library = OnDisks(root, DISKS, media=MEDIA, unit=UNIT)
    streams: list[Stream] = []
    with library.mounted("host=alpha") as mounted:
        write(mounted, range(EARLY), streams)
    shutil.copy(library.path / FILE_NAME, root / "older.db")
    library.vtlfs("snapshot", "take", library.path)
    library.add("T5")
    with library.mounted("host=alpha", checked=False) as mounted:
        write(mounted, range(EARLY, EARLY + LATE), streams)
        # A close() returns when its stream is recorded; what the headers say of the end comes after that.
        wait_until(
            lambda: all("state" in header[0] for _, header in headers_of(library.disks, streams)),
            "the ends of the streams in the headers",
        )
        mounted.kill()
        shell(f"umount {mounted.path}")
    assert (library.path / f"{FILE_NAME}-wal").stat().st_size > 0
    return streams


def write(mounted: Mounted, seeds: range, streams: list[Stream]) -> None:
    """Write streams at the same time, and note each that was closed."""
    failed: list[BaseException] = []

    def one(seed: int) -> None:
        barcode, content = f"T{1 + seed % 4}", random_bytes(seed, 1 + seed * 7919 % 300_000)
        try:
            with open(mounted.medium(barcode), "wb", buffering=0) as stream:
                session = os.fstat(stream.fileno()).st_ino
                assert stream.write(content) == len(content)
            streams.append(Stream(session, barcode, content))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
