"""What needs attention, each with the command that mends it: for `vtlfs report` and the terminal UI. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from shlex import quote

from vtlfs.config import Config
from vtlfs.engine.condition import Condition, Facts
from vtlfs.engine.media.pools import PoolState
from vtlfs.engine.reclaim.forecast import Forecast
from vtlfs.model import format_size
from vtlfs.report.night import LastNight
from vtlfs.report.words import DAY, ago, count, lasting, local, reason, seconds_between

FULL_SOON_DAYS = 7.0  # the library will be full within these: that is a trouble, and else a note
FULL_LATER_DAYS = 30.0  # later than that is not told
OLD_COPIES = 3  # times as old as copies are to be, and ...
OLD_COPY = DAY  # ... as old as this, the last copy of the tracking database is too old
OLD_VERIFICATION = 90 * DAY  # where library.toml does not say how often all is verified; ...
LATE = 2  # ... and where it does, times that


@dataclass(frozen=True, slots=True)
class Attention:
    """One thing that needs attention, and what to do about it, with the command to be typed.

    `condition`: how bad it is; `FINE`: a note.
    """

    condition: Condition
    what: str
    advice: str

    def as_json(self) -> dict[str, str]:
        """Return it as a JSON object."""
        return asdict(self)


def attention(
    facts: Facts,
    night: LastNight,
    config: Config,
    *,
    forecast: Forecast | None = None,
    pools: Sequence[PoolState] = (),
) -> list[Attention]:
    """Return what needs attention, the worst first.

    `facts`: as `vtlfs status` has found them, or as they are recorded. `forecast`: when the disks will be full.
    """
    found = [Attention(trouble.condition, trouble.what, trouble.advice) for trouble in facts.troubles]
    library = quote(facts.library)
    found += _of_failures(night, library)
    found += _of_space(night, library, forecast, pools)
    found += _of_verification(night, library, config)
    found += _of_copies(night, library, config)
    return sorted(found, key=lambda one: list(Condition).index(one.condition), reverse=True)


def condition_of(found: Sequence[Attention]) -> Condition:
    """Return the worst condition of all that needs attention."""
    return max((one.condition for one in found), key=list(Condition).index, default=Condition.FINE)


def _of_failures(night: LastNight, library: str) -> Iterator[Attention]:
    streams = [one for one in night.failures if one.access == "write"]
    reads = [one for one in night.failures if one.access != "write"]
    if streams:
        number = night.failed - len(reads)
        last = streams[-1]
        what = f"{count(number, 'stream')} failed since {local(night.since)}, the last from {last.host} to"
        what += f" {last.medium}: {reason(last.error)}"
        yield Attention(Condition.DEGRADED, what, f"vtlfs sessions {library} --medium {last.medium}; write it again")
    if reads:
        last = reads[-1]
        what = f"{count(len(reads), 'reader')} got an error, the last on {last.medium}: {reason(last.error)}"
        yield Attention(Condition.DEGRADED, what, f"vtlfs verify {library} {last.medium}")


def _of_space(
    night: LastNight, library: str, forecast: Forecast | None, pools: Sequence[PoolState]
) -> Iterator[Attention]:
    if forecast is not None and forecast.full_at is not None and forecast.daily:
        days = max(0.0, seconds_between(night.at, forecast.full_at)) / DAY
        if days <= FULL_LATER_DAYS:
            what = f"the disks will be full in about {lasting(days * DAY)}, at {format_size(forecast.daily)} a day"
            level = Condition.DEGRADED if days <= FULL_SOON_DAYS else Condition.FINE
            yield Attention(level, what, f"vtlfs disk add {library} NEWPATH, or vtlfs reclaim {library}")
    for pool in pools:
        if pool.end is not None:
            advice = f"vtlfs media add {library} BARCODE, or vtlfs media erase {library} BARCODE"
            yield Attention(Condition.DEGRADED, f"pool {pool.name} is at its end: {pool.end}", advice)
    for medium in night.filling:
        left = f"{format_size(medium.left)} left, at {format_size(medium.daily)} a day"
        what = f"medium {medium.barcode} will be full in about {lasting(medium.days * DAY)}: {left}"
        yield Attention(Condition.FINE, what, f"vtlfs media add {library} BARCODE")


def _of_verification(night: LastNight, library: str, config: Config) -> Iterator[Attention]:
    command = f"vtlfs verify {library}"
    if not night.bytes:
        return
    if night.verified is None:
        yield Attention(Condition.FINE, "the stored data was never verified as a whole", command)
        return
    age = seconds_between(night.verified.ended_at or night.verified.started_at, night.at)
    if age > (OLD_VERIFICATION if config.care.verify is None else LATE * config.care.verify):
        yield Attention(Condition.FINE, f"all data was last verified {lasting(age)} ago", command)


def _of_copies(night: LastNight, library: str, config: Config) -> Iterator[Attention]:
    if config.copy_every is None or night.copy.is_current:
        return
    begun = night.copy.begun_at
    allowed = max(OLD_COPIES * config.copy_every, OLD_COPY)
    if begun is not None and night.copy.is_there and seconds_between(begun, night.at) <= allowed:
        return
    if not night.bytes:
        return
    if begun is None or not night.copy.is_there:
        what = "no disk has a copy of the tracking database as it was last to be copied"
        level = Condition.FINE if begun is None else Condition.DEGRADED
    else:
        what, level = f"the last copy of the tracking database is of {ago(begun, night.at)}", Condition.DEGRADED
    yield Attention(level, what, f"vtlfs mount {library} MOUNTPOINT: a mount makes a copy; its log says what fails")
