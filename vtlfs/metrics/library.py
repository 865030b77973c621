"""The metrics of a library: its condition, disks, space, snapshots, copies and verifications.

All names begin with `vtlfs_library_`. Any mount and `vtlfs metrics` say the same. Times are seconds since 1970, so that
`time() - …` is an age. A thread with a connection of its own gathers them, and may block.
"""

from collections.abc import Collection
from dataclasses import dataclass

from vtlfs import __version__
from vtlfs.engine.backup import copies
from vtlfs.engine.condition import Condition, DiskFacts, Facts
from vtlfs.engine.layout.dealer import Candidate
from vtlfs.engine.layout.room import room
from vtlfs.engine.library import Library
from vtlfs.engine.reclaim.outlook import stored_use
from vtlfs.engine.scrub import verification
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import VtlfsError
from vtlfs.metrics.values import Kind, Metric, Values
from vtlfs.model import DiskState, epoch_ns
from vtlfs.snap import store

INFO = Metric(
    "vtlfs_library_info",
    Kind.GAUGE,
    ("uuid", "parity", "version"),
    "Always 1: the library's UUID and parity, and the version of vtlfs.",
)
READABLE = Metric(
    "vtlfs_library_readable",
    Kind.GAUGE,
    (),
    "1 if the tracking database answered; 0: the other metrics of the library are left out.",
)
CONDITION = Metric(
    "vtlfs_library_condition",
    Kind.GAUGE,
    ("condition",),
    "1 for the library's condition, 0 for the others: fine, degraded, failed, as `vtlfs status` has it.",
)
MOUNTS = Metric("vtlfs_library_mounts", Kind.GAUGE, ("state",), "Mounts by state: alive, or dead without recovery.")

DISK_INFO = Metric(
    "vtlfs_library_disk_info", Kind.GAUGE, ("disk", "path", "state"), "Always 1: where the disk is, and its state."
)
DISK_SIZE = Metric("vtlfs_library_disk_size_bytes", Kind.GAUGE, ("disk",), "Size of the disk's file system.")
DISK_FREE = Metric(
    "vtlfs_library_disk_free_bytes", Kind.GAUGE, ("disk",), "Bytes that can still be written to the disk."
)
DISK_STORED = Metric(
    "vtlfs_library_disk_stored_bytes", Kind.GAUGE, ("disk",), "Stored bytes of extents on the disk, with parity."
)
DISK_WORKS = Metric(
    "vtlfs_library_disk_works",
    Kind.GAUGE,
    ("disk",),
    "1 if the disk can be written to; 0: missing, faulty, full, hangs.",
)
DISK_FAULT = Metric(
    "vtlfs_library_disk_fault_timestamp_seconds", Kind.GAUGE, ("disk",), "Since when a mount can't use the disk."
)

DEGRADED = Metric(
    "vtlfs_library_degraded_bytes", Kind.GAUGE, (), "Stored bytes of stripes with less parity than wanted."
)
DAMAGED = Metric(
    "vtlfs_library_damaged_bytes", Kind.GAUGE, (), "Stored bytes of stripes that were found damaged and not mended."
)
COMPUTED = Metric(
    "vtlfs_library_away_bytes", Kind.GAUGE, (), "Stored bytes on disks that are away, which parity makes up for."
)
REPAIRING = Metric("vtlfs_library_repair_running", Kind.GAUGE, (), "1 while a repair is under way.")

AVAILABLE = Metric("vtlfs_library_available_bytes", Kind.GAUGE, (), "Bytes of streams that still fit, beside parity.")
CURRENT = Metric("vtlfs_library_current_bytes", Kind.GAUGE, (), "Stored bytes of what the media have now, with parity.")
HELD = Metric(
    "vtlfs_library_held_bytes", Kind.GAUGE, (), "Stored bytes of erased volumes that snapshots or readers hold."
)
RECLAIMABLE = Metric(
    "vtlfs_library_reclaimable_bytes", Kind.GAUGE, (), "Stored bytes of erased volumes that nothing holds."
)
MEDIA = Metric("vtlfs_library_media", Kind.GAUGE, (), "Media that were not removed.")
MEDIA_BYTES = Metric("vtlfs_library_media_bytes", Kind.GAUGE, (), "Bytes that the media show now.")
TAPE_FILES = Metric("vtlfs_library_media_tape_files", Kind.GAUGE, (), "Tape files that the media show now.")
SESSIONS = Metric("vtlfs_library_sessions_total", Kind.COUNTER, (), "Sessions that there ever were, of all mounts.")
WRITTEN = Metric("vtlfs_library_tape_files_total", Kind.COUNTER, (), "Tape files that there ever were.")
WRITTEN_BYTES = Metric("vtlfs_library_tape_file_bytes_total", Kind.COUNTER, (), "Bytes of all tape files ever.")
OPEN = Metric("vtlfs_library_open_sessions", Kind.GAUGE, ("drive",), "Open sessions of all mounts.")

SNAPSHOTS = Metric("vtlfs_library_snapshots", Kind.GAUGE, (), "Snapshots that there are.")
SNAPSHOT_TIME = Metric(
    "vtlfs_library_last_snapshot_timestamp_seconds", Kind.GAUGE, (), "When the newest snapshot was taken."
)
COPY_TIME = Metric(
    "vtlfs_library_last_copy_timestamp_seconds",
    Kind.GAUGE,
    (),
    "When the last copy of the tracking database to the disks was begun.",
)
COPY_CURRENT = Metric(
    "vtlfs_library_last_copy_is_current",
    Kind.GAUGE,
    (),
    "1 if nothing has changed since the last copy; 0 also if that copy failed.",
)
VERIFIED_TIME = Metric(
    "vtlfs_library_last_verification_timestamp_seconds",
    Kind.GAUGE,
    (),
    "When the last complete verification of all media ended.",
)
VERIFIED_DEFECTS = Metric(
    "vtlfs_library_last_verification_defects", Kind.GAUGE, (), "Defects that it has found and that are not mended."
)

METRICS = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


@dataclass(frozen=True, slots=True)
class Space:
    """How full a disk was when somebody last looked. `device`: what it lies on."""

    disk: int
    free: int
    total: int
    device: int


def look(library: Library, tracking: Tracking, facts: Facts, spaces: Collection[Space]) -> Values:
    """Return the values of a library. `spaces`: of the disks whose size is known. Raises TrackingError."""
    found = Values(str(library.path))
    found.declare(*METRICS)
    found.add(READABLE, 1)
    found.add(INFO, 1, library.config.uuid, library.config.parity, __version__)
    for condition in Condition:
        found.add(CONDITION, facts.condition is condition, condition)
    alive = [library.leases.is_alive(mount.id) for mount in tracking.mounts.live()]
    found.add(MOUNTS, sum(alive), "alive")
    found.add(MOUNTS, len(alive) - sum(alive), "dead")
    for disk in facts.disks:
        _disk(disk, found)
    for space in spaces:
        found.add(DISK_SIZE, space.total, space.disk)
        found.add(DISK_FREE, space.free, space.disk)
    usable = {disk.record.number for disk in facts.disks if disk.is_usable}
    places = [Candidate(space.disk, space.device, space.free) for space in spaces if space.disk in usable]
    found.add(AVAILABLE, room(places, library.config.parity))
    found.add(DEGRADED, sum(row.bytes for row in facts.degraded))
    found.add(DAMAGED, 0 if facts.damaged is None else facts.damaged.bytes)
    found.add(COMPUTED, facts.computed)
    found.add(REPAIRING, facts.is_repairing)
    _use(library, tracking, found)
    _ages(library, tracking, found)
    return found


def unreadable(library: Library) -> Values:
    """Return the values of a library whose tracking database does not answer."""
    found = Values(str(library.path))
    found.add(READABLE, 0)
    return found


def _disk(disk: DiskFacts, found: Values) -> None:
    number = disk.record.number
    found.add(DISK_INFO, 1, number, disk.path, disk.record.state)
    found.add(DISK_STORED, disk.stored.bytes, number)
    found.add(DISK_WORKS, disk.works, number)
    if not disk.works and disk.record.state is not DiskState.RETIRED:
        _add_time(found, DISK_FAULT, disk.record.fault_at, number)


def _use(library: Library, tracking: Tracking, found: Values) -> None:
    stored = stored_use(library, tracking)
    found.add(CURRENT, stored.current)
    found.add(HELD, stored.held)
    found.add(RECLAIMABLE, stored.reclaimable)
    counters, (size, files) = tracking.library.counters(), tracking.media.totals()
    found.add(MEDIA, counters.media)
    found.add(MEDIA_BYTES, size)
    found.add(TAPE_FILES, files)
    found.add(SESSIONS, counters.sessions)
    found.add(WRITTEN, counters.tape_files)
    found.add(WRITTEN_BYTES, counters.bytes)
    open_sessions = tracking.sessions.count_open_by_drive()
    for drive in tracking.drives.all():
        found.add(OPEN, open_sessions.get(drive.number, 0), drive.number)


def _ages(library: Library, tracking: Tracking, found: Values) -> None:
    found.add(SNAPSHOTS, store.count(tracking))
    for snapshot in store.snapshots(tracking, limit=1):
        _add_time(found, SNAPSHOT_TIME, snapshot.taken_at)
    if library.config.copy_every is not None:
        _add_time(found, COPY_TIME, tracking.copies.last().begun_at)
        found.add(COPY_CURRENT, copies.is_current(tracking))
    if (last := verification.last_of_all(tracking)) is not None:
        _add_time(found, VERIFIED_TIME, last.ended_at)
        found.add(VERIFIED_DEFECTS, last.left)


def _add_time(found: Values, metric: Metric, at: str | None, *labels: object) -> None:
    """Add a time of the tracking database. One that is damaged, of which `vtlfs check` tells, is left out."""
    try:
        if at is not None:
            found.add(metric, epoch_ns(at) / 1e9, *labels)
    except VtlfsError:
        return
