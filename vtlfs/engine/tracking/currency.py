"""Whether a tracking database is the newest that the library has had: what it says against what the disks know.

Two witnesses, both cheap: the high-water marks (how far the database had come when it last acknowledged something),
and member files of sessions whose identifiers it says it has never given. A database that is behind them went back: an
older one was put in its place, or its write-ahead log lost its end. Nothing is written to it then: what it lacks lies
on the disks, and would be taken for what a dead mount has left over.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress

from vtlfs.disks.base import Disk
from vtlfs.errors import DiskError
from vtlfs.model import Watermark, format_size

_COUNTED: tuple[tuple[str, str, str], ...] = (
    ("media", "medium", "media"),
    ("sessions", "session", "sessions"),
    ("tape_files", "tape file", "tape files"),
)


def lacking(have: Watermark, marks: Iterable[Watermark]) -> str | None:
    """Return in words what a database lacks of what the disks know; None where it is not behind. Pure.

    The marks must have been read before the database was asked: it may go on meanwhile, and the marks with it.
    """
    newest = max(marks, key=lambda mark: mark.commits, default=have)
    if newest.commits <= have.commits:
        return None
    parts = [
        f"{more:,} {one if more == 1 else many}"
        for name, one, many in _COUNTED
        if (more := getattr(newest, name) - getattr(have, name)) > 0
    ]
    if (size := newest.bytes - have.bytes) > 0:
        parts.append(f"{format_size(size)} on tape")
    if newest.snapshot > have.snapshot:
        parts.append(f"snapshots up to {newest.snapshot}")
    changes = newest.commits - have.commits
    counted = f"the last {changes:,} changes" if changes > 1 else "the last change"
    return f"{counted}, with {', '.join(parts)}" if parts else counted


def never_given(disks: Iterable[Disk], next_session: Callable[[], int]) -> str | None:
    """Return in words which member files are of identifiers that the database has not given; None without any.

    `next_session` asks the database, after the disks were looked at. May block. A disk that can't be read says nothing.
    """
    given = next_session()
    found: set[int] = set()
    for disk in disks:
        with suppress(DiskError):
            found.update(disk.sessions_from(given))
    strangers = sorted(session for session in found if session >= next_session()) if found else []
    if not strangers:
        return None
    return f"sessions whose member files are on the disks, from {strangers[0]} to {strangers[-1]}"
