"""Fixtures of the tests that need neither an engine nor a mount."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("vtlfs", deadline=None, max_examples=60)
settings.load_profile("vtlfs")


@pytest.fixture
def two_disks(tmp_path: Path) -> list[Path]:
    """Two empty directories to make disks of."""
    disks = [tmp_path / "disk0", tmp_path / "disk1"]
    for disk in disks:
        disk.mkdir()
    return disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    directory = tmp_path / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], check=True)
    yield directory
    if os.path.ismount(directory):
        subprocess.run(["umount", "--lazy", directory], check=True)


@pytest.fixture
def fill() -> Callable[[Path], Path]:
    """Return a function that fills a file system with one file, and returns that file."""

    def to_the_brim(disk: Path) -> Path:
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        return filler

    return to_the_brim
