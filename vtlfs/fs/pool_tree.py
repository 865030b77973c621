"""The part of the mounted tree in /pools: the pools, and the streams that were written through them. No FUSE here.

    /pools/NAME   /pools/NAME.files/ID

Used in the trio loop of a mount.
"""

import re
from collections.abc import Iterable
from contextlib import suppress

from vtlfs.engine.engine import Engine
from vtlfs.engine.media import pools
from vtlfs.errors import NoSuchMedium
from vtlfs.fs.nodes import Directory, Entry, PoolFileNode, PoolFilesDirectory, PoolNode
from vtlfs.model import utc_now

FILES = ".files"  # no pool's name has a dot
_IDENTIFIER = re.compile(r"[1-9][0-9]{0,17}")


class PoolTree:
    """Finds the nodes in /pools by name, and lists them."""

    def __init__(self, engine: Engine, page: int) -> None:
        self._engine = engine
        self._catalogue = engine.catalogue
        self._rules = engine.library.config.pools
        self._page = page

    async def look_up(
        self, parent: Directory | PoolFilesDirectory, name: str
    ) -> PoolNode | PoolFilesDirectory | PoolFileNode:
        """Return the node of a name in /pools or /pools/NAME.files. Raises KeyError.

        Waits until every stream whose close() has returned is there.
        """
        if isinstance(parent, PoolFilesDirectory):
            return await self._file(parent.name, name)
        return await self._pool(name)

    async def entries(self, directory: Directory | PoolFilesDirectory, after: int) -> list[Entry]:
        """Return the next entries of a directory after the place `after`; none at the end."""
        if isinstance(directory, Directory):
            names = [name + suffix for name in self._rules for suffix in ("", FILES)]
            return [Entry(place, name, await self._pool(name)) for place, name in enumerate(names, 1) if place > after]
        name = directory.name
        if after == 0:
            await self._wait(await self._catalogue.read(lambda tracking: tracking.pools.media_being_written(name)))
        files = await self._catalogue.read(lambda tracking: tracking.pools.files(name, after, self._page))
        return [Entry(file.session, str(file.session), PoolFileNode(file)) for file in files]

    async def _pool(self, name: str) -> PoolNode | PoolFilesDirectory:
        """Return a pool as it is now, or the directory of its streams."""
        pool = name.removesuffix(FILES)
        rule, place = self._rules[pool], list(self._rules).index(pool)
        if pool != name:
            return PoolFilesDirectory(pool, place)
        turn = await self._catalogue.read(lambda tracking: pools.look(tracking, name, rule, utc_now()))
        medium = None
        with suppress(NoSuchMedium):  # it may have been removed just now
            medium = turn.medium and await self._engine.wait_visible(turn.medium.barcode)
        return PoolNode(name, place, medium, "" if turn.choice is None else turn.choice.barcode)

    async def _file(self, pool: str, name: str) -> PoolFileNode:
        if not _IDENTIFIER.fullmatch(name):
            raise KeyError(name)
        stream = int(name)
        await self._wait(await self._catalogue.read(lambda tracking: tracking.pools.media_being_written(pool, stream)))
        file = await self._catalogue.read(lambda tracking: tracking.pools.file(pool, stream))
        if file is None:
            raise KeyError(name)
        return PoolFileNode(file)

    async def _wait(self, barcodes: Iterable[str]) -> None:
        for barcode in barcodes:
            with suppress(NoSuchMedium):
                await self._engine.wait_visible(barcode)
