"""Fixtures of the tests that mount."""

from pathlib import Path

import pytest
from mounting import OnDisks, require_fuse


@pytest.fixture
def library(tmp_path: Path) -> OnDisks:
    """A library on two disks with media T1 to T9, to be mounted."""
    require_fuse()
    return OnDisks(tmp_path)
