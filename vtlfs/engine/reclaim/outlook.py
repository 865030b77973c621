"""What can be reclaimed now, and what holds the rest: snapshots, and readers. Asks the catalogue and the leases."""

from dataclasses import dataclass, field

from vtlfs.engine import lease
from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.reclaiming import EndedVolume, Reader


@dataclass(frozen=True, slots=True)
class Held:
    """A volume that can't be reclaimed. `snapshots`: numbers and names; `processes`: that read it without a mount."""

    volume: EndedVolume
    snapshots: list[tuple[int, str | None]]
    readers: list[Reader]
    processes: list[int]


@dataclass(frozen=True, slots=True)
class Outlook:
    """Volumes that have ended and are not reclaimed, the oldest first. `left`: disks on which members may be left."""

    reclaimable: list[EndedVolume] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    left: list[int] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Stored bytes that come back."""
        return sum(volume.stored for volume in self.reclaimable)

    @property
    def held_bytes(self) -> int:
        """Stored bytes that are held."""
        return sum(one.volume.stored for one in self.held)


def look(library: Library, tracking: Tracking) -> Outlook:
    """Return what can be reclaimed, and what holds the rest. Reads all volumes that are not reclaimed."""
    processes = lease.readers(library.path)
    found = Outlook(reclaimable(library, tracking))
    free = {volume.key for volume in found.reclaimable}
    unshown = [volume for volume in tracking.reclaiming.ended(is_shown=False) if volume.key not in free]
    for volume in (*unshown, *tracking.reclaiming.ended(is_shown=True)):
        shown, readers = tracking.reclaiming.snapshots(volume), live_readers(library, tracking, volume)
        found.held.append(Held(volume, shown, readers, processes.get(volume.key, [])))
    found.held.sort(key=lambda one: (one.volume.ended, *one.volume.key))
    found.left.extend(disk.number for disk in tracking.disks.all() if tracking.reclaiming.is_left_on(disk.number))
    return found


@dataclass(frozen=True, slots=True)
class StoredUse:
    """Stored bytes, parity included: of what the media have now, and of ended volumes that are held or reclaimable."""

    current: int
    held: int
    reclaimable: int


def stored_use(library: Library, tracking: Tracking) -> StoredUse:
    """Return what the stored bytes of a library are for."""
    usage = tracking.reclaiming.usage()
    free = sum(volume.stored for volume in reclaimable(library, tracking))
    return StoredUse(usage.current, usage.total - usage.current - free, free)


def reclaimable(library: Library, tracking: Tracking) -> list[EndedVolume]:
    """Return the volumes that have ended, and that no snapshot shows and nobody reads, the oldest first."""
    processes = lease.readers(library.path)
    return [
        volume
        for volume in tracking.reclaiming.ended(is_shown=False)
        if volume.key not in processes and not live_readers(library, tracking, volume)
    ]


def live_readers(library: Library, tracking: Tracking, volume: EndedVolume) -> list[Reader]:
    """Return the open sessions that read a volume, without those that a dead mount has left open."""
    return [one for one in tracking.reclaiming.readers(*volume.key) if library.leases.is_alive(one.mount)]


def is_free(library: Library, tracking: Tracking, volume: EndedVolume) -> bool:
    """Tell whether nothing holds a volume any more."""
    return not (
        tracking.reclaiming.is_shown(*volume.key)
        or live_readers(library, tracking, volume)
        or volume.key in lease.readers(library.path)
    )
