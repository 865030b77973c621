"""Redundancy: acknowledged bytes can be read without any disks, as many as there is parity."""

import errno
import itertools
import random
from collections.abc import Collection
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted import OPENER, UNIT, Rig, ScriptedDisk, a_mount, make_library, not_found, rigged, until

from vtlfs.disks.missing import MissingDisk
from vtlfs.engine.assembly import running
from vtlfs.engine.writing.session import WriteSession
from vtlfs.errors import DamagedExtent, DiskError, DiskMissing
from vtlfs.timing import Timing


def stream(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


async def write(rig: Rig, data: bytes, *, step: int, flush_every: int, barcode: str = "T1") -> WriteSession:
    return await rig.write(barcode, data, block=step, flush_every=flush_every)


async def read_without(rig: Rig, gone: Collection[int], barcode: str = "T1") -> bytes:
    """Read a medium while these disks have lost all their extents."""
    rig.engine.cache.drop_idle(-1)
    kept = {number: rig.disks[number]._stored for number in gone}
    for number in gone:
        rig.disks[number]._stored = {}
    try:
        return await rig.read(barcode)
    finally:
        for number, stored in kept.items():
            rig.disks[number]._stored = stored


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    shape=st.integers(2, 8).flatmap(lambda disks: st.tuples(st.just(disks), st.integers(0, min(2, disks - 1)))),
    size=st.integers(1, 30 * UNIT),
    step=st.sampled_from([700, UNIT, 3 * UNIT + 1]),
    flush_every=st.integers(1, 20),
    faults=st.lists(st.tuples(st.sampled_from(["write", "sync"]), st.integers(0, 7), st.integers(1, 9)), max_size=3),
    seed=st.integers(0, 1 << 32),
)
def test_any_disks_may_die(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int],
    size: int,
    step: int,
    flush_every: int,
    faults: list[tuple[str, int, int]],
    seed: int,
) -> None:
    disks, parity = shape
    data = stream(seed, size)

    async def run() -> None:
        library = make_library(tmp_path_factory.mktemp("library"), disks=disks, parity=parity)
        scripted = [ScriptedDisk(number) for number in range(disks)]
        spare = disks - max(2, parity + 1)  # so many may fail while the stream is written, and it has all its parity
        failing = sorted({number for _, number, _ in faults if number < disks})[:spare]
        for kind, number, at in faults:
            if number in failing:
                scripted[number].fail(kind, errno.EIO, at)
        async with rigged(library, scripted) as rig:
            session = await write(rig, data, step=step, flush_every=flush_every)
            for disk in scripted:
                disk.faults.clear()  # those that did not come to pass
            assert rig.known(session).bytes == size
            assert rig.durable(session) == data
            choices = list(itertools.combinations(range(disks), parity))
            for gone in random.Random(seed).sample(choices, min(4, len(choices))):
                assert await read_without(rig, gone) == data

    trio.run(run)


@pytest.mark.parametrize(("disks", "parity"), [(2, 1), (3, 1), (3, 2), (4, 2), (5, 1)])
async def test_extents_of_a_stripe_lie_on_different_disks(tmp_path: Path, disks: int, parity: int) -> None:
    async with rigged(make_library(tmp_path, disks=disks, parity=parity)) as rig:
        session = await write(rig, stream(1, 40 * UNIT), step=UNIT, flush_every=100)
        rows = rig.extents(session)
        tracking = rig.engine.catalogue.tracking
        used = [0] * disks
        for row in rows:
            stripe = tracking.extents.stripe(row, 100 * UNIT)
            assert len({one.disk for one in stripe}) == len(stripe)
            assert sum(one.is_parity for one in stripe) == parity
            if row.place == 0:
                for one in stripe:
                    used[one.disk] += 1
        assert max(used) - min(used) <= 2, "every disk has its share of the data and of the parity"
        assert rig.known(session).disks == tuple(range(disks))
        assert rig.known(session).parity == parity


@pytest.mark.parametrize("parity", [1, 2])
async def test_a_damaged_extent_is_computed_and_nobody_hears_of_it(tmp_path: Path, parity: int) -> None:
    async with rigged(make_library(tmp_path, disks=4, parity=parity)) as rig:
        data = stream(1, 20 * UNIT)
        session = await write(rig, data, step=UNIT, flush_every=100)
        rows = rig.extents(session)
        for row in rows[::4]:
            rig.disks[row.disk].damage(row)
        assert await rig.read("T1") == data


async def test_more_damage_than_parity_makes_up_for_is_an_error(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path, disks=3, parity=1)) as rig:
        data = stream(1, 6 * UNIT)
        session = await write(rig, data, step=UNIT, flush_every=100)
        for row in rig.extents(session)[:2]:  # both of one stripe
            rig.disks[row.disk].damage(row)
        with pytest.raises(DamagedExtent):
            await rig.read("T1")
        assert await rig.read("T1", 2 * UNIT) == data[2 * UNIT :]


async def test_a_disk_that_hangs_is_read_past(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    timing = Timing(reading=0.05)
    async with rigged(make_library(tmp_path, disks=3, parity=1), timing=timing) as rig:
        data = stream(1, 12 * UNIT)
        await write(rig, data, step=UNIT, flush_every=100)
        rig.engine.cache.drop_idle(-1)
        with rig.disks[1].held("read"), trio.fail_after(60):
            assert await rig.read("T1") == data
        assert "disk 1 (/scripted): extents that can't be read there are computed" in caplog.text
        assert len(caplog.records) == 1


async def test_streams_go_on_with_less_parity_where_disks_are_missing(tmp_path: Path) -> None:
    """Two of three disks are left: stripes of parity 2 become stripes with one parity extent."""
    disks = [ScriptedDisk(number) for number in range(3)]
    async with rigged(make_library(tmp_path, disks=3, parity=2), disks, timing=Timing(trial=3600)) as rig:
        fault = disks[2].fail("write", errno.EIO)
        data = stream(1, 9 * UNIT)
        session = await write(rig, data, step=UNIT, flush_every=2)
        assert fault.happened
        assert rig.known(session).state == "released"
        for gone in ((0,), (1,), (2,)):
            assert await read_without(rig, gone) == data


async def test_with_a_single_disk_left_of_a_mirror_writing_is_refused(tmp_path: Path) -> None:
    disks = [ScriptedDisk(number) for number in range(2)]
    async with rigged(make_library(tmp_path, parity=1), disks, timing=Timing(trial=3600)) as rig:
        data = stream(1, 4 * UNIT)
        await write(rig, data, step=UNIT, flush_every=2)
        disks[1].fail("write", errno.EIO)
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, stream(2, UNIT))
        with pytest.raises(DiskError):
            await session.flush()
        await rig.engine.release_writer(session)
        assert rig.known(session).state == "failed"
        assert await read_without(rig, (1,)) == data


async def test_a_mirror_with_a_missing_disk_is_read_and_a_write_is_an_error(tmp_path: Path) -> None:
    library, there, data = make_library(tmp_path, parity=1), ScriptedDisk(0), stream(1, 4 * UNIT)
    async with rigged(library, [there, ScriptedDisk(1)]) as rig:
        await write(rig, data, step=UNIT, flush_every=2)
    async with running(library, a_mount(), disks=[there, MissingDisk(1, "/disk1")], find=not_found) as engine:
        session = await engine.open_writer("T1", 0, OPENER)
        await session.write(0, stream(2, UNIT))
        with pytest.raises(DiskMissing):
            await session.flush()
        await engine.release_writer(session)
        assert (await engine.describe(session.number))[0].state == "failed"
        assert await Rig(engine, [there]).read("T1") == data


@pytest.mark.parametrize("parity", [1, 2])
async def test_parity_is_durable_before_a_close_is_answered(tmp_path: Path, parity: int) -> None:
    disks = [ScriptedDisk(number) for number in range(4)]
    async with rigged(make_library(tmp_path, disks=4, parity=parity), disks) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, b"x" * 10)
        synced = [disk.count("sync") for disk in disks]
        await session.flush(closing=True)
        after = [disk.count("sync") for disk in disks]
        assert sum(now > before for before, now in zip(synced, after, strict=True)) == 1 + parity
        await until(lambda: rig.known(session).bytes == 10, "the record")
        await rig.engine.release_writer(session)
