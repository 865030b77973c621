"""Histograms of durations: plain counters that code keeps beside what it times, for metrics (docs/monitoring.md).

Cheap enough to be kept whether somebody asks or not: less than a microsecond for each duration. No lock: one thread
counts, that of the trio loop wherever a mount counts.
"""

from bisect import bisect_left

BOUNDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # seconds, each the highest it has


class Histogram:
    """How many durations there were up to each of BOUNDS, and their sum."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)  # by bound; the last are longer than all bounds
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds
