"""A library with real streams in it, written by the engine without a mount, and how to damage its member files."""

import os
from contextlib import closing
from pathlib import Path

import trio

from vtlfs.disks.local.opening import member_path
from vtlfs.disks.records import BLOCK, slot_offset
from vtlfs.engine.assembly import running
from vtlfs.engine.library import Library, create
from vtlfs.model import Mount, Opener, utc_now

UNIT = 4096
OPENER = Opener("alpha", 4711, 0, 0, "tar")


def make(root: Path, disks: int = 2, unit: int = UNIT) -> Library:
    """Make a library on disks that are directories, with media T1 to T3."""
    root.mkdir(exist_ok=True)
    paths = [root / f"disk{number}" for number in range(disks)]
    for path in paths:
        path.mkdir()
    library = create(root / "library", paths, drives=1, stripe_unit=unit, at=utc_now())
    with closing(library.tracking()) as tracking, tracking.transaction():
        tracking.media.add(["T1", "T2", "T3"], None, utc_now())
    return library


def fill(library: Library, *streams: tuple[str, bytes]) -> list[int]:
    """Write the streams to their media, one after the other; return their sessions."""
    return trio.run(_fill, library, streams)


async def _fill(library: Library, streams: tuple[tuple[str, bytes], ...]) -> list[int]:
    mount = Mount(0, None, "machine", os.getpid(), 0, "/mnt", "", "mounted", utc_now(), None)
    numbers = []
    async with running(library, mount) as engine:
        for barcode, data in streams:
            session = await engine.open_writer(barcode, 0, OPENER)
            await session.write(0, data)
            await session.flush(closing=True)
            await engine.release_writer(session)
            numbers.append(session.number)
    return numbers


def member(library: Library, disk: int, session: int) -> Path:
    """Return the path of a session's member file."""
    return member_path(library.config.disks[disk], session)


def flip(file: Path, slot: int, *, byte: int = 0) -> int:
    """Turn a bit of the stripe unit in a slot, or of its record where `byte` is negative. Return the offset."""
    offset = slot_offset(slot, UNIT) + BLOCK + byte
    flip_at(file, offset)
    return offset


def flip_at(file: Path, offset: int) -> None:
    """Turn a bit of a file."""
    with open(file, "r+b") as opened:
        opened.seek(offset)
        (value,) = opened.read(1)
        opened.seek(offset)
        opened.write(bytes([value ^ 1]))
