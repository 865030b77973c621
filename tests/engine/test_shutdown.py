"""File systems that are shut down during a sync: ext4 and xfs sometimes report success for such a sync.

A program of ten lines loses bytes in this way in every third try. These tests make it certain: they shut the file
system down after the sync has ended, and before the product has seen its result, which looks the same.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from scripted import make_library

from vtlfs import failpoints
from vtlfs.disks.headers import Opening
from vtlfs.disks.local.disk import LocalDisk
from vtlfs.disks.records import BLOCK, after
from vtlfs.errors import DiskError, TrackingError
from vtlfs.model import MIB, NO_CODEC, Extent, Opener, Watermark


@pytest.fixture(params=["ext4", "xfs"])
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system on a loop device."""
    kind, image, path = str(request.param), tmp_path / "image", tmp_path / "device"
    if os.geteuid() != 0 or None in (shutil.which("xfs_io"), shutil.which(f"mkfs.{kind}")):
        pytest.skip(f"root, xfs_io and mkfs.{kind} are wanted")
    path.mkdir()
    with open(image, "wb") as file:
        file.truncate(320 * MIB)  # less is too little for xfs
    subprocess.run([f"mkfs.{kind}", "-q", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, path], check=False).returncode:
        pytest.skip(f"no loop device with an {kind} can be had here")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture
def shut_down_at(device: Path) -> Iterator[Callable[[str], None]]:
    """Return a function that shuts the file system down at a failpoint."""

    def at(where: str) -> None:
        def observer(name: str) -> None:
            if name == where:
                failpoints.observe(None)
                subprocess.run(["xfs_io", "-x", "-c", "shutdown -f", device], check=True)

        failpoints.observe(observer)

    yield at
    failpoints.observe(None)


def test_a_sync_during_which_the_disk_was_shut_down_is_not_believed(
    device: Path, shut_down_at: Callable[[str], None]
) -> None:
    opening = Opening("T1", 0, Opener("alpha", 1, 0, 0, "tar"), "2026-01-31T09:30:00.000000Z", 4096, 2)
    member = LocalDisk(0, device, "11111111-2222-3333-4444-555555555555").member(1, 4096, opening)
    first = Extent(1, 0, 0, 0, 5, NO_CODEC, 0, BLOCK, 5, b"")
    member.write(first, [memoryview(b"first")])
    member.sync()
    member.write(Extent(1, 1, 0, 5, 6, NO_CODEC, 0, after(BLOCK, 5), 6, b""), [memoryview(b"second")])
    shut_down_at("member.synced")
    with pytest.raises(DiskError, match="Input/output error"):
        member.sync()


def test_a_commit_during_which_the_library_was_shut_down_is_not_believed(
    device: Path, shut_down_at: Callable[[str], None]
) -> None:
    """And the commit does not raise the disks' high-water marks."""
    library, marks = make_library(device), list[Watermark]()
    with closing(library.tracking()) as tracking:
        tracking.on_commit = marks.append
        with tracking.transaction():
            tracking.drives.ensure(5)
        assert len(marks) == 1
        shut_down_at("transaction.committed")
        with pytest.raises(TrackingError, match="Input/output error"), tracking.transaction():
            tracking.drives.ensure(6)
        assert len(marks) == 1


def test_a_log_that_was_synced_while_the_library_was_shut_down_is_not_believed(
    device: Path, shut_down_at: Callable[[str], None]
) -> None:
    """A mount with sync=none syncs the log like this."""
    with closing(make_library(device).tracking()) as tracking:
        with tracking.transaction(durable=False):
            tracking.drives.ensure(5)
        tracking.sync_log()
        shut_down_at("log.synced")
        with pytest.raises(TrackingError, match="Input/output error"):
            tracking.sync_log()
