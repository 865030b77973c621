"""What the tests of the terminal UI share."""

from pathlib import Path

import pytest
from example_library import ExampleLibrary, week


@pytest.fixture
def example(tmp_path: Path) -> ExampleLibrary:
    """A library with a week's history."""
    return week(tmp_path)
