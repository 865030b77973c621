"""Looking for incidents and telling people of them, as a mount does it: a task of the mount's trio loop.

One mount of the library does it, for as long as it holds the lease `notify`; when it ends or dies, another one goes on.
"""

import logging
from collections.abc import Callable

import trio

from vtlfs.care.conditions import Lasting, Space, has_changed, lasting, record
from vtlfs.care.notifying import LEASE, Notifier
from vtlfs.care_rules import NotifyRule
from vtlfs.disks.pool import DiskPool
from vtlfs.engine import condition, lease
from vtlfs.engine.engine import Engine
from vtlfs.engine.layout.dealer import Candidate
from vtlfs.engine.layout.room import room
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import VtlfsError
from vtlfs.model import utc_now
from vtlfs.report.night import copy_of_catalogue

LOOK_SECONDS = 2.0  # between two looks
OTHERS_SECONDS = 5.0  # before the next look whether another mount still does it
AGAIN_SECONDS = 60.0  # after something unexpected

log = logging.getLogger(__name__)


async def run(engine: Engine, clock: Callable[[], str] = utc_now) -> None:
    """Tell people what goes wrong, for as long as the mount lasts. Returns at once if library.toml has no [notify]."""
    rule = engine.library.config.notify
    if rule is None:
        return
    while True:
        try:
            with lease.work(engine.library.path, LEASE) as mine:
                if mine:
                    await _serve(engine, rule, clock)
        except (VtlfsError, OSError) as error:
            log.error("telling what goes wrong: %s; trying again", error)
        except Exception:  # nothing that is told may end a mount
            log.exception("telling what goes wrong failed unexpectedly; trying again in %.0f s", AGAIN_SECONDS)
            await trio.sleep(AGAIN_SECONDS)
        await trio.sleep(OTHERS_SECONDS)


async def _serve(engine: Engine, rule: NotifyRule, clock: Callable[[], str]) -> None:
    """Look and tell. Raises VtlfsError."""
    notifier = Notifier(engine.library, rule, engine.catalogue.read, engine.change, clock)
    await notifier.begin()
    while True:
        await look(engine, rule, clock())
        await notifier.tell()
        await trio.sleep(LOOK_SECONDS)


async def look(engine: Engine, rule: NotifyRule, at: str) -> None:
    """Record what is wrong, and what is well again. Raises VtlfsError."""
    space = space_of(engine.pool, engine.library.config.parity)

    def found(tracking: Tracking) -> list[Lasting]:
        known = [one.about for one in tracking.incidents.lasting()]
        facts = condition.examine(engine.library, tracking)
        return lasting(facts, space, copy_of_catalogue(tracking), engine.library.config, rule, known, at)

    if await engine.catalogue.read(lambda tracking: has_changed(tracking, found(tracking))):
        await engine.change(lambda tracking: record(tracking, found(tracking), at))


def space_of(pool: DiskPool, parity: int) -> Space:
    """Return how much data fits on the disks, and how much still does, as they last said."""
    known = [(pooled, pooled.disk) for pooled in pool.disks if pooled.disk.total]
    total = room([Candidate(disk.number, disk.device, disk.total) for _, disk in known], parity)
    free = [Candidate(disk.number, disk.device, disk.free) for pooled, disk in known if pooled.usable]
    return Space(total, room(free, parity))
