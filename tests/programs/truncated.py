"""Media of each rule of truncation: barcodes with A append, those with E erase, and those with R are retained, too."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mounting import Mounted, OnDisks

from vtlfs.engine.library import Library
from vtlfs.model import Event, TapeFile

MEDIA = 200  # of each rule
REFUSAL = "can't be erased"
BUSY = "writes to it; wait for its end"
RULES = """
[media."E*"]
on_truncate = "erase"

[media."R*"]
on_truncate = "erase"
retain = "1d"
"""


@dataclass(frozen=True)
class Truncated:
    """A medium that no other test uses, and what the library knows of it."""

    library: OnDisks
    mounted: Mounted
    barcode: str

    @property
    def path(self) -> Path:
        """The medium's path."""
        return self.mounted.medium(self.barcode)

    def tape_files(self, volume: int | None = None) -> list[TapeFile]:
        """Return the tape files of a volume; None: of the current one."""
        with closing(Library.open(self.library.path).tracking(read_only=True)) as tracking:
            return tracking.tape_files.of(self.barcode, volume=volume)

    def volume(self) -> int:
        """Return the number of the current volume."""
        with closing(Library.open(self.library.path).tracking(read_only=True)) as tracking:
            return tracking.media.get(self.barcode).volume

    def events(self) -> list[Event]:
        """Return what was done to the medium."""
        with closing(Library.open(self.library.path).tracking(read_only=True)) as tracking:
            return tracking.events.find(medium=self.barcode)

    def streams(self) -> list[bytes]:
        """Return the tape files of the current volume."""
        folder = self.mounted.path / "files" / self.barcode
        streams = [path.read_bytes() for path in sorted(folder.iterdir())]
        assert self.path.read_bytes() == b"".join(streams)
        return streams


Media = Callable[[str], Truncated]  # returns a fresh medium of a rule: append, erase, or retained
