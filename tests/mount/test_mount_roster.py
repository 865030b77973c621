"""Disks that come, leave and come back under a mount, while streams run."""

import json
import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from mounting import Mounted, OnDisks, random_bytes, require_fuse, wait_until

MIB = 1 << 20
PARTS = 6  # MiB of each part of a stream


@pytest.fixture
def library(tmp_path: Path) -> OnDisks:
    require_fuse()
    return OnDisks(tmp_path, disks=3, parity=1)


def opened(mounted: Mounted, barcode: str) -> BinaryIO:
    return open(mounted.medium(barcode), "wb", 0)


def put(stream: BinaryIO, data: bytes) -> None:
    """Write data, and wait until it is recorded."""
    for start in range(0, len(data), MIB):
        stream.write(data[start : start + MIB])
    os.fsync(stream.fileno())


def disks_of(library: OnDisks, barcode: str, number: int = 0) -> set[int]:
    """Return the disks that have extents of a tape file, its parity too."""
    wait_until(lambda: len(library.tape_files(barcode)) > number, "the release")
    return set(library.session(library.tape_files(barcode)[number].session).disks)


def disk(library: OnDisks, number: int) -> dict[str, Any]:
    listed = json.loads(library.vtlfs("disk", "list", library.path, "--all", "--json"))
    return next(one for one in listed if one["number"] == number)


def test_a_disk_that_is_added_is_used_within_seconds_by_the_streams_that_run(library: OnDisks) -> None:
    data = [random_bytes(number, PARTS * MIB) for number in range(3)]
    new = library.root / "new"
    new.mkdir()
    with library.mounted("io=direct") as mounted:
        with opened(mounted, "T1") as stream:
            put(stream, data[0])
            library.vtlfs("disk", "add", library.path, new)
            wait_until(lambda: f"disk 3 ({new}) was added" in mounted.said(), "the new disk")
            put(stream, data[1])
        mounted.medium("T2").write_bytes(data[2])
        assert disks_of(library, "T1") == disks_of(library, "T2") == {0, 1, 2, 3}
        assert mounted.medium("T1").read_bytes() == data[0] + data[1]
        assert list(new.glob("sessions/*/*.member"))
    away = library.disks[0].rename(library.root / "away")
    with library.mounted(expects=["disk 0 "], checked=False) as mounted:
        assert mounted.medium("T1").read_bytes() == data[0] + data[1]
        assert mounted.medium("T2").read_bytes() == data[2]
    away.rename(library.disks[0])
    library.check()


def test_nothing_new_goes_to_a_disk_that_retires_and_it_leaves_after_its_streams(library: OnDisks) -> None:
    data = [random_bytes(number, PARTS * MIB) for number in range(4)]
    new = library.root / "new"
    new.mkdir()
    with library.mounted("io=direct") as mounted:
        mounted.medium("T1").write_bytes(data[0])
        library.vtlfs("disk", "add", library.path, new)
        with opened(mounted, "T2") as stream:
            put(stream, data[1])
            said = library.vtlfs("disk", "retire", library.path, 0, "--background")
            assert said.startswith("disk 0 is retiring; a mount empties it in the background")
            wait_until(lambda: f"disk 0 ({library.disks[0]}) is retiring" in mounted.said(), "the mount to know")
            held = disk(library, 0)["stored"]
            put(stream, data[2])
            mounted.medium("T3").write_bytes(data[3])
            assert disks_of(library, "T3") == {1, 2, 3}
            assert disk(library, 0)["state"] == "retiring"
            assert disk(library, 0)["stored"]["extents"] <= held["extents"]
        assert mounted.medium("T2").read_bytes() == data[1] + data[2]
    assert "disk 0 is empty and has retired" in library.vtlfs("disk", "repair", library.path)
    shutil.rmtree(library.disks[0])
    assert disk(library, 0)["state"] == "retired"
    with library.mounted() as mounted:
        assert mounted.medium("T1").read_bytes() == data[0]
        assert mounted.medium("T2").read_bytes() == data[1] + data[2]
        assert mounted.medium("T3").read_bytes() == data[3]


@pytest.mark.parametrize("moved", [False, True])
def test_a_disk_that_was_away_at_the_mount_is_used_when_it_is_back(library: OnDisks, moved: bool) -> None:
    data = [random_bytes(number, PARTS * MIB) for number in range(3)]
    with library.mounted() as mounted:
        mounted.medium("T1").write_bytes(data[0])
    away = library.disks[1].rename(library.root / "away")
    with library.mounted("io=direct", expects=["is missing", "disk 1 is back"], allows=["computed"]) as mounted:
        mounted.medium("T2").write_bytes(data[1])
        assert disks_of(library, "T2") == {0, 2}
        assert mounted.medium("T1").read_bytes() == data[0]
        if moved:
            file = library.path / "library.toml"
            file.write_text(file.read_text().replace(str(library.disks[1]), str(away)))
        else:
            away.rename(library.disks[1])
        back = away if moved else library.disks[1]
        wait_until(lambda: f"disk 1 is back at {back}" in mounted.said(), "the disk that is back")
        wait_until(lambda: library.disk_fault(1) is None, "the tracking database to know")
        mounted.medium("T3").write_bytes(data[2])
        assert disks_of(library, "T3") == {0, 1, 2}
        assert disk(library, 1)["path"] == str(back)
        assert mounted.said().count("disk 1 is back") == 1


def test_a_label_that_is_gone_and_back_under_a_mount_is_taken_in_again(library: OnDisks) -> None:
    data = [random_bytes(number, PARTS * MIB) for number in range(2)]
    with library.mounted("io=direct", expects=["its label is not there", "works again"]) as mounted:
        mounted.medium("T1").write_bytes(data[0])
        away = library.disks[2].rename(library.root / "away")
        library.disks[2].mkdir()
        wait_until(lambda: library.disk_fault(2) is not None, "the fault")
        library.disks[2].rmdir()
        away.rename(library.disks[2])
        wait_until(lambda: library.disk_fault(2) is None, "the disk that works again")
        mounted.medium("T2").write_bytes(data[1])
        assert disks_of(library, "T2") == {0, 1, 2}
        assert mounted.medium("T1").read_bytes() == data[0]


def test_a_disk_is_replaced_under_a_mount_that_goes_on_without_a_remount(library: OnDisks) -> None:
    data = [random_bytes(number, PARTS * MIB) for number in range(2)]
    with library.mounted() as mounted:
        mounted.medium("T1").write_bytes(data[0])
    with library.mounted("io=direct", allows=["disk 1 "], checked=False) as mounted, opened(mounted, "T2") as stream:
        put(stream, data[1])
        shutil.rmtree(library.disks[1])
        library.disks[1].mkdir()
        library.vtlfs("disk", "replace", library.path, 1, library.disks[1], "--background")
        wait_until(lambda: f"disk 3 ({library.disks[1]}) was added" in mounted.said(), "the new disk")
        assert mounted.medium("T1").read_bytes() == data[0]
        put(stream, data[0])
        stream.close()
        assert 3 in disks_of(library, "T2")
        assert mounted.medium("T2").read_bytes() == data[1] + data[0]
    assert "disk 1 is empty and has retired" in library.vtlfs("disk", "repair", library.path)
    library.check()
    away = library.disks[0].rename(library.root / "away")
    assert library.extract("T1") == data[0]
    assert library.extract("T2") == data[1] + data[0]
    away.rename(library.disks[0])
