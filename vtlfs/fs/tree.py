"""The mounted tree: looks up a name in a directory, and lists the names of a directory. No FUSE here.

    /drives/N/BARCODE   /drives/N/loaded   /media/BARCODE   /files/BARCODE/NNNN   /sessions/ID
    /snapshots/ID/media/BARCODE   /snapshots/ID/files/BARCODE/NNNN   /pools/NAME   /pools/NAME.files/ID   /changer

What a name stands for is a node, see `fs/nodes.py`. Used in the trio loop of a mount.
"""

import json
import re
from contextlib import suppress

from vtlfs.engine.engine import Engine
from vtlfs.engine.media import changer
from vtlfs.engine.recover import file_of
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import NoSuchDrive, NoSuchMedium, NoSuchSession, NoSuchSnapshot, NoSuchTapeFile
from vtlfs.fs.nodes import (
    PARTS,
    TOP,
    ChangerNode,
    Directory,
    DriveDirectory,
    Entry,
    FilesDirectory,
    LoadedLink,
    MediumNode,
    Node,
    PastFilesDirectory,
    PastMediumNode,
    PoolFilesDirectory,
    SessionNode,
    SnapshotDirectory,
    SnapshotLink,
    TapeFileNode,
)
from vtlfs.fs.pool_tree import PoolTree
from vtlfs.model import Extent, Medium, TapeFile
from vtlfs.snap import past, store

LOADED = "loaded"
SHOWN_EXTENTS = 1000  # data extents in the text of a session, at most
PAGE = 256  # entries that are read in one query, during which the mount answers no other request
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
_TAPE_FILE = re.compile(r"[0-9]{4}|[1-9][0-9]{4,9}")


class NoSuchEntry(KeyError):
    """The directory has no entry of this name."""


class Tree:
    """Finds nodes by name, and lists them."""

    def __init__(self, engine: Engine, *, page: int = PAGE, shown_extents: int = SHOWN_EXTENTS) -> None:
        self._page = page
        self._shown_extents = shown_extents
        self._engine = engine
        self._catalogue = engine.catalogue
        self._pools = PoolTree(engine, page)

    async def look_up(self, parent: Node, name: str) -> Node:
        """Return the node of a name in a directory. Raises NoSuchEntry.

        Waits until a medium shows every stream whose close() has returned.
        """
        try:
            match parent:
                case Directory(""):
                    return ChangerNode() if name == changer.FILE else TOP[name]
                case Directory("drives"):
                    return self._drive(name)
                case Directory("media"):
                    return await self._medium(name, None)
                case Directory("files"):
                    return FilesDirectory((await self._medium(name, None)).medium)
                case Directory("sessions"):
                    return await self._session(name)
                case DriveDirectory(drive):
                    return await (self._loaded(drive) if name == LOADED else self._medium(name, drive))
                case FilesDirectory(medium):
                    return await self._tape_file(medium, name)
                case Directory("snapshots"):
                    return await self._snapshot_of(name)
                case SnapshotDirectory() | PastFilesDirectory():
                    return await self._past(parent, name)
                case Directory("pools") | PoolFilesDirectory():
                    return await self._pools.look_up(parent, name)
        except (KeyError, NoSuchMedium, NoSuchDrive, NoSuchSession, NoSuchTapeFile, NoSuchSnapshot):
            raise NoSuchEntry(name) from None
        raise NoSuchEntry(name)

    async def entries(self, directory: Node, after: int = 0) -> list[Entry]:
        """Return the next entries of a directory after the place `after`; none at the end."""
        match directory:
            case Directory(""):
                return [Entry(place, *named) for place, named in enumerate(TOP.items(), 1)][after:]
            case Directory("drives"):
                drives = range(after, self._engine.library.config.drives)
                return [Entry(number + 1, str(number), DriveDirectory(number)) for number in drives]
            case Directory("media"):
                media = await self._media(after)
                return [Entry(medium.id, medium.barcode, MediumNode(medium, None)) for medium in media]
            case Directory("files"):
                media = await self._media(after)
                return [Entry(medium.id, medium.barcode, FilesDirectory(medium)) for medium in media]
            case Directory("sessions"):
                return await self._open_sessions(after)
            case DriveDirectory(drive):
                return await self._drive_entries(drive, after)
            case FilesDirectory(medium):
                if after == 0 and (await self._engine.wait_visible(medium.barcode)).volume != medium.volume:
                    return []  # the medium was erased since the directory was looked up
                return _files(
                    medium,
                    await self._catalogue.read(
                        lambda tracking: tracking.tape_files.of(medium.barcode, after, self._page, volume=medium.volume)
                    ),
                )
            case Directory("snapshots"):
                taken = await self._catalogue.read(lambda tracking: store.after(tracking, after, self._page))
                return [Entry(one.id, str(one.id), SnapshotDirectory(one)) for one in taken]
            case SnapshotDirectory() | PastFilesDirectory():
                return await self._past_entries(directory, after)
            case Directory("pools") | PoolFilesDirectory():
                return await self._pools.entries(directory, after)
        raise NotADirectoryError

    async def _open_sessions(self, after: int) -> list[Entry]:
        if after:
            numbers = await self._catalogue.read(lambda tracking: tracking.sessions.open_ids())
        else:
            numbers = await self._engine.open_sessions()
        return [Entry(number, str(number), SessionNode(number, b"", "")) for number in numbers if number > after]

    async def _media(self, after: int) -> list[Medium]:
        return await self._catalogue.read(lambda tracking: tracking.media.after(after, self._page))

    async def _past_entries(self, directory: SnapshotDirectory | PastFilesDirectory, after: int) -> list[Entry]:
        match directory:
            case SnapshotDirectory(snapshot, ""):
                parts = enumerate(PARTS, 1)
                return [Entry(place, part, SnapshotDirectory(snapshot, part)) for place, part in parts][after:]
            case SnapshotDirectory(snapshot, part):
                kind = PastMediumNode if part == "media" else PastFilesDirectory
                media = await self._catalogue.read(lambda tracking: past.media_after(tracking, snapshot.id, after))
                return [Entry(medium.id, medium.barcode, kind(snapshot, medium)) for medium in media]
            case PastFilesDirectory(snapshot, medium):
                return _files(
                    medium,
                    await self._catalogue.read(
                        lambda tracking: past.tape_files(tracking, snapshot.id, medium.barcode, after, self._page)
                    ),
                )

    async def _snapshot_of(self, name: str) -> SnapshotDirectory | SnapshotLink:
        """Return the directory of a snapshot by its number; by its name, or `latest`, a link to that directory."""
        if _NUMBER.fullmatch(name):
            return await self._snapshot(int(name))
        if name.isdigit():
            raise KeyError(name)
        found = await self._catalogue.read(lambda tracking: store.resolve(tracking, name))
        return SnapshotLink(found, name == store.LATEST)

    async def _snapshot(self, number: int, part: str = "") -> SnapshotDirectory:
        return SnapshotDirectory(await self._catalogue.read(lambda tracking: store.snapshot(tracking, number)), part)

    async def _past(self, parent: SnapshotDirectory | PastFilesDirectory, name: str) -> Node:
        """Return the node of a name in a directory of a snapshot. Raises NoSuchSnapshot if the snapshot was pruned."""
        match parent:
            case SnapshotDirectory(snapshot, ""):
                if name not in PARTS:
                    raise KeyError(name)
                return await self._snapshot(snapshot.id, name)
            case SnapshotDirectory(snapshot, part):
                kind = PastMediumNode if part == "media" else PastFilesDirectory
                return kind(
                    snapshot, await self._catalogue.read(lambda tracking: past.medium(tracking, snapshot.id, name))
                )
            case PastFilesDirectory(snapshot, medium):
                number = _parse(name, _TAPE_FILE)
                return TapeFileNode(
                    medium,
                    await self._catalogue.read(
                        lambda tracking: past.tape_file(tracking, snapshot.id, medium.barcode, number)
                    ),
                )

    async def _drive_entries(self, drive: int, after: int) -> list[Entry]:
        """Return the entries of a drive: the link `loaded` at place 1, and the media after it."""
        media = await self._media(max(0, after - 1))
        entries = [Entry(medium.id + 1, medium.barcode, MediumNode(medium, drive)) for medium in media]
        with suppress(KeyError):
            if after == 0:
                entries.insert(0, Entry(1, LOADED, await self._loaded(drive)))
        return entries

    def _drive(self, name: str) -> DriveDirectory:
        number = _parse(name, _NUMBER)
        if number >= self._engine.library.config.drives:
            raise KeyError(name)
        return DriveDirectory(number)

    async def _loaded(self, drive: int) -> LoadedLink:
        known = await self._catalogue.read(lambda tracking: tracking.drives.get(drive))
        if known.loaded is None or known.loaded_at is None:
            raise KeyError(LOADED)
        return LoadedLink(drive, known.loaded, known.loaded_at)

    async def _medium(self, barcode: str, drive: int | None) -> MediumNode:
        return MediumNode(await self._engine.wait_visible(barcode), drive)

    async def _tape_file(self, medium: Medium, name: str) -> TapeFileNode:
        if (await self._engine.wait_visible(medium.barcode)).volume != medium.volume:
            raise KeyError(name)  # the medium was erased since the directory was looked up
        number = _parse(name, _TAPE_FILE)
        return TapeFileNode(
            medium,
            await self._catalogue.read(
                lambda tracking: tracking.tape_files.get(medium.barcode, number, volume=medium.volume)
            ),
        )

    async def _session(self, name: str) -> SessionNode:
        number = _parse(name, _NUMBER)
        session, received = await self._engine.describe(number)
        document = session.as_json() | {"received": received}
        file, part, extents, parity = await self._catalogue.read(
            lambda tracking: (
                *(file_of(tracking, session), tracking.pools.part(number)),
                *_extents(tracking, number, self._shown_extents + 1),
            )
        )
        if file is not None:
            document["start"] = file.start
        if part is not None:
            document["part"] = {"pool": part.pool, "stream": part.stream, "place": part.place}
        document["extents"] = [
            {"offset": one.offset, "bytes": one.bytes, "codec": one.codec} | _where(one)
            for one in extents[: self._shown_extents]
        ]
        document["parity_extents"] = [_where(one) for one in parity]
        document["extents_complete"] = len(extents) <= self._shown_extents
        text = json.dumps(document, indent=1) + "\n"
        changed_at = session.released_at or session.opened_at
        return SessionNode(number, text.encode(), changed_at, session.medium, session.uid)


def _extents(tracking: Tracking, session: int, count: int) -> tuple[list[Extent], list[Extent]]:
    """Return the first `count` data extents of a session, and the parity of the stripes of all but the last extent."""
    extents = tracking.extents.of(session, 0, count)
    return extents, tracking.extents.parity_of(extents[: count - 1])


def _where(extent: Extent) -> dict[str, object]:
    """Return the place and the BLAKE3 of an extent, for the text of its session."""
    names = ("stripe", "place", "disk", "position", "stored")
    return {name: getattr(extent, name) for name in names} | {"blake3": extent.blake3.hex()}


def _files(medium: Medium, files: list[TapeFile]) -> list[Entry]:
    return [Entry(file.number + 1, f"{file.number:04d}", TapeFileNode(medium, file)) for file in files]


def _parse(name: str, form: re.Pattern[str]) -> int:
    """Read a number in its only valid form, so that each node has one name. Raises KeyError."""
    if not form.fullmatch(name):
        raise KeyError(name)
    return int(name)
