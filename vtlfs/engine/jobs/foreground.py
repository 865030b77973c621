"""Long work that a command does, in a trio run of its own: a signal stops it, and one does a kind of work at a time."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from vtlfs.engine import lease
from vtlfs.errors import first_of

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOK_SECONDS = 0.5  # between two looks whether somebody else has ended the same kind of work


def run(work: Callable[[], Awaitable[object]]) -> signal.Signals | None:
    """Do the work in a trio run until it is done, or until a signal that is not ignored cancels it.

    Return that signal. Raises the first error of the work.
    """
    try:
        return trio.run(_until_stopped, work)
    except BaseExceptionGroup as group:
        raise first_of(group) from None


async def _until_stopped(work: Callable[[], Awaitable[object]]) -> signal.Signals | None:
    caught: list[signal.Signals] = []
    wanted = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    async with trio.open_nursery() as nursery:

        async def stop() -> None:
            with trio.open_signal_receiver(*wanted) as signals:
                async for number in signals:
                    caught.append(signal.Signals(number))
                    nursery.cancel_scope.cancel()

        nursery.start_soon(stop)
        await work()
        nursery.cancel_scope.cancel()
    return caught[0] if caught else None


@asynccontextmanager
async def turn(library: Path, name: str, waits: Callable[[], object]) -> AsyncIterator[None]:
    """Be the only one who does a kind of work (`lease.work`), as soon as nobody else does.

    `waits` is called once where a mount or another command has to be waited for.
    """
    is_told = False
    while True:
        with lease.work(library, name) as mine:
            if mine:
                yield
                return
        if not is_told:
            waits()
            is_told = True
        await trio.sleep(LOOK_SECONDS)
