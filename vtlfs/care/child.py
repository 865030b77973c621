"""The child process of a mount that verifies or rehearses: `python -m vtlfs.care.child verify|rehearse LIBRARY …`.

A process of its own, of the lowest priority, since reading and comparing take processor time that the streams of a
mount are to have. It ends when the mount does: then its standard input ends. It says what came of it in one line of
JSON. How far a verification is, is in the catalogue: the next child goes on.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from vtlfs.care.pace import LOOK_SECONDS, GivenWay, Pace
from vtlfs.care.rehearsal import rehearse
from vtlfs.care.schedule import VERIFICATION, interrupted, is_verification_due
from vtlfs.care.turn import CHILD, WANTED
from vtlfs.engine import lease
from vtlfs.engine.library import Library
from vtlfs.engine.scrub import verification as verifications
from vtlfs.engine.scrub.verification import Verification
from vtlfs.engine.scrub.verify import verify
from vtlfs.errors import LibraryError, VtlfsError
from vtlfs.model import Actor, format_size, utc_now
from vtlfs.report.night import REHEARSAL

NICE = 19
NOTE_SECONDS = 5.0  # between two records of how far it is
BUSY, GAVE_WAY = "busy", "gave way"
REHEARSED = "rehearsed"  # the event


def main() -> None:
    """Do the work that the arguments name, and print what came of it."""
    _be_gentle()
    work, path, by, *more = sys.argv[1:]
    stop = threading.Event()
    for until in (_mount_ends, *([partial(_is_wanted, Path(path), stop)] if work == VERIFICATION else [])):
        threading.Thread(target=_stop_when, args=(until, stop), daemon=True).start()
    try:
        library = Library.open(Path(path))
        pace = Pace(library, library.config.care.limit, reads=work == VERIFICATION, stop=stop)
        said: dict[str, Any]
        said = _verify(library, by, pace) if work == VERIFICATION else _rehearse(library, by, Path(more[0]), pace)
    except GivenWay:
        said = {"result": GAVE_WAY}
    except VtlfsError as error:
        said = {"error": str(error)}
    print(json.dumps(said))


# --- verifying --------------------------------------------------------------------------------------------------------


def _verify(library: Library, by: str, pace: Pace) -> dict[str, Any]:
    """Begin a verification of all data, or go on with it, until it has ended or is stopped."""
    with ExitStack() as stack:
        try:
            stack.enter_context(lease.alone(library.path, BUSY))
        except LibraryError:
            return {"result": BUSY}
        stack.enter_context(lease.work(library.path, CHILD))
        tracking = stack.enter_context(closing(library.tracking()))
        at, found = utc_now(), interrupted(tracking)
        if found is None:
            if not is_verification_due(tracking, library.config.care, at):
                return {"result": BUSY}  # another one has just ended
            found = verifications.begin(tracking, [], at)
        return _run(library, found, by, pace)


def _run(library: Library, found: Verification, by: str, pace: Pace) -> dict[str, Any]:
    with closing(library.tracking()) as tracking:
        total = verifications.extent(tracking, found)[2]
        with tracking.transaction():
            tracking.jobs.begin(VERIFICATION, by, total, found.started_at)
            tracking.jobs.advance(VERIFICATION, min(found.bytes, total))
        noted = monotonic()

        def advance(size: int) -> None:
            nonlocal noted
            if monotonic() - noted > NOTE_SECONDS:
                noted = monotonic()
                with suppress(VtlfsError), tracking.transaction(durable=False):  # it is but shown
                    tracking.jobs.advance(VERIFICATION, min(found.bytes, total))
            pace.take(size)

        with closing(library.tracking()) as its_own:
            stopped = verify(library, its_own, found, lambda _: None, advance, library.config.care.limit)
        if found.ended_at is None:
            return {"result": GAVE_WAY if stopped is None else "stopped", "bytes": found.bytes}
        left = sum(found.defects.values()) - found.mended
        result = f"{format_size(found.bytes)} verified: {f'{left:,} defects' if left else 'all is as it should be'}"
        with tracking.transaction():
            tracking.jobs.advance(VERIFICATION, min(found.bytes, total))
            tracking.jobs.end(VERIFICATION, result, utc_now())
        return {"result": result, "defects": left}


# --- rehearsing -------------------------------------------------------------------------------------------------------


def _rehearse(library: Library, by: str, mountpoint: Path, pace: Pace) -> dict[str, Any]:
    """Restore a few tape files, and record what came of it: as the end of the job, an event, and an incident."""
    began = monotonic()
    with closing(library.tracking(read_only=True)) as tracking:
        chosen = tracking.tape_files.at_random(library.config.care.files)
    outcome = rehearse(library, mountpoint, chosen, pace.take)
    at, result = utc_now(), outcome.in_words()
    actor = Actor(os.geteuid(), os.uname().nodename, "vtlfs")
    with closing(library.tracking()) as tracking, tracking.transaction():
        failed_before = any(one.about == REHEARSAL for one in tracking.incidents.lasting())
        tracking.jobs.end(REHEARSAL, result, at)
        tracking.events.add(
            *(REHEARSED, actor, at),
            tape_files=outcome.tape_files,
            bytes=outcome.bytes,
            seconds=round(monotonic() - began, 1),
            failed=outcome.failed,
            by=by,
        )
        if outcome.failed:
            advice = "vtlfs verify says what is damaged, and vtlfs disk repair mends it"
            tracking.incidents.add("rehearsal failed", REHEARSAL, result, at, advice=advice, lasts=True)
        elif failed_before:
            tracking.incidents.add("rehearsal passed", REHEARSAL, result, at)
    return {"result": result, "defects": len(outcome.failed)}


# --- the process ------------------------------------------------------------------------------------------------------


def _be_gentle() -> None:
    """Take what is left of the processors and the disks."""
    from psutil import IOPRIO_CLASS_IDLE, Error, Process

    os.nice(NICE)
    with suppress(Error, OSError, AttributeError):
        Process().ionice(IOPRIO_CLASS_IDLE)


def _stop_when(until: Callable[[], None], stop: threading.Event) -> None:
    """Wait until `until` returns, and stop the work: a wait of `Pace` by the event, all else by SIGTERM."""
    until()
    stop.set()
    os.kill(os.getpid(), signal.SIGTERM)


def _mount_ends() -> None:
    """Wait until the standard input ends, as the mount has, or wants the child to."""
    while os.read(0, 1):
        pass


def _is_wanted(library: Path, stop: threading.Event) -> None:
    """Wait until a command wants to verify."""
    while not lease.is_done(library, WANTED):
        stop.wait(LOOK_SECONDS)


if __name__ == "__main__":
    main()
