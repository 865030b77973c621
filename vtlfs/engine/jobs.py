"""Jobs that mounts do in the background: each is done by one mount of the library at a time.

Every mount looks now and then whether a job is due, which disturbs nobody. The first that then claims the job in a
transaction does it; the others find it claimed. Whose turn it is, and how far the job has come, is in the catalogue: so
a mount that dies leaves the job to the next one. Scheduled snapshots and copies of the database are jobs. All of this
runs in the trio loop of the mount.
"""

import logging
from collections.abc import Callable
from typing import Protocol, TypeVar

import trio

from vtlfs.engine.engine import Engine
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import VtlfsError
from vtlfs.model import utc_now

LOOK_SECONDS = 10.0  # at most, between two looks

Claim = TypeVar("Claim")

log = logging.getLogger(__name__)


class Job(Protocol[Claim]):
    """One kind of job. `what` names it in the log; `every`: seconds after which it is to be done again."""

    what: str
    every: float

    def is_due(self, tracking: Tracking, at: str) -> bool:
        """Tell whether a claim at the time `at` is worth a transaction."""

    def claim(self, tracking: Tracking, at: str) -> Claim | None:
        """Claim the job for this mount, inside a transaction; None where it is not due, or claimed by another mount."""

    async def work(self, engine: Engine, claim: Claim) -> None:
        """Do the job that was claimed. Raises VtlfsError; then the job is due again."""


async def run(engine: Engine, job: Job[Claim], clock: Callable[[], str] = utc_now) -> None:
    """Do a job whenever it is due, for as long as the mount lasts. `clock` tells the time."""
    while True:
        await trio.sleep(min(job.every, LOOK_SECONDS))
        try:
            if await engine.catalogue.read(lambda tracking: job.is_due(tracking, clock())):
                await run_once(engine, job, clock)
        except VtlfsError as error:
            log.error("%s: %s; trying again", job.what, error)


async def run_once(engine: Engine, job: Job[Claim], clock: Callable[[], str] = utc_now) -> None:
    """Claim a job and do it, unless it is not due or another mount has claimed it. Raises VtlfsError."""
    claim = await engine.change(lambda tracking: job.claim(tracking, clock()))
    if claim is not None:
        await job.work(engine, claim)
