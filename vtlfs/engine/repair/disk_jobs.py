"""The jobs of a repair for the threads of the disks, and how the trio loop waits for them, but for no disk that hangs.

Each job is short, because the streams of a mount share these threads.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar, TypeVarTuple

import outcome
import trio

from vtlfs.disks.base import Disk, Member
from vtlfs.disks.contents import Kind, Part
from vtlfs.disks.executor import DiskExecutor
from vtlfs.disks.pool import PooledDisk
from vtlfs.engine.reading import stored
from vtlfs.engine.repair.appending import Appending
from vtlfs.engine.repair.stripes import Condition, Piece, Stripe, Written
from vtlfs.errors import DamagedExtent, DiskError
from vtlfs.failpoints import reached
from vtlfs.model import MIB, Extent

JOB_BYTES = 2 * MIB
JOB_EXTENTS = 32
LOOK_SECONDS = 0.2  # while waiting for a job: between two looks whether its disk hangs
FEW = 8  # so many member files are synced by one job each; more are synced by one job for all

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class NoAnswer(Exception):
    """The disk hangs, and its thread has not done the job."""


async def run(executor: DiskExecutor, hangs: Callable[[], bool], function: Callable[[*Ts], T], *args: *Ts) -> T:
    """Call the function in a thread of a disk, and return its result. Raises NoAnswer if the disk hangs."""
    answer: list[outcome.Outcome[T]] = []
    arrived = trio.Event()

    def done(result: "outcome.Outcome[T]") -> None:
        answer.append(result)
        arrived.set()

    executor.submit(done, function, *args)
    while not answer:
        with trio.move_on_after(LOOK_SECONDS):
            await arrived.wait()
        if not answer and hangs():
            raise NoAnswer
    return answer[0].unwrap()


def in_jobs(sized: Iterable[tuple[T, int]]) -> Iterator[list[T]]:
    """Group things into jobs. Each thing comes with its size in bytes."""
    group: list[T] = []
    size = 0
    for one, bytes_ in sized:
        if group and (size + bytes_ > JOB_BYTES or len(group) == JOB_EXTENTS):
            yield group
            group, size = [], 0
        group.append(one)
        size += bytes_
    if group:
        yield group


# --- reading --------------------------------------------------------------------------------------------------------


async def read(disk: PooledDisk, pieces: Sequence[Piece]) -> None:
    """Read pieces that are on one disk.

    An unreadable piece becomes DAMAGED where only its bytes are wrong, and AWAY where the disk failed or hung.
    """
    found: Sequence[bytes | DamagedExtent | DiskError]
    rows = [piece.row for piece in pieces]
    try:
        found = await run(disk.reading, lambda: disk.reads_hang, stored.read_each, disk.disk, rows)
    except NoAnswer:
        found = [DiskError(disk.number, disk.disk.path, TimeoutError())] * len(pieces)
    for piece, data in zip(pieces, found, strict=True):
        piece.was_tried = True
        if isinstance(data, bytes):
            piece.data = data
            disk.read += len(data)
        elif piece.condition is Condition.GOOD:
            piece.condition = Condition.DAMAGED if isinstance(data, DamagedExtent) else Condition.AWAY


async def examine(disk: PooledDisk, stripe: Stripe, pieces: Sequence[Piece]) -> None:
    """Find the damaged pieces among those that a stripe has on one disk; a wrong record is damage, too."""
    ended = stripe.ended
    rows = tuple(sorted((piece.row for piece in pieces), key=lambda row: row.position))
    part = Part(ended.number, ended.session.stripe_unit, ended.opening, ended.ending, rows, is_first=False)
    try:
        flaws = await run(disk.reading, lambda: disk.reads_hang, stored.examine, disk.disk, part)
    except (DiskError, NoAnswer):
        for piece in pieces:
            piece.condition = Condition.AWAY
        return
    wrong = {flaw.extent: flaw.kind for flaw in flaws}
    for piece in pieces:
        if piece.row in wrong:
            piece.condition = Condition.DAMAGED
            piece.was_tried = wrong[piece.row] is not Kind.RECORD


def header_is_wrong(disk: Disk, part: Part) -> bool:
    """Tell whether the header of a member file differs from the one that the catalogue implies. Raises DiskError."""
    return any(flaw.kind is Kind.HEADER for flaw in stored.examine(disk, part))


# --- writing --------------------------------------------------------------------------------------------------------


def write(jobs: Sequence[tuple[Appending, list[Written]]]) -> list[list[Extent] | DiskError]:
    """Write extents to member files of one disk; return for each job its rows, or the error that stopped it."""
    written: list[list[Extent] | DiskError] = []
    for appending, extents in jobs:
        try:
            written.append(appending.write(extents))
        except DiskError as error:
            written.append(error)
    reached("repair.written")
    return written


async def sync(disk: PooledDisk, used: Iterable[Appending]) -> None:
    """Sync member files of one disk. Raises DiskError, NoAnswer."""
    members = [one.member for one in used if one.member is not None]
    errors: list[DiskError | NoAnswer] = []

    async def together(some: Sequence[Member]) -> None:
        try:
            await run(disk.syncing, lambda: disk.hangs, disk.disk.sync_members, some)
        except (DiskError, NoAnswer) as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        for some in [members] if len(members) > FEW else [[one] for one in members]:
            nursery.start_soon(together, some)
    if errors:
        raise errors[0]
    reached("repair.synced")


def discard(disk: Disk, rows: Sequence[Extent]) -> None:
    """Give back the room of extents that the tracking database has elsewhere by now."""
    for row in rows:
        disk.discard(row)
    reached("repair.discarded")
