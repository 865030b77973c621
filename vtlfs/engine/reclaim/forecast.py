"""When the disks will be full, at the rate of the last weeks. For people: a clock that jumped makes it wrong."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import VtlfsError
from vtlfs.model import epoch_ns, format_time

WINDOW_DAYS = 28
LEAST_DAYS = 3  # of history, for a forecast
MOST_DAYS = 36_500  # what comes later than that comes never


@dataclass(frozen=True, slots=True)
class Forecast:
    """`daily`: bytes of streams a day that came, less those that were reclaimed; None: there is too little history.

    `full_at`: when the disks will be full; None: not as far as one can see, or unknown.
    """

    daily: int | None
    full_at: str | None


def forecast(tracking: Tracking, available: int, at: str) -> Forecast:
    """Say when `available` bytes of streams will have come. `at`: the present. Reads an index over the last weeks."""
    now = datetime.fromisoformat(at)
    since = now - timedelta(days=WINDOW_DAYS)
    written, first = tracking.reclaiming.written(format_time(since))
    days = 0.0
    if first is not None:
        with suppress(VtlfsError):  # a row that is damaged, of which `vtlfs check` tells
            days = min(WINDOW_DAYS, now.timestamp() / 86_400 - epoch_ns(first) / 86_400e9)
    if days < LEAST_DAYS:
        return Forecast(None, None)
    daily = int((written - tracking.reclaiming.reclaimed(format_time(since))) / days)
    if daily <= 0 or available / daily > MOST_DAYS:
        return Forecast(daily, None)
    return Forecast(daily, format_time(now + timedelta(days=available / daily)))
