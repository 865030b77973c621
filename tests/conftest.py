"""Fixtures of the tests that mount."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from mounting import OnDisks, mountpoints, require_fuse


def pytest_configure() -> None:
    """Reset the signals that programs inherit, so that tests can interrupt them even if pytest runs in the background.

    A shell ignores SIGINT for programs in the background, and nohup ignores SIGHUP.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # A command that names no library finds none: neither one that another test has mounted, nor the machine's own.
    os.environ["VTLFS_LIBRARY"] = "/nonexistent"
    os.environ["VTLFS_LIBRARIES"] = os.devnull


@pytest.fixture
def library(tmp_path: Path, _no_descriptor_left: None) -> OnDisks:
    """A library on two disks with media T1 to T9, to be mounted."""
    require_fuse()
    return OnDisks(tmp_path)


@pytest.fixture
def open_library(_no_descriptor_left: None) -> Iterator[OnDisks]:
    """A library whose mount point can be reached by all users."""
    require_fuse()
    with tempfile.TemporaryDirectory(prefix="vtlfs-", dir="/tmp") as root:
        os.chmod(root, 0o755)
        yield OnDisks(Path(root))


@pytest.fixture
def _no_descriptor_left() -> Iterator[None]:
    """Close the descriptors that a failed test left open: they would keep its mount alive, and fail the next tests."""
    yield
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if any(target.startswith(f"{path}/") for path in mountpoints()):
                os.close(int(name))


@pytest.fixture(params=[2])
def on_loop(request: pytest.FixtureRequest, tmp_path: Path, _no_descriptor_left: None) -> Iterator[OnDisks]:
    """A library whose disks are ext4 file systems of the same size; disk 0 can be frozen or shut down.

    `request.param`: how many disks.
    """
    require_fuse()
    disks = [tmp_path / "loop", *(tmp_path / f"other{number}" for number in range(1, request.param))]
    try:
        for disk in disks:
            _mount_ext4(disk)
        yield OnDisks(tmp_path, disks)
    finally:
        for disk in filter(os.path.ismount, disks):
            subprocess.run(["umount", "-l", disk], check=True)


def _mount_ext4(disk: Path) -> None:
    """Mount a new ext4 on a loop device; skip the test if this machine has no loop devices."""
    disk.mkdir()
    image = disk.with_name(f"{disk.name}.image")
    with open(image, "wb") as file:
        file.truncate(256 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", image], capture_output=True, check=False)
    if made.returncode or subprocess.run(["mount", "-o", "loop", image, disk], check=False).returncode:
        pytest.skip("no loop device with an ext4 can be had here")


@pytest.fixture
def frozen(on_loop: OnDisks) -> Iterator[OnDisks]:
    """The library, whose disk 0 the test may freeze with `fsfreeze`; the disk is thawed at the end."""
    yield on_loop
    subprocess.run(["fsfreeze", "-u", on_loop.disks[0]], capture_output=True, check=False)
