"""The child process by which a mount asks its own file system."""

import sys
from pathlib import Path

import pytest

from vtlfs import own_mount


async def test_answer_and_error_come_from_the_path(tmp_path: Path) -> None:
    await own_mount.ask(tmp_path)
    await own_mount.sync(tmp_path)
    with pytest.raises(OSError, match=r"^No such file or directory$") as refused:
        await own_mount.ask(tmp_path / "gone")
    assert not isinstance(refused.value, own_mount.CannotAsk)


async def test_child_that_can_not_be_started_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(own_mount.CannotAsk):
        await own_mount.ask(tmp_path)
