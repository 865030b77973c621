"""High-water marks: a mark only rises, and an error in writing a mark makes nothing else fail."""

import os
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from vtlfs.disks import records
from vtlfs.disks.local import label, marks
from vtlfs.disks.local.disk import LocalDisk
from vtlfs.disks.local.label import Label
from vtlfs.disks.marks import MarkChildren, MarkThreads
from vtlfs.model import Watermark

LIBRARY = "a library"
FIRST = Watermark(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, "2026-01-01T00:00:00.000000Z")


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


def opened(disks: list[Path]) -> list[LocalDisk]:
    return [LocalDisk(number, disk, LIBRARY) for number, disk in enumerate(disks)]


def test_mark_only_rises(disks: list[Path]) -> None:
    for commits in (5, 7, 6, 7, 1):
        marks.write(disks[0], LIBRARY, at(commits))
    assert marks.read(disks[0], LIBRARY) == at(7)
    assert marks.read(disks[1], LIBRARY) is None
    assert marks.read(disks[0], "another") is None


def test_mark_without_a_time_is_read_and_one_with_a_wrong_time_is_not(disks: list[Path]) -> None:
    file = disks[0] / marks.FILE_NAME
    document = {"library": LIBRARY, **asdict(FIRST)}
    file.write_bytes(records.encode({key: value for key, value in document.items() if key != "latest"}, 0))
    assert marks.read(disks[0], LIBRARY) == replace(FIRST, latest="")
    for wrong in ("soon", "9999-99-99T00:00:00.000000Z", 7, None, "x" * 900):
        file.write_bytes(records.encode(document | {"latest": wrong}, 0))
        assert marks.read(disks[0], LIBRARY) is None


def test_torn_mark_leaves_the_one_before(disks: list[Path]) -> None:
    marks.write(disks[0], LIBRARY, at(5))
    marks.write(disks[0], LIBRARY, at(6))
    file = disks[0] / marks.FILE_NAME
    content = bytearray(file.read_bytes())
    content[2048 + 100] ^= 1
    file.write_bytes(content)
    assert marks.read(disks[0], LIBRARY) == at(5)
    marks.write(disks[0], LIBRARY, at(7))
    assert marks.read(disks[0], LIBRARY) == at(7)


def test_nothing_is_written_where_the_disk_is_not_mounted(disks: list[Path], tmp_path: Path) -> None:
    disks[0].rename(tmp_path / "elsewhere")
    disks[0].mkdir()
    with pytest.raises(OSError, match="is the right device mounted"):
        marks.write(disks[0], LIBRARY, at(1))
    assert list(disks[0].iterdir()) == []


def test_links_are_not_written_through(disks: list[Path], tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (disks[0] / marks.FILE_NAME).symlink_to(victim)
    os.link(victim, disks[1] / marks.FILE_NAME)
    for disk in disks:
        with pytest.raises(OSError):
            marks.write(disk, LIBRARY, at(1))
        assert marks.read(disk, LIBRARY) is None
    assert victim.read_bytes() == b"mine"


def test_a_mount_raises_the_marks_of_all_disks(disks: list[Path]) -> None:
    writer = MarkThreads(opened(disks))
    for commits in range(1, 50):
        writer.advance(at(commits))
        assert at(commits) in [marks.read(disk, LIBRARY) for disk in disks]
    writer.close()
    assert [marks.read(disk, LIBRARY) for disk in disks] == [at(49), at(49)]


def test_disk_that_hangs_holds_up_one_commit_only(disks: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    waited: list[float | None] = []
    write = marks.write

    def hanging(disk: Path, *rest: Any, **more: Any) -> None:
        answers.wait(30)
        write(disk, *rest, **more)

    monkeypatch.setattr(marks, "write", hanging)
    writer = MarkThreads(opened(disks))
    wait_for = writer._changed.wait_for

    def brief(predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        waited.append(timeout)
        return wait_for(predicate, timeout and 0.05)

    monkeypatch.setattr(writer._changed, "wait_for", brief)
    for commits in range(1, 5):
        writer.advance(at(commits))
    assert len([one for one in waited if one is not None]) == 4
    assert writer._unresponsive == {0, 1}
    answers.set()
    writer.close()
    assert [marks.read(disk, LIBRARY) for disk in disks] == [at(4), at(4)]


def test_commit_that_was_made_does_not_fail_for_want_of_threads_or_processes(
    disks: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise BlockingIOError

    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(os, "fork", refused)
    MarkChildren(disks, LIBRARY).advance(at(1))
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    writer = MarkThreads(opened(disks))
    writer.advance(at(1))
    writer.advance(at(2))
    writer.close()
    assert marks.read(disks[0], LIBRARY) is None
