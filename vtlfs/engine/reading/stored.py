"""The door to stored bytes: all code that reads extents from the disks, or computes them, calls this module.

- Readers, and writers that read back, use `load` and `read`, in the trio loop. Where an extent is lost, a reader has it
  computed from its stripe (`reconstruct`).
- A repair and a rebuild use `read_checked` and `read_each`, in threads, and have lost extents computed by `compute`.
- A verification, and a repair of what it has found, use `examine`, in threads: it reads past all caches, judges headers
  and records too, and computes nothing.

Bytes are compared with the BLAKE3 of their row. Only `load` and `read` in a mount with `check=off` leave that out.
`tests/unit/test_door.py` sees to it that no other module of the engine asks a disk for stored bytes.
"""

from collections.abc import Callable, Mapping, Sequence

import outcome
from blake3 import blake3

from vtlfs.disks.base import Disk
from vtlfs.disks.contents import Flaw, Part
from vtlfs.disks.pool import DiskPool
from vtlfs.engine.layout import erasure
from vtlfs.engine.layout.isal import Bytes
from vtlfs.errors import DamagedExtent, DiskError
from vtlfs.model import Extent

# --- in the trio loop -------------------------------------------------------------------------------------------------


async def read(pool: DiskPool, row: Extent) -> bytes:
    """Read the stored bytes of an extent in a thread of its disk. Raises DamagedExtent or DiskError."""
    disk = pool.disk_of(row)
    data = await disk.reading.run(disk.disk.read_stored, row, timed=disk.read_seconds)
    disk.read += row.stored
    return data


def load(pool: DiskPool, row: Extent, done: "Callable[[outcome.Outcome[bytes]], object]") -> None:
    """Read an extent as `read` does, without a task that waits: call `done` in the trio loop. Raises DamagedExtent."""
    disk = pool.disk_of(row)

    def arrived(result: "outcome.Outcome[bytes]") -> None:
        disk.read += row.stored if isinstance(result, outcome.Value) else 0
        done(result)

    disk.reading.submit(arrived, disk.disk.read_stored, row, timed=disk.read_seconds)


# --- in threads -------------------------------------------------------------------------------------------------------


def read_checked(disk: Disk, row: Extent) -> bytes:
    """Read the stored bytes of an extent, and check them whatever the mount does. Raises DamagedExtent or DiskError."""
    return disk.read_stored(row, check=True)


def read_each(disk: Disk, rows: Sequence[Extent]) -> list[bytes | DamagedExtent | DiskError]:
    """Read extents of one disk, checked; return for each its bytes, or the error."""
    found: list[bytes | DamagedExtent | DiskError] = []
    for row in rows:
        try:
            found.append(read_checked(disk, row))
        except (DamagedExtent, DiskError) as error:
            found.append(error)
    return found


def examine(disk: Disk, part: Part) -> list[Flaw]:
    """Read part of a member past all caches, and return what is wrong with it. Raises DiskError if the disk is gone."""
    return disk.examine(part)


def compute(lost: Mapping[int, Extent], data: Mapping[int, Bytes], parity: Mapping[int, Bytes]) -> dict[int, bytearray]:
    """Compute lost data extents of a stripe; return the stored bytes of those that come out right, by place.

    `lost` and `data` are all data extents of the stripe, by place; `parity` has rows of its parity: with fewer of them
    than lost extents, nothing can be computed. Takes about a millisecond.
    """
    if len(parity) < len(lost):
        return {}
    found = erasure.reconstruct({place: row.stored for place, row in lost.items()}, data, parity)
    return {place: bytes_ for place, bytes_ in found.items() if blake3(bytes_).digest() == lost[place].blake3}
