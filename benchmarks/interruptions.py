"""Delays Ctrl-C while a mount is being made or ended, so that an interruption leaves no mount behind.

SIGTERM, and SIGHUP from a terminal that is closed, are delayed in the same way.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class _Patience:
    """A signal handler that notes the first signal for later. The second signal interrupts at once."""

    def __init__(self) -> None:
        self.pending = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.pending:
            signal.default_int_handler(number, frame)
        self.pending = True


def take_others_for_ctrl_c() -> None:
    """Let SIGTERM and SIGHUP, unless ignored, call the handler that SIGINT has at that moment."""

    def forward(_: int, frame: FrameType | None) -> None:
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            handler(signal.SIGINT, frame)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, forward)


@contextmanager
def patience() -> Iterator[None]:
    """Delay KeyboardInterrupt to the end of the block, or to an impatience() within it."""
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
    """Raise a delayed KeyboardInterrupt now, and a new one at once within the block."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if isinstance(before, _Patience) and before.pending:
            raise KeyboardInterrupt
        yield
    finally:
        signal.signal(signal.SIGINT, before)
