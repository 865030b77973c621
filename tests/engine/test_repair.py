"""Repair: stripes get what they lack, on the disks that are left, and retiring disks are emptied."""

import errno
import itertools
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from filling import tracked
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scripted import UNIT, Rig, ScriptedDisk, make_library, rigged, until

from vtlfs import failpoints
from vtlfs.disks.base import Disk
from vtlfs.disks.missing import MissingDisk
from vtlfs.disks.pool import DiskPool
from vtlfs.engine.library import Library
from vtlfs.engine.reading.reader import MediumReader
from vtlfs.engine.repair.batch import Batch
from vtlfs.engine.repair.repair import mend_sessions, repair_all
from vtlfs.engine.repair.result import RepairResult
from vtlfs.engine.tracking import invariants
from vtlfs.engine.tracking.committer import GroupCommitter
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.engine.tracking.repositories.lacks import Lack, Lacks
from vtlfs.errors import DiskMissing, VtlfsError
from vtlfs.model import MAX_MEMBERS, Extent, utc_now
from vtlfs.sizes import Sizes
from vtlfs.timing import Timing


def stream(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


async def write(rig: Rig, data: bytes, *, step: int = UNIT, flush_every: int = 100, barcode: str = "T1") -> int:
    """Write a stream, with a flush now and then; return its session."""
    return (await rig.write(barcode, data, block=step, flush_every=flush_every)).number


@dataclass
class Shelf:
    """A library on disks in memory that nobody has mounted."""

    library: Library
    disks: list[ScriptedDisk]
    away: set[int] = field(default_factory=set)

    def under(self, gone: Collection[int] = ()) -> list[Disk]:
        return [MissingDisk(one.number, one.path) if one.number in {*gone, *self.away} else one for one in self.disks]

    async def repair(self, **more: object) -> RepairResult:
        """Repair as a command does: extents on disks that are away now count as lost."""
        async with self.pool() as (pool, catalogue, committer):
            work = (self.library, pool, catalogue, committer.call)
            return await repair_all(*work, out=self.away, by="a test", **more)  # type: ignore[arg-type]

    @asynccontextmanager
    async def pool(self, gone: Collection[int] = ()) -> AsyncIterator[tuple[DiskPool, Catalogue, GroupCommitter]]:
        reading = self.library.tracking(read_only=True)
        committer = GroupCommitter(self.library.tracking)
        pool = DiskPool(self.under(gone), self.library.config.stripe_unit)
        for number in {*gone, *self.away}:
            pool[number].fault = DiskMissing(number, "/scripted")
        try:
            yield pool, Catalogue(reading), committer
        finally:
            with trio.CancelScope(shield=True):
                await committer.close()
            pool.close()
            reading.close()

    async def read(self, barcode: str = "T1", gone: Collection[int] = ()) -> bytes:
        """Read a medium with some disks gone."""
        async with self.pool(gone) as (pool, catalogue, _):
            size = catalogue.tracking.media.get(barcode).bytes
            return bytes(await MediumReader(barcode, 1, size, catalogue, pool, lambda: 4).read(0, size))

    def rows(self) -> list[Extent]:
        """Return all extents of the library."""
        with closing(self.library.tracking(read_only=True)) as tracking:
            rows = tracking.extents.of_all(list(range(1000)), 1 << 30)
            return rows + tracking.extents.parity_of(rows)

    def broken(self) -> list[str]:
        """Return the contradictions in the tracking database."""
        with closing(self.library.tracking(read_only=True)) as tracking:
            return [text for rule in invariants.rules(tracking) for text in invariants.broken(tracking, rule)]

    def lacking(self) -> int:
        with closing(self.library.tracking(read_only=True)) as tracking:
            return tracking.lacks.count()

    def stored_on(self, disk: int) -> int:
        with closing(self.library.tracking(read_only=True)) as tracking:
            stored = tracking.disks.stored().get(disk)
            return 0 if stored is None else stored.extents

    def retire(self, disk: int) -> None:
        with closing(tracked(self.library)) as tracking, tracking.transaction():
            tracking.disks.begin_retiring(disk, utc_now())

    def damage(self, extents: Sequence[Extent]) -> None:
        """Damage extents, and note their stripes as a verification does."""
        with closing(tracked(self.library)) as tracking, tracking.transaction():
            for extent in extents:
                self.disks[extent.disk].damage(extent)
                tracking.lacks.note_damaged(extent.session, [extent.stripe], utc_now())


class Crash(VtlfsError):
    """The process dies, as far as a repair can tell."""


@contextmanager
def dying(point: str) -> Iterator[None]:
    """Raise Crash where the block reaches a failpoint."""

    def observer(name: str) -> None:
        if name == point:
            raise Crash(name)

    failpoints.observe(observer)
    try:
        yield
    finally:
        failpoints.observe(None)


@asynccontextmanager
async def shelved(root: Path, disks: int, parity: int) -> AsyncIterator[tuple[Shelf, Rig]]:
    """Make a library; the block writes to it."""
    library = make_library(root, disks=disks, parity=parity)
    shelf = Shelf(library, [ScriptedDisk(number) for number in range(disks)])
    async with rigged(library, shelf.disks) as rig:
        yield shelf, rig


@settings(max_examples=25, phases=[Phase.reuse, Phase.generate], deadline=None, suppress_health_check=list(HealthCheck))
@given(
    shape=st.integers(2, 6).flatmap(lambda disks: st.tuples(st.just(disks), st.integers(0, min(2, disks - 1)))),
    sizes=st.lists(st.integers(1, 20 * UNIT), min_size=1, max_size=4),
    step=st.sampled_from([700, UNIT, 3 * UNIT + 1]),
    flush_every=st.integers(1, 20),
    what=st.sampled_from(["lost", "retiring", "damaged", "lost and damaged"]),
    seed=st.integers(0, 1 << 32),
)
def test_after_a_repair_any_disks_may_die_again(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int],
    sizes: list[int],
    step: int,
    flush_every: int,
    what: str,
    seed: int,
) -> None:
    disks, parity = shape
    is_retiring = what == "retiring" and disks > 2  # of two disks, none can retire
    chance = random.Random(seed)
    data = [stream(seed + number, size) for number, size in enumerate(sizes)]

    async def run() -> None:
        async with shelved(tmp_path_factory.mktemp("library"), disks, parity) as (shelf, rig):
            for one in data:
                await write(rig, one, step=step, flush_every=flush_every)
        victim = chance.randrange(disks)
        losses = parity
        if "lost" in what and parity:
            shelf.away.add(victim)
            losses -= 1
        elif is_retiring:
            shelf.retire(victim)
        if "damaged" in what and losses:
            stripes: dict[tuple[int, int], list[Extent]] = {}
            for row in shelf.rows():
                if row.disk not in shelf.away:
                    stripes.setdefault((row.session, row.stripe), []).append(row)
            for rows in stripes.values():
                shelf.damage(chance.sample(rows, chance.randint(0, min(losses, len(rows) - 1))))
        result = await shelf.repair()
        assert shelf.broken() == []
        assert not result.lost
        left = disks - (victim in shelf.away or is_retiring)
        if left >= 2:
            assert shelf.lacking() == 0 or left <= parity
            assert not shelf.away or left <= parity or shelf.stored_on(victim) == 0
        if is_retiring and left >= 2:
            assert shelf.stored_on(victim) == 0
        spared = {victim} if shelf.away or (is_retiring and left >= 2) else set()
        tolerated = min(parity, left - 1) if left >= 2 else 0
        choices = list(itertools.combinations(sorted(set(range(disks)) - spared), tolerated))
        for gone in chance.sample(choices, min(4, len(choices))):
            assert await shelf.read(gone={*gone, *spared}) == b"".join(data)

    trio.run(run)


# --- what can't be mended, and why ------------------------------------------------------------------------------------


async def test_with_too_few_disks_nothing_is_moved_and_another_one_is_asked_for(tmp_path: Path) -> None:
    async with shelved(tmp_path, 2, 1) as (shelf, rig):
        data = stream(1, 10 * UNIT)
        await write(rig, data)
    shelf.away.add(1)
    before = shelf.rows()
    result = await shelf.repair()
    assert (result.stripes, result.bytes_written, result.needs_disk) == (0, 0, 10)
    assert not result.is_whole
    assert "10 stripes need another disk" in result.in_words()
    assert shelf.rows() == before
    shelf.away.clear()
    assert await shelf.read() == data


async def test_disks_without_room_are_told_with_how_much_is_missing(tmp_path: Path) -> None:
    async with shelved(tmp_path, 4, 1) as (shelf, rig):
        data = stream(1, 12 * UNIT)
        await write(rig, data)
    for disk in shelf.disks:
        disk.free = 1 << 20
    lying = shelf.stored_on(1)
    shelf.retire(1)
    result = await shelf.repair()
    assert (result.stripes, result.no_room, result.bytes_missing) == (0, lying, lying * UNIT)
    assert shelf.stored_on(1) == lying
    assert await shelf.read() == data
    for disk in shelf.disks:
        disk.free = 1 << 30
    result = await shelf.repair()
    assert (result.stripes, result.no_room, result.emptied) == (lying, 0, [1])


async def test_bytes_that_are_lost_are_counted_and_their_rows_stay(tmp_path: Path) -> None:
    async with shelved(tmp_path, 3, 1) as (shelf, rig):
        await write(rig, stream(1, 6 * UNIT))
    rows = [row for row in shelf.rows() if row.offset in (0, UNIT)]  # both of one stripe
    shelf.damage(rows)
    before = shelf.rows()
    result = await shelf.repair()
    assert (result.stripes, result.lost, result.bytes_lost) == (0, 1, 2 * UNIT)
    assert shelf.rows() == before
    assert shelf.lacking() == 1


async def test_what_can_be_read_of_a_stripe_that_has_lost_bytes_is_moved_off_a_retiring_disk(tmp_path: Path) -> None:
    async with shelved(tmp_path, 4, 1) as (shelf, rig):
        await write(rig, stream(1, 2 * UNIT))
    first, second, parity = shelf.rows()
    shelf.damage([first, parity])
    shelf.retire(second.disk)
    result = await shelf.repair()
    assert (result.lost, result.bytes_lost) == (1, UNIT)
    assert shelf.stored_on(second.disk) == 0
    assert result.emptied == [second.disk]
    assert shelf.broken() == []


# --- disks that leave -------------------------------------------------------------------------------------------------


async def test_without_parity_a_disk_is_emptied_by_copying(tmp_path: Path) -> None:
    async with shelved(tmp_path, 3, 0) as (shelf, rig):
        data = stream(1, 30 * UNIT)
        await write(rig, data)
    shelf.retire(0)
    result = await shelf.repair()
    assert result.emptied == [0]
    assert result.is_whole
    assert {row.disk for row in shelf.rows()} == {1, 2}, "the stream still lies on two disks"
    assert shelf.broken() == []
    assert await shelf.read(gone=[0]) == data
    with closing(shelf.library.tracking(read_only=True)) as tracking:
        assert [disk.number for disk in tracking.disks.all()] == [1, 2]
        assert tracking.library.watermark().moves > 0


async def test_parity_for_which_there_is_no_disk_any_more_does_not_keep_a_disk_from_leaving(tmp_path: Path) -> None:
    async with shelved(tmp_path, 3, 2) as (shelf, rig):
        data = stream(1, 6 * UNIT)
        await write(rig, data)
    shelf.retire(0)
    result = await shelf.repair()
    assert result.emptied == [0]
    assert shelf.broken() == []
    assert shelf.lacking() == 6
    for gone in (1, 2):
        assert await shelf.read(gone=[0, gone]) == data


async def test_progress_ends_with_the_total_and_the_job_tells_what_came_of_it(tmp_path: Path) -> None:
    async with shelved(tmp_path, 4, 1) as (shelf, rig):
        await write(rig, stream(1, 30 * UNIT))
    shelf.retire(0)
    steps: list[tuple[int, int]] = []
    await shelf.repair(progress=lambda done, total: steps.append((done, total)))
    assert steps[0][0] == 0
    assert steps[-1][0] == steps[-1][1] > 0
    with closing(shelf.library.tracking(read_only=True)) as tracking:
        job = tracking.jobs.get("repair")
    assert job is not None
    assert (job.by, job.done) == ("a test", job.total)
    assert job.result is not None
    assert "disk 0 is empty and has retired" in job.result


# --- what may happen meanwhile ----------------------------------------------------------------------------------------


async def test_a_disk_that_fails_while_it_gets_extents_is_avoided(tmp_path: Path) -> None:
    async with shelved(tmp_path, 5, 1) as (shelf, rig):
        data = stream(1, 40 * UNIT)
        await write(rig, data)
    shelf.retire(0)
    fault = shelf.disks[1].fail("write", errno.EIO, 2)
    await shelf.repair()
    assert fault.happened
    assert shelf.stored_on(0) == 0
    assert shelf.broken() == []
    assert await shelf.read(gone=[0]) == data


async def test_extents_that_were_written_but_not_recorded_take_no_room(tmp_path: Path) -> None:
    async with shelved(tmp_path, 4, 1) as (shelf, rig):
        data = stream(1, 40 * UNIT)
        await write(rig, data)
    shelf.retire(0)
    fault = shelf.disks[1].fail("write", errno.EIO, 2)
    await shelf.repair()
    assert fault.happened
    recorded = {(row.session, row.disk, row.position) for row in shelf.rows()}
    for disk in shelf.disks[2:]:
        lying = {(session, disk.number, place) for (session, place), data in disk._stored.items() if any(data)}
        assert lying <= recorded
    assert await shelf.read(gone=[0]) == data


async def test_a_disk_that_hung_writes_nothing_more_when_it_answers(tmp_path: Path) -> None:
    """Another repair may be appending to the same members by then."""
    async with shelved(tmp_path, 5, 1) as (shelf, rig):
        data = stream(1, 40 * UNIT)
        await write(rig, data, flush_every=1)
    shelf.retire(0)
    disk = shelf.disks[3]
    disk.calls.clear()
    async with shelf.pool() as (pool, catalogue, committer):
        pool[3]._timing = Timing(hangs=0.5)
        with disk.held("write"):
            await repair_all(shelf.library, pool, catalogue, committer.call, out=[], by="a test")
            assert disk.waiting == 1
        await until(lambda: not pool[3].writing.pending, "the disk's answer")
        assert disk.count("write") == 1
    assert await shelf.read() == data


async def test_a_sync_that_fails_records_nothing_of_what_it_was_for(tmp_path: Path) -> None:
    async with shelved(tmp_path, 3, 1) as (shelf, rig):
        data = stream(1, 10 * UNIT)
        await write(rig, data)
    shelf.retire(0)
    faults = [shelf.disks[1].fail("sync", errno.EIO), shelf.disks[2].fail("sync", errno.EIO)]
    before = shelf.rows()
    result = await shelf.repair()
    assert all(fault.happened for fault in faults)
    assert result.stripes == 0
    assert shelf.rows() == before
    assert await shelf.read() == data


async def test_a_repair_that_was_interrupted_is_done_again(tmp_path: Path) -> None:
    """It stops between the write and the commit, so the new extents are on the disks, but not recorded."""
    async with shelved(tmp_path, 4, 1) as (shelf, rig):
        data = stream(1, 30 * UNIT)
        await write(rig, data)
    before = shelf.rows()
    shelf.away.add(0)
    shelf.retire(0)
    for point in ("repair.written", "repair.synced", "repair.recorded"):
        with pytest.raises(Crash), dying(point):
            await shelf.repair()
        assert shelf.rows() == before
    result = await shelf.repair()
    assert result.emptied == [0]
    assert shelf.broken() == []
    for gone in ([0, 1], [0, 2], [0, 3]):
        assert await shelf.read(gone=gone) == data


async def test_rows_that_have_changed_meanwhile_are_left_as_they_are(tmp_path: Path) -> None:
    async with shelved(tmp_path, 4, 1) as (shelf, rig):
        data = stream(1, 6 * UNIT)
        await write(rig, data)
    rows = shelf.rows()
    victim = rows[0].disk
    shelf.retire(victim)
    with shelf.disks[victim].held("read"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shelf.repair)
            await until(lambda: shelf.disks[victim].waiting, "the repair reads")
            with closing(tracked(shelf.library)) as tracking, tracking.transaction():
                tracking.sql.execute("UPDATE extent SET position = position + 4096 WHERE offset = 0")
            shelf.disks[victim].let_go()
    [first] = [row for row in shelf.rows() if row.offset == 0]
    assert first.position == rows[0].position + 4096 or first.disk != victim
    assert all(row.disk != victim for row in shelf.rows() if row.stripe != rows[0].stripe)


async def test_a_disk_that_begins_to_retire_meanwhile_gets_nothing(tmp_path: Path) -> None:
    async with shelved(tmp_path, 4, 1) as (shelf, rig):
        data = stream(1, 12 * UNIT)
        await write(rig, data)
    shelf.retire(0)
    with shelf.disks[0].held("read"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shelf.repair)
            await until(lambda: shelf.disks[0].waiting, "the repair reads")
            before = shelf.stored_on(1)
            shelf.retire(1)
            shelf.disks[0].let_go()
    assert shelf.stored_on(1) <= before
    assert shelf.broken() == []
    assert await shelf.read() == data


def known_to(reader: MediumReader) -> list[Extent]:
    """Return the extents that a reader has looked up and expects on disk 1."""
    assert reader._current is not None
    return [row for row in reader._current[1]._rows if row.disk == 1 and (row.offset or 0) > 30 * UNIT]


async def test_readers_go_on_while_extents_are_moved_under_them(tmp_path: Path) -> None:
    data = stream(1, 60 * UNIT)
    library = make_library(tmp_path, disks=4, parity=1)
    shelf = Shelf(library, [ScriptedDisk(number) for number in range(4)])
    async with rigged(library, shelf.disks) as rig:
        await write(rig, data)
    async with rigged(library, shelf.disks) as rig:
        reader = rig.engine.medium_reader("T1", 1, len(data))
        assert bytes(await reader.read(0, 9 * UNIT)) == data[: 9 * UNIT]
        shelf.retire(1)
        result = await repair_all(
            *(library, rig.engine.pool, rig.engine.catalogue, rig.engine.change), out=[], by="a test"
        )
        assert result.stripes
        shelf.disks[1]._stored.clear()
        assert known_to(reader)
        for start in range(9 * UNIT, len(data), UNIT):
            assert bytes(await reader.read(start, UNIT)) == data[start : start + UNIT]
        reader.close()


async def test_readers_that_check_nothing_are_not_given_what_lies_where_an_extent_was(tmp_path: Path) -> None:
    data = stream(1, 60 * UNIT)
    library = make_library(tmp_path, disks=3, parity=1)
    shelf = Shelf(library, [ScriptedDisk(number) for number in range(3)])
    for disk in shelf.disks:
        disk.checks = False
    async with rigged(library, shelf.disks) as rig:
        await write(rig, data)
    async with rigged(library, shelf.disks) as rig:
        reader = rig.engine.medium_reader("T1", 1, len(data))
        assert bytes(await reader.read(0, 9 * UNIT)) == data[: 9 * UNIT]
        shelf.retire(1)
        await repair_all(*(library, rig.engine.pool, rig.engine.catalogue, rig.engine.change), out=[], by="a test")
        assert known_to(reader)
        assert bytes(await reader.read(9 * UNIT, len(data))) == data[9 * UNIT :], (
            "the stripes were dealt anew, and the old bytes discarded"
        )
        reader.close()


async def test_damaged_bytes_are_not_moved_where_readers_check_nothing(tmp_path: Path) -> None:
    async with shelved(tmp_path, 4, 1) as (shelf, rig):
        data = stream(1, 30 * UNIT)
        await write(rig, data)
    for disk in shelf.disks:
        disk.checks = False
    for row in shelf.rows():
        if row.disk == 2:
            shelf.disks[2].damage(row)
    shelf.retire(2)
    assert (await shelf.repair()).emptied == [2]
    assert await shelf.read() == data


async def test_readers_find_a_stripe_that_was_dealt_anew(tmp_path: Path) -> None:
    data = stream(1, 60 * UNIT)
    library = make_library(tmp_path, disks=3, parity=1)
    shelf = Shelf(library, [ScriptedDisk(number) for number in range(3)])
    async with rigged(library, shelf.disks) as rig:
        await write(rig, data)
    async with rigged(library, shelf.disks) as rig:
        reader = rig.engine.medium_reader("T1", 1, len(data))
        assert bytes(await reader.read(0, 9 * UNIT)) == data[: 9 * UNIT]
        shelf.retire(1)
        await repair_all(*(library, rig.engine.pool, rig.engine.catalogue, rig.engine.change), out=[], by="a test")
        shelf.disks[1]._stored.clear()
        assert known_to(reader)
        assert bytes(await reader.read(9 * UNIT, len(data))) == data[9 * UNIT :]
        reader.close()
    assert shelf.stored_on(1) == 0
    assert shelf.broken() == []


async def test_sessions_whose_members_a_live_mount_may_not_have_closed_are_left_alone(tmp_path: Path) -> None:
    library = make_library(tmp_path, disks=4, parity=1)
    shelf = Shelf(library, [ScriptedDisk(number) for number in range(4)])
    async with rigged(library, shelf.disks, timing=Timing(probe=1000.0)) as rig:
        await write(rig, stream(1, 12 * UNIT))
        shelf.retire(1)
        lying = shelf.stored_on(1)
        result = await shelf.repair()
        assert (result.postponed, result.stripes) == (1, 0)
        assert shelf.stored_on(1) == lying
    assert (await shelf.repair()).emptied == [1]


async def test_sessions_whose_members_a_live_mount_has_closed_are_mended(tmp_path: Path) -> None:
    library = make_library(tmp_path, disks=4, parity=1)
    shelf = Shelf(library, [ScriptedDisk(number) for number in range(4)])
    async with rigged(library, shelf.disks, timing=Timing(probe=0.01)) as rig:
        await write(rig, stream(1, 12 * UNIT))
        mount = rig.engine.mount.id
        await until(lambda: library.leases.closed_up_to(mount) == 1, "the mount's note")
        assert library.leases.finished_up_to(mount) == 0  # nobody knows whether the headers are durable
        shelf.retire(1)
        result = await shelf.repair()
        assert (result.postponed, result.stripes > 0, shelf.stored_on(1)) == (0, True, 0)


@pytest.mark.parametrize(("batch", "at_once"), [(UNIT, 1), (3 * UNIT, 4)])
async def test_large_stripes_are_not_in_memory_all_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, at_once: int
) -> None:
    async with shelved(tmp_path, 5, 1) as (shelf, rig):
        data = stream(1, 40 * UNIT)
        await write(rig, data, flush_every=2)  # stripes of two extents and parity
    at_work, most = 0, 0
    mend = Batch.mend

    async def counted(one: Batch) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await mend(one)
        at_work -= 1

    monkeypatch.setattr(Batch, "mend", counted)
    shelf.retire(0)
    assert (await shelf.repair(sizes=Sizes(repair_batch=batch))).emptied == [0]
    assert most == at_once
    assert await shelf.read(gone=[0]) == data


# --- damage -----------------------------------------------------------------------------------------------------------


async def test_damaged_extents_are_written_again_on_the_same_disk(tmp_path: Path) -> None:
    async with shelved(tmp_path, 3, 1) as (shelf, rig):
        data = stream(1, 12 * UNIT)
        await write(rig, data)
    before = {(row.offset, row.stripe, row.place): row for row in shelf.rows()}
    damaged = list({row.stripe: row for row in before.values()}.values())[::2]
    shelf.damage(damaged)
    result = await shelf.repair()
    assert result.stripes == len({row.stripe for row in damaged})
    for row in shelf.rows():
        old = before[row.offset, row.stripe, row.place]
        assert row.disk == old.disk
        assert (row.position != old.position) == (old in damaged)
    assert shelf.lacking() == 0
    for gone in range(3):
        assert await shelf.read(gone=[gone]) == data


@pytest.mark.parametrize("why", ["full", "away"])
async def test_damage_that_can_not_be_mended_now_stays_noted(tmp_path: Path, why: str) -> None:
    async with shelved(tmp_path, 2, 1) as (shelf, rig):
        data = stream(1, 4 * UNIT)
        await write(rig, data)
    shelf.damage([row for row in shelf.rows() if row.disk == 0])
    with closing(shelf.library.tracking(read_only=True)) as tracking:
        noted = tracking.lacks.of_all([*range(10)])
    assert noted
    if why == "full":
        shelf.disks[0].free = 0
    else:
        shelf.away.add(0)
    result = await shelf.repair()
    assert (result.stripes, result.no_room + result.needs_disk) == (0, len(noted))
    with closing(shelf.library.tracking(read_only=True)) as tracking:
        assert tracking.lacks.of_all([*range(10)]) == noted
    shelf.disks[0].free = 1 << 40
    shelf.away.clear()
    assert (await shelf.repair()).is_whole
    assert shelf.lacking() == 0
    assert await shelf.read(gone=[1]) == data


async def test_damage_that_is_found_while_a_stripe_gets_its_parity_stays_noted(tmp_path: Path) -> None:
    async with shelved(tmp_path, 4, 1) as (shelf, rig):
        data = stream(1, 2 * UNIT)
        session = await write(rig, data)
    first, _, parity = shelf.rows()
    with closing(tracked(shelf.library)) as tracking, tracking.transaction():
        assert tracking.extents.replace([parity], [])
        tracking.session_disks.note_moved(session, set(), {parity.disk})
        tracking.lacks.note_written(session, [row for row in shelf.rows() if not row.is_parity], 1, utc_now())
    with shelf.disks[first.disk].held("read"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shelf.repair)
            await until(lambda: shelf.disks[first.disk].waiting, "the repair reads")
            with closing(tracked(shelf.library)) as tracking, tracking.transaction():
                tracking.lacks.note_damaged(session, [first.stripe], utc_now())  # a record, for example
            shelf.disks[first.disk].let_go()
    assert len(shelf.rows()) == 3
    with closing(shelf.library.tracking(read_only=True)) as tracking:
        assert [lack.damaged for lack in tracking.lacks.of(session)] == [1]
    assert (await shelf.repair()).is_whole
    assert shelf.lacking() == 0


async def test_a_long_session_that_lacks_much_is_not_in_memory_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shelved(tmp_path, 2, 1) as (shelf, rig):
        data = stream(1, 200 * UNIT)
        await write(rig, data)
    shelf.damage([row for row in shelf.rows() if row.disk == 1])
    assert shelf.lacking() > 100
    most = 0

    def counted(really: Callable[..., list[Lack]]) -> Callable[..., list[Lack]]:
        def count(*args: object) -> list[Lack]:
            nonlocal most
            found = really(*args)
            most = max(most, len(found))
            return found

        return count

    for name in ("of", "of_all", "of_stripes"):
        monkeypatch.setattr(Lacks, name, counted(getattr(Lacks, name)))
    assert (await shelf.repair(sizes=Sizes(survey_window=8))).is_whole
    assert 0 < most <= 8 + MAX_MEMBERS
    assert shelf.lacking() == 0
    assert await shelf.read(gone=[0]) == data


async def test_some_sessions_are_mended_by_themselves(tmp_path: Path) -> None:
    async with shelved(tmp_path, 3, 1) as (shelf, rig):
        first = await write(rig, stream(1, 6 * UNIT))
        await write(rig, stream(2, 6 * UNIT))
    shelf.damage([row for row in shelf.rows() if row.offset == 0])
    async with shelf.pool() as (pool, catalogue, committer):
        result = await mend_sessions(shelf.library, pool, catalogue, committer.call, [first])
    assert result.stripes == 1
    assert shelf.lacking() == 1


async def test_stripes_that_were_written_with_too_little_parity_get_it(tmp_path: Path) -> None:
    library = make_library(tmp_path, disks=3, parity=1)
    shelf = Shelf(library, [ScriptedDisk(number) for number in range(3)])
    data = stream(1, 9 * UNIT)
    for disk in shelf.disks[:2]:
        disk.free = 1 << 40
    shelf.disks[2].fail("write", errno.EIO)
    async with rigged(library, shelf.disks, timing=Timing(trial=3600)) as rig:
        await write(rig, data, flush_every=1)
    with closing(tracked(library)) as tracking, tracking.transaction():  # as if there had been no disk for it
        session = tracking.extents.of_all([1], 1)[0].session if tracking.extents.of_all([1], 1) else 1
        rows = tracking.extents.parity_of(tracking.extents.of_all([session], 1000))
        assert tracking.extents.replace(rows, [])
        data_rows = tracking.extents.of_all([session], 1000)
        tracking.lacks.note_written(session, data_rows, 1, utc_now())
        tracking.session_disks.note_moved(session, set(), {row.disk for row in rows})
    assert shelf.lacking() == len({row.stripe for row in data_rows})
    result = await shelf.repair()
    assert result.is_whole
    assert shelf.lacking() == 0
    assert shelf.broken() == []
    for gone in range(3):
        assert await shelf.read(gone=[gone]) == data


# --- long streams, and many ------------------------------------------------------------------------------------------


# A repair looks at a few rows at a time, and mends a few stripes at a time.
SMALL_STEPS = Sizes(
    repair_batch=12 * UNIT,
    repair_sessions=2,
    survey_sessions=2,
    survey_small_sessions=3,
    survey_small_units=4,
    survey_rows=9,
    survey_window=5,
)


@pytest.mark.parametrize("disks", [3, 5])
async def test_streams_of_any_length_are_looked_through(tmp_path: Path, disks: int) -> None:
    data = [stream(number, size) for number, size in enumerate([150 * UNIT, 100, 3 * UNIT, 77 * UNIT + 5, 1, UNIT])]
    async with shelved(tmp_path, disks, 1) as (shelf, rig):
        for one in data:
            await write(rig, one, flush_every=30)
    shelf.damage([row for row in shelf.rows() if row.stripe % 3 == 0 and row.place == 0 and not row.is_parity])
    result = await shelf.repair(sizes=SMALL_STEPS)
    assert result.is_whole
    assert shelf.lacking() == 0
    shelf.retire(1)
    result = await shelf.repair(sizes=SMALL_STEPS)
    assert result.emptied == [1]
    assert shelf.broken() == []
    for gone in {0, 2} & set(range(disks)):
        assert await shelf.read(gone=[gone, 1]) == b"".join(data)
