"""Live figures: how far each open session of a mount is, and what its disks have done, every second in a small file.

For those who watch, such as the terminal UI: they read `mounts/N.live` in the library and ask nothing of the mount. The
file is rewritten in place and never synced, by a thread of its own, so that a stream waits for none of it; it is gone
when the mount is. Two lines: the CRC-32 of the second, which is a JSON text (docs/tracking.md).
"""

import json
import logging
import os
import stat
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import outcome
import trio

from vtlfs.disks.executor import DiskExecutor
from vtlfs.engine.lease import DIRECTORY, LIVE

MAX_BYTES = 16 << 20  # that are read: what 200,000 open sessions need
TRIES = 3  # to read a file that is being rewritten

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LiveStats:
    """What a mount says of itself. Counters only grow, so that two of them make a rate."""

    at: float  # seconds of the machine's monotonic clock: to be compared with other figures of the same mount only
    sessions: dict[int, tuple[int, int]]  # of each open one: bytes that have come or were read, requests
    disks: dict[int, tuple[int, int]]  # of each disk: bytes written and bytes read since the mount began


def path_of(library: Path, mount: int) -> Path:
    """Return where a mount keeps its figures."""
    return library / DIRECTORY / f"{mount}{LIVE}"


async def publish(library: Path, mount: int, look: Callable[[], LiveStats], every: float) -> None:
    """Keep the file up to date until cancelled, every so many seconds.

    What fails is logged once: watching is no reason to stop serving.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path_of(library, mount), flags, 0o600)
    except OSError as error:
        log.info("live figures: %s", error)
        return
    executor = DiskExecutor("figures")
    failed = False

    def done(result: "outcome.Outcome[None]") -> None:
        nonlocal failed
        if isinstance(result, outcome.Error) and not failed:
            failed = True
            log.info("live figures: %s", result.error)

    last: LiveStats | None = None
    try:
        while True:
            found = look()
            is_news = bool(found.sessions) or last is None or replace(found, at=last.at) != last
            if is_news and executor.stalled_seconds == 0:
                executor.submit(done, _write, descriptor, found)
                last = found
            await trio.sleep(every)
    finally:
        executor.submit(done, os.close, descriptor)  # by the thread, which may be writing
        executor.close()


def read(library: Path, mount: int) -> LiveStats | None:
    """Return a mount's latest figures, None where there are none to be had. May block."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    for _ in range(TRIES):
        try:
            descriptor = os.open(path_of(library, mount), flags)
        except OSError:
            return None
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            check, _, rest = file.read(MAX_BYTES).partition(b"\n")
        body = rest.partition(b"\n")[0]
        if check == _check(body):
            return _parsed(body)
    return None


def _write(descriptor: int, figures: LiveStats) -> None:
    body = json.dumps({"at": figures.at, "sessions": figures.sessions, "disks": figures.disks}).encode()
    os.pwrite(descriptor, b"%s\n%s\n" % (_check(body), body), 0)  # what was longer before stays behind the second line


def _check(body: bytes) -> bytes:
    return b"%08x" % zlib.crc32(body)


def _parsed(body: bytes) -> LiveStats | None:
    """Return the figures of a JSON text; None where somebody else wrote it."""
    try:
        document = json.loads(body)
        pairs = {
            name: {int(number): (int(pair[0]), int(pair[1])) for number, pair in document[name].items()}
            for name in ("sessions", "disks")
        }
        return LiveStats(float(document["at"]), **pairs)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError):
        return None
