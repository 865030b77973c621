"""Names in the mounted tree, without a mount."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vtlfs.engine.engine import Engine, running
from vtlfs.engine.library import create
from vtlfs.fs.tree import (
    DRIVES,
    FILES,
    MEDIA,
    ROOT,
    SESSIONS,
    DriveDirectory,
    FilesDirectory,
    LoadedLink,
    MediumNode,
    NoSuchEntry,
    SessionNode,
    TapeFileNode,
    Tree,
    mtime_ns,
    stable_number,
)
from vtlfs.model import Mount, Opener, epoch_ns, utc_now

TAR = Opener("alpha", 1, 0, 0, "tar")


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    disks = [tmp_path / f"disk{number}" for number in range(2)]
    for disk in disks:
        disk.mkdir()
    library = create(tmp_path / "library", disks, drives=2, stripe_unit=4096, at=utc_now())
    tracking = library.tracking()
    with tracking.transaction():
        tracking.add_media(["T1", "T2", "drives"], None, utc_now())
        tracking.load(1, "T2", utc_now())
    tracking.close()
    mount = Mount(0, "alpha", "machine", os.getpid(), 0, "/mnt", "", "mounted", utc_now(), None)
    async with running(library, mount) as engine:
        yield engine


async def write(engine: Engine, barcode: str, data: bytes) -> int:
    session = await engine.open_writer(barcode, 0, TAR)
    await session.write(0, data)
    await session.flush()
    await engine.release_writer(session)
    return session.number


async def test_listed_names_are_found_and_stand_for_the_same(engine: Engine):
    await write(engine, "T1", b"one")
    await write(engine, "T1", b"two")
    tree = Tree(engine)
    seen = 0

    async def walk(directory: object) -> None:
        nonlocal seen
        for name, listed in await tree.entries(directory):
            found = await tree.look_up(directory, name)
            assert stable_number(found) == stable_number(listed)
            assert type(found) is type(listed)
            seen += 1
            if not isinstance(found, MediumNode | TapeFileNode | SessionNode | LoadedLink):
                await walk(found)

    await walk(ROOT)
    assert seen == 4 + 2 + 3 + 3 + 1 + 3 + 3 + 2


async def test_medium_stands_for_its_length_at_the_look_up(engine: Engine):
    tree = Tree(engine)
    before = await tree.look_up(MEDIA, "T1")
    await write(engine, "T1", b"data")
    after = await tree.look_up(DriveDirectory(1), "T1")
    assert isinstance(before, MediumNode)
    assert isinstance(after, MediumNode)
    assert (before.medium.bytes, before.drive) == (0, None)
    assert (after.medium.bytes, after.drive) == (4, 1)


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        (ROOT, "x"),
        (ROOT, "Media"),
        (DRIVES, "2"),
        (DRIVES, "00"),
        (DRIVES, "-1"),
        (DRIVES, "x"),
        (DRIVES, "\N{ARABIC-INDIC DIGIT ONE}"),
        (MEDIA, "NONE"),
        (MEDIA, "t1"),
        (MEDIA, "loaded"),
        (DriveDirectory(0), "loaded"),
        (DriveDirectory(0), "NONE"),
        (FILES, "NONE"),
        (SESSIONS, "0"),
        (SESSIONS, "01"),
        (SESSIONS, "99"),
        (SESSIONS, "9" * 40),
    ],
)
async def test_names_that_are_none(engine: Engine, directory: object, name: str):
    with pytest.raises(NoSuchEntry):
        await Tree(engine).look_up(directory, name)


async def test_tape_files_have_one_name_each(engine: Engine):
    await write(engine, "T1", b"data")
    tree = Tree(engine)
    folder = await tree.look_up(FILES, "T1")
    assert isinstance(folder, FilesDirectory)
    assert isinstance(await tree.look_up(folder, "0000"), TapeFileNode)
    for name in ("0", "00", "00000", "0001", "+000", "x", " 0000", "9" * 12):
        with pytest.raises(NoSuchEntry):
            await tree.look_up(folder, name)


async def test_loaded_link(engine: Engine):
    tree = Tree(engine)
    link = await tree.look_up(DriveDirectory(1), "loaded")
    assert isinstance(link, LoadedLink)
    assert link.target == "T2"
    names = [name for name, _ in await tree.entries(DriveDirectory(1))]
    assert names[0] == "loaded"
    assert "loaded" not in [name for name, _ in await tree.entries(DriveDirectory(0))]


async def test_open_sessions_are_listed_and_all_are_found(engine: Engine):
    tree = Tree(engine)
    closed = await write(engine, "T1", b"data")
    opened = await engine.open_writer("T1", 1, TAR)
    await opened.write(0, b"12345")
    assert [name for name, _ in await tree.entries(SESSIONS)] == [str(opened.number)]
    for number, state, received in ((closed, "released", 4), (opened.number, "open", 5)):
        node = await tree.look_up(SESSIONS, str(number))
        assert isinstance(node, SessionNode)
        document = json.loads(node.text)
        assert (document["id"], document["state"], document["received"]) == (number, state, received)
    await engine.release_writer(opened)


async def test_long_session_shows_the_first_stripe_units(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vtlfs.fs.tree.SHOWN_UNITS", 5)
    number = await write(engine, "T1", bytes(8 * 4096))
    node = await Tree(engine).look_up(SESSIONS, str(number))
    assert isinstance(node, SessionNode)
    document = json.loads(node.text)
    assert [unit["unit"] for unit in document["stripe_units"]] == [0, 1, 2, 3, 4]
    assert document["stripe_units_complete"] is False


async def test_times_are_those_of_the_last_change(engine: Engine):
    tree = Tree(engine)
    empty = await tree.look_up(MEDIA, "T1")
    assert isinstance(empty, MediumNode)
    assert mtime_ns(empty, 5) == epoch_ns(empty.medium.added_at)
    await write(engine, "T1", b"data")
    (released,) = (tape_file.released_at for tape_file in engine.tracking.tape_files("T1"))
    for node in (await tree.look_up(MEDIA, "T1"), await tree.look_up(FILES, "T1")):
        assert mtime_ns(node, 5) == epoch_ns(released)
    assert mtime_ns(DRIVES, 5) == 5
