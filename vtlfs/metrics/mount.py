"""The metrics of one mount: what it has done since it began, and how busy it is. All names begin with `vtlfs_mount_`.

The counters live beside the code that they count; `look` gathers them in the trio loop of the mount, without waiting.
"""

from vtlfs import __version__
from vtlfs.disks.pool import PooledDisk
from vtlfs.engine.engine import Engine
from vtlfs.fs.requests import Requests
from vtlfs.metrics.values import Kind, Metric, Values
from vtlfs.model import Access, State, epoch_ns

_SESSION = ("host", "drive", "access")

INFO = Metric(
    "vtlfs_mount_info",
    Kind.GAUGE,
    ("mount", "mountpoint", "host", "version"),
    "Always 1: the number of the mount, where it is, the host that it was given, and its version.",
)
START = Metric("vtlfs_mount_start_time_seconds", Kind.GAUGE, (), "When the mount began, in seconds since 1970.")

SESSIONS_OPENED = Metric("vtlfs_mount_sessions_opened_total", Kind.COUNTER, _SESSION, "Sessions that were opened.")
SESSIONS_ENDED = Metric(
    "vtlfs_mount_sessions_ended_total",
    Kind.COUNTER,
    (*_SESSION, "state"),
    "Sessions that have ended, by how: released or failed.",
)
SESSION_ERRORS = Metric(
    "vtlfs_mount_session_errors_total",
    Kind.COUNTER,
    (*_SESSION, "error"),
    "Sessions that have ended after an error, by the errno that the program was given.",
)
SESSIONS_FAILED = Metric(
    "vtlfs_mount_sessions_failed_total",
    Kind.COUNTER,
    ("access",),
    "Failed sessions of all hosts and drives: there from the beginning of the mount, for alerts.",
)
SESSIONS_OPEN = Metric("vtlfs_mount_open_sessions", Kind.GAUGE, _SESSION, "Sessions that are open now.")
SESSION_BYTES = Metric(
    "vtlfs_mount_session_bytes_total", Kind.COUNTER, _SESSION, "Bytes of streams that have come, or were handed out."
)
SESSION_REQUESTS = Metric(
    "vtlfs_mount_session_requests_total", Kind.COUNTER, _SESSION, "Requests to write or read that sessions have made."
)

REQUEST_SECONDS = Metric(
    "vtlfs_mount_request_duration_seconds",
    Kind.HISTOGRAM,
    ("request",),
    "How long the kernel's requests took: open, read, write, flush (of a close), fsync, release.",
)
REQUEST_ERRORS = Metric(
    "vtlfs_mount_request_errors_total",
    Kind.COUNTER,
    ("request", "error"),
    "Requests that were answered with an error, by its errno.",
)
COMMIT_SECONDS = Metric(
    "vtlfs_mount_commit_duration_seconds",
    Kind.HISTOGRAM,
    ("synced",),
    "How long transactions of the tracking database took; synced ones survive a power cut.",
)
COMMIT_QUEUE = Metric(
    "vtlfs_mount_commit_queue_length", Kind.GAUGE, (), "Changes that wait for a transaction of the tracking database."
)

DISK_WRITE_SECONDS = Metric(
    "vtlfs_mount_disk_write_duration_seconds", Kind.HISTOGRAM, ("disk",), "How long writing an extent took."
)
DISK_SYNC_SECONDS = Metric(
    "vtlfs_mount_disk_sync_duration_seconds", Kind.HISTOGRAM, ("disk",), "How long a sync of a member file took."
)
DISK_READ_SECONDS = Metric(
    "vtlfs_mount_disk_read_duration_seconds", Kind.HISTOGRAM, ("disk",), "How long reading an extent took."
)
DISK_WRITTEN = Metric(
    "vtlfs_mount_disk_written_bytes_total", Kind.COUNTER, ("disk",), "Stored bytes that were written, with parity."
)
DISK_READ = Metric("vtlfs_mount_disk_read_bytes_total", Kind.COUNTER, ("disk",), "Stored bytes that were read.")
DISK_ERRORS = Metric(
    "vtlfs_mount_disk_errors_total", Kind.COUNTER, ("disk",), "Errors that were the disk's own fault, full ones too."
)
DISK_COMPUTED = Metric(
    "vtlfs_mount_disk_reconstructed_extents_total",
    Kind.COUNTER,
    ("disk",),
    "Extents of the disk that were computed from their stripes for readers.",
)
DISK_QUEUE = Metric(
    "vtlfs_mount_disk_queue_length",
    Kind.GAUGE,
    ("disk", "work"),
    "Jobs that the disk has to do: write (also closing of files), sync, read.",
)
DISK_STALLED = Metric(
    "vtlfs_mount_disk_stalled_seconds",
    Kind.GAUGE,
    ("disk",),
    "For how long the disk has had writes or syncs to do and has finished none; it hangs from 5 on.",
)
DISK_USABLE = Metric(
    "vtlfs_mount_disk_usable", Kind.GAUGE, ("disk",), "1 if the mount writes to the disk; 0: faulty, hangs, or retires."
)
DISK_DIRTY = Metric(
    "vtlfs_mount_disk_dirty_bytes", Kind.GAUGE, ("disk",), "Written bytes that are kept until the disk is synced."
)

DIRTY = Metric("vtlfs_mount_dirty_bytes", Kind.GAUGE, (), "Bytes of streams that are kept until a sync.")
DIRTY_LIMIT = Metric(
    "vtlfs_mount_dirty_limit_bytes", Kind.GAUGE, (), "Bytes kept until a sync, above which writers wait."
)
MEMORY = Metric("vtlfs_mount_memory_bytes", Kind.GAUGE, (), "Memory of buffers and sessions that the mount counts.")
MEMORY_LIMIT = Metric(
    "vtlfs_mount_memory_limit_bytes", Kind.GAUGE, (), "The limit of that memory: [memory] limit in library.toml."
)
MEMORY_WAITING = Metric("vtlfs_mount_memory_waiting_writes", Kind.GAUGE, (), "Requests to write that wait for memory.")

METRICS = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


def look(engine: Engine, requests: Requests) -> Values:
    """Return the values of a mount, as they are now. In the trio loop."""
    found = Values(str(engine.library.path))
    found.declare(*METRICS)
    mount = engine.mount
    found.add(INFO, 1, mount.id, mount.mountpoint, mount.host or mount.machine, __version__)
    found.add(START, epoch_ns(mount.mounted_at) / 1e9)
    _sessions(engine, found)
    for name, histogram in requests.seconds.items():
        found.add(REQUEST_SECONDS, histogram, name)
    for (request, error), count in requests.errors.items():
        found.add(REQUEST_ERRORS, count, request, error)
    for durable, histogram in engine.committer.seconds.items():
        found.add(COMMIT_SECONDS, histogram, "yes" if durable else "no")
    found.add(COMMIT_QUEUE, engine.committer.waiting)
    for pooled in engine.pool.disks:
        _disk(pooled, engine, found)
    found.add(DIRTY, engine.dirty.bytes)
    found.add(DIRTY_LIMIT, engine.dirty.limit)
    found.add(MEMORY, engine.memory.used)
    found.add(MEMORY_LIMIT, engine.memory.limit)
    found.add(MEMORY_WAITING, engine.memory.waiting)
    return found


def _sessions(engine: Engine, found: Values) -> None:
    failed = dict.fromkeys(Access, 0)
    for (host, drive, access), traffic in engine.traffic.rows.items():
        labels = host, drive, access
        found.add(SESSIONS_OPENED, traffic.opened, *labels)
        found.add(SESSIONS_OPEN, traffic.open, *labels)
        found.add(SESSION_BYTES, traffic.bytes, *labels)
        found.add(SESSION_REQUESTS, traffic.requests, *labels)
        for state in (State.RELEASED, State.FAILED):  # 0 from the beginning: rates begin with the second value
            found.add(SESSIONS_ENDED, traffic.ended[state], *labels, state)
        for error, count in traffic.errors.items():
            found.add(SESSION_ERRORS, count, *labels, error)
        failed[access] += traffic.ended[State.FAILED]
    for access, count in failed.items():
        found.add(SESSIONS_FAILED, count, access)


def _disk(pooled: PooledDisk, engine: Engine, found: Values) -> None:
    disk = pooled.number
    found.add(DISK_WRITE_SECONDS, pooled.write_seconds, disk)
    found.add(DISK_SYNC_SECONDS, pooled.sync_seconds, disk)
    found.add(DISK_READ_SECONDS, pooled.read_seconds, disk)
    found.add(DISK_WRITTEN, pooled.written, disk)
    found.add(DISK_READ, pooled.read, disk)
    found.add(DISK_ERRORS, pooled.faults, disk)
    found.add(DISK_COMPUTED, pooled.reconstructed, disk)
    for work, executor in (("write", pooled.writing), ("sync", pooled.syncing), ("read", pooled.reading)):
        found.add(DISK_QUEUE, executor.pending, disk, work)
    found.add(DISK_STALLED, max(pooled.writing.stalled_seconds, pooled.syncing.stalled_seconds), disk)
    found.add(DISK_USABLE, pooled.usable, disk)
    found.add(DISK_DIRTY, engine.dirty.by_disk[disk], disk)
