"""Counters of the requests that a mount answers: how long those of sessions took, and their errors.

`to_errno` counts, in the trio loop; metrics read there (docs/monitoring.md).
"""

from collections import Counter
from typing import Protocol

from vtlfs.histogram import Histogram

COUNTED = frozenset({"open", "read", "write", "flush", "fsync", "release"})


class Requests:
    """See the module. A mount has one."""

    def __init__(self) -> None:
        self.seconds = {name: Histogram() for name in sorted(COUNTED)}
        self.errors: Counter[tuple[str, str]] = Counter()  # by request and name of the errno


class Counts(Protocol):
    """Whoever has handlers of requests."""

    requests: Requests
