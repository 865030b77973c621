"""Bytes and numbers from which on a mount or a verification acts: one value, which is handed in, as `Timing` is."""

from dataclasses import dataclass

from vtlfs.model import KIB, MIB


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes, if nothing else is said."""

    # Streams.
    worth_a_sync: int = 4 * MIB  # that a stream keeps until a disk is synced: fewer are not worth a sync
    worth_a_write: int = 64 * KIB  # streams that hold less are sent to a disk only when the others are
    small_extent: int = 64 * KIB  # an extent with no more bytes gets a smaller buffer rather than being put away
    spare_files: int = 128  # with fewer free descriptors, no stream is put away that would have to open a member file
    # Verification.
    job: int = 2 * MIB  # of extents that one job goes through
    parts_a_job: int = 64
    jobs_in_flight: int = 8  # of each disk
    unfinished: int = 1000  # headers that are kept at a time
    files_at_once: int = 256  # tape files that are looked up in the database together
    extents_at_once: int = 8192  # extents, likewise; each look-up reads all rows of the session
    stripes_at_once: int = 1024  # whose beginnings are looked up together, likewise
    extents_a_part: int = 512


SIZES = Sizes()  # of the product
