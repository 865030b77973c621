"""What the tests of the terminal UI share."""

from pathlib import Path

import pytest
from shelf import Shelf, week


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """A library with a week's history."""
    return week(tmp_path)
