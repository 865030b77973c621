"""Export: media of a library as plain files in a directory, or as a tar stream of the same files.

Every extent is checked before any of it is written, and what is written is summed. The library may be mounted. Nothing
in it changes but that events are recorded, in the end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from signal import Signals

import trio
from blake3 import blake3

from vtlfs.engine.jobs import foreground
from vtlfs.engine.library import Library
from vtlfs.engine.reading.extract import Opening
from vtlfs.engine.transfer.directory import ExportDirectory, root_directory
from vtlfs.engine.transfer.manifest import MANIFEST, SUM, SUMS, Manifest, render, render_sums, sum_line
from vtlfs.engine.transfer.outgoing import Outgoing, outgoing
from vtlfs.engine.transfer.result import EventToRecord, Moved, Progress, record
from vtlfs.engine.transfer.tar import TarWriter
from vtlfs.errors import UsageError
from vtlfs.model import Actor, Digest


@dataclass(frozen=True, slots=True)
class Export:
    """What is exported, and by whom. `opening`, `snapshot`: of another state than the present one."""

    library: Library
    barcodes: Sequence[str]
    actor: Actor
    progress: Progress
    opening: Opening | None = None
    snapshot: int | None = None
    moved: list[Moved] = field(default_factory=list)
    events: list[EventToRecord] = field(default_factory=list)

    def note(self, manifest: Manifest, to: str, files: int, size: int) -> None:
        """Take note that a medium is exported, and of how much was written."""
        moved = Moved(manifest.barcode, manifest.barcode, len(manifest.files), manifest.bytes, files, size)
        self.moved.append(moved)
        details: dict[str, object] = {
            "to": to,
            "snapshot": self.snapshot,
            "tape_files": moved.tape_files,
            "bytes": moved.bytes,
        }
        self.events.append(EventToRecord("exported", manifest.barcode, manifest.volume, details))


def to_directory(export: Export, root: Path) -> Signals | None:
    """Export media to a directory; what is there already, whole and right, stays. Return the signal that stopped it.

    Raises UsageError, FileError, DamagedExtent, DiskError, NoSuchMedium.
    """
    check_outside(export.library, root)
    try:
        return foreground.run(partial(_to_directory, export, root))
    finally:
        record(export.library, export.actor, export.events)


def to_tar(export: Export, write: Callable[[memoryview], object], name: str) -> Signals | None:
    """Export media as a tar stream, which `write` takes; `name` is that of the output, for the event.

    Return the signal that stopped it. Raises as `to_directory` does, and what `write` raises.
    """
    try:
        return foreground.run(partial(_to_tar, export, write, name))
    finally:
        record(export.library, export.actor, export.events)


async def _to_directory(export: Export, root: Path) -> None:
    async with outgoing(export.library, export.opening) as source:
        manifests = [source.manifest(barcode) for barcode in export.barcodes]
        for manifest in manifests:
            render(manifest)  # raises where there are too many tape files
        export.progress.expect(sum(manifest.bytes for manifest in manifests))
        with root_directory(root, list(export.barcodes)):
            for manifest in manifests:
                await _medium_to_directory(export, source, manifest, root / manifest.barcode)


async def _medium_to_directory(export: Export, source: Outgoing, manifest: Manifest, path: Path) -> None:
    target = await trio.to_thread.run_sync(ExportDirectory, path, manifest)
    files = size = 0
    for file in manifest.files:
        if await trio.to_thread.run_sync(target.has, file):
            export.progress.advance(file.bytes)
            continue
        with target.written(file) as taken:

            async def take(view: memoryview, write: Callable[[memoryview], None] = taken.write) -> None:
                await trio.to_thread.run_sync(write, view)
                export.progress.advance(len(view))

            await source.read(manifest, file, take)
        files, size = files + 1, size + file.bytes
    if await trio.to_thread.run_sync(target.finish):
        export.note(manifest, str(path), files, size)
    else:
        export.moved.append(Moved(manifest.barcode, manifest.barcode, len(manifest.files), manifest.bytes, 0, 0))


def check_outside(library: Library, root: Path) -> None:
    """Raise UsageError where a directory lies in the library or on one of its disks: there are no other files."""
    real = Path(root).resolve()
    for place in (library.path, *library.config.disks):
        if real.is_relative_to(place.resolve()):
            raise UsageError(f"{root}: lies in {place}, which belongs to the library; export to another directory")


async def _to_tar(export: Export, write: Callable[[memoryview], object], name: str) -> None:
    out = TarWriter(write)
    async with outgoing(export.library, export.opening) as source:
        manifests = [source.manifest(barcode) for barcode in export.barcodes]
        export.progress.expect(sum(manifest.bytes for manifest in manifests))
        for manifest in manifests:
            await _medium_to_tar(export, source, manifest, out)
        await _in_thread(out.close)
    for manifest in manifests:
        export.note(manifest, name, len(manifest.files), manifest.bytes)


async def _medium_to_tar(export: Export, source: Outgoing, manifest: Manifest, out: TarWriter) -> None:
    text = render(manifest)
    own = blake3(text).digest()
    small = partial(_small, out, manifest)
    await small(MANIFEST, text)
    await small(MANIFEST + SUM, sum_line(own, MANIFEST).encode())
    sums: list[Digest] = []
    for file in manifest.files:
        found = blake3()

        async def take(view: memoryview, found: "blake3" = found) -> None:
            found.update(view)
            await _in_thread(out.add, view)
            export.progress.advance(len(view))

        await _in_thread(out.begin, f"{manifest.barcode}/{file.name}", file.bytes, file.released_at)
        await source.read(manifest, file, take)
        await _in_thread(out.end)
        sums.append(found.digest())
        await small(file.name + SUM, sum_line(sums[-1], file.name).encode())
    await small(SUMS, render_sums(manifest, own, sums))


async def _small(out: TarWriter, manifest: Manifest, name: str, content: bytes) -> None:
    await _in_thread(out.small, f"{manifest.barcode}/{name}", content, manifest.begun_at)


async def _in_thread(do: Callable[..., object], *arguments: object) -> None:
    """Have a thread write, which may wait for whoever reads. Nobody waits for it after a cancellation."""
    await trio.to_thread.run_sync(partial(do, *arguments), abandon_on_cancel=True)
