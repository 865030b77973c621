"""The line in a mount's log when its library becomes degraded, and the one when it is whole again. In the trio loop."""

import logging

import trio

from vtlfs.engine.condition import DiskFacts, listed
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.errors import VtlfsError
from vtlfs.model import DiskState

log = logging.getLogger(__name__)


async def watch(catalogue: Catalogue, seconds: float) -> None:
    """Look every so many seconds, until cancelled. Only a disk that is away is a warning: the rest was told before."""
    was_degraded = False
    while True:
        await trio.sleep(seconds)
        try:
            away, others = await catalogue.read(reasons)
        except VtlfsError as error:
            log.warning("looking whether the library is degraded: %s; trying again", error)
            continue
        found = [*away, *others]
        if found and not was_degraded:
            level = logging.WARNING if away else logging.INFO
            log.log(level, "the library is degraded: %s; `vtlfs status` says what to do", listed(found))
        elif was_degraded and not found:
            log.info("the library is whole again")
        was_degraded = bool(found)


def reasons(tracking: Tracking) -> tuple[list[str], list[str]]:
    """Return what makes a library degraded: disks that are away as mounts have noted it, and what else there is."""
    disks = [DiskFacts(record, record.path) for record in tracking.disks.all()]
    away = [f"{disk}: {disk.record.fault}" for disk in disks if disk.is_away]
    others = [f"{disk} is retiring" for disk in disks if disk.record.state is DiskState.RETIRING]
    if tracking.lacks.exist():
        others.append("stripes lack parity, or are damaged")
    return away, others
