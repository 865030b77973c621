"""Limiting how many bytes a second are read, by all tasks of one piece of work together."""

from collections.abc import Callable

BURST_SECONDS = 0.1  # of the rate, that may be caught up after a pause


class RateLimit:
    """A token bucket. Pure but for the clock that it is given, which tells seconds; one thread uses it."""

    def __init__(self, rate: int | None, clock: Callable[[], float]) -> None:
        """`rate`: bytes a second; None: no limit."""
        self.rate = rate
        self._clock = clock
        self._free_at = clock()

    def take(self, size: int) -> float:
        """Take the right to read so many bytes. Return for how many seconds to wait before it."""
        if self.rate is None:
            return 0.0
        now = self._clock()
        begin = max(self._free_at, now - BURST_SECONDS)
        self._free_at = begin + size / self.rate
        return max(0.0, begin - now)
