"""The care that a mount takes of a library by itself: verifying all data once in so long, and rehearsing restores.

Two jobs of the mount's trio loop. The work itself is done by a child process, see `child`; whose turn it is is decided
by leases, as for a repair. When the mount ends, the child is stopped, and another mount goes on.
"""

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import trio

from vtlfs.care.child import BUSY, GAVE_WAY
from vtlfs.care.schedule import VERIFICATION, is_rehearsal_due, is_verification_due
from vtlfs.care.turn import WANTED
from vtlfs.engine import lease
from vtlfs.engine.engine import Engine
from vtlfs.engine.jobs import background
from vtlfs.engine.jobs.background import Job
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import VtlfsError
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


class VerifyJob(Job[bool]):
    """Verifies all data once in so long, unless another mount or a command does."""

    what = "verifying"
    every = LOOK_SECONDS
    lease = VERIFICATION

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._not_before = 0.0  # by trio's clock

    def is_due(self, tracking: Tracking, at: str) -> bool:
        """Tell whether it is time, and nobody else is about to verify."""
        library = self._engine.library
        if trio.current_time() < self._not_before or lease.is_done(library.path, WANTED):
            return False
        return is_verification_due(tracking, library.config.care, at)

    def claim(self, tracking: Tracking, at: str) -> bool:
        """Return True: the lease claims the work."""
        return True

    async def work(self, claim: bool) -> None:
        """Verify, with the lease."""
        self.note_taken()
        try:
            said = await run_child("verify", str(self._engine.library.path), f"mount {self._engine.mount.id}")
        except ChildFailed:
            self._not_before = trio.current_time() + AGAIN_SECONDS
            raise
        if said["result"] not in (BUSY, GAVE_WAY):
            log.log(logging.WARNING if said.get("defects") else logging.INFO, "all data: %s", said["result"])

    def note_taken(self) -> None:
        """Look again after a while."""
        self._not_before = trio.current_time() + OTHERS_SECONDS


class RehearseJob(Job[str]):
    """Restores a few tape files once in so long, and compares them, unless another mount does."""

    what = "rehearsing"
    every = LOOK_SECONDS
    lease = REHEARSAL

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._by = f"mount {engine.mount.id}"
        self._not_before = 0.0

    def is_due(self, tracking: Tracking, at: str) -> bool:
        """Tell whether it is time."""
        if trio.current_time() < self._not_before:
            return False
        return is_rehearsal_due(tracking, self._engine.library.config.care, at)

    def claim(self, tracking: Tracking, at: str) -> str | None:
        """Begin it; None where another mount has done it since, before this one got the lease."""
        if not is_rehearsal_due(tracking, self._engine.library.config.care, at):
            return None
        tracking.jobs.begin(REHEARSAL, self._by, 0, at)
        return at

    async def work(self, claim: str) -> None:
        """Rehearse, with the lease."""
        self.note_taken()
        try:
            said = await run_child("rehearse", str(self._engine.library.path), self._by, self._engine.mount.mountpoint)
        except ChildFailed:
            self._not_before = trio.current_time() + AGAIN_SECONDS
            raise
        if said["result"] != GAVE_WAY:
            level = logging.WARNING if said.get("defects") else logging.INFO
            log.log(level, "rehearsal: %s", said["result"])

    def note_taken(self) -> None:
        """Look again after a while."""
        self._not_before = trio.current_time() + OTHERS_SECONDS


async def run_child(*words: str) -> dict[str, Any]:
    """Run a child to its end; return what it said. When cancelled, it is stopped. Raises ChildFailed."""
    isolated = ["-I"] if sys.flags.isolated else ["-P"]
    command = [sys.executable, *isolated, "-m", "vtlfs.care.child", *words]
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
