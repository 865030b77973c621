"""Room that is kept for what must work when a file system is full to the last byte: real small file systems."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trio
from devices import KINDS, devices_of
from mounting import PROGRAM, require_fuse
from scripted import OPENER, UNIT, a_mount, make_library
from test_reclaim import ACTOR, data, erase, is_sound, members, read, run, stream, take, write
from test_reclaim import DIES as RECLAIMS

from vtlfs.engine import recover, reserve
from vtlfs.engine.assembly import running
from vtlfs.engine.library import Library, create
from vtlfs.engine.reserve import Reserve
from vtlfs.errors import LibraryError, TrackingError
from vtlfs.model import KIB, MIB, Access, utc_now
from vtlfs.snap import store


def mounted(path: Path, size: str) -> None:
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)


def fill(path: Path) -> None:
    """Leave no byte free."""
    descriptor = os.open(path / "filling", os.O_WRONLY | os.O_CREAT)
    try:
        for block in (64 * KIB, 4 * KIB, 1):
            try:
                while True:
                    os.write(descriptor, bytes(block))
            except OSError:
                continue
    finally:
        os.close(descriptor)
    assert os.statvfs(path).f_bavail == 0


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Library]:
    """A library in a directory of 8 MiB, with its reserve."""
    require_fuse()
    mounted(tmp_path / "library", "8m")
    try:
        paths = [tmp_path / f"disk{number}" for number in range(2)]
        for path in paths:
            path.mkdir()
        library = create(tmp_path / "library", paths, drives=2, stripe_unit=UNIT, at=utc_now())
        with closing(library.tracking()) as tracking, tracking.transaction():
            tracking.media.add(["T1", "T2"], None, utc_now())
        Reserve(library.path).make()
        assert (library.path / reserve.FILE).stat().st_blocks * 512 > MIB
        yield library
    finally:
        subprocess.run(["umount", "-l", tmp_path / "library"], check=True)


def test_what_must_work_works_in_a_library_that_is_full(small: Library) -> None:
    write(small, ("T1", data(1, 20 * UNIT)), ("T2", data(2, 3 * UNIT)))
    first = take(small, "monday")
    fill(small.path)
    with closing(small.tracking()) as tracking:
        reserve.essential(small.path, tracking, lambda t: t.volumes.end_current("T1", utc_now()))
        reserve.essential(small.path, tracking, lambda t: store.delete(t, [str(first)], ACTOR, utc_now()))
    assert run(small).volumes == [("T1", 1)]
    assert members(small) == {2}
    assert read(small, "T2") == data(2, 3 * UNIT)
    (small.path / "filling").unlink()
    is_sound(small)


def test_reserve_of_a_small_file_system_lasts_for_more_than_one_act(small: Library) -> None:
    """Whatever an act gives up and does not need is taken by somebody else at once."""
    write(small, ("T1", data(1, 20 * UNIT)), ("T2", data(2, 3 * UNIT)))
    first = take(small, "monday")
    for change in (
        lambda tracking: tracking.volumes.end_current("T1", utc_now()),
        lambda tracking: store.delete(tracking, [str(first)], ACTOR, utc_now()),
        lambda tracking: tracking.volumes.end_current("T2", utc_now()),
    ):
        fill(small.path)
        with closing(small.tracking()) as tracking:
            reserve.essential(small.path, tracking, change)
    fill(small.path)
    assert run(small).volumes == [("T1", 1), ("T2", 1)]
    assert members(small) == set()


def test_library_without_room_and_reserve_says_what_it_lacks(small: Library) -> None:
    """SQLite has no room for the shared memory beside the database, and calls that an error of the disk."""
    while Reserve(small.path).give_up():
        pass
    fill(small.path)
    with pytest.raises(LibraryError, match="No space left on device"):
        small.tracking()


def test_change_that_is_not_essential_leaves_the_reserve_alone(small: Library) -> None:
    fill(small.path)
    size = (small.path / reserve.FILE).stat().st_size
    with closing(small.tracking()) as tracking:
        size = (small.path / reserve.FILE).stat().st_size
        many = [f"M{number:05d}" for number in range(20_000)]
        fill(small.path)
        with pytest.raises(TrackingError) as full, tracking.transaction():
            tracking.media.add(many, None, utc_now())
        assert full.value.errno == errno.ENOSPC
    assert (small.path / reserve.FILE).stat().st_size == size


def test_sessions_end_and_are_recovered_in_a_library_that_is_full(small: Library) -> None:
    with closing(small.tracking()) as tracking, tracking.transaction():
        mount = tracking.mounts.add(a_mount())
        number = tracking.library.take_sessions(1)[0]
        tracking.sessions.open(number, mount, OPENER, Access.WRITE, 0, "T1", UNIT, utc_now())
    fill(small.path)
    assert [session.id for session in recover.recover(small)] == [number]


def test_mount_ends_a_stream_although_there_is_no_room_left(small: Library) -> None:
    async def scenario() -> None:
        async with running(small, a_mount()) as engine:
            session = await engine.open_writer("T1", 0, OPENER)
            await session.write(0, b"x" * 100)
            await session.flush(closing=True)
            fill(small.path)
            await engine.release_writer(session)
            assert engine.catalogue.tracking.tape_files.get("T1", 0).bytes == 100

    trio.run(scenario)


def test_reserve_is_made_again_when_there_is_room(small: Library) -> None:
    kept = Reserve(small.path)
    before = (small.path / reserve.FILE).stat().st_size
    fill(small.path)
    while kept.give_up():
        pass
    assert (small.path / reserve.FILE).stat().st_size == 0
    fill(small.path)
    kept.make()
    assert (small.path / reserve.FILE).stat().st_size == 0
    (small.path / "filling").unlink()
    kept.make()
    assert (small.path / reserve.FILE).stat().st_size == pytest.approx(before, rel=0.1)


def test_full_disks_get_room_by_a_reclaim(tmp_path: Path) -> None:
    """Nothing is written to them: they have not a byte for it."""
    require_fuse()
    disks = [tmp_path / f"disk{number}" for number in range(2)]
    try:
        for disk in disks:
            mounted(disk, "4m")
        library = create(tmp_path / "library", disks, drives=2, stripe_unit=UNIT, at=utc_now())
        with closing(library.tracking()) as tracking, tracking.transaction():
            tracking.media.add(["T1", "T2"], None, utc_now())
        write(library, ("T1", data(1, MIB)), ("T2", data(2, MIB)))
        for disk in disks:
            fill(disk)
        erase(library, "T1")
        assert run(library).left == {}
        for disk in disks:
            found = os.statvfs(disk)
            assert found.f_bavail * found.f_frsize >= MIB // 2
        assert read(library, "T2") == data(2, MIB)
    finally:
        for disk in filter(os.path.ismount, disks):
            subprocess.run(["umount", disk], check=True)


def test_streams_go_on_beside_a_reclaim(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    write(library, *(("T1", data(number, 5 * UNIT)) for number in range(8)))
    erase(library, "T1")

    async def scenario() -> None:
        async with running(library, a_mount()) as engine, trio.open_nursery() as nursery:
            nursery.start_soon(trio.run_process, [sys.executable, "-c", RECLAIMS, str(library.path)])
            for number in range(8):
                await stream(engine, "T1", data(100 + number, 3 * UNIT))

    trio.run(scenario)
    assert read(library, "T1") == b"".join(data(100 + number, 3 * UNIT) for number in range(8))
    is_sound(library)


def fill_up(path: Path) -> None:
    """Leave no block free on a real file system, also none of those that are kept for root."""
    descriptor = os.open(path / "filling", os.O_WRONLY | os.O_CREAT)
    try:
        size = 0
        for block in (MIB, 64 * KIB, 4 * KIB):
            while takes(descriptor, size, block):
                size += block
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def takes(descriptor: int, size: int, block: int) -> bool:
    """Tell whether there was room for one block more."""
    try:
        os.posix_fallocate(descriptor, size, block)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


def vtlfs(*words: object) -> str:
    """Run the real program, which must succeed."""
    done = subprocess.run([*PROGRAM, *map(str, words)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_what_must_work_works_on_real_file_systems_that_are_full(tmp_path: Path, kind: str) -> None:
    """Library and disks, to the last block: what needs room there makes room first, or goes without."""
    with devices_of(kind, tmp_path, ["books", "disk0", "disk1"]) as (books, *disks):
        paths = [disk.path for disk in disks]
        library = create(books.path / "library", paths, drives=2, stripe_unit=UNIT, at=utc_now())
        with closing(library.tracking()) as tracking, tracking.transaction():
            tracking.media.add(["T1", "T2"], None, utc_now())
        write(library, ("T1", data(1, 4 * MIB)), ("T2", data(2, 3 * UNIT)))
        take(library, "monday")
        with closing(library.tracking()) as tracking, tracking.transaction():
            number = tracking.library.take_sessions(1)[0]
            tracking.sessions.open(
                number, tracking.mounts.add(a_mount()), OPENER, Access.WRITE, 0, "T2", UNIT, utc_now()
            )
        Reserve(library.path).make()
        for path in (books.path, *paths):
            fill_up(path)
        free = [os.statvfs(path).f_bfree for path in paths]
        vtlfs("recover", library.path)
        vtlfs("media", "erase", library.path, "T1", "--yes")
        vtlfs("snapshot", "delete", library.path, "monday", "--yes")
        vtlfs("media", "add", library.path, "T3..T9")
        assert "of 1 erased volume" in vtlfs("reclaim", library.path)
        assert members(library) == {2}
        for path, before in zip(paths, free, strict=True):
            found = os.statvfs(path)
            assert (found.f_bfree - before) * found.f_frsize >= MIB
        assert read(library, "T2") == data(2, 3 * UNIT)
        for path in (books.path, *paths):
            (path / "filling").unlink()
        vtlfs("check", library.path)
        is_sound(library)
