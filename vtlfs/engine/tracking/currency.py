"""Whether a tracking database went back: an older copy took its place, or its write-ahead log lost its end.

Two cheap comparisons with the disks tell: the high-water marks, which note how far the database had come when it last
acknowledged a change; and member files of sessions whose identifiers the database has never given. Nothing is written
to a database that went back: recovery would take the extents that it lacks for leftovers of a dead mount, and cut them
off.
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
    """Return in words what the database lacks that the disks know of; None if it lacks nothing. Pure.

    The caller reads the marks first and the database's own mark `have` afterwards: a live mount may advance both.
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
    """Return in words the sessions that have member files and identifiers that the database never gave; None if none.

    `next_session` queries the database; it is called again after the disks were read, since a live mount may have given
    further identifiers. A disk that can't be read is passed over. May block.
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
