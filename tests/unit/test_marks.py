"""High-water marks: they only rise, whoever writes them, and what fails with them fails nothing else."""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vtlfs.disks import aside, label, marks
from vtlfs.disks.label import Label
from vtlfs.disks.marks import MarkChildren, MarkThreads
from vtlfs.model import Watermark

LIBRARY = "a library"
FIRST = Watermark(1, 2, 3, 4, 5, 6, 7, 8)


def at(commits: int) -> Watermark:
    return replace(FIRST, commits=commits)


@pytest.fixture
def disks(tmp_path: Path) -> list[Path]:
    """Two labelled disks."""
    found = [tmp_path / "disk0", tmp_path / "disk1"]
    for number, disk in enumerate(found):
        disk.mkdir()
        label.write(disk, Label(LIBRARY, f"disk {number}", number, "2026-01-01T00:00:00.000000Z"))
    return found


def test_mark_only_rises(disks: list[Path]):
    for commits in (5, 7, 6, 7, 1):
        marks.write(disks[0], LIBRARY, at(commits))
    assert marks.read(disks[0], LIBRARY) == at(7)
    assert marks.read(disks[1], LIBRARY) is None
    assert marks.read(disks[0], "another") is None


def test_torn_mark_leaves_the_one_before(disks: list[Path]):
    marks.write(disks[0], LIBRARY, at(5))
    marks.write(disks[0], LIBRARY, at(6))
    file = disks[0] / marks.FILE_NAME
    content = bytearray(file.read_bytes())
    content[2048 + 100] ^= 1
    file.write_bytes(content)
    assert marks.read(disks[0], LIBRARY) == at(5)
    marks.write(disks[0], LIBRARY, at(7))
    assert marks.read(disks[0], LIBRARY) == at(7)


def test_nothing_is_written_where_the_disk_is_not_mounted(disks: list[Path], tmp_path: Path):
    disks[0].rename(tmp_path / "elsewhere")
    disks[0].mkdir()
    with pytest.raises(OSError, match="is the right device mounted"):
        marks.write(disks[0], LIBRARY, at(1))
    assert list(disks[0].iterdir()) == []


def test_links_are_not_written_through(disks: list[Path], tmp_path: Path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (disks[0] / marks.FILE_NAME).symlink_to(victim)
    os.link(victim, disks[1] / marks.FILE_NAME)
    for disk in disks:
        with pytest.raises(OSError):
            marks.write(disk, LIBRARY, at(1))
        assert marks.read(disk, LIBRARY) is None
    assert victim.read_bytes() == b"mine"


def test_a_mount_raises_the_marks_of_all_disks(disks: list[Path]):
    writer = MarkThreads(disks, LIBRARY)
    for commits in range(1, 50):
        writer.advance(at(commits))
        assert at(commits) in [marks.read(disk, LIBRARY) for disk in disks]
    writer.close()
    assert [marks.read(disk, LIBRARY) for disk in disks] == [at(49), at(49)]


class Hanging:
    """Writing a mark hangs on some disks; what commits have waited for is noted, and shortened."""

    def __init__(self, disks: list[Path], hanging: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers = threading.Event()
        self.waited: list[float] = []
        write = marks.write

        def hang(disk: Path, *rest: object, **more: object) -> None:
            if disk in hanging:
                self.answers.wait(30)
            write(disk, *rest, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(marks, "write", hang)
        self.writer = MarkThreads(disks, LIBRARY)
        wait_for = self.writer._answered.wait_for

        def wait(predicate: Callable[[], bool], seconds: float) -> bool:
            self.waited.append(seconds)
            return wait_for(predicate, 5 if set(hanging) != set(disks) and seconds > 0.1 else 0.05)

        monkeypatch.setattr(self.writer._answered, "wait_for", wait)

    def end(self) -> None:
        """Have the disks answer, and the threads end."""
        self.answers.set()
        self.writer.close()


def test_disks_that_hang_hold_up_one_commit_only(disks: list[Path], monkeypatch: pytest.MonkeyPatch):
    hanging = Hanging(disks, disks, monkeypatch)
    for commits in range(1, 5):
        hanging.writer.advance(at(commits))
    assert hanging.waited.count(marks.PATIENCE_SECONDS) == 1
    assert hanging.writer._late == set(disks)
    hanging.end()
    assert [marks.read(disk, LIBRARY) for disk in disks] == [at(4), at(4)]


@pytest.mark.parametrize("which", [0, 1])
def test_a_disk_that_hangs_holds_up_no_commit_while_another_answers(
    disks: list[Path], which: int, monkeypatch: pytest.MonkeyPatch
):
    hanging = Hanging(disks, [disks[which]], monkeypatch)
    for commits in range(1, 5):
        hanging.writer.advance(at(commits))
        assert marks.read(disks[1 - which], LIBRARY) == at(commits)
    assert hanging.waited.count(marks.PATIENCE_SECONDS) <= 1  # until the other disk is the prompt one
    hanging.end()
    assert [marks.read(disk, LIBRARY) for disk in disks] == [at(4), at(4)]


def test_commit_that_was_made_does_not_fail_for_want_of_threads_or_processes(
    disks: list[Path], monkeypatch: pytest.MonkeyPatch
):
    def refused(*_: object) -> None:
        raise BlockingIOError

    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(aside.os, "fork", refused)
    MarkChildren(disks, LIBRARY).advance(at(1))
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    writer = MarkThreads(disks, LIBRARY)
    writer.advance(at(1))
    writer.advance(at(2))
    writer.close()
    assert marks.read(disks[0], LIBRARY) is None
