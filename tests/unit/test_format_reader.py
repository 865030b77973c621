"""A reader that knows only docs/format.md reads what an engine has written, also with disks missing."""

import itertools
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import filling
import format_reader
import pytest
import trio
from filling import OPENER, UNIT
from roster import Roster

from vtlfs.engine.assembly import running
from vtlfs.engine.library import Library
from vtlfs.engine.media import cartridges
from vtlfs.engine.pool_streams import open_stream
from vtlfs.model import Actor, Hold, Mount, RetainMode, utc_now
from vtlfs.rules import MediaRule, PoolRule

PIECES = [1, 5 * UNIT, 100, UNIT - 101, 3 * UNIT + 7, 2, 11 * UNIT]  # a flush behind each ends extents and stripes


async def write(library: Library, *streams: bytes) -> None:
    """Write to one medium in two sessions at the same time, with a flush after each piece."""
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


def releases(disks: Sequence[Path]) -> list[str]:
    """Return when the sessions of T1 were released."""
    return [str(head["released_at"]) for head in format_reader.headers_of(disks, "T1")]


def test_volumes_and_retention_are_read(tmp_path: Path) -> None:
    library = filling.make(tmp_path, 3, parity=1)
    media = {"T1": MediaRule(RetainMode.COMPLIANCE, 86400), "T3": MediaRule(RetainMode.WORM)}
    library = replace(library, config=replace(library.config, media=media))
    disks = library.config.disks
    filling.fill(library, ("T1", b"kept"), ("T2", b"old" * UNIT), ("T3", b"for ever"))
    with closing(library.tracking()) as tracking:
        with tracking.transaction():
            tracking.volumes.end_current("T2", utc_now())
            tracking.volumes.hold(Hold("T2", "case 7", "auditors", utc_now(), 0, "alpha"))
            tracking.events.add("erased", Actor(0, "alpha", "vtlfs"), utc_now(), medium="T2")
        cartridges.keep(library, tracking, ["T2"])
        commits, until = tracking.library.watermark().commits, tracking.volumes.get("T1", 1).retain_until
    assert (format_reader.volume(disks, "T2"), format_reader.medium(disks, "T2")) == (2, b"")
    assert format_reader.medium(disks, "T2", 1) == b"old" * UNIT
    for disk in disks:
        known = format_reader.cartridge(disk, library.config.uuid, "T2")
        assert known is not None
        assert (known["commits"], known["event"], known["state"], known["protected"]) == (commits, 1, "in use", False)
        assert (known["capacity"], known["retain_mode"], known["retain_until"]) == (None, None, None)
        assert [(hold["name"], hold["reason"], hold["uid"], hold["host"]) for hold in known["holds"]] == [
            ("case 7", "auditors", 0, "alpha")
        ]
    assert format_reader.retention(disks, "T1") == ("compliance", until)
    assert format_reader.retention(disks, "T2") is None
    assert format_reader.retention(disks, "T3") == ("worm", "")
    (head, *_) = format_reader.headers_of(disks, "T1")
    assert (head["retain_mode"], head["retain_seconds"]) == ("compliance", 86400)
    filling.fill(library, ("T2", b"new"))
    assert (format_reader.volume(disks, "T2"), format_reader.medium(disks, "T2")) == (2, b"new")


def test_events_and_deleted_snapshots_are_read(tmp_path: Path) -> None:
    library = filling.make(tmp_path, 3, parity=1)
    disks, actor = library.config.disks, Actor(7, "alpha", "vtlfs")
    assert (format_reader.events(disks, "T2"), format_reader.deleted_snapshots(disks)) == ([], set())
    filling.fill(library, ("T2", b"old"))
    with closing(library.tracking()) as tracking:
        with tracking.transaction():
            tracking.volumes.end_current("T2", utc_now())
            for number, what in enumerate(("erased", "held", "released"), 1):
                reason = None if what == "erased" else f"case {number}"
                tracking.events.add(what, actor, utc_now(), medium="T2", volume=1, reason=reason, drive=number)
            known = tracking.events.find(medium="T2")
        cartridges.keep(library, tracking, ["T2"])
    wanted = sorted(known, key=lambda event: event.id)
    assert format_reader.events(disks, "T2") == [
        {"event": one.id, "at": one.at, "what": one.what, "volume": 1, "uid": 7, "host": "alpha", "program": "vtlfs",
         "reason": one.reason, "details": {"drive": place}}
        for place, one in enumerate(wanted, 1)
    ]  # fmt: skip
    cartridges.keep_deleted(library, [1, 2, 5])
    (disks[0] / "cartridges" / "snapshots.memory").unlink()
    cartridges.keep_deleted(library, [3, 9])
    assert format_reader.deleted_snapshots(disks) == {1, 2, 3, 5, 9}
    assert format_reader.deleted_snapshots(disks[:1]) == {3, 9}
    assert format_reader.deleted_snapshots(disks[1:2]) == {1, 2, 3, 5, 9}


async def write_to_pool(library: Library, *streams: bytes) -> list[int]:
    """Write streams through the pool P, which spans; return their identifiers."""

    async def anything(barcode: str) -> int:
        return 0

    mount = Mount(0, None, "machine", os.getpid(), 0, "/mnt", "", "mounted", utc_now(), None)
    numbers = []
    async with running(library, mount) as engine:
        for data in streams:
            stream = await open_stream(engine, "P", OPENER, anything)
            for start in range(0, len(data), 1000):
                await stream.write(start, data[start : start + 1000])
            await stream.flush(closing=True)
            await stream.release()
            numbers.append(stream.number)
    return numbers


def test_streams_of_a_pool_are_read_in_one_piece(tmp_path: Path) -> None:
    library = filling.make(tmp_path, 3, parity=1)
    with closing(library.tracking()) as tracking, tracking.transaction():
        tracking.media.add([f"N{number}" for number in range(1, 7)], 20_000, utc_now())
    library = replace(library, config=replace(library.config, pools={"P": PoolRule("N*", span=True)}))
    data = (os.urandom(50_500), b"small", os.urandom(20_000))
    wanted = dict(zip(trio.run(write_to_pool, library, *data), data, strict=True))
    filling.fill(library, ("T1", b"of no pool"))
    disks = library.config.disks
    for left in (disks, disks[1:]):
        assert format_reader.pool_streams(left, "P") == wanted
    assert format_reader.place_of_pool(disks, "P") == "N4"
    assert format_reader.place_of_pool(disks, "Q") is None


def test_library_is_read_whose_disks_have_come_and_gone(tmp_path: Path) -> None:
    """Disk numbers have gaps, and extents have moved, some of them off a disk that has come back since."""
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
        assert mark["latest"] >= max(latest for latest in releases(paths))
    wanted = b"".join(roster.streams.values())
    assert format_reader.medium(paths, "T1") == wanted
    for left in itertools.combinations(paths, 3):
        assert format_reader.medium(left, "T1") == wanted
