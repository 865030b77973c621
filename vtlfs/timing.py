"""The waiting times of vtlfs, as one value that is handed to the engine. Tests hand in shorter times."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of a monotonic clock."""

    # Disks.
    probe: float = 1.0  # between two looks at the disks
    stalled: float = 2.0  # a disk that has finished none of its work for so long gets no new streams
    hangs: float = 5.0  # a disk that has finished no write, or no sync, for so long gets no more writes
    trial: float = 5.0  # between two attempts to use a disk again
    reading: float = 2.0  # after which an extent that has not come is computed from the rest of its stripe
    fill: float = 30.0  # between two records of how full the disks are
    # Streams.
    queue: float = 1.0  # between two looks at a disk that has no place in its queue, or does not answer
    queue_elsewhere: float = 0.05  # ... where another disk may have a place by then
    retry: float = 5.0  # before a release that the database refused is tried again
    failed: float = 2.0  # for which a look-up waits for the end of a stream that has failed
    written: float = 45.0  # after which the kernel has written a file's cached pages: it keeps them for half a minute
    # Other mounts.
    watch: float = 5.0  # between two looks whether other mounts have died
    elsewhere: float = 5.0  # for which a look-up waits at most for a stream that another mount has just closed
    elsewhere_poll: float = 0.002
    announced: float = 0.1  # for which a close() need not be announced again, if the announcement holds
    closing_round: float = 0.1  # between two looks of the trio loop for requests, at least
    # Memory.
    idle: float = 0.25  # a stream that has not been written for so long is idle, when memory is short
    memory_round: float = 0.05  # between two rounds of putting idle streams away
    memory_patience: float = 1.0  # after which a writer is let in although no memory has become free
    # Live figures.
    figures: float = 1.0  # between two records of live figures
    # Verification.
    save: float = 5.0  # between two records of a verification's progress
    finished: float = 60.0  # after the begin of a verification; a header that is unfinished by then is a defect
    look: float = 0.2  # between two looks at headers that are not finished
    # Reclaiming.
    reclaim: float = 10.0  # for which nothing must hold a volume: a reader's row may come that long after its open()
    removing: float = 60.0  # after which a disk that has not removed a member is left for later
    # Snapshots.
    snapshot: float = 5.0  # the longest that a snapshot waits for streams that are just being closed
    snapshot_poll: float = 0.005


DEFAULT = Timing()
