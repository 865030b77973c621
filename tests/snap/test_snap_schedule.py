"""The schedule of snapshots, with a clock that the test sets."""

import os
import threading
from contextlib import closing
from dataclasses import replace
from functools import partial

import pytest
import trio
from acting import Actor, time

from vtlfs.config import Config
from vtlfs.engine.assembly import running
from vtlfs.engine.jobs import background
from vtlfs.engine.library import Library
from vtlfs.model import Mount, Snapshot, utc_now
from vtlfs.snap import schedule, store

EVERY = 900.0


def last(at: str) -> Snapshot:
    return Snapshot(1, None, at, True, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("second", "due"),
    [(1000, False), (1001, False), (1899, False), (1900, True), (9999, True), (999, False), (101, False), (100, True)],
)
def test_it_is_time(second: int, due: bool) -> None:
    assert schedule.is_due(last(time(1000)), time(second), EVERY) == due


def test_it_is_time_for_the_first() -> None:
    assert schedule.is_due(None, time(0), EVERY)


def take(acting: Actor, second: int, keep: dict[str, int] | None = None) -> Snapshot | None:
    with acting.tracking.transaction():
        taken = schedule.take_if_wanted(acting.tracking, time(second), EVERY, keep or {})
    return None if taken is None else taken.snapshot


def test_an_unchanged_library_gets_no_snapshot(acting: Actor) -> None:
    assert take(acting, 0) is not None
    assert take(acting, 10_000) is None
    acting.open()
    taken = take(acting, 20_000)
    assert taken is not None
    assert (taken.id, taken.scheduled, taken.taken_at) == (2, True, time(20_000))
    assert take(acting, 30_000) is None


def test_it_waits_for_its_time_whatever_has_changed(acting: Actor) -> None:
    assert take(acting, 0) is not None
    acting.open()
    assert take(acting, 899) is None
    assert take(acting, 900) is not None


def test_a_snapshot_by_hand_does_not_put_off_the_next(acting: Actor) -> None:
    take(acting, 0)
    acting.open()
    acting.snap(at=time(600))
    assert take(acting, 900) is None, "nothing has changed since"
    acting.open()
    assert take(acting, 901) is not None


def test_each_is_thinned_out_at_once_and_named_ones_stay(acting: Actor) -> None:
    named = acting.snap("named").id
    for index in range(20):
        acting.open(index)
        take(acting, index * 1000, {"last": 3})
    numbers = [one.id for one in store.snapshots(acting.tracking)]
    assert numbers == [named, 19, 20, 21]


def test_many_at_once_take_one(acting: Actor) -> None:
    taken: list[schedule.Taken | None] = []
    together = threading.Barrier(6)

    def look() -> None:
        with closing(acting.library.tracking()) as tracking:
            together.wait()
            with tracking.transaction():
                taken.append(schedule.take_if_wanted(tracking, time(5000), EVERY, {"last": 1}))

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 6
    assert len([one for one in taken if one is not None]) == 1
    assert len(store.snapshots(acting.tracking)) == 1


async def test_engines_of_one_library_take_one_at_a_time(acting: Actor) -> None:
    found = acting.library.config
    config = Config(found.uuid, found.disks, stripe_unit=found.stripe_unit, snapshot_every=0.01)
    library = Library(acting.library.path, config)
    seconds = 1000
    mount = Mount(0, "alpha", "machine", os.getpid(), 0, "/mnt", "", "mounted", utc_now(), None)

    async def count(wanted: int) -> None:
        while len(store.snapshots(acting.tracking)) < wanted:  # noqa: ASYNC110  # nobody tells
            await trio.sleep(0.005)

    with trio.fail_after(60):
        async with running(library, mount) as one, running(library, mount) as other, trio.open_nursery() as nursery:
            for engine in (one, other):
                nursery.start_soon(schedule.run, engine, lambda: time(seconds))
            await count(1)
            for _ in range(3):
                acting.open()
                before = store.snapshots(acting.tracking)
                seconds += 1
                await count(len(before) + 1)
            for _ in range(20):  # many more looks
                await trio.sleep(0.01)
            assert [one.taken_at for one in store.snapshots(acting.tracking)] == [time(1000 + n) for n in range(4)]
            nursery.cancel_scope.cancel()


async def test_disks_remember_what_was_pruned(acting: Actor) -> None:
    """A rebuild from an older copy of the database would bring the snapshot back else, until the next reclaim."""
    library = Library(acting.library.path, replace(acting.library.config, snapshot_keep={"last": 1}))
    mount = Mount(0, "alpha", "machine", os.getpid(), 0, "/mnt", "", "mounted", utc_now(), None)
    async with running(library, mount) as engine:
        job = schedule.Schedule(engine.pool, EVERY, library.config.snapshot_keep)
        for number in range(3):
            acting.open(number)
            await background.run_once(engine, job, partial(time, number * 1000))
    assert [one.id for one in store.snapshots(acting.tracking)] == [3]
    assert [disk.snapshots() for disk in library.disks_that_answer()] == [((1, 2),)] * len(library.config.disks)


async def test_without_a_schedule_there_is_nothing_to_run(acting: Actor) -> None:
    mount = Mount(0, "alpha", "machine", os.getpid(), 0, "/mnt", "", "mounted", utc_now(), None)
    with trio.fail_after(60):
        async with running(acting.library, mount) as engine:
            await schedule.run(engine)
    assert store.snapshots(acting.tracking) == []
