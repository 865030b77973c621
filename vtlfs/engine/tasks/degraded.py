"""Logs when a mount's library becomes degraded, and when it is whole again. A task of the engine, in the trio loop."""

import logging

import trio

from vtlfs.engine.condition import DiskFacts, listed
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.errors import VtlfsError
from vtlfs.model import DiskState

log = logging.getLogger(__name__)


async def watch(catalogue: Catalogue, seconds: float) -> None:
    """Look every `seconds` seconds, until cancelled.

    Only a disk that is away makes the line a warning: commands have already reported the other reasons.
    """
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
    """Return why a library is degraded: the disks that mounts have recorded as away, and all other reasons."""
    disks = [DiskFacts(record, record.path) for record in tracking.disks.all()]
    away = [f"{disk}: {disk.record.fault}" for disk in disks if disk.is_away]
    others = [f"{disk} is retiring" for disk in disks if disk.record.state is DiskState.RETIRING]
    if tracking.lacks.exist():
        others.append("stripes lack parity, or are damaged")
    return away, others
