"""Thresholds of a mount, a verification and a repair, as one value that is handed in like `Timing`."""

from dataclasses import dataclass

from vtlfs.model import GIB, KIB, MIB


@dataclass(frozen=True, slots=True)
class Sizes:
    """In bytes, if the comment says nothing else."""

    # Streams.
    worth_a_sync: int = 4 * MIB  # a writeback syncs a disk if a stream keeps at least so much for that disk
    worth_a_write: int = 64 * KIB  # streams that hold less are put away only after all others
    small_extent: int = 64 * KIB  # an extent of at most this size gets a smaller buffer instead of being put away
    spare_files: int = 128  # with fewer free descriptors, no stream is put away that must open a member file for it
    # Verification.
    job: int = 2 * MIB  # of the extents of one job
    parts_a_job: int = 64
    jobs_in_flight: int = 8  # of each disk
    unfinished: int = 1000  # unfinished headers that are remembered at a time
    files_at_once: int = 256  # tape files that are looked up in the database together
    extents_at_once: int = 8192  # extents, likewise; each look-up reads all rows of the session
    stripes_at_once: int = 1024  # whose beginnings are looked up together, likewise
    extents_a_part: int = 512
    # Repair.
    repair_batch: int = 24 * MIB  # of extents that are mended together
    repair_sessions: int = 64  # ... at most; each has a member open on each disk that gets extents of it
    survey_sessions: int = 1000  # that are looked through together
    survey_small_sessions: int = 64  # whose extents are looked up together
    survey_small_units: int = 16  # stripe units of a session that counts as small
    survey_rows: int = 1024
    survey_window: int = 16384  # stripe units of a stream that are searched for some stripes at once
    # Reclaiming.
    reclaim_sessions: int = 64  # that are marked in one transaction
    reclaim_batch: int = 16 * GIB  # of tape files whose sessions are marked in one transaction, or one session
    reclaim_rows: int = 2048  # extents that are forgotten in one transaction
    # The tracking database.
    reserve: int = 8 * MIB  # of room that is set aside for what must work when the library's file system is full


SIZES = Sizes()  # for use; tests hand in others
