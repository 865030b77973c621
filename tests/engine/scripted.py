"""Disks in memory that follow a test's script, and engines that run on them.

A scripted disk can hold its threads until the test lets them go, and fail with a given errno at the n-th operation of a
kind. It knows what a power cut would leave. As with real disks, bytes whose sync failed never become durable.
"""

import os
import threading
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trio
from filling import tracked
from memory_disk import MemoryDisk

from vtlfs.disks.base import Disk
from vtlfs.engine.assembly import running
from vtlfs.engine.engine import Engine
from vtlfs.engine.library import Library, create
from vtlfs.engine.tasks.membership import Find
from vtlfs.engine.tracking.committer import GroupCommitter
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.writing.session import WriteSession
from vtlfs.engine.writing.striping.stripe import Fragment
from vtlfs.errors import DiskError
from vtlfs.model import DiskRecord, Extent, Mount, Opener, Session, TapeFile, utc_now
from vtlfs.sizes import SIZES, Sizes
from vtlfs.timing import DEFAULT, Timing

UNIT = 4096
OPENER = Opener("alpha", 4711, 0, 0, "tar")
SECONDS = 240.0  # nothing takes so long on any machine: only what hangs


@dataclass
class Fault:
    """Makes operation number `at` of its kind, counted from now, fail. `happened`: whether it has failed."""

    kind: str
    error: int
    at: int = 1
    happened: bool = False


class ScriptedDisk(MemoryDisk):
    """A disk in memory; see the module. `calls`: kind, session, and the offset or position of each operation."""

    def __init__(self, number: int, *, free: int = 1 << 40, device: int = 0) -> None:
        super().__init__(number, "/scripted")
        self.free = free
        self.device = device
        self.faults: list[Fault] = []
        self.calls: list[tuple[str, int, int]] = []
        self._condition = threading.Condition()
        self._held: set[str] = set()
        self._waiting = 0

    def fail(self, kind: str, error: int, at: int = 1) -> Fault:
        """Make a later operation fail."""
        fault = Fault(kind, error, at)
        self.faults.append(fault)
        return fault

    @contextmanager
    def held(self, *kinds: str) -> Iterator[None]:
        """Hold operations of these kinds until the block ends; without kinds, all but `measure`."""
        with self._condition:
            self._held = set(kinds or ("allocate", "write", "sync", "finish", "read"))
        try:
            yield
        finally:
            self.let_go()

    def let_go(self) -> None:
        """Let the held operations go on."""
        with self._condition:
            self._held = set()
            self._condition.notify_all()

    @property
    def waiting(self) -> int:
        """How many threads are held."""
        with self._condition:
            return self._waiting

    def count(self, kind: str) -> int:
        """Return how many operations of the kind were begun."""
        return sum(call[0] == kind for call in self.calls)

    def durable(self, extent: Extent) -> bytes:
        """Return the bytes that a power cut would leave of a recorded extent."""
        return self._durable.get((extent.session, extent.position), b"")[: extent.stored]

    def _begin(self, kind: str, session: int, which: int) -> None:
        with self._condition:
            self.calls.append((kind, session, which))
            self._waiting += 1
            self._condition.wait_for(lambda: kind not in self._held)
            self._waiting -= 1
            for fault in self.faults:
                if fault.kind == kind and not fault.happened:
                    fault.at -= 1
                    if fault.at == 0:
                        fault.happened = True
                        raise DiskError(self.number, self.path, OSError(fault.error, os.strerror(fault.error)))


# --- engines --------------------------------------------------------------------------------------------------------


def make_library(
    root: Path, *, disks: int = 2, unit: int = UNIT, parity: int = 0, memory: int | None = None
) -> Library:
    """Make a library with media T1 to T4, and FULL with a capacity of 100,000 bytes. `memory`: the limit of a mount."""
    paths = [root / f"disk{number}" for number in range(disks)]
    for path in paths:
        path.mkdir()
    library = create(root / "library", paths, drives=4, stripe_unit=unit, parity=parity, at=utc_now())
    with closing(tracked(library)) as tracking, tracking.transaction():
        tracking.media.add(["T1", "T2", "T3", "T4"], None, utc_now())
        tracking.media.add(["FULL"], 100_000, utc_now())
    if memory is None:
        return library
    return Library(library.path, replace(library.config, memory_limit=memory))


def a_mount(host: str = "alpha") -> Mount:
    """Return a mount for `running`."""
    return Mount(0, host, "machine", os.getpid(), 0, "/mnt/vtl", "", "mounted", utc_now(), None)


@dataclass
class Rig:
    """An engine and the scripted disks under it."""

    engine: Engine
    disks: list[ScriptedDisk]

    async def write(
        self, barcode: str, data: bytes, *, block: int = 1000, flush_every: int | None = None
    ) -> WriteSession:
        """Write a stream and end it, with a flush after every `flush_every` blocks."""
        session = await self.engine.open_writer(barcode, 0, OPENER)
        for number, start in enumerate(range(0, len(data), block), 1):
            await session.write(start, data[start : start + block])
            if flush_every is not None and number % flush_every == 0:
                await session.fsync()
        await session.flush(closing=True)
        await self.engine.release_writer(session)
        return session

    async def read(self, barcode: str, offset: int = 0, size: int | None = None) -> bytes:
        """Return the bytes of a medium."""
        end = self.engine.catalogue.tracking.media.get(barcode).bytes
        wanted = end - offset if size is None else size
        return bytes(await self.engine.medium_reader(barcode, 1, end).read(offset, wanted))

    def known(self, session: WriteSession) -> Session:
        """Return a session, as the tracking database has it."""
        return self.engine.catalogue.tracking.sessions.get(session.number)

    def extents(self, session: WriteSession) -> list[Extent]:
        """Return the recorded data extents of a session."""
        return self.engine.catalogue.tracking.extents.of(session.number, 0, 1 << 30)

    def files(self, barcode: str) -> list[TapeFile]:
        """Return the tape files of a medium."""
        return self.engine.catalogue.tracking.tape_files.of(barcode)

    def durable(self, session: WriteSession) -> bytes:
        """Return the bytes that a power cut would leave of a session's recorded extents."""
        return b"".join(self.disks[extent.disk].durable(extent) for extent in self.extents(session))


def not_found(wanted: DiskRecord, passed_over: Collection[str]) -> None:
    """Find no disk."""


@asynccontextmanager
async def rigged(
    library: Library,
    disks: Sequence[ScriptedDisk] | None = None,
    *,
    durable_close: bool = True,
    host: str = "alpha",
    find: Find | None = None,
    timing: Timing = DEFAULT,
    sizes: Sizes = SIZES,
) -> AsyncIterator[Rig]:
    """Run an engine on scripted disks; at the end, all their faults must have happened.

    `find` searches for disks that are new or missing; by default, it finds none.
    """
    scripted = list(disks) if disks is not None else [ScriptedDisk(n) for n in range(len(library.config.disks))]
    under: list[Disk] = [*scripted]
    async with running(
        *(library, a_mount(host)),
        durable_close=durable_close,
        disks=under,
        find=find or not_found,
        timing=timing,
        sizes=sizes,
    ) as engine:
        yield Rig(engine, scripted)
    missed = [fault for disk in scripted for fault in disk.faults if not fault.happened]
    assert not missed, f"faults that did not happen: {missed}"


@asynccontextmanager
async def held(committer: GroupCommitter, changes: int) -> AsyncIterator[None]:
    """Hold back the changes that the block asks for until there are `changes` of them: they become one transaction."""
    gate, begun = threading.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    def block(_: Tracking) -> None:
        token.run_sync_soon(begun.set)
        gate.wait(SECONDS)

    committer.post(block)
    try:
        await begun.wait()
        yield
        await until(lambda: committer._jobs.qsize() >= changes, "all changes that are asked for")
    finally:
        gate.set()


async def until(condition: Any, what: str) -> None:
    """Wait until the condition is true."""
    with trio.move_on_after(SECONDS):
        while not condition():  # noqa: ASYNC110, there is no event: threads and the engine's own tasks change it
            await trio.sleep(0.001)
        return
    raise AssertionError(f"waited in vain: {what}")


def fragment_at(session: WriteSession, offset: int) -> Fragment:
    """Return the sealed, unrecorded extent of a session that has the byte at an offset; there must be one."""
    fragment = session._stripes.find(offset)
    assert fragment is not None
    return fragment


def first_disk(rig: Rig) -> int:
    """Return the disk on which the newest stream begins."""
    return rig.engine._turn
