"""The task of a mount that keeps its live figures up to date, in the trio loop.

A thread of its own writes them, so that no stream waits for that.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import outcome
import trio

from vtlfs.disks.executor import DiskExecutor
from vtlfs.engine import live
from vtlfs.engine.live import LiveStats

log = logging.getLogger(__name__)


async def publish(library: Path, mount: int, look: Callable[[], LiveStats], every: float) -> None:
    """Keep the file up to date until cancelled, every so many seconds.

    What fails is logged once: watching is no reason to stop serving.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(live.path_of(library, mount), flags, 0o600)
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
                executor.submit(done, live.write, descriptor, found)
                last = found
            await trio.sleep(every)
    finally:
        executor.submit(done, os.close, descriptor)  # by the thread, which may be writing
        executor.close()
