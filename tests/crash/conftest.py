"""Shared fixtures of the crash tests."""

from collections.abc import Iterator

import pytest
from serving import Server

pytest.register_assert_rewrite("aftermath", "aftermath_of_disks")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """What runs scenarios, and examines what they have left."""
    serving = Server()
    yield serving
    serving.end()
