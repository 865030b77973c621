"""`vtlfs metrics`: what the textfile collector of node_exporter reads."""

import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from mounting import OnDisks
from scraping import Scraped, check_by_promtool

from vtlfs.engine.library import Library
from vtlfs.model import epoch_ns
from vtlfs.snap import store


@pytest.fixture
def unmounted(tmp_path: Path) -> OnDisks:
    """A library on three disks that nobody mounts."""
    return OnDisks(tmp_path, 3, parity=1)


def test_values_are_those_of_the_library(unmounted: OnDisks) -> None:
    unmounted.vtlfs("snapshot", "take", unmounted.path)
    unmounted.vtlfs("verify", unmounted.path)
    written = unmounted.vtlfs("metrics", unmounted.path)
    check_by_promtool(written)
    found = Scraped(written)
    assert found.value("vtlfs_library_media", library=unmounted.path) == 9
    assert found.value("vtlfs_library_info", parity=1) == 1
    assert found.value("vtlfs_library_snapshots") == 1
    assert found.value("vtlfs_library_condition", condition="fine") == 1
    assert found.value("vtlfs_library_last_verification_defects") == 0
    assert found.value("vtlfs_library_mounts", state="alive") == 0
    assert len(found.values("vtlfs_library_open_sessions")) == 4
    with closing(Library.open(unmounted.path).tracking(read_only=True)) as tracking:
        (snapshot,) = store.snapshots(tracking)
    at = found.value("vtlfs_library_last_snapshot_timestamp_seconds")
    assert at == pytest.approx(epoch_ns(snapshot.taken_at) / 1e9)
    assert found.value("vtlfs_library_last_verification_timestamp_seconds") >= at
    for number, disk in enumerate(unmounted.disks):
        size = os.statvfs(disk)
        assert found.value("vtlfs_library_disk_size_bytes", disk=number) == size.f_blocks * size.f_frsize
        assert found.value("vtlfs_library_disk_info", disk=number, path=disk) == 1
    assert not any(name.startswith(("vtlfs_mount", "process")) for name, _, _ in found.samples)


def test_missing_disk_is_found_without_a_mount(unmounted: OnDisks) -> None:
    shutil.move(unmounted.disks[1], unmounted.root / "away")
    found = Scraped(unmounted.vtlfs("metrics", unmounted.path))
    assert [found.value("vtlfs_library_disk_works", disk=number) for number in range(3)] == [1, 0, 1]
    assert found.value("vtlfs_library_condition", condition="degraded") == 1
    assert not found.values("vtlfs_library_disk_free_bytes", disk=1)


def test_file_is_replaced_when_it_is_complete(unmounted: OnDisks) -> None:
    directory = unmounted.root / "textfile"
    directory.mkdir()
    file = directory / "vtlfs.prom"
    assert unmounted.vtlfs("metrics", unmounted.path, "-o", file) == ""
    first = file.stat()
    assert first.st_mode & 0o777 == 0o666 & ~_umask()
    unmounted.add("NEW1")
    unmounted.vtlfs("metrics", unmounted.path, "-o", file)
    assert Scraped(file.read_text()).value("vtlfs_library_media") == 10
    assert file.stat().st_ino != first.st_ino  # renamed over the old one, which a reader may still have open
    assert [one.name for one in directory.iterdir()] == ["vtlfs.prom"]
    before = file.read_bytes()
    (unmounted.path / "tracking.db").rename(unmounted.path / "aside")
    said = unmounted.vtlfs("metrics", unmounted.path, "-o", file, status=1)
    assert len(said.splitlines()) == 1
    assert file.read_bytes() == before
    assert [one.name for one in directory.iterdir()] == ["vtlfs.prom"]


def test_refusals(unmounted: OnDisks) -> None:
    assert "the name of the output is empty" in unmounted.vtlfs("metrics", unmounted.path, "-o", "", status=2)
    assert "No such file" in unmounted.vtlfs("metrics", unmounted.path, "-o", unmounted.root / "no/file", status=1)
    assert "no vtlfs library" in unmounted.vtlfs("metrics", unmounted.root / "none", status=1)
    assert "which library?" in unmounted.vtlfs("metrics", status=2)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
