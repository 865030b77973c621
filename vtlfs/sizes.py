"""Bytes and numbers from which on a mount or a verification acts: one value, which is handed in, as `Timing` is."""

from dataclasses import dataclass

from vtlfs.model import KIB, MIB


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes, if nothing else is said."""

    # Streams.
    worth_a_sync: int = 4 * MIB  # that a stream keeps until a disk is synced: fewer are not worth a sync
    worth_a_write: int = 64 * KIB  # streams that hold less are sent to a disk only when the others are
    small_unit: int = 64 * KIB  # a unit with no more bytes gets a smaller buffer rather than being put away
    spare_files: int = 128  # with fewer free descriptors, no stream is put away that would have to open a member file
    # Verification.
    job: int = 2 * MIB  # of stripe units that one job goes through
    parts_a_job: int = 64
    jobs_in_flight: int = 8  # of each disk
    unfinished: int = 1000  # headers that are kept at a time
    files_at_once: int = 256  # tape files that are looked up in the database together
    units_at_once: int = 512  # stripe units, likewise


SIZES = Sizes()  # of the product
