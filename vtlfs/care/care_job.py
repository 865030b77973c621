"""The care that a mount takes of a library by itself: verifying all data once in so long, and rehearsing restores.

Two jobs of the mount's trio loop. The work itself is done by a child process, see `child`; whose turn it is is decided
by leases, as for a repair. When the mount ends, the child is stopped, and another mount goes on.
"""

import json
import logging
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import trio

from vtlfs.care.child import BUSY, GAVE_WAY
from vtlfs.care.schedule import VERIFICATION, is_rehearsal_due, is_verification_due
from vtlfs.care.turn import WANTED
from vtlfs.engine import lease
from vtlfs.engine.engine import Engine
from vtlfs.engine.jobs import background
from vtlfs.engine.jobs.background import Claim, Job
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import VtlfsError
from vtlfs.members.child import program
from vtlfs.model import utc_now
from vtlfs.report.night import REHEARSAL

LOOK_SECONDS = 10.0  # between two looks whether something is due
OTHERS_SECONDS = 30.0  # before the next look, where somebody else verifies or rehearses
AGAIN_SECONDS = 600.0  # after a failure
END_SECONDS = 10.0  # for which a child that is told to stop is waited for
SAID_BYTES = 1 << 16

log = logging.getLogger(__name__)


class ChildFailed(VtlfsError):
    """The child process has failed, in a clause."""


class CareJob(Job[Claim]):
    """Work that a child process does, under a lease."""

    every = LOOK_SECONDS

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._by = f"mount {engine.mount.id}"
        self._not_before = 0.0  # by trio's clock

    @property
    def _waits(self) -> bool:
        """Whether it is too early to look again."""
        return trio.current_time() < self._not_before

    def note_taken(self) -> None:
        """Look again after a while."""
        self._not_before = trio.current_time() + OTHERS_SECONDS

    async def _done_by_child(self, work: str, *more: str) -> dict[str, Any]:
        """Have a child do the work; return what it said. Raises ChildFailed."""
        self.note_taken()
        try:
            return await run_child(work, str(self._engine.library.path), self._by, *more)
        except ChildFailed:
            self._not_before = trio.current_time() + AGAIN_SECONDS
            raise


class VerifyJob(CareJob[bool]):
    """Verifies all data once in so long, unless another mount or a command does."""

    what = "verifying"
    lease = VERIFICATION

    def is_due(self, tracking: Tracking, at: str) -> bool:
        """Tell whether it is time, and nobody else is about to verify."""
        library = self._engine.library
        return not (self._waits or lease.is_done(library.path, WANTED)) and is_verification_due(
            tracking, library.config.care, at
        )

    def claim(self, tracking: Tracking, at: str) -> bool:
        """Return True: the lease claims the work."""
        return True

    async def work(self, claim: bool) -> None:
        """Verify, with the lease."""
        said = await self._done_by_child("verify")
        if said["result"] not in (BUSY, GAVE_WAY):
            log.log(_level(said), "all data: %s", said["result"])


class RehearseJob(CareJob[str]):
    """Restores a few tape files once in so long, and compares them, unless another mount does."""

    what = "rehearsing"
    lease = REHEARSAL

    def is_due(self, tracking: Tracking, at: str) -> bool:
        """Tell whether it is time."""
        return not self._waits and is_rehearsal_due(tracking, self._engine.library.config.care, at)

    def claim(self, tracking: Tracking, at: str) -> str | None:
        """Begin it; None where another mount has done it since, before this one got the lease."""
        if not is_rehearsal_due(tracking, self._engine.library.config.care, at):
            return None
        tracking.jobs.begin(REHEARSAL, self._by, 0, at)
        return at

    async def work(self, claim: str) -> None:
        """Rehearse, with the lease."""
        said = await self._done_by_child("rehearse", self._engine.mount.mountpoint)
        if said["result"] != GAVE_WAY:
            log.log(_level(said), "rehearsal: %s", said["result"])


def _level(said: dict[str, Any]) -> int:
    """Return the level of the log for what a child said."""
    return logging.WARNING if said.get("defects") else logging.INFO


async def run_child(*words: str) -> dict[str, Any]:
    """Run a child to its end; return what it said. When cancelled, it is stopped. Raises ChildFailed."""
    command = program("vtlfs.care.child", *words)
    try:
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise ChildFailed(f"a process can't be started: {error.strerror}") from None
    said = bytearray()
    try:
        assert process.stdout is not None
        while part := await process.stdout.receive_some():
            said.extend(part[: SAID_BYTES - len(said)])
        await process.wait()
    finally:
        await _stop(process)
    try:
        document = json.loads(said)
        if "error" in document:
            raise ChildFailed(document["error"])
        return {"result": str(document["result"]), "defects": int(document.get("defects", 0))}
    except (ValueError, KeyError, TypeError):
        if process.returncode == -signal.SIGTERM or process.returncode == 128 + signal.SIGTERM:
            return {"result": GAVE_WAY}
        raise ChildFailed(f"the process that does it ended with status {process.returncode}") from None


async def _stop(process: trio.Process) -> None:
    """Stop the child, if it runs, and let it record how far it is."""
    with trio.CancelScope(shield=True):
        if process.stdin is not None:
            await process.stdin.aclose()  # which tells it to stop
        if process.returncode is None:
            with trio.move_on_after(END_SECONDS):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        if process.stdout is not None:
            await process.stdout.aclose()


async def run(engine: Engine, clock: Callable[[], str] = utc_now) -> None:
    """Take care for as long as the mount lasts. Returns at once if library.toml asks for none."""
    rule = engine.library.config.care
    async with trio.open_nursery() as nursery:
        if rule.verify is not None:
            nursery.start_soon(background.run, engine, VerifyJob(engine), clock)
        if rule.rehearse is not None:
            nursery.start_soon(background.run, engine, RehearseJob(engine), clock)
