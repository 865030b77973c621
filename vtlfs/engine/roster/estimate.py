"""Whether the disks that stay have room for what lies on one that is to leave: an estimate, before it begins."""

from pathlib import Path

from vtlfs.disks import discovery
from vtlfs.disks.probe import probe
from vtlfs.disks.records import BLOCK
from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import LibraryError
from vtlfs.model import DiskRecord, DiskState, format_size


class NoRoom(LibraryError):
    """What lies on a disk that is to leave has no room on the others. `missing` bytes."""

    def __init__(self, disk: int, wanted: int, missing: int) -> None:
        super().__init__(
            f"disk {disk} can't leave: what lies on it takes {format_size(wanted)} on the other disks, which is"
            f" {format_size(missing)} more than they have free; `vtlfs disk add` adds one"
        )
        self.missing = missing


def check(library: Library, tracking: Tracking, leaving: DiskRecord, new: Path | None = None) -> None:
    """Raise NoRoom where a disk can't be emptied. `new`: a directory that is about to become one more disk.

    For commands: it forks. A disk that is away has no room.
    """
    left = [disk for disk in tracking.disks.all() if disk.state is DiskState.IN_USE and disk.number != leaving.number]
    wanted = needed(tracking, leaving.number, {disk.number for disk in left}, more=int(new is not None))
    missing = wanted - _free(library, left, new)
    if missing > 0:
        raise NoRoom(leaving.number, wanted, missing)


def needed(tracking: Tracking, leaving: int, left: set[int], more: int = 0) -> int:
    """Estimate how many bytes it takes to empty a disk. `left`: disks that stay; `more`: new ones besides.

    Where all disks that stay have something of a session, its stripes have to be dealt anew, over fewer disks: what
    they gain is what the data and its parity take then, without what is discarded for that.
    """
    stored = tracking.disks.stored().get(leaving)
    if stored is None:
        return 0
    lies_here = stored.bytes + stored.extents * BLOCK
    moved = dealt = grown = 0.0
    for parity, disks, size in tracking.sessions.spread(leaving):
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
    """Return the bytes that disks have free, each device counted once."""
    numbers = {disk.number for disk in left}
    probes = probe(library.config.uuid, [*library.config.disks, *(Path(disk.path) for disk in left)])
    free = {one.device: one.free or 0 for one in probes if one.number in numbers and one.problem is None}
    if new is not None:
        free[new.stat().st_dev] = discovery.free_at(new)
    return sum(free.values())
