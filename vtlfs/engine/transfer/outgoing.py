"""Media on their way out of a library: their manifests, and the bytes of their tape files, checked on the way.

Used in the trio run of a command. The library may be mounted.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, closing

from vtlfs.disks.base import Disk
from vtlfs.disks.pool import DiskPool
from vtlfs.engine import lease
from vtlfs.engine.library import Library
from vtlfs.engine.reading.extract import AHEAD_UNITS_A_DISK, STEP_UNITS, Opening
from vtlfs.engine.reading.reader import MediumReader
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.engine.transfer.manifest import Entry, Manifest
from vtlfs.errors import UsageError
from vtlfs.model import Opener, Session, TapeFile

Take = Callable[[memoryview], Awaitable[None]]


class Outgoing:
    """The media of one state of a library's tracking database. Make one with `outgoing`.

    From its manifest on, the volume of each medium is held: it may be erased, and is not reclaimed.
    """

    def __init__(self, library: Library, tracking: Tracking, pool: DiskPool, holding: ExitStack) -> None:
        self._library = library.path
        self._holding = holding
        self._held: set[tuple[str, int]] = set()  # media and their volumes
        self._unit = library.config.stripe_unit
        self._tracking = tracking
        self._pool = pool
        self._reader: MediumReader | None = None
        self._read = ("", 0)  # the medium and the volume of that

    def manifest(self, barcode: str) -> Manifest:
        """Return the manifest of a medium. Raises NoSuchMedium, UsageError where its stored bytes are deleted."""
        while True:
            which = (barcode, self._tracking.media.get(barcode).volume)
            if which not in self._held:
                self._holding.enter_context(lease.reading(self._library, *which))
                self._held.add(which)
            found = manifest_of(self._tracking, barcode)
            if (barcode, found.volume) in self._held:
                return found  # else it was erased in between

    async def read(self, manifest: Manifest, file: Entry, take: Take) -> None:
        """Hand the checked bytes of a tape file to `take`. Raises DamagedExtent, DiskError."""
        reader = self._reader_of(manifest)
        offset, end = file.start, file.start + file.bytes
        while offset < end:
            view = memoryview(await reader.read(offset, min(end - offset, STEP_UNITS * self._unit)))
            await take(view)
            offset += len(view)

    def _reader_of(self, manifest: Manifest) -> MediumReader:
        which = (manifest.barcode, manifest.volume)
        if self._reader is None or self._read != which:
            self.close()
            ahead = AHEAD_UNITS_A_DISK * len(self._pool)
            where = (Catalogue(self._tracking), self._pool)
            self._reader, self._read = MediumReader(*which, manifest.bytes, *where, lambda: ahead), which
        return self._reader

    def close(self) -> None:
        """Let go of what was loaded."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None


@asynccontextmanager
async def outgoing(library: Library, opening: Opening | None = None) -> AsyncIterator[Outgoing]:
    """Have the media of a library. `opening` opens another state of the tracking database, such as a snapshot's."""
    with (
        closing(library.tracking(read_only=True) if opening is None else opening()) as tracking,
        ExitStack() as holding,
    ):
        disks: list[Disk] = library.disks_to_read()
        pool = DiskPool(disks, library.config.stripe_unit)
        try:
            found = Outgoing(library, tracking, pool, holding)
            yield found
            found.close()
        finally:
            pool.close()


def manifest_of(tracking: Tracking, barcode: str) -> Manifest:
    """Return the manifest of a medium. Raises NoSuchMedium, UsageError where its stored bytes are deleted."""
    tracking.media.check_length(barcode)
    medium = tracking.media.get(barcode)
    files = tracking.tape_files.of(barcode, volume=medium.volume)  # it may be erased in between
    volume = tracking.volumes.get(barcode, medium.volume)
    sessions = {
        session.id: session for session, _, _ in tracking.session_disks.with_tape_files(one.session for one in files)
    }
    if len(sessions) < len(files):
        raise UsageError(f"medium {barcode}: the stored bytes of volume {medium.volume} are deleted")
    return Manifest(
        *(tracking.library.uuid(), barcode, medium.volume, medium.begun_at, medium.capacity, volume.retention),
        tuple(_entry(file, sessions[file.session]) for file in files),
    )


def _entry(file: TapeFile, session: Session) -> Entry:
    opener = Opener(session.host, session.pid, session.uid, session.gid, session.program)
    assert session.released_at is not None  # it has a tape file
    return Entry(
        *(file.number, file.start, file.bytes, session.id, session.origin, opener, session.drive, session.opened_at),
        *(session.state, session.error, session.released_at, session.requests, file.retention),
    )
