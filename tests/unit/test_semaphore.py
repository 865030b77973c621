"""The fair semaphore: places in a disk's queue go to the waiting streams in turn."""

import pytest
import trio
import trio.testing

from vtlfs.disks.semaphore import FairSemaphore


async def test_who_asks_once_does_not_wait_for_all_who_asked_before(autojump_clock: trio.testing.MockClock) -> None:
    turns, served = FairSemaphore(1), []

    async def ask(who: int) -> None:
        await turns.acquire(who)
        served.append(who)
        await trio.sleep(1)
        turns.release()

    async with trio.open_nursery() as nursery:
        for who in [1] * 100 + [2] * 3 + [3]:
            nursery.start_soon(ask, who)
            await trio.testing.wait_all_tasks_blocked()
    assert served[:10] == [1, 1, 2, 3, 1, 2, 1, 2, 1, 1]
    assert (len(served), turns.value) == (104, 1)


async def test_one_who_gives_up_leaves_its_place_to_others(autojump_clock: trio.testing.MockClock) -> None:
    turns = FairSemaphore(1)
    await turns.acquire(1)
    with trio.move_on_after(1) as scope:
        await turns.acquire(2)
    assert scope.cancelled_caught
    turns.release()
    turns.acquire_nowait()
    with pytest.raises(trio.WouldBlock):
        turns.acquire_nowait()
    turns.release()
    assert turns.value == 1


async def test_one_of_several_that_give_up_does_not_take_the_turn_of_the_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    turns, served = FairSemaphore(1), []

    async def ask(patience: float) -> None:
        with trio.move_on_after(patience):
            await turns.acquire(7)
            served.append(patience)
            turns.release()

    await turns.acquire(1)
    async with trio.open_nursery() as nursery:
        for patience in (1, 10, 2):
            nursery.start_soon(ask, patience)
        await trio.sleep(5)
        turns.release()
    assert served == [10]
    assert turns.value == 1


async def test_one_who_gives_up_and_comes_again_keeps_its_turn(autojump_clock: trio.testing.MockClock) -> None:
    turns, served = FairSemaphore(1), []

    async def ask(who: int, patience: float) -> None:
        while who not in served:
            with trio.move_on_after(patience):
                await turns.acquire(who)
                served.append(who)
                turns.release()

    await turns.acquire(1)
    async with trio.open_nursery() as nursery:
        for who, patience in ((2, 1), (3, 100)):
            nursery.start_soon(ask, who, patience)
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(5.5)
        turns.release()
    assert served == [2, 3]
    assert turns.value == 1
