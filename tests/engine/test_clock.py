"""The wall clock jumps by years, either way, at any moment: no decision of the product depends on it."""

import os
import random
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from unittest import mock

import trio
from filling import OPENER, UNIT, make
from hypothesis import given, settings
from hypothesis import strategies as st

from vtlfs import model
from vtlfs.engine.assembly import running
from vtlfs.engine.backup import copies
from vtlfs.engine.engine import Engine
from vtlfs.engine.library import Library
from vtlfs.engine.scrub import verification as verifications
from vtlfs.engine.scrub.check import check
from vtlfs.engine.scrub.defects import Defect
from vtlfs.engine.scrub.verify import Verifier
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.writing.session import WriteSession
from vtlfs.model import Mount, utc_now
from vtlfs.snap import schedule, store
from vtlfs.timing import Timing

PATIENT = Timing(elsewhere=30.0)

MEDIA = ["T1", "T2", "T3"]
EVERY = 3600.0  # between two snapshots, and two copies
LOOKS = 10  # the longest wait for a snapshot or a copy, in seconds of the machine
KEEP = {"last": 3, "hourly": 4, "daily": 3, "yearly": 2}
START = datetime(2026, 1, 1, tzinfo=UTC)
YEARS = timedelta(days=365)

KINDS = ["open", "open", "end", "end", "snapshot", "copy", "copy", "verify", "resume", "look up", "time passes"]
steps = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 5)), min_size=5, max_size=25)


class Clock:
    """The machine's wall clock. It jumps at about every second reading, except while it `is_right`."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._now = START
        self.is_right = False

    def now(self) -> datetime:
        """Return the time that the clock shows, which is different at each reading."""
        self._now += timedelta(milliseconds=1)
        if not self.is_right and self._random.random() < 0.5:
            self._now = START + self._random.uniform(-40, 40) * YEARS
        return self._now

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)


@contextmanager
def jumping(seed: int) -> Iterator[Clock]:
    """Give the product a clock that jumps, and look-ups unlimited patience."""
    clock = Clock(seed)
    with mock.patch.object(model, "wall_clock", clock.now):
        yield clock


class World:
    """A library with two mounts, its streams, and the steps that a test takes with it."""

    def __init__(self, library: Library, engines: list[Engine], tracking: Tracking, clock: Clock) -> None:
        self.library = library
        self.engines = engines
        self.tracking = tracking
        self.clock = clock
        self.open: list[tuple[Engine, WriteSession]] = []
        self.released: list[int] = []  # sessions, in their order
        self.sizes: dict[int, int] = {}
        self.lengths: defaultdict[str, int] = defaultdict(int)
        self.begun: tuple[int, list[int]] | None = (
            None  # a verification, and the sessions that were released when it began
        )
        self.defects: list[Defect] = []

    async def act(self, kind: str, which: int) -> None:
        """Do one step."""
        await getattr(self, f"_{kind.replace(' ', '_')}")(which)

    async def _open(self, which: int) -> None:
        engine = self.engines[which % 2]
        session = await engine.open_writer(MEDIA[which % 3], 0, OPENER)
        await session.write(0, bytes([which]) * (which * UNIT + 100))
        self.open.append((engine, session))

    async def _end(self, which: int) -> None:
        """Close a stream, and look up its medium in the other mount before the release is recorded."""
        if not self.open:
            return
        engine, session = self.open.pop(which % len(self.open))
        await session.flush(closing=True)
        self.released.append(session.number)
        self.sizes[session.number] = session.length
        self.lengths[session.barcode] += session.length
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(engine.release_writer, session))
            await self._look_up_in(self.engines[self.engines[0] is engine], session.barcode)

    async def _look_up(self, which: int) -> None:
        await self._look_up_in(self.engines[which % 2], MEDIA[which % 3])

    async def _look_up_in(self, engine: Engine, barcode: str) -> None:
        assert (await engine.wait_visible(barcode)).bytes == self.lengths[barcode]

    async def _snapshot(self, which: int) -> None:
        await self.engines[which % 2].change(lambda t: schedule.take_if_wanted(t, utc_now(), EVERY, KEEP))

    async def _copy(self, which: int) -> None:
        engine = self.engines[which % 2]
        if copies.is_wanted(engine.catalogue.tracking, utc_now()):
            number = await engine.change(lambda t: copies.claim(t, utc_now(), EVERY))
            if number is not None:
                await engine.change(lambda t: copies.note(t, number, 1.0, made=which > 0))

    async def _verify(self, which: int) -> None:
        """Begin a verification that has verified nothing yet."""
        found = verifications.begin(self.tracking, [], utc_now())
        assert found.id is not None
        self.begun = found.id, list(self.released)

    async def _resume(self, which: int) -> None:
        """Go on with the last verification, whatever the clock has done since it began."""
        if self.begun is None:
            return
        found = verifications.resume(self.tracking)
        (number, wanted), self.begun = self.begun, None
        assert found.id == number
        await Verifier(self.library, self.tracking, found, self.defects.append, lambda _: None).run(None)
        assert self.defects == []
        assert found.bytes == sum(self.sizes[session] for session in wanted)
        late = [*self.released[len(wanted) :], *(session.number for _, session in self.open)]
        count, first = verifications.left_out(self.tracking, found)
        assert (count, [one.session for one in first]) == (len(late), sorted(late)[: verifications.NAMED])

    async def _time_passes(self, which: int) -> None:
        """Set the clock right for a while; assert that a snapshot and a copy are made meanwhile."""
        await self._copy(1)
        await self._open(which)
        self.clock.is_right = True
        before = self._done()
        for _ in range(2 * LOOKS + 1):
            await self._snapshot(which)
            await self._copy(1)
            self.clock.pass_by(EVERY / LOOKS)
        after = self._done()
        self.clock.is_right = False
        assert after[0] > before[0], "snapshots are taken"
        assert after[1] > before[1], "copies are made"

    def _done(self) -> tuple[int, int]:
        last = store.last_scheduled(self.tracking)
        (copy,) = self.tracking.sql.one("SELECT number FROM copy")
        return (0 if last is None else last.id), copy


async def play(library: Library, clock: Clock, script: list[tuple[str, int]]) -> World:
    """Take the steps, one after the other, and then end everything."""
    async with AsyncExitStack() as stack:
        mounts = [running(library, mount_of(host), timing=PATIENT) for host in ("alpha", "beta")]
        engines = [await stack.enter_async_context(mount) for mount in mounts]
        tracking = stack.enter_context(closing(library.tracking()))
        world = World(library, engines, tracking, clock)
        for kind, which in script:
            await world.act(kind, which)
        while world.open:
            await world.act("end", 0)
        for kind in ("resume", "verify", "resume", "time passes", "end"):
            await world.act(kind, 1)
        return world


def mount_of(host: str) -> Mount:
    """Return a mount of this host."""
    return Mount(0, host, "machine", os.getpid(), 0, "/mnt", "", "mounted", utc_now(), None)


@given(steps, st.integers(0, 1 << 30))
@settings(max_examples=25, deadline=None)
def test_nothing_is_left_out_nor_put_off_nor_confused(script: list[tuple[str, int]], seed: int) -> None:
    """Streams are verified and seen, snapshots and copies go on, and the order of tape files is that of release."""
    with jumping(seed) as clock, tempfile.TemporaryDirectory(prefix="vtlfs-clock-") as root:
        library = make(Path(root) / "lib")
        world = trio.run(play, library, clock, script)
        with closing(library.tracking(read_only=True)) as tracking:
            order = [row[0] for row in tracking.sql.execute("SELECT session FROM tape_file ORDER BY ordinal")]
            snapshots = store.snapshots(tracking)
        assert order == world.released
        assert [one.id for one in snapshots[-3:]] == list(range(snapshots[-1].id, 0, -1))[:3][::-1]
        assert [str(finding) for finding in check(library).findings if finding.damage] == []
