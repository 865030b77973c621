"""The snapshot memory: which snapshots each disk knows to be deleted. Its codec. Pure.

A rebuild begins with a copy of the tracking database that may be older than the deletion of a snapshot, and than the
reclaim after it. Without this memory it would bring that snapshot back, and miss what was reclaimed. The number of a
snapshot is never used again, so that memories only grow, and the union of all is right. docs/format.md specifies it.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from vtlfs.disks import values
from vtlfs.errors import VtlfsError
from vtlfs.model import MAX_SIZE

Runs = tuple[tuple[int, int], ...]
"""Numbers of snapshots: runs, each from its first to its last number, rising, and apart from each other."""


def union(runs: Iterable[tuple[int, int]]) -> Runs:
    """Return the runs of all numbers that some runs have, in any order."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(runs):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def all_but(numbers: Iterable[int], following: int) -> Runs:
    """Return the runs of all numbers from 1 to before `following`, but these, which rise."""
    ends = [0, *numbers, following]
    return tuple((before + 1, after - 1) for before, after in pairwise(ends) if after - before > 1)


def document(library: str, deleted: Runs) -> dict[str, Any]:
    """Return what is written into the file."""
    return {"library": library, "deleted": [list(run) for run in deleted]}


def read(said: dict[str, Any], library: str) -> Runs | None:
    """Return what the file says; None where that can't be, or it is of another library."""
    try:
        if said["library"] != library or not isinstance(said["deleted"], list):
            return None
        runs = tuple((values.number(first, MAX_SIZE), values.number(last, MAX_SIZE)) for first, last in said["deleted"])
    except (KeyError, TypeError, ValueError, VtlfsError):
        return None
    is_in_order = all(0 < first <= last for first, last in runs) and union(runs) == runs
    return runs if is_in_order else None
