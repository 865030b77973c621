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
    """Return the resident memory of a process, in bytes, mapped files included."""
    found = re.search(r"^VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * KIB


def content(number: int, size: int) -> bytes:
    """Return the bytes of a writer: different for each of a million writers."""
    return (b"%08d" % number * (size // 8 + 1))[:size]


class Crowd:
    """A crowd of open files; see the module."""

    def __init__(self) -> None:
        self.small: list[int] = []
        self.half: list[int] = []
        self.readers: list[int] = []

    def write(self, path: Path, small: int, half: int) -> None:
        """Open so many writers; each writes its own bytes."""
        for size, count, descriptors in ((1, small, self.small), (HALF, half, self.half)):
            for _ in range(count):
                descriptors.append(os.open(path, os.O_WRONLY))
                assert os.write(descriptors[-1], content(len(descriptors) - 1, size)) == size

    def go_on(self, size: int) -> None:
        """Let the writers with half a stripe unit write so many bytes more."""
        for number, descriptor in enumerate(self.half):
            more = content(number, HALF + size)[HALF:]
            assert os.write(descriptor, more) == size

    def read(self, path: Path, count: int) -> None:
        """Open so many readers; each reads a little from the beginning."""
        for _ in range(count):
            self.readers.append(os.open(path, os.O_RDONLY))
            self.again(self.readers[-1:], 0)

    def again(self, readers: list[int], offset: int) -> None:
        """Let the readers read a little more."""
        for descriptor in readers:
            assert len(os.pread(descriptor, READ, offset)) == READ

    def close(self) -> None:
        """Close all files."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for descriptors in (self.small, self.half, self.readers):
                list(pool.map(os.close, descriptors))
                descriptors.clear()


@contextmanager
def crowd() -> Iterator[Crowd]:
    """Yield a crowd; its files are closed at the end in any case."""
    made = Crowd()
    try:
        yield made
    finally:
        made.close()
