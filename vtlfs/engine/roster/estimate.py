"""Estimates, before a disk begins to retire, whether the disks that stay have room for its extents."""

from pathlib import Path

from vtlfs.disks import discovery
from vtlfs.disks.probe import probe
from vtlfs.disks.records import BLOCK
from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import LibraryError
from vtlfs.model import DiskRecord, DiskState, format_size


class NoRoom(LibraryError):
    """The extents of a disk that is to leave have no room on the other disks. `missing`: how many bytes too few."""

    def __init__(self, disk: int, wanted: int, missing: int) -> None:
        super().__init__(
            f"disk {disk} can't leave: its extents take {format_size(wanted)} on the other disks, which have"
            f" {format_size(missing)} too little room; `vtlfs disk add` adds one"
        )
        self.missing = missing


def check(library: Library, tracking: Tracking, leaving: DiskRecord, new: Path | None = None) -> None:
    """Raise NoRoom if a disk can't be emptied. `new`: a directory that is about to become one more disk.

    A disk that is away counts as full. For commands only: the probe of the disks forks.
    """
    left = [disk for disk in tracking.disks.all() if disk.state is DiskState.IN_USE and disk.number != leaving.number]
    wanted = needed(tracking, leaving.number, {disk.number for disk in left}, more=int(new is not None))
    missing = wanted - _free(library, left, new)
    if missing > 0:
        raise NoRoom(leaving.number, wanted, missing)


def needed(tracking: Tracking, leaving: int, left: set[int], more: int = 0) -> int:
    """Estimate how many bytes the other disks gain when a disk is emptied.

    `left`: the disks that stay; `more`: how many new disks come. A session that has extents on all disks that stay has
    its stripes dealt anew, over fewer disks: these gain what data and parity take then, less what they took before.
    """
    stored = tracking.disks.stored().get(leaving)
    if stored is None:
        return 0
    lies_here = stored.bytes + stored.extents * BLOCK
    moved = dealt = grown = 0.0
    for parity, disks, size in tracking.session_disks.spread(leaving):
        share = size * (1 + parity / max(1, len(disks) - parity)) / len(disks)  # of the session, on each of its disks
        others = len(left) + more
        if not parity or more or left - disks or others <= parity:
            moved += share
        else:
            dealt += share
            grown += size * (1 + parity / (others - parity)) - share * (len(disks) - 1)
    known = moved + dealt
    return round(lies_here * (moved + grown) / known) if known else lies_here


def _free(library: Library, left: list[DiskRecord], new: Path | None) -> int:
    """Return the free bytes of disks, each device counted once."""
    numbers = {disk.number for disk in left}
    probes = probe(library.config.uuid, [*library.config.disks, *(Path(disk.path) for disk in left)])
    free = {one.device: one.free or 0 for one in probes if one.number in numbers and one.problem is None}
    if new is not None:
        free[new.stat().st_dev] = discovery.free_at(new)
    return sum(free.values())
