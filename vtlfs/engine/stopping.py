"""Work of a command that a signal stops, in a trio run of the command's own: a verification, a repair."""

import signal
from collections.abc import Awaitable, Callable

import trio

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def until_stopped(work: Callable[[], Awaitable[object]]) -> signal.Signals | None:
    """Do the work until it is done, or until a signal that is not ignored cancels it; return that signal.

    Raises an exception group with what the work raises.
    """
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
