"""One mount in each I/O mode that many tests share, each with a medium of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mounting import Mounted, OnDisks, require_fuse

SHARED_MEDIA = 400


@dataclass(frozen=True)
class Tape:
    """A medium that no other test uses, on a mount that others use too."""

    library: OnDisks
    mounted: Mounted
    barcode: str
    io: str

    @property
    def path(self) -> Path:
        """The medium's path."""
        return self.mounted.medium(self.barcode)

    def streams(self) -> list[bytes]:
        """Return the tape files, which must read the same through /files, /media, /drives and `vtlfs extract`."""
        folder = self.mounted.path / "files" / self.barcode
        names = sorted(entry.name for entry in folder.iterdir())
        assert names == [f"{number:04d}" for number in range(len(names))]
        streams = [(folder / name).read_bytes() for name in names]
        whole = b"".join(streams)
        assert self.path.read_bytes() == whole
        assert self.mounted.drive(1, self.barcode).read_bytes() == whole
        assert self.path.stat().st_size == len(whole)
        assert self.library.extract(self.barcode) == whole
        return streams


@pytest.fixture(scope="module", params=["auto", "direct", "cached"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    """A mounted library and barcodes to take."""
    require_fuse()
    library = OnDisks(tmp_path_factory.mktemp(request.param), media=f"S001..S{SHARED_MEDIA}")
    barcodes = iter(f"S{number:03d}" for number in range(1, SHARED_MEDIA + 1))
    with library.mounted(f"io={request.param}") as mounted:
        yield library, mounted, barcodes, request.param


@pytest.fixture
def tape(shared: tuple) -> Tape:
    """A fresh medium of a mount in each I/O mode."""
    library, mounted, barcodes, io = shared
    return Tape(library, mounted, next(barcodes), io)
