"""Computing an extent that is lost, damaged or on a disk that hangs, from the rest of its stripe. In the trio loop."""

from contextlib import suppress

import outcome
import trio

from vtlfs.disks.pool import DiskPool
from vtlfs.engine.reading import stored
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.model import MAX_MEMBERS, Extent


class NotReconstructable(Exception):
    """Too little of the stripe is left, or its parity is not that of what was lost."""


async def reconstruct(lost: Extent, stripe_unit: int, catalogue: Catalogue, pool: DiskPool) -> bytes:
    """Return the stored bytes of a data extent, which are checked. Raises NotReconstructable.

    A repair may move the rest of the stripe meanwhile: then it is looked up, and read, again.
    """
    reach = MAX_MEMBERS * stripe_unit
    stripe: list[Extent] = []
    while True:
        known, stripe = stripe, await catalogue.read(lambda tracking: tracking.extents.stripe(lost, reach))
        if stripe == known or lost not in stripe:
            raise NotReconstructable
        with suppress(NotReconstructable):
            return await _from_rest(lost, stripe, pool)


async def _from_rest(lost: Extent, stripe: list[Extent], pool: DiskPool) -> bytes:
    """Compute an extent from the other extents of its stripe. Raises NotReconstructable."""
    data = [extent for extent in stripe if not extent.is_parity]
    parity = [extent for extent in stripe if extent.is_parity]
    if not parity or [extent.place for extent in data] != list(range(len(data))):
        raise NotReconstructable
    missing = {lost.place: lost}
    read = await _read_all([extent for extent in data if extent.place != lost.place], pool)
    missing |= {extent.place: extent for extent in data if extent.place not in read and extent != lost}
    rows: dict[int, bytes] = {}
    for extent in parity:
        if len(rows) < len(missing):
            rows |= await _read_all([extent], pool)
    found = stored.compute(missing, read, rows).get(lost.place)
    if found is None:
        raise NotReconstructable
    pool.disk_of(lost).note_reconstructed()
    return bytes(found)


async def _read_all(extents: list[Extent], pool: DiskPool) -> dict[int, bytes]:
    """Read extents at the same time, each for a limited while; return those that could be read, by place."""
    found: dict[int, bytes] = {}

    async def read(extent: Extent) -> None:
        answer: list[outcome.Outcome[bytes]] = []
        arrived = trio.Event()

        def done(result: "outcome.Outcome[bytes]") -> None:
            answer.append(result)
            arrived.set()

        stored.load(pool, extent, done)
        with trio.move_on_after(pool.timing.reading):
            await arrived.wait()
        if answer and isinstance(answer[0], outcome.Value):
            found[extent.place] = answer[0].value

    async with trio.open_nursery() as nursery:
        for extent in extents:
            if extent.disk in pool and not pool[extent.disk].reads_hang:
                nursery.start_soon(read, extent)
    return found
