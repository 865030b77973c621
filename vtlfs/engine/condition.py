"""The condition of a library: fine, degraded or failed; each trouble that makes it so, and the command that ends it.

Used by `vtlfs status`, which has looked at the disks, and by the terminal UI, which believes what mounts have recorded.
Pure but for `examine`, which asks the tracking database and the leases.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from shlex import quote

from vtlfs import blame
from vtlfs.engine import lease
from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.disks import Stored
from vtlfs.engine.tracking.repositories.jobs import JobRow
from vtlfs.engine.tracking.repositories.lacks import Damaged, Degraded
from vtlfs.model import DiskRecord, DiskState, format_size, local_time

REPAIR = "repair"  # the job, and the work that its lease stands for
NOTHING = Stored(0, 0)
USABLE = 2  # disks that a stream lies on, at least


class Condition(StrEnum):
    """How a library is, from good to bad. `status`: the exit status of `vtlfs status`."""

    FINE = "fine"
    DEGRADED = "degraded"
    FAILED = "failed"

    @property
    def status(self) -> int:
        """The exit status that tells it."""
        return {Condition.FINE: 0, Condition.DEGRADED: 4, Condition.FAILED: 3}[self]


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong, how bad that is, and what to do about it: in words, with the command to be typed."""

    condition: Condition
    what: str
    advice: str

    def as_json(self) -> dict[str, str]:
        """Return the trouble as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """What is known of a disk of a library.

    `path`: where it is, or should be. `problem`: what somebody who looked at it just now has found, None: nothing, or
    nobody has looked. `is_read`: though there is a problem, it can be read. `is_idle`: it was looked at, and no mount
    uses it: the fault that is recorded is one that it had once.
    """

    record: DiskRecord
    path: str
    problem: str | None = None
    is_read: bool = False
    stored: Stored = NOTHING
    is_idle: bool = False

    @property
    def is_back(self) -> bool:
        """Whether the disk is there, though the last mount could not use it."""
        return self.is_idle and self.problem is None and self.record.fault is not None and not self.is_full

    @property
    def is_full(self) -> bool:
        """Whether nothing is wrong with the disk but that it is full."""
        return self.problem is None and blame.means_full(self.record.fault)

    @property
    def is_away(self) -> bool:
        """Whether the disk is missing, faulty or hangs."""
        return self.problem is not None or not (self.record.fault is None or self.is_full or self.is_back)

    @property
    def works(self) -> bool:
        """Whether the disk can be written to. One that retires is, where too few others can."""
        return self.problem is None and (self.record.fault is None or self.is_back)

    @property
    def is_usable(self) -> bool:
        """Whether new extents are to go to the disk."""
        return self.works and self.record.state is DiskState.IN_USE

    def __str__(self) -> str:
        return f"disk {self.record.number} ({self.path})"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a library. `parity`: that of its configuration. `lacks`: what the database lacks of the disks.

    `is_repairing`: a repair is under way; `dead`: the mount points of mounts that died.
    """

    library: str
    parity: int
    disks: tuple[DiskFacts, ...]
    degraded: tuple[Degraded, ...] = ()
    damaged: Damaged | None = None
    repair: JobRow | None = None
    is_repairing: bool = False
    dead: tuple[str, ...] = ()
    lacks: str | None = None
    troubles: tuple[Trouble, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "troubles", tuple(_troubles(self)))

    @property
    def condition(self) -> Condition:
        """The worst of all troubles."""
        return max((one.condition for one in self.troubles), key=list(Condition).index, default=Condition.FINE)

    @property
    def away(self) -> list[DiskFacts]:
        """The disks that are missing, faulty or hang."""
        return [disk for disk in self.disks if disk.is_away]

    @property
    def missed(self) -> list[DiskFacts]:
        """The disks that are away, and have something that parity has to make up for. Without parity: all."""
        return [disk for disk in self.away if disk.stored.extents or not self.parity]

    @property
    def too_many_away(self) -> bool:
        """Whether more disks are missed than the parity makes up for."""
        return len(self.missed) > self.parity

    @property
    def computed(self) -> int:
        """Stored bytes that lie on disks that are away, and are computed from parity when they are read."""
        return 0 if self.too_many_away else sum(disk.stored.bytes for disk in self.away if not disk.is_read)

    @property
    def repair_line(self) -> str | None:
        """How far the repair is, or what came of the last one; None where there was none."""
        job = self.repair
        if job is None:
            return None
        if job.ended_at is not None:
            return f"{job.result}; ended {local_time(job.ended_at)}, by {job.by}"
        share = f" ({100 * min(job.done, job.total) // job.total} %)" if job.total else ""
        state = "under way" if self.is_repairing else "interrupted"
        done = f"{format_size(job.done)} of {format_size(job.total)}{share}"
        return f"{state}: {done} since {local_time(job.begun_at)}, by {job.by}"


def examine(
    library: Library,
    tracking: Tracking,
    disks: Iterable[DiskFacts] | None = None,
    dead: Iterable[str] = (),
    lacks: str | None = None,
) -> Facts:
    """Return what is known of a library. `disks`: as somebody has found them; None: as they are recorded. May block."""
    if disks is None:
        stored = tracking.disks.stored()
        disks = [
            DiskFacts(record, record.path, stored=stored.get(record.number, NOTHING)) for record in tracking.disks.all()
        ]
    repair = tracking.jobs.get(REPAIR)
    return Facts(
        library=str(library.path),
        parity=library.config.parity,
        disks=tuple(disks),
        degraded=tuple(tracking.lacks.degraded()),
        damaged=tracking.lacks.damaged(),
        repair=repair,
        is_repairing=repair is not None and repair.ended_at is None and lease.is_done(library.path, REPAIR),
        dead=tuple(dead),
        lacks=lacks,
    )


def sharing(devices: Mapping[str, int], parity: int) -> list[str]:
    """Say of disks, by their names, which of them share a device, and what they are worth then. A line a device."""
    on: dict[int, list[str]] = defaultdict(list)
    for name, device in devices.items():
        on[device].append(name)
    if parity == 0:
        worth = "they die together"
    elif len(on) > parity:
        worth = (
            "they die together, and count as one: no stripe has two extents there, while the other devices have room"
        )
    else:
        worth = (
            "they die together, which parity does not make up for; it does for damaged extents and for one directory"
        )
    return [f"{listed(names)} share a device: {worth}" for names in on.values() if len(names) > 1]


def listed(names: Iterable[str]) -> str:
    """Return `a`, `a and b`, or `a, b and c`."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


# --- the troubles ---------------------------------------------------------------------------------------------------


def _troubles(facts: Facts) -> Iterator[Trouble]:
    """Yield what is wrong, the worst first."""
    library = quote(facts.library)
    if facts.lacks is not None:
        what = f"the tracking database is older than the disks: it lacks {facts.lacks}"
        yield Trouble(Condition.FAILED, what, f"vtlfs rebuild {library} takes that in")
    if facts.too_many_away:
        numbers = [str(disk.record.number) for disk in facts.missed]
        covered = f"parity makes up for {facts.parity}" if facts.parity else "there is no parity"
        yield Trouble(
            Condition.FAILED,
            f"{_count(len(numbers), 'disk')} away ({listed(numbers)}), and {covered}: some bytes can't be read",
            f"bring disks back, or save the rest: vtlfs extract {library} BARCODE --skip-damaged -o FILE",
        )
    if sum(disk.works for disk in facts.disks) < USABLE:
        what = f"fewer than {USABLE} disks can be written to: no stream can be"
        yield Trouble(Condition.FAILED, what, f"bring disks back, or vtlfs disk add {library} NEWPATH")
    for disk in facts.disks:
        yield from _of_disk(facts, disk, library)
    yield from _of_stripes(facts, library)
    if facts.repair is not None and facts.repair.ended_at is None and not facts.is_repairing:
        what = f"the repair that {facts.repair.by} began at {local_time(facts.repair.begun_at)} was interrupted"
        yield Trouble(Condition.DEGRADED, what, f"vtlfs disk repair {library} goes on with it")
    for where in facts.dead:
        advice = f"vtlfs recover {library} ends its sessions"
        yield Trouble(Condition.DEGRADED, f"the mount at {where} is dead", advice)


def _of_disk(facts: Facts, disk: DiskFacts, library: str) -> Iterator[Trouble]:
    record, number = disk.record, disk.record.number
    since = f" since {local_time(record.fault_at)}" if record.fault_at else ""
    what = f"{disk}: {disk.problem or record.fault}{since}"
    if disk.is_full:
        advice = f"vtlfs disk add {library} NEWPATH makes room"
        yield Trouble(Condition.DEGRADED, f"{what}; mounts write to the other disks", advice)
    elif disk.is_back:
        what = f"{disk} is there; the last mount could not use it{since}: {record.fault}"
        yield Trouble(Condition.DEGRADED, what, f"vtlfs disk repair {library} tries it out, and so does a mount")
    elif disk.is_away:
        advice = f"bring it back, or vtlfs disk replace {library} {number} NEWPATH"
        yield Trouble(Condition.DEGRADED, f"{what}; {_consequence(facts, disk)}", advice)
    if record.state is DiskState.RETIRING:
        left = _count(disk.stored.extents, "extent")
        size = format_size(disk.stored.bytes)
        since = f" since {local_time(record.state_at)}" if record.state_at else ""
        what = f"{disk} is retiring{since}; {left} with {size} are still to be moved"
        yield Trouble(Condition.DEGRADED, what, _repair(facts, library))


def _consequence(facts: Facts, disk: DiskFacts) -> str:
    """Say what becomes of what lies on a disk that is away."""
    if disk.is_read:
        return "mounts read from it, and write to the other disks until it can be written to"
    if not disk.stored.bytes:
        return "nothing lies there; mounts write to the other disks until it works again"
    size = format_size(disk.stored.bytes)
    if not facts.too_many_away:
        return f"{size} that lie there are computed from parity; mounts write to the other disks until it works again"
    return (
        f"{size} lie there, which parity does not all make up for; mounts write to the other disks until it works again"
    )


def _of_stripes(facts: Facts, library: str) -> Iterator[Trouble]:
    usable = sum(disk.is_usable for disk in facts.disks)
    more = f"vtlfs disk add {library} NEWPATH: parity {facts.parity} wants {facts.parity + 1} usable disks"
    for row in facts.degraded:
        lacking = f"lack {_count(row.parity, 'extent')} of parity" if row.parity else "have lost extents"
        stripes = f"{format_size(row.bytes)} in {_count(row.stripes, 'stripe')}"
        what = f"{stripes} {lacking} since {local_time(row.since)}"
        yield Trouble(Condition.DEGRADED, what, more if usable <= facts.parity else _repair(facts, library))
    if (damaged := facts.damaged) is not None:
        parts = [f"{format_size(damaged.bytes)} in {_count(damaged.stripes, 'stripe')}"] if damaged.stripes else []
        parts += [f"headers of {_count(damaged.headers, 'session')}"] if damaged.headers else []
        what = f"damage was found at {local_time(damaged.since)}, which is not mended: {listed(parts)}"
        names = f"; vtlfs verify {library} names the tape files"
        yield Trouble(Condition.DEGRADED, what, _repair(facts, library) + names)


def _repair(facts: Facts, library: str) -> str:
    """Say how to mend something: by a repair, of which the last one may have said what it wants for that."""
    if facts.is_repairing:
        return "wait for the repair"
    result = facts.repair.result if facts.repair is not None else None
    return f"vtlfs disk repair {library}{f'; the last one: {result}' if result else ''}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
