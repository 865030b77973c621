"""How long the parts of vtlfs wait: one value, which is handed in. Tests hand in others."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of a monotonic clock."""

    # Disks.
    probe: float = 1.0  # between two looks at the disks
    stalled: float = 2.0  # for which a disk has done none of its work: new streams begin elsewhere
    hangs: float = 5.0  # for which a disk has not finished a single write, or a single sync: writes go elsewhere
    trial: float = 5.0  # between two attempts to use a disk again
    reading: float = 2.0  # for which an extent is waited for, before it is computed from the rest of its stripe
    fill: float = 30.0  # between two records of how full the disks are
    # Streams.
    queue: float = 1.0  # between two looks at a disk that has no place in its queue, or does not answer
    queue_elsewhere: float = 0.05  # ... where another disk may have a place by then
    retry: float = 5.0  # before a release that the database refused is tried again
    failed: float = 2.0  # for which a look-up waits for the end of a stream that has failed
    written: float = 45.0  # in which the kernel has written what a file was given, with its half minute of waiting
    # Other mounts.
    watch: float = 5.0  # between two looks whether other mounts have died
    elsewhere: float = 5.0  # for which a look-up waits at most for a stream that another mount has just closed
    elsewhere_poll: float = 0.002
    announced: float = 0.1  # for which a close() need not be announced again, if the announcement holds
    closing_round: float = 0.1  # between two looks of the trio loop for requests, at least
    # Memory.
    idle: float = 0.25  # a stream that has not been written for so long is idle, when memory is short
    memory_round: float = 0.05  # between two rounds of having idle streams give back
    memory_patience: float = 1.0  # for which nothing has come back, before a writer is let in all the same
    # What is told.
    figures: float = 1.0  # between two records of live figures
    # Verification.
    save: float = 5.0  # between two records of how far it came
    finished: float = 60.0  # after a verification began, the headers of what it verifies have long been finished
    look: float = 0.2  # between two looks at headers that are not finished
    # Snapshots.
    snapshot: float = 5.0  # for which taking one waits at most for streams that are just being closed
    snapshot_poll: float = 0.005


DEFAULT = Timing()
