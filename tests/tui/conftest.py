"""Fixtures of the tests of the terminal UI."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from example_library import ExampleLibrary, build_week


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[ExampleLibrary, Path]:
    """Build the example library, whose many syncs take seconds; return it, and where its files were moved.

    Its directory `/tmp/vtlXXXXXXXX` fits into a window of 80 columns, and its name has always the same length.
    """
    built = build_week(Path(tempfile.mkdtemp(prefix="vtl", dir="/tmp")))
    files = tmp_path_factory.mktemp("example") / "files"
    shutil.move(built.root, files)
    return built, files


@pytest.fixture
def example(built_once: tuple[ExampleLibrary, Path], tmp_path: Path) -> Iterator[ExampleLibrary]:
    """A library with a week's history, as it was built; afterwards it lies in the test's own directory."""
    built, files = built_once
    shutil.copytree(files, built.root)
    yield built
    shutil.move(built.root, tmp_path / "example")
