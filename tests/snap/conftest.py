"""Fixtures of the snapshots' tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from acting import Actor, actor


@pytest.fixture
def acting() -> Iterator[Actor]:
    """A library with three media, whose tracking database a test fills."""
    with actor() as made:
        yield made
