"""A crowd of idle open files: writers of a byte, writers with half a stripe unit, readers that have read a little."""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from vtlfs.model import KIB

HALF = 600 * KIB  # of a stripe unit of 1 MiB
READ = 4 * KIB
AT_ONCE = 8  # files that are closed at the same time: each waits for a sync


def resident(pid: int) -> int:
    """Return the bytes of a process that are in memory, with those of files that it has mapped."""
    found = re.search(r"^VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * KIB


def content(number: int, size: int) -> bytes:
    """Return a writer's bytes, which no other of a million writes."""
    return (b"%08d" % number * (size // 8 + 1))[:size]


class Crowd:
    """Open files; see the module."""

    def __init__(self) -> None:
        self.small: list[int] = []
        self.half: list[int] = []
        self.readers: list[int] = []

    def write(self, path: Path, small: int, half: int) -> None:
        """Open so many writers, and have each write what it writes."""
        for size, count, descriptors in ((1, small, self.small), (HALF, half, self.half)):
            for _ in range(count):
                descriptors.append(os.open(path, os.O_WRONLY))
                assert os.write(descriptors[-1], content(len(descriptors) - 1, size)) == size

    def go_on(self, size: int) -> None:
        """Have the writers of half a unit write so many bytes more."""
        for number, descriptor in enumerate(self.half):
            more = content(number, HALF + size)[HALF:]
            assert os.write(descriptor, more) == size

    def read(self, path: Path, count: int) -> None:
        """Open so many readers, and have each read a little from the beginning."""
        for _ in range(count):
            self.readers.append(os.open(path, os.O_RDONLY))
            self.again(self.readers[-1:], 0)

    def again(self, readers: list[int], offset: int) -> None:
        """Have readers read a little."""
        for descriptor in readers:
            assert len(os.pread(descriptor, READ, offset)) == READ

    def close(self) -> None:
        """Close all."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for descriptors in (self.small, self.half, self.readers):
                list(pool.map(os.close, descriptors))
                descriptors.clear()


@contextmanager
def crowd() -> Iterator[Crowd]:
    """Return a crowd that is closed whatever happens."""
    made = Crowd()
    try:
        yield made
    finally:
        made.close()
