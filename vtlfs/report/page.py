"""A report as a page for people: text of 80 columns, or Markdown. Long lists are cut, and the rest is counted. Pure.

Names of hosts and programs may have any characters: whoever prints the text makes them printable.
"""

import re
import textwrap
from collections.abc import Iterator

from vtlfs.engine.tracking.repositories.periods import Failure, HostStreams
from vtlfs.model import format_size
from vtlfs.report.night import LastNight
from vtlfs.report.report import Report
from vtlfs.report.words import ago, count, lasting, local, reason, seconds_between

WIDTH = 80  # columns
HOSTS, FAILURES, ATTENTION, INCIDENTS = 6, 4, 5, 3  # that are shown, at most; the rest is counted
NEW_HOSTS = 4  # that are named
NAME = 24  # characters of a host's name
LABEL = 11  # columns before the text of a line
HEADINGS = ("HOST", "STREAMS", "FAILED", "OPEN", "BYTES", "MEDIA", "LAST")
ARROW = "->"


def text(report: Report) -> Iterator[str]:
    """Yield the lines of the page: at most WIDTH columns, unless a word is longer."""
    night = report.night
    yield from _wrapped("library", str(report.look.library.path))
    yield from _wrapped("condition", str(report.condition))
    yield from _wrapped("since", _period(night))
    for one in report.attention[:ATTENTION]:
        yield from _wrapped(str(one.condition) if one.condition.status else "note", one.what)
        yield from _wrapped("", f"{ARROW} {one.advice}")
    yield from _more(len(report.attention) - ATTENTION, "thing needs attention", "things need attention")
    yield ""
    yield from _hosts(night)
    for failure in night.failures[-FAILURES:]:
        yield from _wrapped("failed", failure_line(failure))
    yield from _more(night.failed - min(FAILURES, len(night.failures)), "session failed", "sessions failed")
    for label, told in _facts(report):
        yield from _wrapped(label, told)


def markdown(report: Report) -> Iterator[str]:
    """Yield the lines of the page as Markdown: for a mail, a ticket or a chat."""
    night = report.night
    yield f"# {_escaped(str(report.look.library.path))}: {report.condition}"
    yield ""
    yield f"Since {_period(night)}."
    if report.attention:
        yield from ("", "## Needs attention", "")
    for one in report.attention:
        level = str(one.condition) if one.condition.status else "note"
        yield f"- **{level}**: {_escaped(one.what)}"
        yield f"  - {_escaped(one.advice)}"
    yield from ("", "## Streams", "")
    yield f"| {' | '.join(HEADINGS)} |"
    yield f"| --- |{' ---: |' * (len(HEADINGS) - 1)}"
    for host in (*night.hosts, night.streams):
        yield f"| {' | '.join(_escaped(cell) for cell in _row(host))} |"
    if night.failures:
        yield from ("", "## Failed", "")
    yield from (f"- {_escaped(failure_line(one))}" for one in night.failures)
    yield from ("", "## Library", "")
    yield from (f"- {label}: {_escaped(told)}" for label, told in _facts(report, all_incidents=True))


def failure_line(one: Failure) -> str:
    """Return what is told of a session that failed."""
    kept = f" after {format_size(one.bytes)}" if one.bytes else ""
    verb = "wrote" if one.access == "write" else "read"
    who = f"{local(one.at)} {one.host}, {one.program} {verb} {one.medium}{kept}"
    return f"{who}: {reason(one.error)}; session {one.session}"


def news(night: LastNight) -> list[str]:
    """Return what is new, in a few words each."""
    more = [] if len(night.new_hosts) <= NEW_HOSTS else [f"{len(night.new_hosts) - NEW_HOSTS:,} more hosts"]
    told = [f"host {host}" for host in night.new_hosts[:NEW_HOSTS]] + more
    told += [f"disk {disk.number} ({disk.path})" for disk in night.new_disks]
    told += [f"disk {disk.number} has left" for disk in night.left_disks]
    for one in night.happened:
        names = ", ".join(one.media) + (", ..." if one.count > len(one.media) > 0 else "")
        if one.media:
            told.append(f"{count(one.count, 'medium', 'media')} {one.what} ({names})")
        else:
            told.append(one.what if one.count == 1 else f"{one.count:,} times {one.what}")
    return told


def _facts(report: Report, *, all_incidents: bool = False) -> Iterator[tuple[str, str]]:
    """Yield what is told in a line each: a label and a text."""
    night, space = report.night, report.look.space
    for one in night.incidents if all_incidents else night.incidents[-INCIDENTS:]:
        yield "incident", f"{local(one.at)} {one.what}"
    yield "new", "; ".join(news(night)) or "nothing"
    free = f"{format_size(space['available'])} of data still fit"
    forecast = report.look.use.forecast
    if forecast.full_at is not None and forecast.daily is not None:
        free += f"; full about {forecast.full_at[:10]}, at {format_size(forecast.daily)} a day"
    yield "space", free
    total, taken, newest = night.snapshots
    yield "snapshots", f"{taken:,} taken, {total:,} there" + (f", the last {ago(newest, night.at)}" if newest else "")
    yield "verified", _verified(night)
    if night.rehearsed is not None and night.rehearsed.ended_at is not None:
        yield "rehearsed", f"{ago(night.rehearsed.ended_at, night.at)}: {night.rehearsed.result}"
    yield "catalogue", _copy(night)


def _verified(night: LastNight) -> str:
    last = night.verified
    if last is None:
        return "never as a whole"
    when = ago(last.ended_at or last.started_at, night.at)
    mended = f", of which {last.mended:,} are mended" if last.mended else ""
    return f"all data {when}: {last.in_words}{mended}"


def _copy(night: LastNight) -> str:
    copy = night.copy
    if copy.begun_at is None:
        return "never copied to the disks"
    state = "is up to date" if copy.is_current else "lacks what came later" if copy.is_there else "failed on all disks"
    return f"its last copy to the disks, {ago(copy.begun_at, night.at)}, {state}"


def _period(night: LastNight) -> str:
    return f"{local(night.since)}, {lasting(seconds_between(night.since, night.at))}, until {local(night.at)}"


def _hosts(night: LastNight) -> Iterator[str]:
    """Yield the table of the streams by host, with a line for all of them if there are several."""
    if not night.hosts:
        yield from _wrapped("streams", "none")
        return
    shown = [_row(one) for one in night.hosts[:HOSTS]]
    if len(night.hosts) > HOSTS:
        shown.append((f"... {len(night.hosts) - HOSTS:,} more", *[""] * (len(HEADINGS) - 1)))
    if len(night.hosts) > 1:
        shown.append(_row(night.streams))
    table = [HEADINGS, *shown]
    widths = [max(len(row[place]) for row in table) for place in range(len(HEADINGS))]
    for row in table:
        name, *figures = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        cells = [f"{name.strip():<{widths[0]}}", *figures]
        yield "  ".join(cells).rstrip()


def _row(one: HostStreams) -> tuple[str, ...]:
    figures = (f"{one.streams:,}", f"{one.failed:,}", f"{one.open:,}", format_size(one.bytes))
    name = one.host if len(one.host) <= NAME else f"{one.host[: NAME - 3].rstrip('.')}..."
    last = "-" if one.last_at is None else local(one.last_at)[5:]
    return (name or "all", *figures, f"{one.media:,}" if one.host else "", last)


def _more(number: int, noun: str, plural: str) -> Iterator[str]:
    if number > 0:
        yield from _wrapped("", f"... {count(number, f'more {noun}', f'more {plural}')}")


def _wrapped(label: str, told: str) -> list[str]:
    """Return a text behind its label, in lines of at most WIDTH columns."""
    first = f"{label:<{LABEL}}"
    return textwrap.wrap(
        told,
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * LABEL,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [first.rstrip()]


def _escaped(told: str) -> str:
    """Return a text that Markdown shows as it is, in one line."""
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", " ".join(told.split()))
