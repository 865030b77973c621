"""The streams that are written: any part of one can be made again, so that nothing has to be kept for comparisons."""

import random
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from blake3 import blake3

SIZES = [  # shares of all streams, and their sizes as multiples of what is asked for on average
    (4, 0, 0),
    (26, 0.00001, 0.02),
    (45, 0.02, 1),
    (20, 1, 4),
    (5, 4, 10),
]
RECORD = 10240  # of tar


class Content(Protocol):
    """The bytes of a stream."""

    @property
    def size(self) -> int:
        """How many bytes."""

    def piece(self, start: int, end: int) -> bytes:
        """Return its bytes from `start` to `end`, fewer at its end."""


@dataclass(frozen=True)
class Made:
    """Bytes that BLAKE3 generates from a number."""

    number: int
    size: int

    def piece(self, start: int, end: int) -> bytes:
        """Return its bytes from `start` to `end`, fewer at its end."""
        length = max(0, min(end, self.size) - start)
        return blake3(b"%d" % self.number).digest(length=length, seek=start) if length else b""


class Archive:
    """The archive that `tar` makes of a tree of real files, which is always the same."""

    PAUSES = 4
    TREES = ("asyncio", "encodings", "json", "unittest")

    def __init__(self, keep: Path) -> None:
        """`keep`: a directory for the archive to compare with."""
        self.path = keep / "archive.tar"
        subprocess.run(self.command(self.path), check=True)
        self.size = self.path.stat().st_size

    def command(self, path: Path, seconds: float = 0) -> list[str]:
        """Return the command that writes the archive to `path` in about `seconds`."""
        root = sysconfig.get_path("stdlib")
        words = ["tar", "-cf", str(path), "--exclude=__pycache__", "--sort=name"]
        if seconds >= self.PAUSES:
            words += [f"--checkpoint={self.size // RECORD // self.PAUSES}"]
            words += [f"--checkpoint-action=sleep={int(seconds / self.PAUSES)}"]
        return [*words, "-C", root, *self.TREES]

    def piece(self, start: int, end: int) -> bytes:
        """Return its bytes from `start` to `end`, fewer at its end."""
        with open(self.path, "rb") as file:
            file.seek(start)
            return file.read(max(0, end - start))


def any_size(chance: random.Random, average: int) -> int:
    """Return the size of a stream: some are empty, many are small, and a few are large."""
    shares = [share for share, _, _ in SIZES]
    [(_, least, most)] = chance.choices(SIZES, shares)
    return int(chance.uniform(least, most) * average)
