"""What happened since a time, such as last night. Asks the catalogue's read side only; pure but for that."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from vtlfs.engine.scrub.verification import Verification, last_of_all
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.incidents import Incident
from vtlfs.engine.tracking.repositories.jobs import JobRow
from vtlfs.engine.tracking.repositories.periods import Failure, Happened, HostStreams
from vtlfs.model import DiskRecord, DiskState, Medium, later
from vtlfs.report.words import DAY, seconds_between

FAILURES = 1000  # that are returned; all are counted
INCIDENTS = 1000
NAMES = 5  # of media, of each kind of event
FILLING_DAYS = 7  # over which it is seen how fast a medium fills
SOON_DAYS = 14  # a medium that will be full within these is told
REHEARSAL = "rehearse"  # the job


@dataclass(frozen=True, slots=True)
class FillingMedium:
    """A medium that will be full soon, at the rate of the last days. `left` and `daily`: bytes of streams."""

    barcode: str
    left: int
    daily: int

    @property
    def days(self) -> float:
        """In how many days it will be full."""
        return self.left / self.daily if self.daily else 0.0


@dataclass(frozen=True, slots=True)
class CopyOfCatalogue:
    """The last copy of the tracking database that was begun. `is_there`: a disk has it; `is_current`: no newer change
    is worth a copy. `begun_at`: None: none was ever begun.
    """

    begun_at: str | None
    is_there: bool
    is_current: bool


@dataclass(frozen=True, slots=True)
class LastNight:
    """What happened from `since` to `at`, the present.

    `hosts`: the streams by host, the most bytes first. `failures`: the last sessions that failed, of `failed`.
    `incidents`: of disks and the like; those of sessions are the failures. `happened`: events by kind.
    `new_disks`: added since then; `left_disks`: retired. `snapshots`: how many there are, how many were taken since
    then, when the newest was. `filling`: media that will be full soon, the first one first. `bytes`: of all media now.
    """

    since: str
    at: str
    hosts: tuple[HostStreams, ...]
    failures: tuple[Failure, ...]
    failed: int
    incidents: tuple[Incident, ...]
    happened: tuple[Happened, ...]
    new_hosts: tuple[str, ...]
    new_disks: tuple[DiskRecord, ...]
    left_disks: tuple[DiskRecord, ...]
    filling: tuple[FillingMedium, ...]
    snapshots: tuple[int, int, str | None]
    verified: Verification | None
    copy: CopyOfCatalogue
    rehearsed: JobRow | None
    bytes: int

    @property
    def streams(self) -> HostStreams:
        """The streams of all hosts together; its `media` is 0, as hosts may share media."""
        sums: Counter[str] = Counter()
        for one in self.hosts:
            sums.update(streams=one.streams, bytes=one.bytes, failed=one.failed, open=one.open)
        last = max((one.last_at for one in self.hosts if one.last_at is not None), default=None)
        return HostStreams("", sums["streams"], sums["bytes"], 0, sums["failed"], sums["open"], last)

    def as_json(self) -> dict[str, object]:
        """Return it as a JSON object."""
        total, recent, newest = self.snapshots
        return {
            "since": self.since,
            "until": self.at,
            "streams": self.streams.as_json(),
            "hosts": [one.as_json() for one in self.hosts],
            "failed": self.failed,
            "failures": [one.as_json() for one in self.failures],
            "incidents": [one.as_json() for one in self.incidents],
            "new": {
                "events": [one.as_json() for one in self.happened],
                "hosts": list(self.new_hosts),
                "disks": [one.number for one in self.new_disks],
                "retired_disks": [one.number for one in self.left_disks],
            },
            "filling": [asdict(one) | {"days": round(one.days, 1)} for one in self.filling],
            "snapshots": {"count": total, "taken": recent, "newest_at": newest},
            "verified": None if self.verified is None else self.verified.as_json(),
            "copy": asdict(self.copy),
            "rehearsed": None if self.rehearsed is None else self.rehearsed.as_json(),
            "bytes": self.bytes,
        }


def last_night(tracking: Tracking, since: str, at: str) -> LastNight:
    """Return what happened since a time. `at`: the present. Reads a row for each stream and event since then."""
    hosts = tracking.periods.streams(since)
    incidents = [one for one in tracking.incidents.since(since, INCIDENTS) if one.session is None]
    ever = tracking.disks.ever()
    return LastNight(
        since,
        at,
        tuple(sorted(hosts, key=lambda one: (-one.bytes, one.host))),
        tuple(tracking.periods.failures(since, FAILURES)),
        tracking.periods.count_failures(since),
        tuple(incidents),
        tuple(tracking.periods.happened(since, NAMES)),
        tuple(tracking.periods.new_hosts(since, [one.host for one in hosts])),
        tuple(disk for disk in ever if _is_later(disk.added_at, since) and _is_later(disk.added_at, _made(ever))),
        tuple(disk for disk in ever if disk.state is DiskState.RETIRED and _is_later(disk.state_at or "", since)),
        tuple(_filling(tracking, at)),
        tracking.periods.snapshots(since),
        last_of_all(tracking),
        copy_of_catalogue(tracking),
        tracking.jobs.get(REHEARSAL),
        tracking.media.totals()[0],
    )


def soon_full(media: Sequence[Medium], written: dict[str, int], days: float) -> list[FillingMedium]:
    """Return the media that will be full within `SOON_DAYS` days, as each got `written` bytes in `days` days. Pure."""
    found = [
        FillingMedium(medium.barcode, medium.left, int(written[medium.barcode] / days))
        for medium in media
        if medium.left is not None and medium.is_writable and written.get(medium.barcode)
    ]
    return sorted((one for one in found if 0 < one.days <= SOON_DAYS), key=lambda one: (one.days, one.barcode))


def _filling(tracking: Tracking, at: str) -> list[FillingMedium]:
    written = dict(tracking.periods.filling(later(at, -FILLING_DAYS * DAY)))
    media = [medium for medium in tracking.media.all() if medium.barcode in written] if written else []
    return soon_full(media, written, FILLING_DAYS)


def copy_of_catalogue(tracking: Tracking) -> CopyOfCatalogue:
    """Return how old the last copy of the tracking database is, and whether a disk has it."""
    last = tracking.copies.last()
    is_there = last.begun_at is not None and last.state is not None
    return CopyOfCatalogue(last.begun_at, is_there, is_there and last.state == tracking.copies.library_state())


def _made(disks: Sequence[DiskRecord]) -> str:
    """Return when the library got its first disks."""
    return min((disk.added_at for disk in disks), default="")


def _is_later(one: str, other: str) -> bool:
    """Tell whether a time is later than another: for people, as clocks jump."""
    return bool(one) and (not other or seconds_between(other, one) > 0)
