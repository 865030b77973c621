"""Measure how fast a disk is replaced, in comparison with `cat` of the same bytes.

    python -m benchmarks.repair [--directory /var/tmp] [--sessions 10000] [--mib 2048] [--disks 3] [--dead]

makes a library with parity 1, in a temporary directory, by the engine that a mount has, and writes so many sessions of
so many MiB together. Then `vtlfs disk replace` replaces disk 0, with nothing in the page cache. Before that, `cat`
reads the bytes that the repair reads (the member files of disk 0 if it lives, those of all other disks if it is dead),
and writes as many bytes as the repair writes to one file.
"""

import argparse
import os
import random
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import trio

from benchmarks.measuring import MB, drop_caches, write_out
from benchmarks.peers import VTLFS
from vtlfs.engine import library as libraries
from vtlfs.engine.assembly import running
from vtlfs.engine.engine import Engine
from vtlfs.engine.library import Library
from vtlfs.model import MIB, Mount, Opener, utc_now

MEDIA = 100
WRITERS = 16
OPENER = Opener("bench", 1, 0, 0, "tar")
TARGET = 0.5  # the rate of the repair is to be at least this part of the rate of cat


def main() -> None:
    """Parse the command line, measure, and print what was found."""
    parser = argparse.ArgumentParser(prog="benchmarks.repair", description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where to work")
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--mib", type=int, default=2048, help="size of all sessions together")
    parser.add_argument("--disks", type=int, default=3)
    parser.add_argument("--dead", action="store_true", help="disk 0 is gone when it is replaced")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vtlfs-repair.", dir=arguments.directory) as temporary:
        root = Path(temporary)
        library = make(root, arguments.disks, arguments.sessions, arguments.mib * MIB)
        measure(root, library, dead=arguments.dead)


def make(root: Path, disks: int, sessions: int, size: int) -> Library:
    """Make a library with parity 1, and `sessions` sessions of the same length, `size` bytes together."""
    paths = [root / f"disk{number}" for number in range(disks + 1)]
    for path in paths:
        path.mkdir()
    library = libraries.create(root / "library", paths[:disks], drives=4, stripe_unit=MIB, parity=1, at=utc_now())
    started = time.monotonic()
    with closing(library.tracking()) as tracking, tracking.transaction():
        tracking.media.add([f"R{number:05d}L9" for number in range(MEDIA)], None, utc_now())
    trio.run(fill, library, sessions, size // sessions)
    print(f"{sessions} sessions of {size // sessions / MIB:.2f} MiB: {time.monotonic() - started:.0f} s", flush=True)
    return library


async def fill(library: Library, sessions: int, size: int) -> None:
    """Write the sessions, WRITERS at the same time, without waiting for the disks at each close()."""
    mount = Mount(0, "bench", "machine", os.getpid(), 0, "/mnt", "", "mounted", utc_now(), None)
    numbers = iter(range(sessions))
    data = random.Random(1).randbytes(size + sessions)

    async def write(engine: Engine) -> None:
        for number in numbers:
            session = await engine.open_writer(f"R{number % MEDIA:05d}L9", 0, OPENER)
            for start in range(0, size, MIB):
                await session.write(start, data[number + start : number + min(size, start + MIB)])
            await session.flush(closing=True)
            await engine.release_writer(session)

    async with running(library, mount, durable_close=False) as engine, trio.open_nursery() as nursery:
        for _ in range(WRITERS):
            nursery.start_soon(write, engine)


def measure(root: Path, library: Library, *, dead: bool) -> None:
    """Replace disk 0, and print how fast that was."""
    with closing(library.tracking(read_only=True)) as tracking:
        stored = tracking.disks.stored()
    moved = stored[0].bytes
    read = [root / f"disk{number}" for number in stored if (number > 0) == dead]
    write_out()
    copied, copying = cat(read, root / "copy", moved)
    if dead:
        shutil.rmtree(root / "disk0")
    write_out()
    drop_caches()
    seconds, busy = timed([VTLFS, "disk", "replace", library.path, "0", root / f"disk{len(stored)}"])
    size = sum(stored[number].bytes for number in stored if (number > 0) == dead)
    print(f"disk 0, {'dead' if dead else 'alive'}: {moved / MIB:.0f} MiB in {stored[0].extents} extents")
    print(
        f"cat: {moved / copied / MB:.0f} MB/s of it, {size / MIB:.0f} MiB read and {moved / MIB:.0f} MiB written,"
        f" {copying:.1f} of {copied:.1f} s in processors"
    )
    ratio = copied / seconds
    met = "met" if ratio >= TARGET else "missed"
    print(
        f"vtlfs disk replace: {moved / seconds / MB:.0f} MB/s, {busy:.1f} of {seconds:.1f} s in processors;"
        f" {ratio:.2f} x cat (>= {TARGET}): {met}"
    )


def cat(directories: Sequence[Path], copy: Path, size: int) -> tuple[float, float]:
    """Return how long cat takes to read all member files of the directories and to write `size` bytes durably.

    The result is that of `timed`.
    """
    drop_caches()
    members = " ".join(f"{directory}/sessions" for directory in directories)
    reading = f"find {members} -name '*.member' -print0 | sort -z | xargs -0 cat"
    took = timed(["sh", "-c", f"{reading} | (head -c {size} > {copy}; cat > /dev/null); sync {copy}"])
    copy.unlink()
    return took


def timed(words: Sequence[str | os.PathLike[str]]) -> tuple[float, float]:
    """Run a command that must succeed; return the seconds that it took, and its processor seconds."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(list(words), check=True)
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
