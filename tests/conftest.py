"""Fixtures of the tests that mount."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from mounting import OnDisks, mountpoints, require_fuse


@pytest.fixture
def library(tmp_path: Path, _no_descriptor_left: None) -> OnDisks:
    """A library on two disks with media T1 to T9, to be mounted."""
    require_fuse()
    return OnDisks(tmp_path)


@pytest.fixture
def _no_descriptor_left() -> Iterator[None]:
    """Close what a failed test has left open, which would keep a mount from ending and fail the tests after it."""
    yield
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if any(target.startswith(f"{path}/") for path in mountpoints()):
                os.close(int(name))
