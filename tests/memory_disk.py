"""A disk in memory that fulfils the contract of `vtlfs.disks.base.Disk` (see tests/unit/test_disk_contract.py).

`ScriptedDisk` of tests/engine adds faults. `_begin` is called at the beginning of each operation that writes, reads or
syncs. As with real disks, bytes whose sync failed never become durable.
"""

import errno
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from blake3 import blake3

from vtlfs.disks import headers
from vtlfs.disks.base import Fill, Member
from vtlfs.disks.cartridges import Cartridge
from vtlfs.disks.contents import (
    NO_ENDING,
    SESSIONS_PER_GROUP,
    Batch,
    Entry,
    Flaw,
    Kind,
    Listing,
    Part,
)
from vtlfs.disks.headers import Ending, Header, Opening
from vtlfs.disks.records import BLOCK, Described, Found, Owner, padded
from vtlfs.disks.snapshots import Runs, union
from vtlfs.errors import DamagedExtent, DiskError
from vtlfs.model import Extent, Watermark

KEPT = 2  # copies


class MemoryDisk:
    """See the module."""

    def __init__(self, number: int, path: str = "/memory", *, library: str = "library") -> None:
        self.number = number
        self.path = path
        self.free = 1 << 40
        self.total = 1 << 41
        self.reserved = 0
        self.device = 0
        self.checks = True
        self.finished: dict[int, Ending | None] = {}
        self._library = library
        self._stored: dict[tuple[int, int], bytes] = {}  # by session and position: what a read returns
        self._durable: dict[tuple[int, int], bytes] = {}  # what a power cut leaves
        self._records: dict[tuple[int, int], Found] = {}
        self._headers: dict[int, dict[str, Any]] = {}
        self._copies: dict[int, bytes] = {}
        self._mark: Watermark | None = None
        self._cartridges: dict[str, Cartridge] = {}
        self._snapshots: Runs = ()

    def damage(self, extent: Extent) -> None:
        """Flip a bit of a stored extent."""
        stored = bytearray(self._stored[extent.session, extent.position])
        stored[extent.stored // 2] ^= 1
        self._stored[extent.session, extent.position] = bytes(stored)

    def _begin(self, kind: str, session: int, which: int) -> None:
        """Called when an operation begins; a subclass may raise DiskError."""

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DiskError(self.number, self.path, error) from error

    # --- writing and reading ----------------------------------------------------------------------------------------

    def member(self, session: int, stripe_unit: int, opening: Opening, ending: Ending | None = None) -> "MemoryMember":
        """Return a new member."""
        return MemoryMember(self, session, stripe_unit, headers.document(opening, ending))

    def discard(self, extent: Extent) -> None:
        """Forget the stored bytes of an extent."""
        if (extent.session, extent.position) in self._stored:
            self._stored[extent.session, extent.position] = bytes(extent.stored)

    def restore_header(self, session: int, opening: Opening, ending: Ending) -> None:
        """Write the header of a session's member anew."""
        if session in self._headers:
            self._headers[session] = headers.document(opening, ending)

    def reopen(self, session: int, end: int) -> "MemoryMember | None":
        """Return a session's member; None without one."""
        if session not in self._headers:
            return None
        for place in [place for place in self._stored if place[0] == session and place[1] >= end]:
            del self._stored[place], self._records[place]
        header = self._headers[session]
        end = min(end, padded(self._size(session)))
        return MemoryMember(self, session, int(header["stripe_unit"]), header, end=end, made=True)

    def sync_members(self, members: Sequence[Member]) -> None:
        """Sync the members one after the other."""
        for member in members:
            member.sync()

    def read_stored(self, extent: Extent, *, check: bool = False) -> bytes:
        """Read the stored bytes of an extent and check them."""
        self._begin("read", extent.session, extent.position)
        which = (extent.session, extent.offset, self.number)
        if extent.session not in self._headers:
            raise DamagedExtent(*which, "its member is gone")
        data = self._stored.get((extent.session, extent.position), b"")[: extent.stored]
        if (check or self.checks) and blake3(data).digest() != extent.blake3:
            raise DamagedExtent(*which, "its BLAKE3 is not the recorded one")
        return data

    def remove(self, session: int) -> None:
        """Remove a session's member."""
        self._headers.pop(session, None)
        for place in [place for place in self._stored if place[0] == session]:
            del self._stored[place], self._records[place]

    # --- looking at what is there -----------------------------------------------------------------------------------

    def where(self, session: int) -> str:
        """Return where a member lies."""
        return f"{self.path}/{session}"

    def groups(self) -> tuple[set[int], list[str]]:
        """Return the groups of sessions that have members."""
        return {session // SESSIONS_PER_GROUP for session in self._headers}, []

    def members(self, group: int) -> Listing:
        """Return the members of a group of sessions."""
        sessions = [session for session in self._headers if session // SESSIONS_PER_GROUP == group]
        return Listing({session: Entry(self._size(session), True, True) for session in sessions}, [])

    def _size(self, session: int) -> int:
        return max((place[1] + BLOCK + len(self._stored[place]) for place in self._of(session)), default=BLOCK)

    def _of(self, session: int) -> list[tuple[int, int]]:
        return sorted(place for place in self._stored if place[0] == session)

    def sessions_from(self, first: int) -> set[int]:
        """Return which sessions have members."""
        return {session for session in self._headers if session >= first}

    def header(self, session: int) -> Header | None:
        """Return the header of a member."""
        said = self._headers.get(session)
        return None if said is None else headers.read(said)

    def scan(self, known: Callable[[int, int], set[int]]) -> Iterator[Batch]:
        """Yield the headers and records of all members."""
        for group in sorted(self.groups()[0]):
            batch, first = Batch(self.number), group * SESSIONS_PER_GROUP
            enough = known(first, first + SESSIONS_PER_GROUP - 1)
            for session in sorted(self.members(group).members):
                batch.present.append(session)
                if session not in enough:
                    batch.headers.append((session, self._headers[session]))
                    batch.records += self._found(session)
            yield batch

    def _found(self, session: int) -> list[Found]:
        return [self._records[place] for place in self._of(session)]

    def scan_member(self, session: int, stripe_unit: int) -> Iterator[Batch]:
        """Yield the records of one member."""
        yield Batch(self.number, records=self._found(session))

    def examine(self, part: Part) -> list[Flaw]:
        """Return the flaws of a part of a member."""
        said = self._headers.get(part.session)
        if said is None:
            return [Flaw(Kind.MISSING, extent, "its member is gone") for extent in part.extents]
        found = []
        if part.is_first and "state" not in said:
            found.append(Flaw(Kind.HEADER, None, NO_ENDING))
        for extent in part.extents:
            data = self._stored.get((extent.session, extent.position), b"")[: extent.stored]
            position = extent.position + BLOCK
            if len(data) < extent.stored:
                found.append(Flaw(Kind.TRUNCATED, extent, "it ends too early", position))
            elif blake3(data).digest() != extent.blake3:
                found.append(Flaw(Kind.FLIPPED, extent, "its BLAKE3 is not the recorded one", position))
        return found

    # --- copies, the mark, health -----------------------------------------------------------------------------------

    def copies(self) -> list[int]:
        """Return the numbers of the copies."""
        return sorted(self._copies, reverse=True)

    def put_copy(self, number: int, fill: Fill) -> None:
        """Store a copy; only the copy before it is kept beside."""
        with self._errors(), tempfile.TemporaryDirectory() as place:
            file = Path(place, "copy")
            file.touch()
            fill(str(file), self._check_room)
            self._copies[number] = file.read_bytes()
        for old in self.copies()[KEPT:]:
            del self._copies[old]

    def _check_room(self, size: int) -> None:
        if size > self.free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def read_copy(self, number: int) -> Iterator[bytes]:
        """Yield the bytes of a copy."""
        with self._errors():
            if number not in self._copies:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            yield self._copies[number]

    def where_copy(self, number: int) -> str:
        """Return where a copy lies."""
        return f"{self.path}/copy {number}"

    def mark(self) -> Watermark | None:
        """Return the high-water mark."""
        return self._mark

    def raise_mark(self, mark: Watermark, *, durable: bool = False) -> None:
        """Raise the high-water mark."""
        if self._mark is None or self._mark.commits < mark.commits:
            self._mark = mark

    def put_cartridges(self, found: Sequence[Cartridge]) -> None:
        """Remember media."""
        for one in found:
            known = self._cartridges.get(one.barcode)
            if known is None or known.commits < one.commits:
                self._cartridges[one.barcode] = one

    def cartridges(self) -> Iterator[tuple[str, Cartridge | None]]:
        """Yield what is remembered."""
        yield from ((f"{barcode}.cartridge", one) for barcode, one in sorted(self._cartridges.items()))

    def put_snapshots(self, deleted: Runs) -> None:
        """Remember snapshots."""
        self._snapshots = union([*self._snapshots, *deleted])

    def snapshots(self) -> Runs:
        """Return which snapshots are remembered."""
        return self._snapshots

    def measure(self) -> None:
        """Do nothing: the test sets `free`."""

    def try_out(self) -> None:
        """Succeed, unless `_begin` raises."""
        self._begin("try_out", 0, 0)


class MemoryMember:
    """A member of a disk in memory. It asserts that callers keep the rules of disks/base.py."""

    def __init__(
        self,
        disk: MemoryDisk,
        session: int,
        stripe_unit: int,
        header: dict[str, Any],
        *,
        end: int = 0,
        made: bool = False,
    ) -> None:
        self._disk = disk
        self._session = session
        self._stripe_unit = stripe_unit
        self._header = header
        self._is_made = made
        self._ends = max(BLOCK, end)
        self._unsynced: set[int] = set()
        self._thread: int | None = None

    def allocate(self, end: int) -> None:
        """Set aside the room up to a position."""
        self._disk._begin("allocate", self._session, end)
        self._make()

    def write(self, extent: Extent, pieces: list[memoryview], members: Sequence[Extent] = ()) -> Extent:
        """Write an extent."""
        data = b"".join(pieces)
        self._check(extent, data, members)
        self._disk._begin("write", self._session, -1 if extent.offset is None else extent.offset)
        assert b"".join(pieces) == data, "the bytes have changed while the disk was at work"
        self._make()
        key = (self._session, extent.position)
        written = replace(extent, stored=len(data), blake3=blake3(data).digest())
        self._disk._stored[key] = data
        self._disk._records[key] = Found(written, tuple(Described.of(one) for one in members))
        self._unsynced.add(extent.position)
        return written

    def _make(self) -> None:
        if self._is_made:
            return
        if self._session in self._disk._headers:
            raise DiskError(self._disk.number, self._disk.path, OSError(errno.EEXIST, os.strerror(errno.EEXIST)))
        identity = Owner(self._disk._library, self._disk.number, self._session).document()
        self._disk._headers[self._session] = identity | self._header
        self._is_made = True

    def _check(self, extent: Extent, data: bytes, members: Sequence[Extent]) -> None:
        self._thread = self._thread or threading.get_ident()
        assert threading.get_ident() == self._thread, "one thread writes"
        assert 0 < len(data) <= self._stripe_unit
        assert extent.position % BLOCK == 0
        assert extent.position >= self._ends, "an extent is written once, behind the others"
        assert (extent.session, extent.disk) == (self._session, self._disk.number)
        assert bool(members) == extent.is_parity
        assert extent.bytes == (0 if extent.is_parity else len(data))
        self._ends = extent.position + BLOCK + len(data)

    def sync(self) -> None:
        """Make the written extents durable; if the sync fails, they never become durable."""
        positions, self._unsynced = self._unsynced, set()
        written = {position: self._disk._stored[self._session, position] for position in positions}
        self._disk._begin("sync", self._session, 0)
        for position, data in written.items():
            self._disk._durable[self._session, position] = data

    @property
    def end(self) -> int:
        """The first position behind the last extent."""
        return padded(self._ends)

    def finish(self, ending: Ending | None) -> None:
        """Note how the session ended."""
        self._disk._begin("finish", self._session, 0)
        self._disk.finished[self._session] = ending
        if self._is_made and ending is not None:
            self._disk._headers[self._session] |= headers.document_of_end(ending)
