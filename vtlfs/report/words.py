"""Times, ages and reasons in words, for people: times are those of the machine's time zone."""

import errno
import os
from datetime import UTC, datetime, timedelta

from vtlfs.model import epoch_ns, format_time, local_time

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
NIGHT_BEGINS = 18  # o'clock


def default_since(at: str) -> str:
    """Return since when a report tells: 24 hours ago, or yesterday at 18:00 in the time zone if that is earlier.

    So a report a day leaves nothing out, and each has the whole last night. `at`: the present.
    """
    yesterday = datetime.fromisoformat(at).astimezone() - timedelta(days=1)
    evening = yesterday.replace(hour=NIGHT_BEGINS, minute=0, second=0, microsecond=0)
    return format_time(min(evening, yesterday).astimezone(UTC))


def seconds_between(earlier: str, later: str) -> float:
    """Return the seconds from one time to another; negative where a clock was set back. Raises VtlfsError."""
    return (epoch_ns(later) - epoch_ns(earlier)) / 1e9


def is_within(begun: str, at: str, seconds: float) -> bool:
    """Tell whether less than so many seconds have passed since a time; not where a clock was set back before it."""
    return 0 <= seconds_between(begun, at) < seconds


def local(time: str) -> str:
    """Return a time in the time zone, to the minute."""
    return local_time(time)[:16]


def ago(time: str, at: str) -> str:
    """Return how long ago a time was, such as `3 h ago`. `at`: the present."""
    age = seconds_between(time, at)
    if age < 0:
        return "in the future: a clock was set back"
    return f"{lasting(age)} ago"


def lasting(seconds: float) -> str:
    """Return a duration in its largest unit, such as `3 h`."""
    if seconds >= 2 * DAY:
        return f"{int(seconds / DAY)} days"
    if seconds >= 2 * HOUR:
        return f"{int(seconds / HOUR)} h"
    if seconds >= 2 * MINUTE:
        return f"{int(seconds / MINUTE)} min"
    return f"{int(seconds)} s"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return `1 stream` or `2 streams`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def reason(error: str | None) -> str:
    """Return why a session failed. `error`: the name of its errno; None: its mount died."""
    if error is None:
        return "its mount died"
    code = getattr(errno, error, None)
    return error if code is None else f"{error} ({os.strerror(code)})"
