"""Ctrl-C, which must not come between a mount and whoever will unmount it: it waits until it can be taken.

So do the signals of `kill` and of a terminal that is closed.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class _Patience:
    """A signal handler that remembers. The second signal does not wait: somebody is in a hurry."""

    def __init__(self) -> None:
        self.pending = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.pending:
            signal.default_int_handler(number, frame)
        self.pending = True


def take_others_for_ctrl_c() -> None:
    """Have SIGTERM, and SIGHUP unless it is ignored, do what SIGINT does at that moment."""

    def forward(_: int, frame: FrameType | None) -> None:
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            handler(signal.SIGINT, frame)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, forward)


@contextmanager
def patience() -> Iterator[None]:
    """Have KeyboardInterrupt wait for the block's end, or for impatience() in it."""
    before = signal.getsignal(signal.SIGINT)
    patient = _Patience()
    signal.signal(signal.SIGINT, patient)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if patient.pending:
        raise KeyboardInterrupt


@contextmanager
def impatience() -> Iterator[None]:
    """Have KeyboardInterrupt raised at once in the block, and before it if one waits."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if isinstance(before, _Patience) and before.pending:
            raise KeyboardInterrupt
        yield
    finally:
        signal.signal(signal.SIGINT, before)
