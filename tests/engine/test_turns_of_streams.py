"""Streams that want a busy disk get it in turn."""

from pathlib import Path

import trio
import trio.testing
from scripted import OPENER, UNIT, make_library, rigged, until


async def test_a_write_does_not_wait_for_all_that_another_stream_has_waiting(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path, memory=256 * UNIT)) as rig:  # 32 units may be queued: 16 for each disk
        many = await rig.engine.open_writer("T1", 0, OPENER)
        one = await rig.engine.open_writer("T2", 0, OPENER)
        has_one = trio.Event()

        async def write_one() -> None:
            await one.write(0, b"x" * UNIT)
            has_one.set()

        async with trio.open_nursery() as nursery:
            with rig.disks[0].held("write"), rig.disks[1].held("write"):
                for number in range(120):
                    nursery.start_soon(many.write, number * UNIT, b"x" * UNIT)
                    await trio.testing.wait_all_tasks_blocked()  # in order: each fills its stripe unit
                nursery.start_soon(write_one)
                await trio.testing.wait_all_tasks_blocked()
                assert not has_one.is_set()
        await until(lambda: sum(disk.count("write") for disk in rig.disks) == 121, "all writes")
        # The order of one disk's writes, for the other disk is faster or slower by chance. First come, first served,
        # would put this one behind 60. 16 were queued before; 16 more may get their places at the same moment.
        written = [[session for kind, session, _ in disk.calls if kind == "write"] for disk in rig.disks]
        [before] = [sessions.index(one.number) for sessions in written if one.number in sessions]
        assert before < 40
