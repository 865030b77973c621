"""Times in the words of people: local, where they name no zone. Rows and JSON have them in UTC."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import click

from vtlfs.config import parse_duration
from vtlfs.errors import UsageError
from vtlfs.model import format_time, later, utc_now

_DAYS = {"today": 0, "yesterday": 1}


def moment(word: str) -> str:
    """Read a time: `yesterday`, `-12h`, `2027-01-31`, `2027-01-31 18:00`, `tuesday 9pm`, `3 days ago`.

    A day is its beginning; a weekday is the last one. Return the time as the database has it.
    """
    text = word.strip().lower()
    with suppress(UsageError):
        return later(utc_now(), -parse_duration(text.removeprefix("-")))
    found = _plain(text) or _spoken(text)
    if found is None:
        raise click.BadParameter(
            f"{word!r}: no such time; write it like yesterday, -12h, 2027-01-31 or '2027-01-31 18:00'"
        )
    try:
        return format_time(found.astimezone(UTC))
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{word!r}: too long ago, or too far ahead") from None


def _plain(text: str) -> datetime | None:
    now = datetime.fromisoformat(utc_now()).astimezone()
    if text == "now":
        return now
    if text in _DAYS:
        day = now.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        return day - timedelta(days=_DAYS[text])  # local time, which is later made UTC: a day may have 23 or 25 hours
    with suppress(ValueError):
        return datetime.fromisoformat(text.upper())
    return None


def _spoken(text: str) -> datetime | None:
    """Read a time in English by dateparser, which takes long to import: only what `_plain` does not know."""
    if not re.search("[a-z]", text):  # such as 12, of which dateparser makes a month
        return None
    import dateparser

    settings = {"PREFER_DATES_FROM": "past", "RETURN_AS_TIMEZONE_AWARE": True}
    return dateparser.parse(text, languages=["en"], settings=settings)
