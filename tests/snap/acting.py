"""A library whose tracking database is filled by steps that Hypothesis chooses; some steps take snapshots."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from filling import tracked
from hypothesis import strategies as st

from vtlfs.disks.records import BLOCK
from vtlfs.engine.library import Library, create
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.schema.tables import VERSIONED
from vtlfs.model import NO_CODEC, Access, Extent, Mount, Opener, Snapshot, State
from vtlfs.snap import store

UNIT = 4096
START = datetime(2026, 1, 1, tzinfo=UTC)
MEDIA = ["A1", "A2", "A3"]
KINDS = ["open", "open", "record", "record", "release", "release", "load", "unload", "add", "mount", "end", "fill"]

steps = st.lists(st.tuples(st.sampled_from([*KINDS, "snap", "snap", "snap"]), st.integers(0, 5)), max_size=50)
Rows = dict[str, list[tuple[Any, ...]]]


def time(second: int) -> str:
    """Return the time so many seconds after the start, as the tracking database writes it."""
    return (START + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _stripe(session: int, number: int) -> list[Extent]:
    """Return a mirrored stripe: one stripe unit and its parity."""
    position = BLOCK + number * (BLOCK + UNIT)
    data = Extent(session, number, 0, number * UNIT, UNIT, NO_CODEC, number % 2, position, UNIT, bytes(32))
    return [data, replace(data, offset=None, bytes=0, disk=1 - data.disk)]


class Actor:
    """A library, a connection to its database, and a clock that ticks with each step."""

    def __init__(self, root: Path) -> None:
        disks = [root / f"disk{number}" for number in range(2)]
        for disk in disks:
            disk.mkdir()
        self.library: Library = create(root / "library", disks, drives=3, stripe_unit=UNIT, parity=1, at=time(0))
        self.tracking: Tracking = tracked(self.library)
        self.seconds = 0
        self.tracking.sql.execute("PRAGMA synchronous = OFF")  # it need not survive a power cut
        with self.tracking.transaction():
            self.tracking.media.add(MEDIA, None, time(0))
            self.tracking.mounts.add(Mount(0, "alpha", "m", 1, 0, "/mnt", "", "mounted", time(0), None))

    def at(self) -> str:
        """Return the next moment."""
        self.seconds += 1
        return time(self.seconds)

    def snap(self, name: str | None = None, *, at: str | None = None) -> Snapshot:
        """Take a snapshot."""
        with self.tracking.transaction():
            return store.take(self.tracking, at or self.at(), name=name)

    def open(self, which: int = 0) -> int:
        """Open a session."""
        with self.tracking.transaction():
            number = self.tracking.library.take_sessions(1)[0]
            opener = Opener(("alpha", "beta")[which % 2], 1, 0, 0, "tar")
            medium = MEDIA[which % 3]
            self.tracking.sessions.open(number, 1, opener, Access.WRITE, which % 3, medium, UNIT, self.at(), parity=1)
        return number

    def record(self, session: int, units: int = 1) -> None:
        """Record that a session has written so many more stripe units, the last of which may be short."""
        with self.tracking.transaction():
            known = self.tracking.sessions.get(session).bytes
            first, rest = divmod(known, UNIT)
            if rest:
                return
            found = [extent for n in range(first, first + units) for extent in _stripe(session, n)]
            self.tracking.sessions.record_progress(session, found, known + units * UNIT, units)

    def release(self, session: int) -> None:
        """End a session."""
        with self.tracking.transaction():
            self.tracking.sessions.release(session, State.RELEASED, None, self.at())

    def act(self, kind: str, which: int) -> None:
        """Do one step, if the library has anything that the step applies to."""
        tracking = self.tracking
        sessions = tracking.sessions.open_ids()
        if kind == "snap":
            self.snap()
        elif kind == "open":
            self.open(which)
        elif kind == "record" and sessions:
            self.record(sessions[which % len(sessions)], which + 1)
        elif kind == "release" and sessions:
            self.release(sessions[which % len(sessions)])
        else:
            with tracking.transaction():
                self._act_otherwise(kind, which)

    def _act_otherwise(self, kind: str, which: int) -> None:
        tracking = self.tracking
        if kind == "load":
            tracking.drives.load(which % 3, MEDIA[which % 3], self.at())
        elif kind == "unload":
            tracking.drives.unload(which % 3)
        elif kind == "add":
            tracking.media.add([f"N{self.seconds}"], None, self.at())
            self.at()
        elif kind == "mount":
            tracking.mounts.add(Mount(0, "beta", "m", 2, 0, "/mnt2", "", "mounted", self.at(), None))
        elif kind == "end":
            tracking.mounts.end(which % 3 + 2, "unmounted", self.at())
        elif kind == "fill":
            tracking.disks.record_fill(which % 2, 1000, 100 * which, self.at())


COLUMNS = {
    **{name: columns for name, (_, columns) in VERSIONED.items()},
    "tape_file": ["medium", "number", "session", "start", "bytes", "released_at", "ordinal"],
    "write_command": ["session", "host", "intercepted_at", "completed_at", "state", "bytes", "tape_file"],
    "volume": ["medium", "number", "begun_at"],
    "library": ["uuid", "next_session", "media", "sessions", "tape_files", "bytes"],
}


def contents(tracking: Tracking) -> Rows:
    """Return all rows that a state of the library shows, except extents and snapshots."""
    return {
        name: sorted(tracking.sql.execute(f"SELECT {', '.join(columns)} FROM {name}"), key=repr)
        for name, columns in COLUMNS.items()
    }


@contextmanager
def actor() -> Iterator[Actor]:
    """Make a library in a directory of its own."""
    root = Path(tempfile.mkdtemp(prefix="vtlfs-snap-"))
    try:
        made = Actor(root)
        with closing(made.tracking):
            yield made
    finally:
        shutil.rmtree(root)
