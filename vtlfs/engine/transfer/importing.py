"""Import: media that come in are written as any stream is, and recorded one tape file after the other.

The command is a participant like a mount: it has a mount's row and lease, so that recovery ends its sessions if it
dies. A tape file is on its medium only when all its bytes are on the disks and their BLAKE3 is the one that was said.
Until then its session has an origin and no end, and whoever ends it forgets its bytes. So an import that died goes on
with the tape file that it had come to. Used in the trio loop of the engine.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from signal import Signals

import trio
from blake3 import blake3

from vtlfs.engine import recover
from vtlfs.engine.assembly import running
from vtlfs.engine.engine import Engine
from vtlfs.engine.jobs import foreground
from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.transfer.incoming import Incoming, TarStream, media_in
from vtlfs.engine.transfer.manifest import BadExport, Entry, Manifest
from vtlfs.engine.transfer.outgoing import manifest_of
from vtlfs.engine.transfer.result import Moved, Progress
from vtlfs.engine.transfer.tar import TarReader
from vtlfs.engine.writing.session import WriteSession
from vtlfs.errors import MediumBusy, NoSuchMedium, Retained, TrackingError, UsageError
from vtlfs.failpoints import reached
from vtlfs.model import NO_MOUNTPOINT, Actor, MediumState, Mount, State, format_size, utc_now


class Importer:
    """Takes media into one library."""

    def __init__(self, engine: Engine, actor: Actor, progress: Progress, what: str) -> None:
        """`what` is the name of the events: imported, copied."""
        self.engine = engine
        self.moved: list[Moved] = []
        self._actor = actor
        self._progress = progress
        self._what = what

    async def take_in(self, incoming: Incoming, barcode: str) -> None:
        """Take a medium in, under a barcode; of what is there already, nothing.

        Raises UsageError where the medium has something else, MediumFull, ReadOnlyMedium, BadExport, FileError.
        """
        manifest = incoming.manifest
        known = await self.engine.catalogue.read(lambda tracking: _known(tracking, barcode))
        there = () if known is None else known.files
        _check_sizes(manifest, barcode, there)
        await self._check_room(manifest, barcode, len(there), known is not None)
        self._progress.expect(sum(file.bytes for file in manifest.files[len(there) :]))
        for file, mine in zip(manifest.files, there, strict=False):
            if known is not None and manifest.origin(file) == known.origin(mine):
                await incoming.skip(file)
            else:
                await self._compare(incoming, file, known, mine, barcode)
        added = known is None and await self._add(manifest, barcode)
        taken: list[Entry] = []
        try:
            for file in islice(manifest.files, len(there), None):
                await self._take_file(incoming, file, barcode)
                taken.append(file)
            await incoming.finish()
        finally:
            with trio.CancelScope(shield=True):
                await self._note(manifest, barcode, taken, added)

    # --- before -------------------------------------------------------------------------------------------------------

    async def _check_room(self, manifest: Manifest, barcode: str, have: int, exists: bool) -> None:
        """Raise MediumFull, ReadOnlyMedium or UsageError unless all that is to come can be written to the medium."""
        if len(manifest.files) == have:
            return
        left = manifest.capacity
        if exists:
            left = (await self.engine.catalogue.read(lambda tracking: tracking.media.check_writable(barcode))).left
        wanted = sum(file.bytes for file in manifest.files[have:])
        if left is not None and wanted > left:
            raise UsageError(
                f"medium {barcode}: {format_size(wanted)} are to come, and {format_size(left)} are left of its"
                " capacity; `vtlfs media set --capacity` changes that"
            )

    async def _compare(
        self, incoming: Incoming, file: Entry, known: Manifest | None, mine: Entry, barcode: str
    ) -> None:
        """Raise UsageError unless a tape file has the same bytes as the one that is there."""
        assert known is not None
        theirs, ours = blake3(), blake3()

        async def take(view: memoryview) -> None:
            theirs.update(view)

        said = await incoming.take(file, take)
        if said not in (None, theirs.digest()):
            raise _wrong(incoming, file)
        reader = self.engine.medium_reader(barcode, known.volume, known.bytes)
        try:
            offset = mine.start
            while offset < mine.start + mine.bytes:
                view = await reader.read(offset, min(1 << 20, mine.start + mine.bytes - offset))
                ours.update(view)
                offset += len(view)
        finally:
            reader.close()
        if ours.digest() != theirs.digest():
            raise _different(barcode, file.number)

    async def _add(self, manifest: Manifest, barcode: str) -> bool:
        await self.engine.change(lambda tracking: tracking.media.add([barcode], manifest.capacity, utc_now()))
        await self.engine.health.keep(barcode)
        return True

    # --- a tape file --------------------------------------------------------------------------------------------------

    async def _take_file(self, incoming: Incoming, file: Entry, barcode: str) -> None:
        manifest = incoming.manifest
        drive = file.drive if file.drive < self.engine.library.config.drives else 0
        session = await self.engine.open_writer(
            *(barcode, drive, file.opener), origin=manifest.origin(file), opened_at=file.opened_at
        )
        try:
            await self._write(incoming, file, session)
            session.imported = file.end(utc_now(), manifest.retention)
            reached("transfer.unrecorded")
            with trio.CancelScope(shield=True):
                await self.engine.release_writer(session)
        finally:
            with trio.CancelScope(shield=True):
                is_there = await self._has_left(session, file)
        if not is_there:
            raise UsageError(f"medium {barcode}: another stream was written to it meanwhile; import it as another one")
        reached("transfer.recorded")

    async def _write(self, incoming: Incoming, file: Entry, session: WriteSession) -> None:
        found = blake3()

        async def take(view: memoryview) -> None:
            found.update(view)
            await session.write(session.length, bytes(view))
            self._progress.advance(len(view))

        said = await incoming.take(file, take)
        if said not in (None, found.digest()):
            raise _wrong(incoming, file)
        await session.flush()

    async def _has_left(self, session: WriteSession, file: Entry) -> bool:
        """Tell whether a session has left its tape file. End it, if it is open, and cut off what it has written."""
        if not session.is_ending:
            await self.engine.release_writer(session, abort=True)
        ended = await self.engine.catalogue.read(lambda tracking: tracking.sessions.get(session.number))
        if ended.state is State.OPEN:
            raise TrackingError(f"the end of session {session.number} is not recorded; import the medium again")
        if ended.tape_file is None:
            disks = [pooled.disk for pooled in self.engine.pool.disks if not pooled.hangs]
            await trio.to_thread.run_sync(recover.trim, ended, None, {}, disks)
        return ended.tape_file == file.number

    # --- after --------------------------------------------------------------------------------------------------------

    async def _note(self, manifest: Manifest, barcode: str, taken: list[Entry], added: bool) -> None:
        """Record the event, or remove a medium that was added in vain."""
        size = sum(file.bytes for file in taken)
        has_failed = len(taken) == 0 and bool(manifest.files)
        details = {
            "library": manifest.library,
            "barcode": manifest.barcode,
            "volume_there": manifest.volume,
            "first": taken[0].number if taken else None,
            "tape_files": len(taken),
            "bytes": size,
        }

        def note(tracking: Tracking) -> None:
            is_in_vain = added and has_failed and _is_untouched(tracking, barcode)
            if is_in_vain:
                tracking.media.set_state(barcode, MediumState.REMOVED)
            if taken or (added and not is_in_vain):
                volume = tracking.media.get(barcode).volume
                tracking.events.add(self._what, self._actor, utc_now(), medium=barcode, volume=volume, **details)  # type: ignore[arg-type]

        await self.engine.change(note)
        self.moved.append(
            Moved(manifest.barcode, barcode, len(manifest.files), manifest.bytes, len(taken), size),
        )


def _known(tracking: Tracking, barcode: str) -> Manifest | None:
    """Return what the library has of a medium; None without it."""
    try:
        return manifest_of(tracking, barcode)
    except NoSuchMedium:
        return None


def _is_untouched(tracking: Tracking, barcode: str) -> bool:
    """Tell whether a medium may go again that was added: it is empty, and nobody writes to it, keeps it or loads it."""
    medium = tracking.media.get(barcode)
    try:
        tracking.volumes.check_may_end(medium, utc_now())
    except (MediumBusy, Retained):
        return False
    return not medium.tape_files and all(drive.loaded != barcode for drive in tracking.drives.all())


def _check_sizes(manifest: Manifest, barcode: str, there: tuple[Entry, ...]) -> None:
    """Raise UsageError unless the tape files that are there are as long as the first ones that come."""
    if len(there) > len(manifest.files):
        raise _different(barcode, len(manifest.files))
    for file, mine in zip(manifest.files, there, strict=False):
        if file.bytes != mine.bytes:
            raise _different(barcode, file.number)


def _different(barcode: str, number: int) -> UsageError:
    return UsageError(
        f"medium {barcode} has another tape file {number:04d} than what is to come; nothing of it was changed: choose"
        " another barcode"
    )


def _wrong(incoming: Incoming, file: Entry) -> BadExport:
    return BadExport(
        incoming.where, f"the BLAKE3 of tape file {file.name} of {incoming.manifest.barcode} is another one"
    )


@asynccontextmanager
async def importer(library: Library, actor: Actor, progress: Progress, what: str) -> AsyncIterator[Importer]:
    """Run an engine that takes media in. Raises LibraryError. `what` is the name of the events."""
    mount = Mount(0, None, actor.host, os.getpid(), actor.uid, NO_MOUNTPOINT, what, "mounted", utc_now(), None)
    async with running(library, mount) as engine:
        yield Importer(engine, actor, progress, what)


@dataclass(frozen=True, slots=True)
class Import:
    """What is imported into a library, and by whom. `under`: the barcode that it is to have there; None: its own."""

    library: Library
    actor: Actor
    progress: Progress
    under: str | None = None
    moved: list[Moved] = field(default_factory=list)


def from_directories(wanted: Import, paths: Sequence[Path]) -> Signals | None:
    """Import the media in some directories; return the signal that stopped it.

    All manifests are read before anything is changed. Raises BadExport, FileError, UsageError, MediumFull, DiskError,
    LibraryError.
    """
    found = [one for path in paths for one in media_in(path)]
    if wanted.under is not None and len(found) > 1:
        raise _too_many(len(found))

    async def work() -> None:
        async with _importing(wanted) as target:
            for one in found:
                await target.take_in(one, wanted.under or one.manifest.barcode)

    return foreground.run(work)


def from_tar(wanted: Import, reader: TarReader) -> Signals | None:
    """Import the media in a tar stream; return the signal that stopped it. Raises as `from_directories` does."""

    async def work() -> None:
        stream, count = TarStream(reader), 0
        async with _importing(wanted) as target:
            async for one in stream.media():
                count += 1
                if wanted.under is not None and count > 1:
                    raise _too_many(count)
                await target.take_in(one, wanted.under or one.manifest.barcode)

    return foreground.run(work)


@asynccontextmanager
async def _importing(wanted: Import) -> AsyncIterator[Importer]:
    async with importer(wanted.library, wanted.actor, wanted.progress, "imported") as target:
        try:
            yield target
        finally:
            wanted.moved.extend(target.moved)


def _too_many(count: int) -> UsageError:
    return UsageError(f"{count} media are to come, and only one can have the barcode of --as; import them one by one")
