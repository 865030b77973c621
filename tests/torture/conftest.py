"""Fixtures: copies of the library that the tests damage."""

from collections.abc import Callable
from pathlib import Path

import pytest
from killed import Killed, make
from mounting import require_fuse


@pytest.fixture(scope="session")
def again(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Killed]:
    """Return a function that makes a fresh copy of the killed library."""
    require_fuse()
    root = tmp_path_factory.mktemp("killed")
    streams = make(root)
    return lambda place: Killed(place, root, streams)


@pytest.fixture
def killed(again: Callable[[Path], Killed], tmp_path: Path) -> Killed:
    """A copy of the killed library."""
    return again(tmp_path / "copy")
