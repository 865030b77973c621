"""Jobs that mounts do in the background: each is done by one mount of the library at a time.

Every mount looks now and then whether a job is due, which disturbs nobody. A mount that finds a job due claims it in a
transaction, so that the other mounts find it claimed; a job that commands do as well is claimed with a lease. Progress
is recorded: if the mount dies, the next one goes on where it was. Each job limits its own speed. Runs in the trio loop.

Jobs are the schedule of snapshots, the copies of the database, repair, reclaiming, and the index of archive members;
docs/architecture.md has a table of them.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import trio

from vtlfs.engine import lease
from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.errors import VtlfsError, first_of
from vtlfs.model import utc_now

LOOK_SECONDS = 10.0  # at most, between two looks
UNEXPECTED_SECONDS = 60.0  # after an error that nobody expected: the log has its traceback each time

Claim = TypeVar("Claim")

log = logging.getLogger(__name__)


class Mount(Protocol):
    """The engine of a mount, as far as its jobs are run by it."""

    @property
    def library(self) -> Library:
        """The library that is mounted."""

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue, for reading."""

    def change(self, change: Callable[[Tracking], Any]) -> Awaitable[Any]:
        """Change the catalogue, in one transaction. Raises VtlfsError."""


class Job(ABC, Generic[Claim]):
    """One kind of job.

    `what` names it in the log. `every`: seconds between two looks whether it is due, LOOK_SECONDS at most. `lease`: the
    name of the lease under which it is done, by a mount or a command; None: its claim in the catalogue says enough.
    """

    what: ClassVar[str]
    every: float
    lease: ClassVar[str | None] = None

    @abstractmethod
    def is_due(self, tracking: Tracking, at: str) -> bool:
        """Tell whether a claim at the time `at` is worth a transaction."""

    @abstractmethod
    def claim(self, tracking: Tracking, at: str) -> Claim | None:
        """Claim the job for this mount, inside a transaction; None where it is not due, or claimed by another mount."""

    @abstractmethod
    async def work(self, claim: Claim) -> None:
        """Do the job that was claimed. Raises VtlfsError; then the job is due again."""

    def note_taken(self) -> None:  # most jobs look again at the usual time
        """Note that somebody else holds the lease."""


async def run(
    mount: Mount, job: Job[Any], clock: Callable[[], str] = utc_now, *, unexpected: float = UNEXPECTED_SECONDS
) -> None:
    """Do a job whenever it is due, for as long as the mount lasts. `clock` tells the time.

    A job that raises is due again; after an error that is no VtlfsError, not before `unexpected` seconds.
    """
    while True:
        await trio.sleep(min(job.every, LOOK_SECONDS))
        try:
            if await mount.catalogue.read(lambda tracking: job.is_due(tracking, clock())):
                await run_once(mount, job, clock)
        except VtlfsError as error:
            log.error("%s: %s; trying again", job.what, error)
        except Exception as error:  # a job's fault, or the machine's, must not end the streams of the mount
            if isinstance(first_of(error), VtlfsError):  # of a nursery of the job
                log.error("%s: %s; trying again", job.what, first_of(error))
            else:
                log.exception("%s: unexpected error; trying again in %.0f s", job.what, unexpected)
                await trio.sleep(unexpected)


async def run_once(mount: Mount, job: Job[Any], clock: Callable[[], str] = utc_now) -> None:
    """Claim a job and do it, unless it is not due or somebody else has claimed it. Raises VtlfsError."""
    with nullcontext(True) if job.lease is None else lease.work(mount.library.path, job.lease) as mine:
        if not mine:
            job.note_taken()
            return
        claim = await mount.change(lambda tracking: job.claim(tracking, clock()))
        if claim is not None:
            await job.work(claim)
