"""What a mount's engine has written is read by a reader that knows docs/format.md alone, whichever disks are gone."""

import itertools
import os
from pathlib import Path

import filling
import format_reader
import pytest
import trio
from filling import OPENER, UNIT
from roster import Roster

from vtlfs.engine.assembly import running
from vtlfs.engine.library import Library
from vtlfs.model import Mount, utc_now

PIECES = [1, 5 * UNIT, 100, UNIT - 101, 3 * UNIT + 7, 2, 11 * UNIT]  # a flush behind each ends extents and stripes


async def write(library: Library, *streams: bytes) -> None:
    """Have two sessions write to one medium at the same time, with a flush behind each piece."""
    mount = Mount(0, None, "machine", os.getpid(), 0, "/mnt", "", "mounted", utc_now(), None)
    async with running(library, mount) as engine:
        sessions = [await engine.open_writer("T1", 0, OPENER) for _ in streams]
        offset = 0
        for size in PIECES:
            for session, data in zip(sessions, streams, strict=True):
                await session.write(offset, data[offset : offset + size])
                await session.flush()
            offset += size
        for session in sessions:
            await engine.release_writer(session)


@pytest.mark.parametrize(("disks", "parity"), [(2, 0), (2, 1), (3, 1), (3, 2), (4, 1), (4, 2), (6, 2)])
def test_all_is_read_with_as_many_disks_missing_as_there_is_parity(tmp_path: Path, disks: int, parity: int) -> None:
    library = filling.make(tmp_path, disks, parity=parity)
    streams = [os.urandom(sum(PIECES)) for _ in range(2)]
    trio.run(write, library, *streams)
    paths = library.config.disks
    assert format_reader.medium(paths, "T1") == b"".join(streams)
    for left in itertools.combinations(paths, disks - parity):
        assert format_reader.medium(left, "T1") == b"".join(streams)
    for left in itertools.combinations(paths, disks - parity - 1):
        with pytest.raises(AssertionError):
            assert format_reader.medium(left, "T1") == b"".join(streams)


def test_records_are_as_documented(tmp_path: Path) -> None:
    library = filling.make(tmp_path, 3, parity=1)
    (session,) = filling.fill(library, ("T1", bytes(2 * UNIT + 5)))
    keys = {"library", "disk", "session", "position", "stripe", "place", "stored", "blake3"}
    kinds = []
    for number, disk in enumerate(library.config.disks):
        path = format_reader.member(disk, session)
        header = format_reader.header(path)
        assert header is not None
        assert (header["stripe_unit"], header["parity"], header["codec"], header["volume"]) == (UNIT, 1, "none", 1)
        for about, data in format_reader.extents(path, (library.config.uuid, number, session)):
            kinds.append("members" in about)
            assert set(about) == keys | ({"members"} if "members" in about else {"offset", "bytes", "codec"})
            assert len(data) == about["stored"]
    assert sorted(kinds) == [False, False, False, True, True]  # two data extents and parity; one and parity


def test_library_is_read_whose_disks_have_come_and_gone(tmp_path: Path) -> None:
    """There are gaps in the numbers, and extents that were moved, away from a disk that has come back too."""
    roster = Roster(tmp_path, 4, 1)
    for size in (1, 5 * UNIT, 9 * UNIT + 100):
        roster.write(size)
    roster.retire(1)
    roster.add()
    roster.lose(2)
    roster.empty(2, retiring=False)
    roster.bring_back(2)
    roster.empty(0, retiring=False)
    roster.write(7 * UNIT)
    paths = [roster.paths[number] for number in (0, 2, 3, 4)]
    assert [format_reader.label(path)["number"] for path in paths] == [0, 2, 3, 4]
    for path in paths:
        mark = format_reader.mark(path)
        assert mark is not None
        assert (mark["library"], mark["disks"]) == (roster.library.config.uuid, 5)
        assert mark["moves"] > 0
    wanted = b"".join(roster.streams.values())
    assert format_reader.medium(paths, "T1") == wanted
    for left in itertools.combinations(paths, 3):
        assert format_reader.medium(left, "T1") == wanted
