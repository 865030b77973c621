"""A mounted library for tests of the member index, whose mounts do not index by themselves."""

from pathlib import Path

import pytest
from archives import make_tree
from mounting import OnDisks, require_fuse


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all kinds, to be archived."""
    return make_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture
def library(tmp_path: Path, _no_descriptor_left: None) -> OnDisks:
    """A library on three disks with parity and media T1 to T9, whose mounts do not index in the background."""
    require_fuse()
    made = OnDisks(tmp_path, 3, parity=1)
    set_index(made, "background = false")
    return made


def set_index(library: OnDisks, *lines: str) -> None:
    """Set the section [index] of library.toml."""
    path = library.path / "library.toml"
    before = path.read_text().partition("\n[index]")[0]
    path.write_text("\n".join([before, "[index]", *lines, ""]))
