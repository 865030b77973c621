"""Libraries with real streams in them, written by the engine or straight to the disks, and how to damage them."""

import os
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import trio

from vtlfs.disks.headers import Opening
from vtlfs.disks.local import marks
from vtlfs.disks.local.disk import LocalDisk
from vtlfs.disks.local.opening import member_path
from vtlfs.disks.records import BLOCK, after
from vtlfs.engine.assembly import running
from vtlfs.engine.layout import erasure
from vtlfs.engine.layout.isal import Bytes
from vtlfs.engine.library import Library, create
from vtlfs.engine.reserve import Reserve
from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import NO_CODEC, Extent, Mount, Opener, Watermark, utc_now

UNIT = 4096
OPENER = Opener("alpha", 4711, 0, 0, "tar")


def tracked(library: Library) -> Tracking:
    """Open the tracking database as a command does, but with the disks' marks in this process.

    A command reads and raises them in child processes, since a disk may hang. A process that runs tests is large, and
    forking it takes ten times as long as the rest.
    """
    Reserve(library.path).open_with_room()
    opened = Tracking(library.path)

    def advance(mark: Watermark) -> None:
        for disk in library.config.disks:
            with suppress(OSError):  # a disk that is away
                marks.write(disk, library.config.uuid, mark)

    opened.on_commit = advance
    return opened


def make(root: Path, disks: int = 2, unit: int = UNIT, parity: int = 0) -> Library:
    """Make a library on disks that are directories, with media T1 to T3."""
    root.mkdir(exist_ok=True)
    paths = [root / f"disk{number}" for number in range(disks)]
    for path in paths:
        path.mkdir()
    library = create(root / "library", paths, drives=1, stripe_unit=unit, parity=parity, at=utc_now())
    with closing(tracked(library)) as tracking, tracking.transaction():
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


def deal(library: Library, session: int, opening: Opening, data: bytes) -> list[Extent]:
    """Write a stream to a library's disks, in stripes over all of them; return the extents to record."""
    disks = [LocalDisk(number, path, library.config.uuid) for number, path in enumerate(library.config.disks)]
    members = [disk.member(session, opening.stripe_unit, opening) for disk in disks]
    ends = [BLOCK] * len(disks)
    written: list[Extent] = []

    def write(stripe: int, place: int, offset: int | None, piece: Bytes, disk: int, of: Sequence[Extent] = ()) -> None:
        size = 0 if offset is None else len(piece)
        extent = Extent(session, stripe, place, offset, size, NO_CODEC, disk, ends[disk], 0, b"")
        written.append(members[disk].write(extent, [memoryview(piece)], of))
        ends[disk] = after(ends[disk], len(piece))

    unit, wide = opening.stripe_unit, len(disks) - opening.parity if opening.parity else 1
    for stripe, begin in enumerate(range(0, len(data), unit * wide)):
        pieces = [data[at : at + unit] for at in range(begin, min(begin + unit * wide, len(data)), unit)]
        first, known = stripe * wide, len(written)
        for place, piece in enumerate(pieces):
            write(stripe, place, begin + place * unit, piece, (first + place) % len(disks))
        of = written[known:]
        for row in range(opening.parity):
            write(stripe, row, None, erasure.parity(row, pieces), (first + len(pieces) + row) % len(disks), of)
    for one in members:
        one.finish(None)
    return written


def member(library: Library, disk: int, session: int) -> Path:
    """Return the path of a session's member file."""
    return member_path(library.config.disks[disk], session)


def nth(number: int) -> int:
    """Return the position of extent `number` in a member file, from 0, behind full stripe units."""
    return BLOCK + number * (BLOCK + UNIT)


def flip(file: Path, number: int, *, byte: int = 0) -> int:
    """Flip a bit of extent `number`, or with a negative `byte` of its record. Return the offset in the file."""
    offset = nth(number) + BLOCK + byte
    flip_at(file, offset)
    return offset


def flip_at(file: Path, offset: int) -> None:
    """Flip a bit of a file."""
    with open(file, "r+b") as opened:
        opened.seek(offset)
        (value,) = opened.read(1)
        opened.seek(offset)
        opened.write(bytes([value ^ 1]))
