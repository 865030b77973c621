#!/usr/bin/env python3
"""Make a library with a long history, to measure how its size affects mounts and commands.

    benchmarks/large_library.py DIRECTORY [--media 1000] [--sessions 1000000] [--snapshots 10000]

makes DIRECTORY/library, with two disks beside it. The history is written through the same methods as that of a mount,
so that the tables and counters are those that a mount would have left. The disks stay empty, because no benchmark reads
the data back.
"""

import argparse
import random
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from vtlfs.disks.records import BLOCK
from vtlfs.engine import library as libraries
from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import MIB, NO_CODEC, Access, Extent, Mount, Opener, State, utc_now
from vtlfs.snap import store

BATCH = 1000
STREAMS = 8  # sessions that are open at any time, and so in every snapshot
HOSTS = [f"host{number:02d}" for number in range(20)]
PROGRAMS = ["tar", "dd", "pg_dump", "cpio", "mbuffer"]


def main() -> None:
    """Parse the command line and make the library."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--media", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--snapshots", type=int, default=10_000)
    arguments = parser.parse_args()
    started = time.monotonic()
    make(arguments.directory, arguments.media, arguments.sessions, arguments.snapshots)
    print(f"{arguments.sessions} sessions, {arguments.snapshots} snapshots: {time.monotonic() - started:.0f} s")


def make(root: Path, media: int, sessions: int, snapshots: int) -> Path:
    """Make a library with such a history in `root`, which need not exist; return the library's directory."""
    root.mkdir(parents=True, exist_ok=True)
    disks = [root / "disk0", root / "disk1"]
    for disk in disks:
        disk.mkdir()
    library = libraries.create(root / "library", disks, drives=8, stripe_unit=MIB, at=utc_now())
    with closing(library.tracking()) as tracking:
        fill(tracking, media, sessions, snapshots)
    return library.path


def fill(tracking: Tracking, media: int, sessions: int, snapshots: int) -> None:
    """Write the history: sessions spread evenly over three years, and snapshots spread evenly over the sessions."""
    source = random.Random(1)
    barcodes = [f"V{number:05d}L9" for number in range(media)]
    begin, step = datetime.now(UTC) - timedelta(days=3 * 365), timedelta(days=3 * 365) / max(1, sessions)
    every = max(1, sessions // max(1, snapshots))
    with tracking.transaction(durable=False):
        tracking.media.add(barcodes, None, stamp(begin))
        mount = tracking.mounts.add(Mount(0, None, "bench", 1, 0, "/mnt", "", "unmounted", stamp(begin), None))
    for batch in range(0, sessions, BATCH):
        with tracking.transaction(durable=False):
            for index, number in enumerate(tracking.library.take_sessions(min(BATCH, sessions - batch)), batch):
                at = begin + index * step
                write(tracking, number, mount, source, barcodes, at)
                if index >= STREAMS:
                    tracking.sessions.release(number - STREAMS, State.RELEASED, None, stamp(at))
                if (index + 1) % every == 0:
                    store.take(tracking, stamp(at), scheduled=True)


def write(
    tracking: Tracking, number: int, mount: int, source: random.Random, barcodes: list[str], at: datetime
) -> None:
    """Record one open session of up to 8 MiB."""
    size = source.randrange(1, 8 * MIB)
    opener = Opener(source.choice(HOSTS), source.randrange(1, 1 << 22), 0, 0, source.choice(PROGRAMS))
    tracking.sessions.open(
        number, mount, opener, Access.WRITE, source.randrange(8), source.choice(barcodes), MIB, stamp(at)
    )
    extents = [
        an_extent(number, unit, min(MIB, size - unit * MIB), source.randbytes(32)) for unit in range(-(-size // MIB))
    ]
    tracking.sessions.record_progress(number, extents, size, -(-size // 10_240))


def an_extent(session: int, unit: int, size: int, blake3: bytes) -> Extent:
    """Return the extent of one stripe unit; the extents lie on the two disks in turn."""
    position = BLOCK + unit // 2 * (BLOCK + MIB)
    return Extent(session, unit, 0, unit * MIB, size, NO_CODEC, (session + unit) % 2, position, size, blake3)


def stamp(moment: datetime) -> str:
    """Return a time as the tracking database writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


if __name__ == "__main__":
    main()
