"""Repair on real directories, by a command and by a mount in the background; damage of headers and records."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from filling import tracked
from scripted import OPENER, SECONDS, UNIT, Rig, ScriptedDisk, a_mount, make_library, rigged, until

from vtlfs.disks import discovery
from vtlfs.disks.contents import Flaw, Part
from vtlfs.disks.discovery import Label
from vtlfs.disks.local import whole
from vtlfs.disks.local.disk import LocalDisk
from vtlfs.disks.local.label import FILE_NAME
from vtlfs.disks.missing import MissingDisk
from vtlfs.disks.pool import DiskPool
from vtlfs.disks.records import BLOCK
from vtlfs.engine import lease, recover
from vtlfs.engine.assembly import running
from vtlfs.engine.engine import Engine
from vtlfs.engine.library import Library
from vtlfs.engine.member_headers import header_of
from vtlfs.engine.reading.reader import MediumReader
from vtlfs.engine.repair import job
from vtlfs.engine.repair.foreground import repair
from vtlfs.engine.repair.repair import NAME, repair_all
from vtlfs.engine.repair.result import RepairResult
from vtlfs.engine.roster import roster
from vtlfs.engine.tracking import invariants
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.engine.tracking.repositories.lacks import HEADERS
from vtlfs.errors import DiskError
from vtlfs.model import Extent, utc_now
from vtlfs.timing import Timing

LONG_AGO = "2026-01-31T09:30:00.000000Z"
SIZES = [100, 3 * UNIT, 25 * UNIT + 7, 1, 8 * UNIT]
DATA = [random.Random(number).randbytes(size) for number, size in enumerate(SIZES)]


def nothing(done: int, total: int) -> None:
    """Ignore the progress."""


async def write(engine: Engine, data: bytes) -> None:
    session = await engine.open_writer("T1", 0, OPENER)
    for start in range(0, len(data), UNIT):
        await session.write(start, data[start : start + UNIT])
    await session.flush(closing=True)
    await engine.release_writer(session)


def filled(root: Path, disks: int, parity: int) -> Library:
    """Return a library on directories with some tape files, which is not mounted."""
    library = make_library(root, disks=disks, parity=parity)

    async def fill() -> None:
        async with running(library, a_mount()) as engine:
            for data in DATA:
                await write(engine, data)

    trio.run(fill)
    return library


def read(library: Library, gone: Collection[int] = ()) -> bytes:
    """Read the medium while some disks are taken away."""
    paths = {disk: library.config.disks[disk] for disk in gone}
    for path in paths.values():
        if path.exists():
            path.rename(path.with_suffix(".aside"))
    try:
        return trio.run(_read, library)
    finally:
        for path in paths.values():
            if path.with_suffix(".aside").exists():
                path.with_suffix(".aside").rename(path)


async def _read(library: Library) -> bytes:
    tracking = library.tracking(read_only=True)
    pool = DiskPool([*library.disks_to_read()], UNIT)
    try:
        size = tracking.media.get("T1").bytes
        return bytes(await MediumReader("T1", 1, size, Catalogue(tracking), pool, lambda: 4).read(0, size))
    finally:
        pool.close()
        tracking.close()


def rows_of(library: Library) -> list[Extent]:
    with closing(library.tracking(read_only=True)) as tracking:
        rows = tracking.extents.of_all(list(range(100)), 1 << 30)
        return rows + tracking.extents.parity_of(rows)


def flaws(library: Library) -> list[Flaw]:
    """Return all flaws on the disks, those of headers and records included."""
    found: list[Flaw] = []
    rows = rows_of(library)
    with closing(library.tracking(read_only=True)) as tracking:
        for disk in library.disks_to_read():
            for session in {row.session for row in rows if row.disk == disk.number}:
                known = tracking.sessions.get(session)
                assert known.tape_file is not None
                header = header_of(tracking.tape_files.get(known.medium, known.tape_file), known)
                here = sorted((row for row in rows if (row.disk, row.session) == (disk.number, session)), key=position)
                found += disk.examine(Part(session, known.stripe_unit, *header, tuple(here), is_first=True))
    return found


def position(row: Extent) -> int:
    return row.position


def broken(library: Library) -> list[str]:
    with closing(library.tracking(read_only=True)) as tracking:
        return [text for rule in invariants.rules(tracking) for text in invariants.broken(tracking, rule)]


def retire(library: Library, disk: int, at: str = LONG_AGO) -> None:
    with closing(tracked(library)) as tracking, tracking.transaction():
        tracking.disks.begin_retiring(disk, at)


# --- a command --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parity", [1, 2])
def test_a_dead_disk_is_made_up_for_on_the_others(tmp_path: Path, parity: int) -> None:
    library = filled(tmp_path, 5, parity)
    shutil.rmtree(library.config.disks[1])
    result = repair(library, limit=None, progress=nothing)
    assert result.is_whole
    assert result.stripes
    assert broken(library) == []
    assert flaws(library) == []
    for disk in (0, 2, 3, 4):
        assert read(library, [disk, 1]) == b"".join(DATA)


def test_a_disk_that_is_retired_is_emptied_and_leaves(tmp_path: Path) -> None:
    library = filled(tmp_path, 3, 1)
    retire(library, 0)
    result = repair(library, limit=1 << 30, progress=nothing)
    assert result.emptied == [0]
    library = Library.open(library.path)
    assert [path.name for path in library.config.disks] == ["disk1", "disk2"]
    assert broken(library) == []
    assert flaws(library) == []
    with closing(library.tracking(read_only=True)) as tracking:
        assert tracking.lacks.count() == 0, "a mirror is as good as parity over three disks"
    shutil.rmtree(tmp_path / "disk0")
    assert read(library) == b"".join(DATA)


def test_a_signal_stops_it_and_the_next_one_goes_on(tmp_path: Path) -> None:
    library = filled(tmp_path, 4, 1)
    retire(library, 0)

    def stop(done: int, total: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    result = repair(library, limit=1 << 14, progress=stop)
    assert result.interrupted is signal.SIGTERM
    assert not result.is_whole
    assert broken(library) == []
    assert read(library) == b"".join(DATA)
    assert repair(library, limit=None, progress=nothing).emptied == [0]


@pytest.mark.parametrize("operation", ["measure", "try_out"])
def test_a_disk_that_hangs_counts_as_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    library = filled(tmp_path, 4, 1)
    answers = threading.Event()
    really = getattr(LocalDisk, operation)

    def hang(disk: LocalDisk) -> None:
        if disk.number == 1:
            answers.wait(SECONDS)
        really(disk)

    monkeypatch.setattr(LocalDisk, operation, hang)
    try:
        result = repair(library, limit=None, progress=nothing)
        assert not answers.is_set()
    finally:
        answers.set()
    assert result.is_whole
    assert {row.disk for row in rows_of(library)} == {0, 2, 3}


@pytest.mark.parametrize("when", ["from the beginning", "at the end"])
def test_a_disk_that_hangs_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Everything that looks at the path of the disk hangs, in this process or in a child."""
    library = filled(tmp_path, 4, 1)
    path = library.config.disks[1]
    retire(library, 1)
    hangs, answers = threading.Event(), threading.Event()
    really = discovery.label_at

    def hang(asked: Path) -> Label | None:
        if asked == path and hangs.is_set():
            answers.wait(SECONDS)
        return really(asked)

    monkeypatch.setattr(discovery, "label_at", hang)
    if when == "from the beginning":
        hangs.set()

    def progress(done: int, total: int) -> None:
        hangs.set()

    try:
        result = repair(library, limit=None, progress=progress)
        assert not answers.is_set()
    finally:
        answers.set()
    assert (result.is_whole, result.emptied) == (True, [1])
    assert path not in Library.open(library.path).config.disks
    assert (path / FILE_NAME).exists()
    roster.tidy(library)
    assert not (path / FILE_NAME).exists()


def test_many_sessions_on_many_disks_need_no_more_descriptors_than_there_may_be(tmp_path: Path) -> None:
    disks, sessions, files = 6, 40, 128
    library = make_library(tmp_path, disks=disks, parity=1)

    async def fill() -> None:
        async with running(library, a_mount()) as engine:
            for _ in range(sessions):
                await write(engine, DATA[4])

    trio.run(fill)
    retire(library, 2)
    code = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))\n"
        "from pathlib import Path\n"
        "from vtlfs.engine.library import Library\n"
        "from vtlfs.engine.repair.foreground import repair\n"
        f"result = repair(Library.open(Path({str(library.path)!r})), limit=None, progress=lambda done, total: None)\n"
        "sys.exit(not result.is_whole)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {row.disk for row in rows_of(library)} == {0, 1, 3, 4, 5}


def test_it_follows_the_repair_of_somebody_else(tmp_path: Path) -> None:
    library = filled(tmp_path, 4, 1)
    retire(library, 0)
    seen: list[tuple[int, int]] = []
    begun, told = threading.Event(), threading.Event()

    def somebody_else() -> None:
        with lease.work(library.path, NAME) as mine, closing(library.tracking()) as tracking:
            assert mine
            with tracking.transaction():
                tracking.jobs.begin(NAME, "somebody else", 1000, utc_now())
                tracking.jobs.advance(NAME, 123)
            begun.set()
            told.wait(30)
            with tracking.transaction():
                tracking.jobs.end(NAME, "all is well", utc_now())

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        told.set()

    other = threading.Thread(target=somebody_else)
    other.start()
    begun.wait(30)
    result = repair(library, limit=None, progress=progress)
    other.join()
    assert seen[0] == (123, 1000)
    assert result.emptied == [0]


def test_a_sync_of_many_member_files_that_fails_records_nothing_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = make_library(tmp_path, disks=3, parity=1)

    async def fill() -> None:
        async with running(library, a_mount()) as engine:
            for number in range(60):
                await write(engine, b"%2d" % number)

    trio.run(fill)
    shutil.rmtree(library.config.disks[0])
    before = rows_of(library)
    asked: list[int] = []

    def fail(descriptor: int) -> None:
        asked.append(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(whole, "sync", fail)
        result = repair(library, limit=None, progress=nothing)
    assert len(asked) >= 2
    assert (result.stripes, result.bytes_written) == (0, 0)
    assert result.needs_disk
    assert rows_of(library) == before
    assert repair(library, limit=None, progress=nothing).is_whole
    assert flaws(library) == []
    assert broken(library) == []


# --- damage -----------------------------------------------------------------------------------------------------------


def overwrite(library: Library, row: Extent, offset: int) -> None:
    """Overwrite a few bytes of the member file that has an extent."""
    [file] = library.config.disks[row.disk].glob(f"sessions/*/{row.session:012d}.member")
    with open(file, "r+b") as opened:
        opened.seek(offset)
        opened.write(b"\xff" * 16)


def test_damaged_headers_records_and_bytes_are_written_again(tmp_path: Path) -> None:
    library = filled(tmp_path, 3, 1)
    rows = [row for row in rows_of(library) if row.session == 3]
    header, record, data, parity = rows[0], rows[2], rows[5], next(row for row in rows[::-1] if row.is_parity)
    assert len({row.stripe for row in (header, record, data, parity)}) == 4
    overwrite(library, header, 0)
    overwrite(library, header, BLOCK // 2)  # it has two records
    overwrite(library, record, record.position)
    overwrite(library, data, data.position + BLOCK)
    overwrite(library, parity, parity.position + 8)
    assert len(flaws(library)) == 4
    with closing(tracked(library)) as tracking, tracking.transaction():
        stripes = [HEADERS, record.stripe, data.stripe, parity.stripe]
        tracking.lacks.note_damaged(3, stripes, utc_now())
    result = repair(library, limit=None, progress=nothing)
    assert (result.stripes, result.is_whole) == (3, True)
    assert flaws(library) == []
    assert broken(library) == []
    with closing(library.tracking(read_only=True)) as tracking:
        assert tracking.lacks.count() == 0
    for disk in range(3):
        assert read(library, [disk]) == b"".join(DATA)


def test_a_damaged_header_on_a_disk_that_is_away_stays_noted(tmp_path: Path) -> None:
    library = filled(tmp_path, 2, 1)
    row = next(row for row in rows_of(library) if row.session == 3 and row.disk == 1)
    for place in (0, BLOCK // 2):
        overwrite(library, row, place)
    with closing(tracked(library)) as tracking, tracking.transaction():
        tracking.lacks.note_damaged(3, [HEADERS], utc_now())
    library.config.disks[1].rename(tmp_path / "away")
    repair(library, limit=None, progress=nothing)
    (tmp_path / "away").rename(library.config.disks[1])
    assert len(flaws(library)) == 1
    assert repair(library, limit=None, progress=nothing).is_whole
    assert flaws(library) == []


def test_a_mount_that_does_not_check_computes_no_parity_from_damaged_bytes(tmp_path: Path) -> None:
    library = filled(tmp_path, 4, 1)
    rows = [row for row in rows_of(library) if row.session == 3]
    [parity] = [row for row in rows if row.is_parity][-1:]
    stripe = [row for row in rows if row.stripe == parity.stripe]
    assert len(stripe) == 3, "there is a disk that has nothing of it"
    data = stripe[0]
    overwrite(library, data, data.position + BLOCK)
    shutil.rmtree(library.config.disks[parity.disk] / "sessions")

    async def mend() -> RepairResult:
        async with running(library, a_mount(), check=False) as engine:
            work = (library, engine.pool, engine.catalogue, engine.change)
            return await repair_all(*work, out=[parity.disk], by="a test")

    result = trio.run(mend)
    assert (result.lost, result.bytes_lost) == (1, data.bytes)
    assert [row for row in rows_of(library) if (row.session, row.stripe) == (3, parity.stripe)] == stripe


def test_a_member_file_that_is_gone_is_made_again(tmp_path: Path) -> None:
    library = filled(tmp_path, 3, 1)
    rows = [row for row in rows_of(library) if row.session == 3 and row.disk == 1]
    [file] = library.config.disks[1].glob("sessions/*/000000000003.member")
    file.unlink()
    with closing(tracked(library)) as tracking, tracking.transaction():
        tracking.lacks.note_damaged(3, [HEADERS, *(row.stripe for row in rows)], utc_now())
    result = repair(library, limit=None, progress=nothing)
    assert (result.stripes, result.is_whole) == (len(rows), True)
    assert file.exists()
    assert flaws(library) == []
    assert broken(library) == []


@pytest.mark.parametrize(("disks", "parity"), [(2, 1), (3, 2)])
def test_damage_is_not_forgotten_where_a_disk_that_is_away_has_it(tmp_path: Path, disks: int, parity: int) -> None:
    library = filled(tmp_path, disks, parity)
    [hurt, *_] = [row for row in rows_of(library) if row.disk == 0 and not row.is_parity]
    [file] = library.config.disks[0].glob(f"sessions/*/{hurt.session:012d}.member")
    with file.open("r+b") as member:
        member.seek(hurt.position + BLOCK)
        member.write(b"not what was written"[: hurt.stored])
    with closing(library.tracking()) as tracking:
        with tracking.transaction():
            tracking.lacks.note_damaged(hurt.session, [hurt.stripe], LONG_AGO)
        noted = tracking.lacks.of(hurt.session)
        path = library.config.disks[0]
        path.rename(path.with_suffix(".away"))
        assert repair(library, limit=None, progress=nothing).needs_disk
        assert tracking.lacks.of(hurt.session) == noted
        path.with_suffix(".away").rename(path)
        assert repair(library, limit=None, progress=nothing).is_whole
        assert tracking.lacks.count() == 0
    assert flaws(library) == []


def test_where_a_member_file_can_not_be_written_the_extents_go_to_another_disk(tmp_path: Path) -> None:
    library = filled(tmp_path, 4, 1)
    rows = [row for row in rows_of(library) if row.session == 5 and row.disk == 1]
    [file] = library.config.disks[1].glob("sessions/*/000000000005.member")
    file.unlink()
    file.symlink_to("/nowhere")
    with closing(tracked(library)) as tracking, tracking.transaction():
        tracking.lacks.note_damaged(5, [row.stripe for row in rows], utc_now())
    assert rows
    repair(library, limit=None, progress=nothing)
    assert broken(library) == []
    assert read(library) == b"".join(DATA)


# --- trimming ---------------------------------------------------------------------------------------------------------


def test_member_files_of_dead_mounts_are_not_trimmed_while_somebody_repairs(tmp_path: Path) -> None:
    library = make_library(tmp_path, disks=3, parity=1)
    with closing(tracked(library)) as tracking, tracking.transaction():
        mount = tracking.mounts.add(a_mount())
    library.leases.take(mount).let_go()
    with lease.work(library.path, NAME) as mine:
        assert mine
        recover.recover(library)
        assert library.leases.needs_recovery(mount), "it is found again"
    recover.recover(library)
    assert not library.leases.needs_recovery(mount)


async def test_a_mount_trims_them_when_the_repair_has_ended(tmp_path: Path) -> None:
    library = make_library(tmp_path, disks=3, parity=1)
    with closing(tracked(library)) as tracking, tracking.transaction():
        mount = tracking.mounts.add(a_mount())
    library.leases.take(mount).let_go()
    repair_under_way = lease.work(library.path, NAME)
    assert repair_under_way.__enter__()
    async with rigged(library, timing=Timing(watch=0.02)):
        for _ in range(5):
            await trio.sleep(0.02)
        assert library.leases.needs_recovery(mount)
        repair_under_way.__exit__(None, None, None)
        await until(lambda: not library.leases.needs_recovery(mount), "the member files are trimmed")


# --- a mount ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job.RepairJob, "every", 0.02)


@asynccontextmanager
async def repairing(library: Library, disks: list[ScriptedDisk]) -> AsyncIterator[Rig]:
    """Run a mount that repairs."""
    async with rigged(library, disks) as rig, trio.open_nursery() as nursery:
        nursery.start_soon(job.run, rig.engine)
        yield rig
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("_impatient")
async def test_a_mount_empties_a_disk_that_is_retiring(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    library = make_library(tmp_path, disks=4, parity=1)
    disks = [ScriptedDisk(number) for number in range(4)]
    async with rigged(library, disks) as rig:
        await write(rig.engine, DATA[2])
    async with repairing(library, disks) as rig:
        retire(library, 2)
        await until(lambda: "disk 2 is empty and has retired" in caplog.text, "the disk retires")
        assert await rig.read("T1") == DATA[2]
    assert "repair begins, with 100 MiB/s at most: disk 2 is retiring" in caplog.text
    assert broken(library) == []


@pytest.mark.usefixtures("_impatient")
async def test_a_mount_makes_up_for_a_disk_that_has_been_away_for_long(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    library = make_library(tmp_path, disks=4, parity=1)
    library = Library(library.path, replace(library.config, repair_after=3600.0))
    disks = [ScriptedDisk(number) for number in range(4)]
    async with rigged(library, disks) as rig:
        await write(rig.engine, DATA[2])
    async with repairing(library, disks) as rig:
        error = OSError(5, "Input/output error")
        fault = DiskError(1, "/scripted", error)
        rig.engine.pool[1].fault = fault
        rig.engine.pool[1]._tried_at = float("inf")  # it is not tried out
        await rig.engine.change(lambda tracking: tracking.disks.record_fault(1, fault.reason, utc_now()))
        for _ in range(5):
            await trio.sleep(0.02)
        assert "repair begins" not in caplog.text, "it has just gone"
        await rig.engine.change(lambda tracking: tracking.disks.record_fault(1, None, LONG_AGO))
        await rig.engine.change(lambda tracking: tracking.disks.record_fault(1, fault.reason, LONG_AGO))
        await until(lambda: "repair has ended" in caplog.text, "the repair")
        rows = rows_of(library)
        assert {row.disk for row in rows} == {0, 2, 3}
    assert "disk 1 is away" in caplog.text


@pytest.mark.usefixtures("_impatient")
async def test_what_can_not_be_mended_is_not_tried_all_the_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    library = make_library(tmp_path, disks=2, parity=1)
    disks = [ScriptedDisk(number) for number in range(2)]
    async with rigged(library, disks) as rig:
        await write(rig.engine, DATA[2])
    async with repairing(library, disks):
        retire(library, 1)
        await until(lambda: "need another disk" in caplog.text, "a repair")
        for _ in range(5):
            await trio.sleep(0.05)
    assert caplog.text.count("repair begins") == 1


@pytest.mark.usefixtures("_impatient")
async def test_a_repair_that_was_interrupted_and_has_nothing_left_to_do_is_ended(tmp_path: Path) -> None:
    library = make_library(tmp_path, disks=3, parity=1)
    with closing(library.tracking()) as tracking:
        with tracking.transaction():
            tracking.jobs.begin(NAME, "a command (pid 4711)", 1 << 30, LONG_AGO)
        async with repairing(library, [ScriptedDisk(number) for number in range(3)]):
            await until(lambda: (last := tracking.jobs.get(NAME)) is not None and last.ended_at is not None, "the end")


@pytest.mark.usefixtures("_impatient")
async def test_stripes_that_an_open_stream_lacks_are_left_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    library = make_library(tmp_path, disks=3, parity=2)
    disks = [ScriptedDisk(number) for number in range(3)]
    async with repairing(library, disks) as rig:
        rig.engine.pool[2].fault = DiskError(2, "/scripted", OSError(5, "Input/output error"))
        rig.engine.pool[2]._tried_at = float("inf")  # it is not tried out
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, DATA[1])
        await session.fsync()
        assert await rig.engine.catalogue.read(lambda tracking: tracking.lacks.count())
        for _ in range(5):
            await trio.sleep(0.02)
        assert "repair begins" not in caplog.text
        await session.flush(closing=True)
        await rig.engine.release_writer(session)


@pytest.mark.usefixtures("_impatient")
async def test_what_an_open_stream_has_on_a_disk_that_is_away_is_not_looked_for_all_the_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    library = make_library(tmp_path, disks=4, parity=1)
    library = Library(library.path, replace(library.config, repair_after=3600.0))
    disks = [ScriptedDisk(number) for number in range(4)]
    async with repairing(library, disks) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, DATA[2])
        await session.fsync()
        fault = DiskError(1, "/scripted", OSError(5, "Input/output error"))
        rig.engine.pool[1].fault = fault
        rig.engine.pool[1]._tried_at = float("inf")  # it is not tried out
        await rig.engine.change(lambda tracking: tracking.disks.record_fault(1, fault.reason, LONG_AGO))
        await until(lambda: "repair has ended" in caplog.text, "a repair")
        for _ in range(10):
            await trio.sleep(0.05)
        assert caplog.text.count("repair begins") == 1
        await session.flush(closing=True)
        await rig.engine.release_writer(session)


@pytest.mark.usefixtures("_impatient")
async def test_a_header_that_can_not_be_written_is_not_tried_all_the_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    library = make_library(tmp_path, disks=3, parity=1)
    disks = [ScriptedDisk(number) for number in range(3)]
    async with rigged(library, disks) as rig:
        await write(rig.engine, DATA[2])
    async with repairing(library, disks) as rig:
        rig.engine.pool[1].disk = MissingDisk(1, "/scripted")
        await rig.engine.change(lambda tracking: tracking.lacks.note_damaged(1, [HEADERS], utc_now()))
        await until(lambda: "repair has ended" in caplog.text, "a repair")
        for _ in range(10):
            await trio.sleep(0.05)
    assert caplog.text.count("repair begins") == 1
