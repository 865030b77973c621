"""Tape files: the streams of ended sessions, in their order on the media. A row never changes."""

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise

from vtlfs.engine.tracking.repositories.media import Media
from vtlfs.engine.tracking.rows import TAPE_FILE, check_follows, contradiction, tape_file_of
from vtlfs.engine.tracking.statements import Repository, Statements
from vtlfs.errors import NoSuchTapeFile
from vtlfs.model import TapeFile


class TapeFiles(Repository):
    """The rows of the table `tape_file`, which `Sessions.release` adds."""

    def __init__(self, sql: Statements, media: Media) -> None:
        super().__init__(sql)
        self._media = media

    def of(
        self, barcode: str, first: int = 0, limit: int | None = None, *, volume: int | None = None
    ) -> list[TapeFile]:
        """Return the tape files of a volume from number `first` on, in order; at most `limit`.

        `volume` is a number, None: the medium's current one. Raises NoSuchMedium.
        """
        number = self._media.get(barcode).volume if volume is None else volume
        rows = self._sql.execute(
            f"SELECT {TAPE_FILE} WHERE tape_file.medium = ? AND tape_file.volume = ? AND number >= ?"
            " ORDER BY number LIMIT ?",
            *(barcode, number, first, -1 if limit is None else limit),
        )
        found = [tape_file_of(row) for row in rows]
        if found and found[0].number != first:
            raise contradiction(f"tape file {first} of {barcode}")
        for file, following in pairwise(found):
            check_follows(file, following)
        return found

    def get(self, barcode: str, number: int, *, volume: int | None = None) -> TapeFile:
        """Return one tape file. `volume`: as for `of`. Raises NoSuchTapeFile or NoSuchMedium."""
        life = self._media.get(barcode).volume if volume is None else volume
        row = self._sql.first(
            f"SELECT {TAPE_FILE} WHERE tape_file.medium = ? AND tape_file.volume = ? AND number = ?",
            *(barcode, life, number),
        )
        if row is None:
            raise NoSuchTapeFile(barcode, number)
        return tape_file_of(row)

    def at(self, barcode: str, volume: int, offset: int) -> TapeFile | None:
        """Return the tape file that holds a volume's byte at the offset; None past the end.

        Raises TrackingError if the tape file does not begin at the end of the tape file before it.
        """
        rows = self._sql.execute(
            f"SELECT {TAPE_FILE} WHERE tape_file.medium = ? AND tape_file.volume = ? AND start <= ?"
            " ORDER BY start DESC LIMIT 2",
            *(barcode, volume, offset),
        )
        found = [tape_file_of(row) for row in rows]
        if not found or offset >= found[0].end:
            return None
        check_follows(found[1] if len(found) > 1 else None, found[0])
        return found[0]

    def of_sessions(self, sessions: Sequence[int]) -> list[TapeFile]:
        """Return what some sessions left, in the order of the sessions given; fewer where one left nothing."""
        rows = self._sql.execute(
            f"SELECT {TAPE_FILE} WHERE tape_file.session IN (SELECT value FROM json_each(?))",
            json.dumps(list(sessions)),
        )
        found = {file.session: file for file in map(tape_file_of, rows)}
        return [found[session] for session in sessions if session in found]

    def newest_first(self, sessions: Sequence[int]) -> list[int]:
        """Return those of some sessions that left tape files, the one that was released last first."""
        rows = self._sql.execute(
            "SELECT session FROM tape_file WHERE session IN (SELECT value FROM json_each(?)) ORDER BY ordinal DESC",
            json.dumps(list(sessions)),
        )
        return [row[0] for row in rows]

    def at_random(self, limit: int) -> list[TapeFile]:
        """Return some tape files of current volumes, chosen at random. Reads all rows."""
        rows = self._sql.execute(
            f"SELECT {TAPE_FILE} WHERE tape_file.session IN (SELECT session FROM tape_file JOIN medium"
            " ON barcode = tape_file.medium AND medium.volume = tape_file.volume WHERE state <> 'removed'"
            " ORDER BY random() LIMIT ?)",
            limit,
        )
        return [tape_file_of(row) for row in rows]

    def since_ordinal(self, ordinal: int, limit: int) -> list[tuple[int, int]]:
        """Return the ordinals and sessions of tape files in the order of release: the first ones from an ordinal on."""
        rows = self._sql.execute(
            "SELECT ordinal, session FROM tape_file WHERE ordinal >= ? ORDER BY ordinal LIMIT ?", ordinal, limit
        )
        return [(row[0], row[1]) for row in rows]

    def between(self, after: int, epoch: int, limit: int | None = None) -> Iterator[TapeFile]:
        """Yield the tape files of the epochs after `after` up to `epoch`, by medium, volume and number; the first
        `limit`.

        Each row is fetched when the iterator comes to it.
        """
        order = "ORDER BY tape_file.medium, tape_file.volume, number LIMIT ?"
        most = -1 if limit is None else limit
        rows = self._sql.execute(f"SELECT {TAPE_FILE} WHERE epoch > ? AND epoch <= ? {order}", after, epoch, most)
        return (tape_file_of(row) for row in rows)
