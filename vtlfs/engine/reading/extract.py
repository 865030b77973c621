"""Getting a tape file or a whole medium out of a library that need not be mounted."""

from collections.abc import Callable

import trio

from vtlfs.disks.base import Disk
from vtlfs.disks.pool import DiskPool
from vtlfs.engine.library import Library
from vtlfs.engine.reading.reader import MediumReader
from vtlfs.engine.reading.saving import Hole, Saver
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.port import Catalogue

STEP_UNITS = 1  # stripe units that are handed over together
AHEAD_UNITS_A_DISK = 3


Opening = Callable[[], Tracking]


def size_of(library: Library, barcode: str, number: int | None, opening: Opening | None = None) -> int:
    """Return the bytes of a tape file, or of the medium where `number` is None. Raises NoSuchMedium, NoSuchTapeFile."""
    tracking = _open(library, opening)
    try:
        start, end = _range(tracking, barcode, number)
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
) -> int:
    """Hand a tape file, or the medium where `number` is None, to `write`, piece by piece; return how many bytes.

    Every extent is checked before any of it is handed over. `progress` is told the bytes of each piece. `opening`
    opens another state of the tracking database than the present one, such as a snapshot's. `lost` is told what can't
    be had, for which `write` gets zeros; without it, that is an error.
    Raises NoSuchMedium, NoSuchTapeFile, DamagedExtent, DiskError, and whatever `write` or `progress` raise, which is
    how to stop it half-way.
    """
    return trio.run(_extract, library, barcode, number, write, progress, opening, lost, strict_exception_groups=True)


async def _extract(
    library: Library,
    barcode: str,
    number: int | None,
    write: Callable[[memoryview], object],
    progress: Callable[[int], None],
    opening: Opening | None,
    lost: Callable[[Hole], None] | None,
) -> int:
    def take(view: memoryview) -> None:
        write(view)
        progress(len(view))

    tracking = _open(library, opening)
    try:
        disks: list[Disk] = library.disks_to_read()
        pool = DiskPool(disks, library.config.stripe_unit)
        try:
            start, end = _range(tracking, barcode, number)
            catalogue = Catalogue(tracking)
            reader = MediumReader(barcode, end, catalogue, pool, lambda: AHEAD_UNITS_A_DISK * len(pool))
            if lost is not None:
                await Saver(barcode, reader, catalogue, pool).save(start, end, take, lost)
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
        tracking.close()


def _open(library: Library, opening: Opening | None) -> Tracking:
    return library.tracking(read_only=True) if opening is None else opening()


def _range(tracking: Tracking, barcode: str, number: int | None) -> tuple[int, int]:
    """Return the offsets on the medium where what is wanted begins and ends."""
    if number is None:
        tracking.media.check_length(barcode)
        return 0, tracking.media.get(barcode).bytes
    tape_file = tracking.tape_files.get(barcode, number)
    return tape_file.start, tape_file.end
