"""Streams that want a busy disk get it in turn."""

from pathlib import Path

import trio
import trio.testing
from scripted import OPENER, UNIT, make_library, rigged


async def test_a_write_does_not_wait_for_all_that_another_stream_has_waiting(tmp_path: Path) -> None:
    served: list[str] = []
    async with rigged(make_library(tmp_path, memory=256 * UNIT)) as rig:  # 32 units may be queued
        many = await rig.engine.open_writer("T1", 0, OPENER)
        one = await rig.engine.open_writer("T2", 0, OPENER)

        async def write(name: str, number: int) -> None:
            await (many if name == "many" else one).write(number * UNIT, b"x" * UNIT)
            served.append(name)

        async with trio.open_nursery() as nursery:
            with rig.disks[0].held("write"), rig.disks[1].held("write"):
                for number in range(120):
                    nursery.start_soon(write, "many", number)
                    await trio.testing.wait_all_tasks_blocked()  # in order: each fills its stripe unit
                nursery.start_soon(write, "one", 0)
                await trio.testing.wait_all_tasks_blocked()
                assert "one" not in served
        assert len(served) == 121
        assert served.index("one") < 60
