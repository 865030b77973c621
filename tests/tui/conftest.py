"""Fixtures of the tests of the terminal UI."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from example_library import ExampleLibrary, build_week


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[ExampleLibrary, Path]:
    """Build the example library once, as its many syncs take seconds; return it, and where its files were moved.

    The name of its directory, `/tmp/vtlXXXXXXXX`, fits into 80 columns, and always has the same length.
    """
    built = build_week(Path(tempfile.mkdtemp(prefix="vtl", dir="/tmp")))
    files = tmp_path_factory.mktemp("example") / "files"
    shutil.move(built.root, files)
    return built, files


@pytest.fixture
def example(built_once: tuple[ExampleLibrary, Path], tmp_path: Path) -> Iterator[ExampleLibrary]:
    """The example library, as it was built; after the test, its files are moved to the test's own directory."""
    built, files = built_once
    shutil.copytree(files, built.root)
    yield built
    shutil.move(built.root, tmp_path / "example")
