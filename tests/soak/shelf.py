"""The expected content of a medium, from the tracking database and the ledger."""

from contextlib import closing
from dataclasses import dataclass
from typing import IO

from soak.plan import Stage
from soak.writers import Ledger, Written
from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import TapeFile

AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Shelved:
    """A tape file and the stream that it is to be."""

    file: TapeFile
    written: Written


class Shelf:
    """A medium's tape files at one moment. Each is expected to be a beginning of its stream."""

    def __init__(self, barcode: str, shelved: list[Shelved]) -> None:
        self.barcode = barcode
        self.shelved = shelved
        self.size = shelved[-1].file.end if shelved else 0

    @property
    def borders(self) -> list[int]:
        """Return every length that the medium has had."""
        return [0, *(each.file.end for each in self.shelved)]

    def piece(self, start: int, end: int) -> bytes:
        """Return the medium's bytes from `start` to `end`."""
        return b"".join(
            each.written.content.piece(
                max(start, each.file.start) - each.file.start, min(end, each.file.end) - each.file.start
            )
            for each in self.shelved
            if start < each.file.end and each.file.start < end
        )

    def difference(self, source: IO[bytes], start: int, end: int) -> str | None:
        """Read the source to its end; return the first difference from the medium's bytes `start` to `end`."""
        at = start
        while read := source.read(AT_ONCE):
            if read != self.piece(at, min(end, at + len(read))):
                return f"differs within {len(read)} bytes at {at} of {self.barcode}"
            at += len(read)
        return None if at == end else f"ends at {at} of {self.barcode}, not at {end}"


class Shelves:
    """Looks media up for one thread, which has to close it."""

    def __init__(self, stage: Stage, ledger: Ledger) -> None:
        self._ledger = ledger
        self._stage = stage
        self.tracking: Tracking = Library.open(stage.library.path).tracking(read_only=True)

    def close(self) -> None:
        """Close the database."""
        self.tracking.close()

    def shelf(self, barcode: str) -> Shelf:
        """Return the tape files of a medium now."""
        shelved = []
        for file in self.tracking.tape_files.of(barcode):
            session = self.tracking.sessions.get(file.session)
            written = self._ledger.of(session)
            if written is None and not self._stage.stopped.wait(1):  # its program has only just been started
                written = self._ledger.of(session)
            if written is None:
                raise LookupError(f"nobody wrote session {session}")
            shelved.append(Shelved(file, written))
        return Shelf(barcode, shelved)


def lengths(stage: Stage) -> dict[str, int]:
    """Return the lengths of all media at one moment."""
    with closing(Library.open(stage.library.path).tracking(read_only=True)) as tracking:
        return {medium.barcode: medium.bytes for medium in tracking.media.all()}
