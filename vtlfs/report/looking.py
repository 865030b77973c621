"""A look at a library: its disks as they are just now, its mounts, space and pools. For `vtlfs status` and `report`.

First the disks are probed, then the tracking database is asked. May block, but does not wait for a disk that hangs.
"""

import pwd
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from vtlfs.disks.probe import Probe, probe
from vtlfs.engine import condition, lease
from vtlfs.engine.condition import NOTHING, DiskFacts, Facts
from vtlfs.engine.layout.dealer import Candidate
from vtlfs.engine.layout.room import room
from vtlfs.engine.library import Library
from vtlfs.engine.media import pools
from vtlfs.engine.media.pools import PoolState
from vtlfs.engine.reclaim.forecast import Forecast, forecast
from vtlfs.engine.reclaim.outlook import StoredUse, stored_use
from vtlfs.engine.tracking.currency import lacking
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.jobs import JobRow
from vtlfs.model import DiskRecord, Mount, format_size
from vtlfs.report.words import ago

CARE = ("verify", "rehearse")  # jobs, and the leases of the mounts that do them


@dataclass(frozen=True, slots=True)
class MountedBy:
    """A mount that the tracking database has as mounted, whether its process lives, and whose it is."""

    mount: Mount
    alive: bool
    user: str

    @property
    def host(self) -> str:
        """What its sessions are called by, unless they come over ssh."""
        return self.mount.host or self.mount.machine

    def as_json(self) -> dict[str, object]:
        """Return the mount as a JSON object."""
        return asdict(self.mount) | {"host": self.host, "user": self.user, "alive": self.alive}


@dataclass(frozen=True, slots=True)
class Use:
    """What the stored bytes are for, and when the disks will be full."""

    stored: StoredUse
    forecast: Forecast

    def as_json(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return asdict(self.stored) | {"daily": self.forecast.daily, "full_at": self.forecast.full_at}

    @property
    def lines(self) -> list[str]:
        """It for people."""
        stored = self.stored
        used = f"{format_size(stored.current)} by what the media have now, {format_size(stored.held)} by erased volumes"
        lines = [f"used      {used} that are held, {format_size(stored.reclaimable)} reclaimable"]
        if self.forecast.daily is None:
            return [*lines, "full      unknown: too little history"]
        if self.forecast.full_at is None:
            return [*lines, "full      not as far as one can see, at the rate of the last weeks"]
        daily = format_size(self.forecast.daily)
        return [*lines, f"full      about {self.forecast.full_at[:10]}, at {daily} a day as in the last weeks"]


@dataclass(frozen=True, slots=True)
class CareOf:
    """How far a job is that mounts do by themselves: `verify` or `rehearse`. `is_running`: one does it just now."""

    job: JobRow
    is_running: bool

    def as_json(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return self.job.as_json() | {"is_running": self.is_running}

    def in_words(self, at: str) -> str:
        """Return it in a clause. `at`: the present."""
        job = self.job
        if job.ended_at is not None:
            return f"{job.result}; {ago(job.ended_at, at)}, by {job.by}"
        share = f"{100 * min(job.done, job.total) // job.total} %, " if job.total else ""
        state = "under way" if self.is_running else "interrupted; a mount goes on with it"
        return f"{share}{state}; begun {ago(job.begun_at, at)}, by {job.by}"


def care_of(library: Library, tracking: Tracking) -> dict[str, CareOf]:
    """Return how far the care is that mounts take by themselves, by job."""
    found = {name: tracking.jobs.get(name) for name in CARE}
    return {
        name: CareOf(job, job.ended_at is None and lease.is_done(library.path, name))
        for name, job in found.items()
        if job is not None
    }


@dataclass(frozen=True, slots=True)
class Look:
    """What was found. `probes` by disk number; `space`: bytes `total`, `free` and `available`, see `_space`."""

    library: Library
    facts: Facts
    probes: dict[int, Probe]
    mounts: list[MountedBy]
    pools: list[PoolState]
    space: dict[str, int]
    use: Use


def probe_disks(library: Library) -> list[Probe]:
    """Look at the disks, with their high-water marks: to be done before the database is asked."""
    with closing(library.tracking(read_only=True)) as tracking:
        paths = dict.fromkeys([*library.config.disks, *(Path(disk.path) for disk in tracking.disks.all())])
    return probe(library.config.uuid, list(paths))


def examine(library: Library, tracking: Tracking, probes: Sequence[Probe], at: str) -> Look:
    """Return what is known of a library, and was found of its disks. `at`: the present."""
    mounts = [mounted_by(library, mount) for mount in tracking.mounts.live()]
    marks = [found.mark for found in probes if found.mark is not None]
    found = _matched(tracking.disks.all(), probes)
    facts = condition.examine(
        library,
        tracking,
        _disks(tracking, found, is_mounted=any(mounted.alive for mounted in mounts)),
        dead=[mounted.mount.mountpoint for mounted in mounts if not mounted.alive],
        lacks=lacking(tracking.library.watermark(), marks),
    )
    by_number = {record.number: probe for record, probe in found}
    space = _space(library, facts, by_number)
    states = [pools.state_of(tracking, name, rule, at) for name, rule in library.config.pools.items()]
    return Look(library, facts, by_number, mounts, states, space, _use(library, tracking, space["available"], at))


def mounted_by(library: Library, mount: Mount) -> MountedBy:
    """Return whether a mount lives, and whose it is."""
    try:
        user = pwd.getpwuid(mount.uid).pw_name
    except KeyError:
        user = str(mount.uid)
    return MountedBy(mount, library.leases.is_alive(mount.id), user)


def _space(library: Library, facts: Facts, probes: dict[int, Probe]) -> dict[str, int]:
    """Return the bytes of all disks and the free ones, each device once, and how much data still fits."""
    sized = {number: found for number, found in probes.items() if found.total is not None}
    usable = {disk.record.number for disk in facts.disks if disk.is_usable}
    candidates = [
        Candidate(number, found.device or 0, found.free or 0) for number, found in sized.items() if number in usable
    ]
    return {
        "total": sum({found.device: found.total or 0 for found in sized.values()}.values()),
        "free": sum({found.device: found.free or 0 for found in sized.values()}.values()),
        "available": room(candidates, library.config.parity),
    }


def _use(library: Library, tracking: Tracking, available: int, at: str) -> Use:
    """Return what the stored bytes are for. `available`: bytes of data that still fit."""
    stored = stored_use(library, tracking)
    return Use(stored, forecast(tracking, available + stored.reclaimable, at))


def _disks(tracking: Tracking, found: list[tuple[DiskRecord, Probe]], *, is_mounted: bool) -> list[DiskFacts]:
    """Return what is known of the disks, and was found of them just now."""
    stored = tracking.disks.stored()
    return [
        DiskFacts(
            *(record, probe.path, probe.problem),
            is_read=probe.problem is not None and probe.total is not None,
            stored=stored.get(record.number, NOTHING),
            is_idle=not is_mounted,
        )
        for record, probe in found
    ]


def _matched(records: list[DiskRecord], probes: Sequence[Probe]) -> list[tuple[DiskRecord, Probe]]:
    """Pair the disks with what was found: by their labels, and where there is none by where they were last seen."""
    by_number = {found.number: found for found in probes if found.number is not None}
    nameless = {found.path: found for found in probes if found.number is None}
    here = {record.number: nameless.pop(record.path) for record in records if record.path in nameless}
    pairs = []
    for record in records:
        if record.number in by_number:
            found = by_number[record.number]
        elif record.number in here:
            found = here[record.number]
        elif nameless:
            found = nameless.pop(next(iter(nameless)))
        else:
            found = Probe(record.path, problem="no path in library.toml leads to it")
        pairs.append((record, found))
    return pairs
