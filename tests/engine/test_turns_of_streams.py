"""Streams that want a busy disk get it in turn."""

from pathlib import Path

import pytest
import trio
import trio.testing
from scripted import OPENER, UNIT, make_library, rigged

from vtlfs.engine.memory import MemoryBudget


async def test_a_write_does_not_wait_for_all_that_another_stream_has_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryBudget, "queued", 4 * UNIT)
    served: list[str] = []
    async with rigged(make_library(tmp_path)) as rig:
        many = await rig.engine.open_writer("T1", 0, OPENER)
        one = await rig.engine.open_writer("T2", 0, OPENER)

        async def write(name: str, number: int) -> None:
            await (many if name == "many" else one).write(number * UNIT, b"x" * UNIT)
            served.append(name)

        async with trio.open_nursery() as nursery:
            with rig.disks[0].held("write"), rig.disks[1].held("write"):
                for number in range(60):
                    nursery.start_soon(write, "many", number)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(write, "one", 0)
                await trio.testing.wait_all_tasks_blocked()
                assert "one" not in served
        assert len(served) == 61
        assert served.index("one") < 20
