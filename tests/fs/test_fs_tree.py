"""Names in the mounted tree, without a mount."""

import json
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import assert_no_checkpoints

from vtlfs.engine.assembly import running
from vtlfs.engine.engine import Engine
from vtlfs.engine.library import create
from vtlfs.fs.nodes import (
    DRIVES,
    FILES,
    MEDIA,
    ROOT,
    SESSIONS,
    SNAPSHOTS,
    DriveDirectory,
    FilesDirectory,
    LoadedLink,
    MediumNode,
    Node,
    PastMediumNode,
    SessionNode,
    SnapshotDirectory,
    TapeFileNode,
    mtime_ns,
    stable_number,
)
from vtlfs.fs.tree import NoSuchEntry, Tree
from vtlfs.model import Mount, Opener, epoch_ns, utc_now
from vtlfs.snap import store

TAR = Opener("alpha", 1, 0, 0, "tar")


@pytest.fixture(params=[(2, 0)])
async def engine(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """An engine on a library with so many disks and so much parity."""
    count, parity = request.param
    disks = [tmp_path / f"disk{number}" for number in range(count)]
    for disk in disks:
        disk.mkdir()
    library = create(tmp_path / "library", disks, drives=2, stripe_unit=4096, parity=parity, at=utc_now())
    tracking = library.tracking()
    with tracking.transaction():
        tracking.media.add(["T1", "T2", "drives"], None, utc_now())
        tracking.drives.load(1, "T2", utc_now())
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


async def snapshot(engine: Engine) -> int:
    return (await engine.change(lambda tracking: store.take(tracking, utc_now()))).id


async def prune(engine: Engine, number: int) -> None:
    await engine.change(lambda tracking: store.remove(tracking, [number]))


async def listed(tree: Tree, directory: Node) -> list[str]:
    """Return all names in the directory, as they are read page by page."""
    names: list[str] = []
    place = 0
    while page := await tree.entries(directory, place):
        places = [entry.place for entry in page]
        assert places == sorted(set(places))
        assert places[0] > place, "places ascend"
        place = places[-1]
        names += [entry.name for entry in page]
    return names


async def test_listed_names_are_found_and_stand_for_the_same(engine: Engine) -> None:
    await write(engine, "T1", b"one")
    await write(engine, "T1", b"two")
    await snapshot(engine)
    tree = Tree(engine)
    seen = 0

    async def walk(directory: Node) -> None:
        nonlocal seen
        for _, name, listed in await tree.entries(directory):
            found = await tree.look_up(directory, name)
            assert stable_number(found) == stable_number(listed)
            assert type(found) is type(listed)
            seen += 1
            if not isinstance(found, MediumNode | PastMediumNode | TapeFileNode | SessionNode | LoadedLink):
                await walk(found)

    await walk(ROOT)
    assert seen == 6 + 2 + 3 + 3 + 1 + 3 + 3 + 2 + (1 + 2 + 3 + 3 + 2)


@pytest.mark.parametrize("page", [1, 2, 256])
async def test_directory_is_listed_once_and_whole_in_pages_of_any_size(engine: Engine, page: int) -> None:
    for _ in range(5):
        await write(engine, "T1", b"data")
    number, tree = await snapshot(engine), Tree(engine, page=page)
    await write(engine, "T1", b"later")
    await engine.change(lambda tracking: tracking.media.add(["A1"], None, utc_now()))
    await engine.change(lambda tracking: tracking.drives.load(0, "T1", utc_now()))
    readers = [await engine.open_reader("T1", 1, 1, 0, TAR) for _ in range(3)]
    files, media = [f"{number:04d}" for number in range(5)], ["T1", "T2", "drives"]
    assert await listed(tree, ROOT) == ["drives", "media", "files", "sessions", "snapshots", "pools"]
    assert await listed(tree, DRIVES) == ["0", "1"]
    assert await listed(tree, DriveDirectory(0)) == ["loaded", *media, "A1"]
    assert await listed(tree, MEDIA) == await listed(tree, FILES) == [*media, "A1"]
    assert await listed(tree, await tree.look_up(FILES, "T1")) == [*files, "0005"]
    assert await listed(tree, SESSIONS) == [str(reader.number) for reader in readers]
    assert await listed(tree, SNAPSHOTS) == [str(number)]
    assert await listed(tree, await past_path(tree, number)) == ["media", "files"]
    for part in ("media", "files"):
        assert await listed(tree, await past_path(tree, number, part)) == media
    assert await listed(tree, await past_path(tree, number, "files", "T1")) == files


async def test_listing_goes_on_where_it_was_whatever_comes_meanwhile(engine: Engine) -> None:
    tree = Tree(engine, page=2)
    first = await tree.entries(DriveDirectory(1))
    assert [entry.name for entry in first] == ["loaded", "T1", "T2"]
    await engine.change(lambda tracking: tracking.media.add(["A1"], None, utc_now()))  # before all, by its name
    await engine.change(lambda tracking: tracking.drives.unload(1))
    rest = await tree.entries(DriveDirectory(1), first[-1].place)
    assert [entry.name for entry in rest] == ["drives", "A1"]
    assert await tree.entries(DriveDirectory(1), rest[-1].place) == []
    assert (await tree.entries(DriveDirectory(1)))[0] == first[1], "the same at the same place"


async def test_listing_of_sessions_waits_for_the_database_once(engine: Engine) -> None:
    """Otherwise a listing would not end while streams are opened."""
    reader = await engine.open_reader("T1", 1, 0, 0, TAR)
    tree = Tree(engine)
    assert await listed(tree, SESSIONS) == [str(reader.number)]
    gate = threading.Event()
    engine._committer.post(lambda _: gate.wait(120))
    await engine.open_reader("T1", 1, 0, 0, TAR)
    with trio.fail_after(60):
        assert await tree.entries(SESSIONS, reader.number) == []
    gate.set()
    assert len(await listed(tree, SESSIONS)) == 2


async def test_medium_stands_for_its_length_at_the_look_up(engine: Engine) -> None:
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
        (SNAPSHOTS, "1"),
        (SNAPSHOTS, "01"),
        (SNAPSHOTS, "x"),
    ],
)
async def test_names_that_are_none(engine: Engine, directory: Node, name: str) -> None:
    with pytest.raises(NoSuchEntry):
        await Tree(engine).look_up(directory, name)


async def test_tape_files_have_one_name_each(engine: Engine) -> None:
    await write(engine, "T1", b"data")
    tree = Tree(engine)
    folder = await tree.look_up(FILES, "T1")
    assert isinstance(folder, FilesDirectory)
    assert isinstance(await tree.look_up(folder, "0000"), TapeFileNode)
    for name in ("0", "00", "00000", "0001", "+000", "x", " 0000", "9" * 12):
        with pytest.raises(NoSuchEntry):
            await tree.look_up(folder, name)


async def test_loaded_link(engine: Engine) -> None:
    tree = Tree(engine)
    link = await tree.look_up(DriveDirectory(1), "loaded")
    assert isinstance(link, LoadedLink)
    assert link.target == "T2"
    names = await listed(tree, DriveDirectory(1))
    assert names[0] == "loaded"
    assert "loaded" not in await listed(tree, DriveDirectory(0))


async def test_open_sessions_are_listed_and_all_are_found(engine: Engine) -> None:
    tree = Tree(engine)
    closed = await write(engine, "T1", b"data")
    opened = await engine.open_writer("T1", 1, TAR)
    await opened.write(0, b"12345")
    assert await listed(tree, SESSIONS) == [str(opened.number)]
    for number, state, received in ((closed, "released", 4), (opened.number, "open", 5)):
        node = await tree.look_up(SESSIONS, str(number))
        assert isinstance(node, SessionNode)
        document = json.loads(node.text)
        assert (document["id"], document["state"], document["received"]) == (number, state, received)
    await engine.release_writer(opened)


async def test_long_session_shows_the_first_extents(engine: Engine) -> None:
    number = await write(engine, "T1", bytes(8 * 4096))
    node = await Tree(engine, shown_extents=5).look_up(SESSIONS, str(number))
    assert isinstance(node, SessionNode)
    document = json.loads(node.text)
    assert [extent["offset"] for extent in document["extents"]] == [0, 4096, 8192, 12288, 16384]
    assert document["parity_extents"] == []
    assert document["extents_complete"] is False


@pytest.mark.parametrize("engine", [(2, 1), (3, 1), (4, 2)], indirect=True)
async def test_session_shows_where_its_extents_and_their_parity_lie(engine: Engine) -> None:
    number = await write(engine, "T1", bytes(8 * 4096 + 5))
    node = await Tree(engine).look_up(SESSIONS, str(number))
    assert isinstance(node, SessionNode)
    document = json.loads(node.text)
    data, parity = document["extents"], document["parity_extents"]
    assert document["extents_complete"] is True
    assert [extent["offset"] for extent in data] == list(range(0, 9 * 4096, 4096))
    assert sum(extent["bytes"] for extent in data) == document["bytes"] == 8 * 4096 + 5
    assert [one["codec"] for one in data] == ["none"] * 9
    stripes = sorted({extent["stripe"] for extent in data})
    assert [(one["stripe"], one["place"]) for one in parity] == [
        (stripe, row) for stripe in stripes for row in range(document["parity"])
    ]
    for stripe in stripes:
        disks = [one["disk"] for one in [*data, *parity] if one["stripe"] == stripe]
        assert len(disks) == len(set(disks))
    assert {one["disk"] for one in [*data, *parity]} == set(document["disks"])
    assert len({(one["disk"], one["position"]) for one in [*data, *parity]}) == len(data) + len(parity)
    assert {len(one["blake3"]) for one in [*data, *parity]} == {64}
    assert max(one["stored"] for one in parity) == 4096


async def test_times_are_those_of_the_last_change(engine: Engine) -> None:
    tree = Tree(engine)
    empty = await tree.look_up(MEDIA, "T1")
    assert isinstance(empty, MediumNode)
    assert mtime_ns(empty, 5) == epoch_ns(empty.medium.added_at)
    await write(engine, "T1", b"data")
    (released,) = (tape_file.released_at for tape_file in engine.catalogue.tracking.tape_files.of("T1"))
    for node in (await tree.look_up(MEDIA, "T1"), await tree.look_up(FILES, "T1")):
        assert mtime_ns(node, 5) == epoch_ns(released)
    assert mtime_ns(DRIVES, 5) == 5


async def past_path(tree: Tree, number: int, *names: str) -> Node:
    node: Node = await tree.look_up(SNAPSHOTS, str(number))
    for name in names:
        node = await tree.look_up(node, name)
    return node


async def test_a_snapshot_stands_for_what_was_then(engine: Engine) -> None:
    tree = Tree(engine)
    await write(engine, "T1", b"one")
    number = await snapshot(engine)
    await write(engine, "T1", b"three")
    await write(engine, "T2", b"two")
    folder = await past_path(tree, number)
    assert isinstance(folder, SnapshotDirectory)
    assert mtime_ns(folder, 5) == epoch_ns(folder.snapshot.taken_at)
    medium = await past_path(tree, number, "media", "T1")
    assert isinstance(medium, PastMediumNode)
    assert medium.medium.bytes == 3
    assert await listed(tree, await past_path(tree, number, "files", "T1")) == ["0000"]
    assert await tree.entries(await past_path(tree, number, "files", "T2")) == []
    file = await past_path(tree, number, "files", "T1", "0000")
    assert stable_number(file) == stable_number(await tree.look_up(await tree.look_up(FILES, "T1"), "0000"))
    for names in (["x"], ["media", "NONE"], ["files", "T1", "0001"], ["files", "T1", "0"], ["files", "T2", "0000"]):
        with pytest.raises(NoSuchEntry):
            await past_path(tree, number, *names)


async def test_medium_that_came_later_is_not_in_a_snapshot(engine: Engine) -> None:
    tree, number = Tree(engine), await snapshot(engine)
    await engine.change(lambda tracking: tracking.media.add(["T3"], None, utc_now()))
    assert await listed(tree, await past_path(tree, number, "media")) == ["T1", "T2", "drives"]
    with pytest.raises(NoSuchEntry):
        await past_path(tree, number, "media", "T3")
    assert await past_path(tree, await snapshot(engine), "media", "T3")


async def test_snapshots_are_listed_ascending_until_they_are_pruned(engine: Engine) -> None:
    tree = Tree(engine)
    numbers = [await snapshot(engine) for _ in range(12)]
    media = await past_path(tree, numbers[3], "media")
    await prune(engine, numbers[3])
    assert await listed(tree, SNAPSHOTS) == [str(n) for n in numbers if n != numbers[3]]
    with pytest.raises(NoSuchEntry):
        await tree.look_up(SNAPSHOTS, str(numbers[3]))
    with pytest.raises(NoSuchEntry):
        await tree.look_up(media, "T1")


async def test_names_are_found_and_listed_without_a_task_switch(engine: Engine) -> None:
    await write(engine, "T1", b"abc")
    await engine.change(lambda tracking: store.take(tracking, utc_now()))
    tree = Tree(engine)
    with assert_no_checkpoints():
        await tree.look_up(MEDIA, "T1")
        await tree.look_up(DriveDirectory(1), "loaded")
        files = await tree.look_up(FILES, "T1")
        await tree.look_up(files, "0000")
        snapshot = await tree.look_up(SNAPSHOTS, "1")
        past = await tree.look_up(snapshot, "files")
        await tree.look_up(await tree.look_up(past, "T1"), "0000")
        for directory in (MEDIA, FILES, DriveDirectory(1), files, SNAPSHOTS, snapshot, past):
            assert await tree.entries(directory)
        assert await engine.least_busy_drive() == 0


async def test_the_length_of_a_medium_is_read_without_a_task_switch(engine: Engine) -> None:
    await write(engine, "T1", b"abc")
    with assert_no_checkpoints():
        assert (await engine.wait_visible("T1")).bytes == 3
