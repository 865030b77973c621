"""Media on their way into a library: from a directory, from a tar stream, or from another library.

Nothing that comes is believed: its manifest is read by `manifest.parse`, and the sum of each tape file is compared by
`importing` before the tape file is recorded. Used in the trio run of a command.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import trio
from blake3 import blake3

from vtlfs.engine.transfer.directory import NOTES, is_export
from vtlfs.engine.transfer.files import PIECE, FileError, open_to_read, read_small
from vtlfs.engine.transfer.manifest import (
    MANIFEST,
    MAX_MANIFEST,
    MAX_SUM,
    MAX_SUMS,
    SUM,
    SUMS,
    BadExport,
    Entry,
    Manifest,
    check_sums,
    parse,
    parse_sums,
)
from vtlfs.engine.transfer.outgoing import Outgoing, Take
from vtlfs.engine.transfer.tar import TarReader
from vtlfs.errors import UsageError
from vtlfs.model import BARCODE, Digest

T = TypeVar("T")


class Incoming(Protocol):
    """A medium that comes in. Each of its tape files is taken or skipped once, in their order; `finish` is the end."""

    @property
    def manifest(self) -> Manifest:
        """What it says of itself."""

    @property
    def where(self) -> str:
        """What to call it in errors."""

    async def take(self, file: Entry, take: Take) -> Digest | None:
        """Hand the bytes of a tape file to `take`; return its sum, None where they were checked on the way."""

    async def skip(self, file: Entry) -> None:
        """Go past a tape file."""

    async def finish(self) -> None:
        """Check what comes after the last tape file."""


class FromDirectory:
    """A medium that was exported to a directory."""

    def __init__(self, path: Path) -> None:
        """Raises BadExport, FileError, UsageError."""
        if (path / NOTES).exists():
            raise UsageError(f"{path}: its export is not finished; run `vtlfs media export` again first")
        self.where = str(path)
        self._path = path
        text = read_small(path / MANIFEST, MAX_MANIFEST)
        self.manifest = parse(text, str(path / MANIFEST))
        sums = read_small(path / SUMS, MAX_SUMS)
        self._sums = parse_sums(sums, str(path / SUMS))
        check_sums(self.manifest, self._sums, blake3(text).digest(), str(path / SUMS))
        for file in self.manifest.files:
            os.close(open_to_read(path / file.name, file.bytes))

    async def take(self, file: Entry, take: Take) -> Digest:
        """See `Incoming`."""
        path = self._path / file.name
        descriptor = open_to_read(path, file.bytes)
        try:
            left = file.bytes
            while left:
                piece = await trio.to_thread.run_sync(_read, path, descriptor, min(PIECE, left))
                if not piece:
                    raise BadExport(str(path), f"lacks {left} bytes")
                left -= len(piece)
                await take(memoryview(piece))
        finally:
            os.close(descriptor)
        return self._sums[file.name]

    async def skip(self, file: Entry) -> None:
        """See `Incoming`."""

    async def finish(self) -> None:
        """See `Incoming`."""


def _read(path: Path, descriptor: int, size: int) -> bytes:
    try:
        return os.read(descriptor, size)
    except OSError as error:
        raise FileError(path, error) from None


def media_in(path: Path) -> Iterator[FromDirectory]:
    """Yield the media in a directory, which is that of one, or has the directories of several.

    Raises UsageError where there are none, BadExport, FileError.
    """
    try:
        if is_export(path):
            yield FromDirectory(path)
            return
        found = [one for one in sorted(path.iterdir()) if not one.is_symlink() and one.is_dir() and is_export(one)]
    except OSError as error:
        raise FileError(path, error) from None
    if not found:
        raise UsageError(f"{path}: no medium is exported here")
    for one in found:
        yield FromDirectory(one)


class FromTar:
    """A medium in a tar stream, whose manifest was read."""

    def __init__(self, stream: "TarStream", manifest: Manifest, own: Digest) -> None:
        self.where = stream.name
        self.manifest = manifest
        self._stream = stream
        self._own = own
        self._sums: dict[str, Digest] = {}

    async def take(self, file: Entry, take: Take) -> Digest:
        """See `Incoming`."""
        name = f"{self.manifest.barcode}/{file.name}"
        await self._stream.begin(name, file.bytes)
        while piece := await self._stream.read():
            await take(memoryview(piece))
        self._sums[file.name] = await self._stream.sum_of(name)
        return self._sums[file.name]

    async def skip(self, file: Entry) -> None:
        """See `Incoming`. The sum is compared all the same."""
        found = blake3()

        async def take(view: memoryview) -> None:
            found.update(view)

        said = await self.take(file, take)
        if found.digest() != said:
            raise BadExport(self.where, f"the BLAKE3 of {self.manifest.barcode}/{file.name} is another one")

    async def finish(self) -> None:
        """Compare the list of sums with those that came one by one."""
        name = f"{self.manifest.barcode}/{SUMS}"
        where = f"{self.where}, {name}"
        sums = parse_sums(await self._stream.small(name, MAX_SUMS), where)
        check_sums(self.manifest, sums, self._own, where)
        if any(sums[file] != digest for file, digest in self._sums.items()):
            raise BadExport(where, "it has other sums than the stream before it")


class TarStream:
    """A tar stream of exported media."""

    def __init__(self, reader: TarReader) -> None:
        self.name = reader.name
        self._reader = reader

    async def media(self) -> AsyncIterator[FromTar]:
        """Yield the media, one after the other; each must be gone through before the next. Raises BadExport."""
        is_first = True
        while (found := await _wait(self._reader.next)) is not None or is_first:
            is_first = False
            barcode, _, rest = ("", "", "") if found is None else found[0].partition("/")
            if found is None or rest != MANIFEST or not BARCODE.fullmatch(barcode):
                raise self._unexpected("the manifest of a medium", found)
            text = await self._content(found, MAX_MANIFEST)
            own = blake3(text).digest()
            where = f"{self.name}, {found[0]}"
            if own != await self.sum_of(found[0]):
                raise BadExport(where, "its BLAKE3 is another one")
            manifest = parse(text, where)
            if manifest.barcode != barcode:
                raise BadExport(where, f"it is that of {manifest.barcode}")
            yield FromTar(self, manifest, own)

    async def begin(self, name: str, size: int) -> None:
        """Come to the member of this name and size."""
        found = await _wait(self._reader.next)
        if found != (name, size):
            raise self._unexpected(f"{name} with {size} bytes", found)

    async def read(self) -> bytes:
        """Return the next bytes of the member."""
        return await _wait(self._reader.read)

    async def small(self, name: str, most: int) -> bytes:
        """Return the content of the next member, which has this name."""
        found = await _wait(self._reader.next)
        if found is None or found[0] != name:
            raise self._unexpected(name, found)
        return await self._content(found, most)

    async def sum_of(self, name: str) -> Digest:
        """Return the sum that follows a member."""
        where = f"{self.name}, {name}{SUM}"
        sums = parse_sums(await self.small(name + SUM, MAX_SUM), where)
        last = name.rpartition("/")[2]
        if list(sums) != [last]:
            raise BadExport(where, f"it is no sum of {last}")
        return sums[last]

    async def _content(self, member: tuple[str, int], most: int) -> bytes:
        if member[1] > most:
            raise BadExport(f"{self.name}, {member[0]}", f"has more than {most} bytes")
        return b"".join([piece async for piece in self._pieces()])

    async def _pieces(self) -> AsyncIterator[bytes]:
        while piece := await self.read():
            yield piece

    def _unexpected(self, wanted: str, found: tuple[str, int] | None) -> BadExport:
        there = "ends" if found is None else f"goes on with {found[0]!r}, {found[1]} bytes,"
        return BadExport(self.name, f"{there} where {wanted} is to come: no whole stream of `vtlfs media export`")


async def _wait(do: Callable[[], T]) -> T:
    """Have a thread read, which may wait for whoever writes. Nobody waits for it after a cancellation."""
    return await trio.to_thread.run_sync(do, abandon_on_cancel=True)


class FromLibrary:
    """A medium of another library."""

    def __init__(self, source: Outgoing, barcode: str, name: str) -> None:
        self.where = name
        self.manifest = source.manifest(barcode)
        self._source = source

    async def take(self, file: Entry, take: Take) -> None:
        """See `Incoming`."""
        await self._source.read(self.manifest, file, take)

    async def skip(self, file: Entry) -> None:
        """See `Incoming`."""

    async def finish(self) -> None:
        """See `Incoming`."""
