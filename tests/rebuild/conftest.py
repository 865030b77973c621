"""A library that has lived, made once and copied for each test."""

from pathlib import Path

import pytest
from lived import UNIT, Lived, live, moved
from mounting import OnDisks, require_fuse


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, int], bytes]]:
    """The library that is copied for each test, and its expected content."""
    require_fuse()
    root = tmp_path_factory.mktemp("lived") / "at first"
    root.mkdir()
    library = OnDisks(root, 3, unit=UNIT)
    written = live(library)
    for left in ("mnt", "beta"):
        (root / left).rmdir()
    return moved(root), written


@pytest.fixture
def lived(model: tuple[Path, dict[tuple[str, int], bytes]], tmp_path: Path, _no_descriptor_left: None) -> Lived:
    """The test's own copy of a library that has lived."""
    return Lived(tmp_path / "lived", *model)
