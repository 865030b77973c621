"""Copy: media of one library into another one in a stream, without anything in between; only what that one lacks."""

from collections.abc import Sequence
from signal import Signals

from vtlfs.engine.jobs import foreground
from vtlfs.engine.library import Library
from vtlfs.engine.transfer.importing import Import, importer
from vtlfs.engine.transfer.incoming import FromLibrary
from vtlfs.engine.transfer.outgoing import outgoing
from vtlfs.engine.transfer.result import EventToRecord, record
from vtlfs.errors import UsageError


def copy(source: Library, barcodes: Sequence[str], wanted: Import) -> Signals | None:
    """Copy media of `source` into the library of `wanted`; return the signal that stopped it. Either may be mounted.

    Raises NoSuchMedium, UsageError where a medium there has something else, DamagedExtent, DiskError, LibraryError.
    """
    if wanted.under is not None and len(barcodes) > 1:
        raise UsageError(f"{len(barcodes)} media are to be copied, and only one can have the barcode of --as")
    events: list[EventToRecord] = []

    async def work() -> None:
        async with outgoing(source) as out:
            media = [FromLibrary(out, barcode, str(source.path)) for barcode in barcodes]
            async with importer(wanted.library, wanted.actor, wanted.progress, "copied") as target:
                try:
                    for one in media:
                        await target.take_in(one, wanted.under or one.manifest.barcode)
                        done = target.moved[-1]
                        details: dict[str, object] = {"to": wanted.library.config.uuid, "barcode": done.target}
                        details |= {"tape_files": done.new_files, "bytes": done.new_bytes}
                        events.append(EventToRecord("copied", done.barcode, one.manifest.volume, details))
                finally:
                    wanted.moved.extend(target.moved)

    try:
        return foreground.run(work)
    finally:
        record(source, wanted.actor, events)
