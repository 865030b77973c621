"""Getting a tape file or a whole medium out of a library that need not be mounted."""

from collections.abc import Callable
from contextlib import ExitStack

import trio

from vtlfs.disks.base import Disk
from vtlfs.disks.pool import DiskPool
from vtlfs.engine import lease
from vtlfs.engine.library import Library
from vtlfs.engine.reading.reader import MediumReader
from vtlfs.engine.reading.saving import Hole, Saver
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.port import Catalogue

STEP_UNITS = 1  # stripe units that are handed over together
AHEAD_UNITS_A_DISK = 3


Opening = Callable[[], Tracking]


def size_of(
    library: Library, barcode: str, number: int | None, opening: Opening | None = None, *, volume: int | None = None
) -> int:
    """Return the bytes of a tape file, or of the medium where `number` is None. `volume`: as for `extract`.

    Raises NoSuchMedium, NoSuchTapeFile.
    """
    tracking = _open(library, opening)
    try:
        start, end = _range(tracking, barcode, number, volume)
        return end - start
    finally:
        tracking.close()


def extract(
    library: Library,
    barcode: str,
    number: int | None,
    write: Callable[[memoryview], object],
    progress: Callable[[int], None],
    opening: Opening | None = None,
    lost: Callable[[Hole], None] | None = None,
    *,
    volume: int | None = None,
) -> int:
    """Hand a tape file, or the medium where `number` is None, to `write`, piece by piece; return how many bytes.

    Every extent is checked before any of it is handed over. `progress` is told the bytes of each piece. `opening`
    opens another state of the tracking database than the present one, such as a snapshot's. `lost` is told what can't
    be had, for which `write` gets zeros; without it, that is an error. `volume`: the number of one that may have ended,
    None: the current one of that state; it is held meanwhile: it is not reclaimed. Raises NoSuchMedium, NoSuchTapeFile,
    DamagedExtent, DiskError, and whatever `write` or `progress` raise, which is how to stop it half-way.
    """
    done = (library, barcode, number, write, progress, opening, lost, volume)
    return trio.run(_extract, *done, strict_exception_groups=True)


async def _extract(
    library: Library,
    barcode: str,
    number: int | None,
    write: Callable[[memoryview], object],
    progress: Callable[[int], None],
    opening: Opening | None,
    lost: Callable[[Hole], None] | None,
    volume: int | None,
) -> int:
    def take(view: memoryview) -> None:
        write(view)
        progress(len(view))

    tracking = _open(library, opening)
    stack = ExitStack()
    try:
        life = tracking.media.get(barcode).volume if volume is None else volume
        stack.enter_context(lease.reading(library.path, barcode, life))
        disks: list[Disk] = library.disks_to_read()
        pool = DiskPool(disks, library.config.stripe_unit)
        try:
            start, end = _range(tracking, barcode, number, volume)
            catalogue = Catalogue(tracking)
            reader = MediumReader(barcode, life, end, catalogue, pool, lambda: AHEAD_UNITS_A_DISK * len(pool))
            if lost is not None:
                await Saver(barcode, life, reader, catalogue, pool).save(start, end, take, lost)
                return end - start
            offset = start
            while offset < end:
                view = memoryview(await reader.read(offset, STEP_UNITS * library.config.stripe_unit))
                take(view)
                offset += len(view)
            return end - start
        finally:
            pool.close()
    finally:
        stack.close()
        tracking.close()


def _open(library: Library, opening: Opening | None) -> Tracking:
    return library.tracking(read_only=True) if opening is None else opening()


def _range(tracking: Tracking, barcode: str, number: int | None, volume: int | None) -> tuple[int, int]:
    """Return the offsets on the volume where what is wanted begins and ends."""
    life = tracking.media.get(barcode).volume if volume is None else volume
    if number is None:
        if volume is None:
            tracking.media.check_length(barcode)
        return 0, tracking.volumes.get(barcode, life).bytes
    tape_file = tracking.tape_files.get(barcode, number, volume=life)
    return tape_file.start, tape_file.end
