"""Copies of the tracking database on the disks: when a copy is made, by which mount, and what is left alone."""

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mounting import OnDisks, shell, wait_until

from vtlfs.disks.local import copies as on_disk
from vtlfs.disks.local.disk import LocalDisk
from vtlfs.engine.backup import copies
from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import DiskError

AT = "2026-01-01T00:00:00.000000Z"
LATER = "2026-01-01T01:00:00.000000Z"
EVERY = 3600.0


@pytest.fixture
def unmounted(tmp_path: Path) -> OnDisks:
    return OnDisks(tmp_path)


@pytest.fixture
def tracking(unmounted: OnDisks) -> Iterator[Tracking]:
    with closing(Library.open(unmounted.path).tracking()) as opened:
        yield opened


def claim(tracking: Tracking, at: str, **more: bool) -> int | None:
    with tracking.transaction():
        return copies.claim(tracking, at, EVERY, **more)


def first_disk(library: OnDisks) -> LocalDisk:
    return LocalDisk(0, library.disks[0], "its library")


def written_and_ended(root: Path) -> OnDisks:
    """Return a library whose only mount has written, and has ended before the first copy was due, after 10 s."""
    for attempt in range(5):
        (place := root / str(attempt)).mkdir()
        library = OnDisks(place)
        with library.mounted() as mounted:
            mounted.medium("T1").write_bytes(b"data")
            early = [on_disk.numbers(disk) for disk in library.disks]
        if not any(early):
            return library
    raise AssertionError("each mount took so long that a copy was due before its end")


def test_end_of_a_mount_leaves_a_copy_on_every_disk(tmp_path: Path) -> None:
    library = written_and_ended(tmp_path)
    for disk in library.disks:
        assert on_disk.numbers(disk) == [1]
        path = on_disk.path_of(disk, 1)
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as copy:
            assert copy.execute("SELECT medium, bytes, state FROM session").fetchall() == [("T1", 4, "released")]
            assert copy.execute("SELECT state FROM mount").fetchall() == [("unmounted",)]
            assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert os.listdir(path.parent) == [path.name]
    with library.mounted():
        pass
    assert on_disk.numbers(library.disks[0]) == [1]  # nothing has changed


def test_the_last_two_copies_are_kept(library: OnDisks) -> None:
    for _ in range(4):
        with library.mounted() as mounted:
            mounted.medium("T1").write_bytes(b"data")
    assert [on_disk.numbers(disk) for disk in library.disks] == [[4, 3], [4, 3]]


def test_a_running_mount_makes_copies(library: OnDisks) -> None:
    configuration = library.path / "library.toml"
    configuration.write_text(configuration.read_text().replace('copy = "1h"', 'copy = "1s"'))
    with library.mounted() as mounted:
        with open(mounted.medium("T1"), "wb") as stream:
            stream.write(b"data")
            wait_until(lambda: on_disk.numbers(library.disks[0]), "a copy while a stream runs")
        mounted.kill()
        library.vtlfs("umount", mounted.path)
    with closing(sqlite3.connect(on_disk.path_of(library.disks[0], on_disk.numbers(library.disks[0])[0]))) as copy:
        assert copy.execute("SELECT medium FROM session").fetchall() == [("T1",)]


def test_no_copies_where_none_are_wanted(library: OnDisks) -> None:
    configuration = library.path / "library.toml"
    configuration.write_text(configuration.read_text().replace('copy = "1h"', 'copy = "never"'))
    with library.mounted() as mounted:
        mounted.medium("T1").write_bytes(b"data")
    assert not (library.disks[0] / "tracking").exists()


def test_one_mount_makes_each_copy_and_only_of_what_has_changed(unmounted: OnDisks, tracking: Tracking) -> None:
    assert claim(tracking, AT) == 1
    assert claim(tracking, AT) is None
    assert claim(tracking, LATER) is None  # for nothing has changed
    unmounted.add("NEW")
    assert claim(tracking, AT) is None
    assert claim(tracking, AT, early=True) == 2
    unmounted.add("NEWER")
    assert claim(tracking, LATER) == 3


def test_a_clock_that_was_set_back_does_not_put_copies_off(unmounted: OnDisks, tracking: Tracking) -> None:
    assert claim(tracking, LATER) == 1
    unmounted.add("NEW")
    assert claim(tracking, AT) == 2


def test_a_clock_that_is_years_ahead_for_a_moment_does_not_put_copies_off(
    unmounted: OnDisks, tracking: Tracking
) -> None:
    """The moment may be when the mount looks, while it makes a copy, or when it records the copy."""
    ahead = "2036-01-01T00:00:00.000000Z"
    assert claim(tracking, AT) == 1
    with tracking.transaction():
        copies.note(tracking, 1, 10.0, made=True)
    unmounted.add("NEW")
    assert claim(tracking, ahead) == 2
    with tracking.transaction():
        copies.note(tracking, 2, 10.0, made=True)
    unmounted.add("NEWER")
    assert claim(tracking, LATER) == 3
    (again_at,) = tracking.sql.one("SELECT again_at FROM copy")
    assert again_at == "2026-01-01T02:00:00.000000Z"


def test_copies_are_spaced_out_by_what_they_cost(unmounted: OnDisks, tracking: Tracking) -> None:
    assert claim(tracking, AT) == 1
    with tracking.transaction():
        copies.note(tracking, 1, 1000.0, made=True)
    unmounted.add("NEW")
    assert claim(tracking, LATER) is None
    assert claim(tracking, "2026-01-01T05:49:59.000000Z") is None
    assert claim(tracking, "2026-01-01T05:50:00.000000Z") == 2


def test_copy_that_no_disk_took_is_made_again(tracking: Tracking) -> None:
    assert claim(tracking, AT) == 1
    with tracking.transaction():
        copies.note(tracking, 1, 0.1, made=False)
    assert claim(tracking, LATER) == 2


def test_copy_is_one_state_while_others_write(unmounted: OnDisks, tracking: Tracking) -> None:
    steps: list[int] = []

    def write_between() -> bool:
        with tracking.transaction():
            tracking.media.add([f"N{len(steps)}"], None, AT)
        steps.append(1)
        return False

    copies.make(unmounted.path, first_disk(unmounted), 1, write_between, step_pages=1)
    assert len(steps) > 10
    with closing(sqlite3.connect(on_disk.path_of(unmounted.disks[0], 1))) as copy:
        assert copy.execute("SELECT count(*) FROM medium").fetchone() == (9,)
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_copy_that_is_stopped_leaves_nothing(unmounted: OnDisks) -> None:
    copies.make(unmounted.path, first_disk(unmounted), 1)
    with pytest.raises(DiskError, match="canceled"):
        copies.make(unmounted.path, first_disk(unmounted), 2, lambda: True)
    assert os.listdir(unmounted.disks[0] / "tracking") == ["000000000001.db"]


@pytest.mark.parametrize(("size", "is_kept"), [("80m", True), ("32m", False)])
def test_copy_leaves_room_for_streams(unmounted: OnDisks, size: str, is_kept: bool) -> None:
    directory = unmounted.disks[0] / "tracking"
    directory.mkdir()
    shell(f"mount -t tmpfs -o size={size} tmpfs {directory}")
    try:
        if is_kept:
            copies.make(unmounted.path, first_disk(unmounted), 1)
        else:
            with pytest.raises(DiskError, match="No space left"):
                copies.make(unmounted.path, first_disk(unmounted), 1)
        assert os.listdir(directory) == ["000000000001.db"] * is_kept
    finally:
        shell(f"umount {directory}")


def test_links_on_a_disk_are_not_followed(unmounted: OnDisks, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = unmounted.disks[0] / "tracking"
    link.symlink_to(elsewhere)
    with pytest.raises(DiskError):
        copies.make(unmounted.path, first_disk(unmounted), 1)
    link.unlink()
    link.mkdir()
    (elsewhere / "victim").write_bytes(b"mine")
    (link / ".000000000001.db.tmp").symlink_to(elsewhere / "victim")
    (link / "000000000001.db").symlink_to(elsewhere / "victim")
    copies.make(unmounted.path, first_disk(unmounted), 1)
    assert (elsewhere / "victim").read_bytes() == b"mine"
    assert os.listdir(elsewhere) == ["victim"]
    assert not (link / "000000000001.db").is_symlink()


def test_no_copy_is_put_below_a_disk_that_is_no_longer_mounted(library: OnDisks, tmp_path: Path) -> None:
    below = library.disks[0]
    shell(f"mount --bind {below} {below}")
    try:
        with library.mounted(expects=["disk 0"], checked=False) as mounted:
            mounted.medium("T1").write_bytes(b"data")
            shell(f"umount -l {below}; mv {below} {tmp_path / 'away'}; mkdir {below}")
    finally:
        subprocess.run(["umount", "-l", below], check=False, capture_output=True)
    assert os.listdir(below) == []
    assert on_disk.numbers(library.disks[1]) == [1]


def test_a_disk_that_fails_does_not_hurt_the_mount(library: OnDisks) -> None:
    (library.disks[0] / "tracking").write_text("in the way")
    with library.mounted(expects=["copying the tracking database: disk 0"]) as mounted:
        mounted.medium("T1").write_bytes(b"data")
        assert mounted.medium("T1").read_bytes() == b"data"
    assert on_disk.numbers(library.disks[1]) == [1]
