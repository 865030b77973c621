"""A library whose disks come and go, made by hand: files by `Disk.member`, rows by the repositories."""

import random
import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from uuid import uuid4

from blake3 import blake3
from filling import tracked
from mounting import random_bytes

from vtlfs.disks import discovery
from vtlfs.disks.headers import Opening
from vtlfs.disks.local.disk import LocalDisk
from vtlfs.disks.records import BLOCK
from vtlfs.engine.backup import copies
from vtlfs.engine.layout import erasure
from vtlfs.engine.layout.isal import Bytes
from vtlfs.engine.library import Library, create
from vtlfs.engine.member_headers import header_of
from vtlfs.engine.rebuild.rebuild import Rebuilt, rebuild
from vtlfs.engine.tracking import invariants
from vtlfs.engine.tracking.database import FILE_NAME, Tracking
from vtlfs.errors import DamagedExtent, DiskError
from vtlfs.model import MAX_SIZE, NO_CODEC, Access, DiskRecord, Extent, Mount, Opener, State, utc_now

UNIT = 4096
OPENER = Opener("alpha", 4711, 0, 0, "tar")


class Roster:
    """The library, its disks by number, those that are away, and the content of its tape files by session."""

    def __init__(self, root: Path, disks: int, parity: int) -> None:
        self.root = root
        self.parity = parity
        self.paths = {number: root / f"disk{number}" for number in range(disks)}
        for path in self.paths.values():
            path.mkdir()
        self.away: set[int] = set()
        self.labels: dict[int, str] = {}  # of disks that have left
        self.streams: dict[int, bytes] = {}
        self.copied = 0
        create(root / "library", [*self.paths.values()], drives=1, stripe_unit=UNIT, parity=parity, at=utc_now())
        with closing(self.tracking()) as tracking, tracking.transaction():
            tracking.media.add(["T1"], None, utc_now())
            self.mount = tracking.mounts.add(Mount(0, None, "machine", 1, 0, "/mnt", "", "mounted", utc_now(), None))

    @property
    def library(self) -> Library:
        """The library as library.toml has it now."""
        return Library.open(self.root / "library")

    def tracking(self, *, read_only: bool = False) -> Tracking:
        """Open the tracking database."""
        return self.library.tracking(read_only=True) if read_only else tracked(self.library)

    def in_use(self) -> list[int]:
        """Return the numbers of the disks that are not away and have not retired."""
        with closing(self.tracking(read_only=True)) as tracking:
            return [disk.number for disk in tracking.disks.all() if disk.number not in self.away]

    def disk(self, number: int) -> LocalDisk:
        """Return a disk."""
        return LocalDisk(number, self.paths[number], self.library.config.uuid)

    # --- streams ------------------------------------------------------------------------------------------------------

    def write(self, size: int) -> int:
        """Write a stream of `size` bytes over the disks that are not away; return its session."""
        data = random_bytes(len(self.streams), size)
        with closing(self.tracking()) as tracking:
            with tracking.transaction():
                session = tracking.library.take_sessions(1)[0]
                opening = (session, self.mount, OPENER, Access.WRITE, 0, "T1", UNIT, utc_now())
                tracking.sessions.open(*opening, parity=self.parity)
            with tracking.transaction():
                rows = self._deal(tracking, session, 0, data, 0)
                tracking.sessions.record_progress(session, rows, size, 1)
                tracking.sessions.release(session, State.RELEASED, None, utc_now())
            self._finish(tracking, session, {row.disk for row in rows})
        self.streams[session] = data
        return session

    def _deal(self, tracking: Tracking, session: int, first: int, data: bytes, begin: int) -> list[Extent]:
        """Write bytes of a stream in stripes, numbered from `first` on, as wide as the disks allow."""
        disks = self.in_use()
        parity = min(self.parity, len(disks) - 1)
        wide = len(disks) - parity if parity else 1
        rows: list[Extent] = []
        for stripe, start in enumerate(range(0, len(data), UNIT * wide), first):
            turn = disks[stripe % len(disks) :] + disks[: stripe % len(disks)]
            pieces: list[Bytes] = [
                data[at : at + UNIT] for at in range(start, min(start + UNIT * wide, len(data)), UNIT)
            ]
            members = [
                self._put(tracking, Extent(session, stripe, place, begin + start + place * UNIT, len(piece), NO_CODEC,
                                           turn[place], 0, 0, b""), piece, rows)
                for place, piece in enumerate(pieces)
            ]  # fmt: skip
            for row in range(parity):
                where = turn[len(pieces) + row]
                extent = Extent(session, stripe, row, None, 0, NO_CODEC, where, 0, 0, b"")
                self._put(tracking, extent, erasure.parity(row, pieces), rows, members)
        return rows

    def _put(
        self, tracking: Tracking, extent: Extent, piece: Bytes, rows: list[Extent], members: Sequence[Extent] = ()
    ) -> Extent:
        """Write an extent behind the last one of its session on its disk."""
        member, end = self.disk(extent.disk).reopen(extent.session, MAX_SIZE), BLOCK
        if member is None:
            found = tracking.sessions.get(extent.session)
            opening, ending = Opening("T1", 0, OPENER, found.opened_at, UNIT, self.parity), None
            if found.tape_file is not None:
                opening, ending = header_of(tracking.tape_files.get("T1", found.tape_file), found)
            member = self.disk(extent.disk).member(extent.session, UNIT, opening, ending)
        else:
            end = member.end
        written = member.write(replace(extent, position=end), [memoryview(piece)], members)
        member.sync()
        member.finish(None)
        rows.append(written)
        return written

    def _finish(self, tracking: Tracking, session: int, disks: set[int]) -> None:
        found = tracking.sessions.get(session)
        assert found.tape_file is not None
        header = header_of(tracking.tape_files.get("T1", found.tape_file), found)
        for number in disks:
            self.disk(number).restore_header(session, *header)

    def rows(self, tracking: Tracking, session: int) -> list[Extent]:
        """Return the rows of a session, data and then parity."""
        data = tracking.extents.of(session, 0, 1 << 20)
        return [*data, *tracking.extents.parity_of(data)]

    def bytes_of(self, extent: Extent, stripe: Sequence[Extent]) -> bytes:
        """Return the stored bytes of an extent: read, or computed from its stripe."""
        found = self._read(extent)
        if found is not None:
            return found
        data = sorted((one for one in stripe if not one.is_parity), key=lambda one: one.place)
        known: dict[int, Bytes] = {one.place: found for one in data if (found := self._read(one)) is not None}
        rows = {one.place: found for one in stripe if one.is_parity and (found := self._read(one)) is not None}
        lost = {one.place: one.stored for one in data if one.place not in known}
        known |= erasure.reconstruct(lost, known, rows)
        computed = erasure.parity(extent.place, [known[one.place] for one in data]) if extent.is_parity else None
        result = bytes(known[extent.place] if computed is None else computed)
        assert blake3(result).digest() == extent.blake3
        return result

    def _read(self, extent: Extent) -> bytes | None:
        if extent.disk in self.away:
            return None
        try:
            return self.disk(extent.disk).read_stored(extent)
        except (DamagedExtent, DiskError):
            return None

    def check_streams(self) -> None:
        """Assert that every byte of every tape file can be read, and that the database is sound."""
        with closing(self.tracking(read_only=True)) as tracking:
            for rule in [invariants.SOUND, *invariants.rules(tracking)]:
                broken = list(invariants.broken(tracking, rule))
                assert not broken, broken
            for session, data in self.streams.items():
                rows = self.rows(tracking, session)
                pieces = [
                    self.bytes_of(row, [one for one in rows if one.stripe == row.stripe])
                    for row in rows
                    if not row.is_parity
                ]
                assert b"".join(pieces) == data, session

    # --- disks --------------------------------------------------------------------------------------------------------

    def add(self) -> int:
        """Add a disk; return its number."""
        with closing(self.tracking()) as tracking:
            number = tracking.disks.next_number()
            path = self.root / f"disk{number}"
            path.mkdir()
            record = DiskRecord(number, str(uuid4()), str(path), utc_now())
            discovery.label_new(record, self.library.config.uuid, {})
            with tracking.transaction():
                tracking.disks.add(record)
        self.paths[number] = path
        self._write_paths()
        return number

    def retire(self, number: int) -> None:
        """Empty a disk, which may be away, and record that it has retired."""
        self.empty(number)
        with closing(self.tracking()) as tracking, tracking.transaction():
            tracking.disks.retire(number, utc_now())
        self._write_paths()
        if number not in self.away:
            label = self.paths[number] / "vtlfs-disk.json"
            self.labels[number] = label.read_text()
            label.unlink()

    def empty(self, number: int, *, retiring: bool = True) -> None:
        """Move all extents of a disk to other disks."""
        with closing(self.tracking()) as tracking:
            if retiring:
                with tracking.transaction():
                    tracking.disks.begin_retiring(number, utc_now())
            for session in self.streams:
                rows = self.rows(tracking, session)
                by_stripe = sorted(rows, key=lambda row: row.stripe)
                for _, group in groupby(by_stripe, key=lambda row: row.stripe):
                    stripe = list(group)
                    if any(row.disk == number for row in stripe):
                        self._move(tracking, number, stripe)
            with tracking.transaction():  # the commit raises the disks' high-water marks
                tracking.library.count_move()

    def _move(self, tracking: Tracking, number: int, stripe: list[Extent]) -> None:
        """Move a stripe's extent to another disk, or deal the stripe anew if every other disk has an extent of it."""
        [old] = [row for row in stripe if row.disk == number]
        session = old.session
        free = [one for one in self.in_use() if one != number and all(one != row.disk for row in stripe)]
        data = sorted((row for row in stripe if not row.is_parity), key=lambda row: row.place)
        new: list[Extent] = []
        if free:
            where = random.Random(old.position + old.stripe).choice(free)
            piece = self.bytes_of(old, stripe)
            self._put(tracking, replace(old, disk=where, position=0), piece, new, data if old.is_parity else ())
            gone = [old]
        else:
            content = b"".join(self.bytes_of(row, stripe) for row in data)
            kept, self.away = self.away, self.away | {number}
            first = max(row.stripe for row in self.rows(tracking, session)) + 1
            new = self._deal(tracking, session, first, content, data[0].offset or 0)
            self.away = kept
            gone = stripe
        with tracking.transaction(durable=False):
            assert tracking.extents.replace(gone, new)
            tracking.session_disks.note_moved(session, {row.disk for row in new}, {row.disk for row in gone})
            left = [
                (session, row.stripe, row.stored, short, False, True)
                for row in new
                if len(gone) > 1 and row.place == 0 and not row.is_parity
                if (short := self.parity - sum(one.is_parity for one in new if one.stripe == row.stripe))
            ]
            if not free:
                tracking.lacks.note_mended([(session, row.stripe, True) for row in gone], left, utc_now())
            tracking.library.count_move()
        for row in gone:
            if row.disk not in self.away:
                self.disk(row.disk).discard(row)

    def lose(self, *numbers: int) -> None:
        """Take disks away."""
        for number in numbers:
            self.paths[number].rename(self.root / f"away{number}")
        self.away.update(numbers)

    def bring_back(self, *numbers: int) -> None:
        """Put disks back that were away."""
        for number in numbers:
            (self.root / f"away{number}").rename(self.paths[number])
        self.away.difference_update(numbers)

    def _write_paths(self) -> None:
        """Make library.toml name the disks that have not retired."""
        with closing(self.tracking(read_only=True)) as tracking:
            paths = [disk.path for disk in tracking.disks.all()]
        file = self.root / "library" / "library.toml"
        listed = ", ".join(f'"{path}"' for path in paths)
        file.write_text(re.sub(r"(?ms)^disks = \[.*?\]", f"disks = [{listed}]", file.read_text()))

    # --- the database -------------------------------------------------------------------------------------------------

    def copy(self) -> None:
        """Make a copy of the database on the disks that are not away."""
        self.copied += 1
        for number in self.in_use():
            copies.make(self.library.path, self.disk(number), self.copied)

    def lose_database(self, *, copies_too: bool = False) -> None:
        """Lose the tracking database, and all copies."""
        for file in (self.root / "library").glob(f"{FILE_NAME}*"):
            file.unlink()
        if copies_too:
            for copy in self.root.glob("*/tracking/*.db"):
                copy.unlink()

    def rebuild(self, *without: int, disks: Sequence[Path] = ()) -> Rebuilt:
        """Rebuild the database from the disks in library.toml, or from these disks only."""
        return rebuild(self.root / "library", disks, without, utc_now())
