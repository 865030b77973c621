"""One mount in each I/O mode that many tests share, each with a medium of its own."""

from collections.abc import Iterator

import pytest
from mounting import OnDisks, Tape, require_fuse

SHARED_MEDIA = 400


@pytest.fixture(scope="module", params=["auto", "direct", "cached"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    """A mounted library and barcodes to take."""
    require_fuse()
    library = OnDisks(tmp_path_factory.mktemp(request.param), media=f"S001..S{SHARED_MEDIA}")
    barcodes = iter(f"S{number:03d}" for number in range(1, SHARED_MEDIA + 1))
    with library.mounted(f"io={request.param}") as mounted:
        yield library, mounted, barcodes, request.param


@pytest.fixture
def tape(shared: tuple, _no_descriptor_left: None) -> Tape:
    """A fresh medium of a mount in each I/O mode."""
    library, mounted, barcodes, io = shared
    return Tape(library, mounted, next(barcodes), io)
