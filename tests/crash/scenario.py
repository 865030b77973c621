"""Everything that can be done with a library, in one short run that may die at any failpoint.

    python scenario.py DIRECTORY [FAILPOINT]     one run, as `vtlfs.failpoints` reads FAILPOINT; tests use `serving.py`

After the library has acknowledged something, the run writes that to DIRECTORY/acknowledged, as a JSON list on a line.
The test relies on this file and on nothing else.
"""

import errno
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import trio

from vtlfs import failpoints
from vtlfs.cli.main import main as vtlfs
from vtlfs.disks.local import label
from vtlfs.disks.local import member as local
from vtlfs.engine import recover  # noqa: F401, so that every run finds them loaded
from vtlfs.engine.assembly import running
from vtlfs.engine.backup import copying
from vtlfs.engine.engine import Engine
from vtlfs.engine.library import Library
from vtlfs.engine.scrub import verify  # noqa: F401, so that every run finds them loaded
from vtlfs.model import Mount, Opener, Session, utc_now
from vtlfs.snap import export, schedule  # noqa: F401
from vtlfs.timing import DEFAULT

UNIT = 4096
DISKS = 3
OPENER = Opener("alpha", 4711, 0, 0, "tar")
CAPACITY = 100_000
MEDIA = ["T1", "T2", "T3"]
UNSYNCED = 21  # the seed of the stream that is written with sync=none


def stream(seed: int, size: int) -> bytes:
    """Return the first bytes of a stream."""
    return random.Random(seed).randbytes(100_000)[:size]


def sync(*paths: Path) -> None:
    """Sync files or directories that the run itself, and not the library, has changed."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


class Doomed:
    """A process that will serve a mount and die. It is forked before this process has a thread."""

    def __init__(self, run: "Run", seed: int) -> None:
        reading, self._go = os.pipe()
        self._process = os.fork()
        if self._process:
            os.close(reading)
            return
        os.close(self._go)
        try:
            if os.read(reading, 1):
                failpoints.observe(None)
                trio.run(run.die, seed)
        finally:
            os._exit(1)

    def run(self) -> None:
        """Let the process serve a mount, and wait until it has died."""
        os.write(self._go, b".")
        assert os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1]) == failpoints.STATUS


class Run:
    """One run in a directory."""

    DOOMED: Sequence[int] = (90, 95)  # seeds of the streams that are written to mounts which die

    def __init__(self, root: Path) -> None:
        self.root = root
        self.library = root / "library"
        self.disks = [root / f"disk{number}" for number in range(DISKS)]
        self.durable_close = True
        self._log = os.open(root / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.doomed = [Doomed(self, seed) for seed in self.DOOMED]

    def acknowledge(self, *what: object) -> None:
        """Write down a promise: something that the library has acknowledged."""
        os.write(self._log, json.dumps(what).encode() + b"\n")

    def vtlfs(self, *words: object, status: int = 0) -> None:
        """Run a command in this process."""
        found = vtlfs([str(word) for word in words])
        assert found == status, (words, found)

    def run(self) -> None:
        """Do all steps of the run."""
        self.init()
        self.vtlfs("media", "add", self.library, *MEDIA)
        self.acknowledge("media", *MEDIA)
        self.vtlfs("media", "add", self.library, "FULL", "--capacity", CAPACITY)
        self.acknowledge("media", "FULL")
        self.vtlfs("load", self.library, 0, "T1")
        self.acknowledge("loaded", 0, "T1")
        self.vtlfs("load", self.library, 1, "T2")
        self.vtlfs("unload", self.library, 1)
        self.acknowledge("loaded", 1, None)
        (self.library / "mounts").rmdir()
        trio.run(self.first_mount)
        self.doomed[0].run()
        self.vtlfs("recover", self.library)
        self.vtlfs("verify", self.library)
        self.doomed[1].run()
        trio.run(self.second_mount)
        before = (self.library / "tracking.db").read_bytes()
        trio.run(self.third_mount)
        self.go_back(before)
        self.rebuild()
        self.acknowledge("end")

    def init(self) -> None:
        """Make the library, after an attempt in which a disk failed."""
        for disk in self.disks:
            disk.mkdir()
        sync(self.root)
        disks = [word for disk in self.disks for word in ("--disk", disk)]
        obstacle = self.disks[2] / f".{label.FILE_NAME}.{os.getpid()}.tmp"
        obstacle.mkdir()
        self.vtlfs("init", self.library, *disks, "--stripe-unit", UNIT, status=1)
        obstacle.rmdir()
        self.vtlfs("init", self.library, *disks, "--stripe-unit", UNIT)
        self.acknowledge("made")
        configuration = self.library / "library.toml"
        text = configuration.read_text().replace('low_space = "1GiB"', 'low_space = "1000TiB"')
        text = text.replace("parity = 0", "parity = 1")
        configuration.write_text(text[: text.index("[snapshots]")] + "[snapshots]\nkeep = { last = 1 }\n")
        sync(configuration)

    async def die(self, seed: int) -> None:
        """Let a mount die in the middle of its streams, always at the same point."""
        async with self.mounted() as engine:
            flushed = await Stream.opened(self, engine, "T1", seed)
            await flushed.write(20_000)
            await flushed.flush()
            await flushed.write(7_000)
            never = await Stream.opened(self, engine, "FULL", seed + 1)
            await never.write(5_000)
            await engine.open_reader("T1", 1, 0, 0, OPENER)
            await trio.sleep(0.05)
            os._exit(failpoints.STATUS)

    def mounted(self, *, durable_close: bool = True, behind: bool = False) -> Any:
        """Run an engine as a mount does."""
        self.durable_close = durable_close
        mount = Mount(0, "alpha", "machine", os.getpid(), 0, "/mnt/vtl", "", "mounted", utc_now(), None)
        library = Library.open(self.library)
        return running(library, mount, durable_close=durable_close, at_end=copying.at_end, behind=behind)

    async def first_mount(self) -> None:
        """Write several streams to several media at once, and take snapshots meanwhile."""
        async with self.mounted() as engine:
            async with trio.open_nursery() as nursery:
                for seed, barcode in enumerate(["T1", "T2", "T1", "FULL"], 1):
                    nursery.start_soon(self.write_and_close, engine, barcode, seed)
            self.vtlfs("snapshot", "take", self.library, "--name", "first")
            self.acknowledge("snapshot", 1)
            await self.close_and_go_on(engine)
            self.vtlfs("snapshot", "take", self.library)
            self.acknowledge("snapshot", 2)
            self.vtlfs("snapshot", "export", self.library, 1, self.root / "then.db")
            self.acknowledge("exported", 1)
            await self.lack_room_for_a_header(engine)
            self.vtlfs("snapshot", "take", self.library)
            self.acknowledge("snapshot", 3)
            self.vtlfs("snapshot", "prune", self.library)
            self.acknowledge("pruned", 2)
            await self.read(engine)
            still_open = await Stream.opened(self, engine, "T3", 20)
            await still_open.write(9_000)
            await still_open.flush()

    async def opened(self, engine: Engine, barcode: str, seed: int) -> "Stream":
        """Open a session to write a stream."""
        return await Stream.opened(self, engine, barcode, seed)

    async def write_and_close(self, engine: Engine, barcode: str, seed: int) -> None:
        """Write a stream as programs do."""
        session = await Stream.opened(self, engine, barcode, seed)
        for size in (3_000, 10_000, 1_000, 12_000):
            await session.write(size)
            await session.fsync()
        await session.write(2_500)
        await session.fsync()
        await session.flush(closing=True)
        await session.release()

    async def close_and_go_on(self, engine: Engine) -> None:
        """Close a copy of a descriptor, and go on with the other; close that one later."""
        session = await Stream.opened(self, engine, "T2", 10)
        for size in (5_000, 5_000, 1):
            await session.write(size)
            await session.flush(closing=True)
        await trio.sleep(2 * DEFAULT.announced)  # for which the last close() before it counts for this one, too
        await session.flush(closing=True)
        await session.release()

    async def lack_room_for_a_header(self, engine: Engine) -> None:
        """Write a stream while a disk has no room for the header of its member file."""
        session = await Stream.opened(self, engine, "T2", 11)
        write = local._write_all
        failed: list[bool] = []

        def lacking(descriptor: int, pieces: Any, offset: int) -> None:
            if offset == 0 and not failed:
                failed.append(True)
                raise OSError(errno.ENOSPC, "no space")
            write(descriptor, pieces, offset)

        with mock.patch.object(local, "_write_all", lacking):
            await session.write(5_000, may_fail=True)
            await session.flush(may_fail=True)
        await session.release()
        for pooled in engine.pool.disks:
            if pooled.fault is not None:
                engine.health._note_fault(pooled.number, pooled.trouble)
                pooled.disk.try_out()
                pooled.fault = None
                engine.health._note_fault(pooled.number, None)

    async def read(self, engine: Engine) -> None:
        """Read a medium."""
        reader = await engine.open_reader("T1", 1, engine.catalogue.tracking.media.get("T1").bytes, 0, OPENER)
        assert len(await reader.read(0, 5_000)) == 5_000
        engine.release_reader(reader)

    async def second_mount(self) -> None:
        """Write without waiting for the disks at each close()."""
        async with self.mounted(durable_close=False) as engine:
            session = await Stream.opened(self, engine, "T3", UNSYNCED)
            await session.write(6_000)
            await session.flush(closing=True)
            await session.fsync()
            await session.release()

    async def third_mount(self) -> None:
        """Change something once more, so that a third copy of the database takes the place of the first."""
        async with self.mounted() as engine:
            await self.write_and_close(engine, "T3", 22)

    def go_back(self, before: bytes) -> None:
        """Replace the database by an older one, read it, and let `vtlfs rebuild` take in what it lacks."""
        self.acknowledge("rebuilding")
        older = self.root / "older"
        older.write_bytes(before)
        sync(older)
        older.rename(self.library / "tracking.db")
        sync(self.root, self.library)
        self.vtlfs("status", self.library, status=3)
        self.vtlfs("media", "add", self.library, "LATE", status=3)
        trio.run(self.look_back)
        self.vtlfs("rebuild", self.library)
        self.acknowledge("rebuilt")

    async def look_back(self) -> None:
        """Read the older database through a read-only mount."""
        async with self.mounted(behind=True) as engine:
            await self.read(engine)

    def rebuild(self) -> None:
        """Rebuild the tracking database: once in place of a damaged one, and once where there is none."""
        self.acknowledge("rebuilding")
        (self.library / "tracking.db").write_bytes(bytes(UNIT))
        sync(self.library / "tracking.db", self.library)
        self.vtlfs("rebuild", self.library)
        self.acknowledge("rebuilt")
        self.acknowledge("rebuilding")
        self.library.rename(self.root / "lost")
        sync(self.root)
        self.vtlfs("rebuild", self.library, *(word for disk in self.disks for word in ("--disk", disk)))
        self.acknowledge("rebuilt")


class Stream:
    """A session, and what is written to it."""

    def __init__(self, run: Run, engine: Engine, session: Any, seed: int) -> None:
        self._run, self._engine, self._session, self._seed = run, engine, session, seed
        self._sent = 0

    @classmethod
    async def opened(cls, run: Run, engine: Engine, barcode: str, seed: int) -> "Stream":
        """Open a session, and say so before anything is written."""
        session = await engine.open_writer(barcode, 0, OPENER)
        run.acknowledge("opened", session.number, barcode, seed)
        return cls(run, engine, session, seed)

    async def write(self, size: int, *, may_fail: bool = False) -> None:
        """Write so many bytes more."""
        data = stream(self._seed, self._sent + size)[self._sent :]
        try:
            await self._session.write(self._sent, data)
            self._sent += size
        except Exception:
            if not may_fail:
                raise

    async def flush(self, *, closing: bool = False, may_fail: bool = False) -> None:
        """Flush the stream, as close() does."""
        try:
            await self._session.flush(closing=closing)
        except Exception:
            if not may_fail:
                raise
            return
        kind = "flushed" if self._run.durable_close else "flushed without waiting for the disks"
        self._run.acknowledge(kind, self._session.number, self._sent)

    async def fsync(self) -> None:
        """Make the stream durable, as fsync() does."""
        await self._session.fsync()
        self._run.acknowledge("flushed", self._session.number, self._sent)

    async def release(self) -> None:
        """End it."""
        await self._engine.release_writer(self._session)
        ended = self._engine.catalogue.tracking.sessions.get(self._session.number)
        self._run.acknowledge("released", ended.id, ended.tape_file, self._start(ended))

    def _start(self, session: Session) -> int | None:
        if session.tape_file is None:
            return None
        return self._engine.catalogue.tracking.tape_files.get(
            session.medium, session.tape_file, volume=session.volume
        ).start


def one(
    kind: type[Run], root: Path, failpoint: str | None = None, counted: str | None = None, *, marked: bool = False
) -> int:
    """Run in a process of its own, and return its exit status; its output goes to a file.

    `counted`: a file for how often each failpoint was reached. `marked`: the file `acknowledged` also gets a line for
    each failpoint that is reached.
    """
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        output = os.open(root / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        reached: Counter[str] = Counter()
        if failpoint:
            failpoints.arm(failpoint)
        elif counted:
            failpoints.observe(lambda name: reached.update([name]))
        run = kind(root)
        if marked:
            failpoints.observe(lambda name: run.acknowledge("reached", name))
        run.run()
        if counted:
            Path(counted).write_text(json.dumps(reached))
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main(kind: type[Run], words: Sequence[str]) -> int:
    """Run once."""
    root = Path(words[0])
    root.mkdir(parents=True)
    return one(kind, root, words[1] if words[1:] else None, str(root / "counted"))


if __name__ == "__main__":
    sys.exit(main(Run, sys.argv[1:]))
