"""Write-behind: how many bytes of a disk's extents the page cache may keep unwritten."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from vtlfs.disks.headers import Opening
from vtlfs.disks.local.disk import LocalDisk
from vtlfs.disks.local.member import LocalMember
from vtlfs.disks.local.opening import member_path
from vtlfs.disks.local.write_behind import MOST_BEHIND, WriteBehind
from vtlfs.disks.records import BLOCK, after
from vtlfs.model import MIB, NO_CODEC, Extent, Opener

OPENING = Opening("T1", 0, Opener("alpha", 1, 0, 0, "tar"), "2026-01-31T09:30:00.000000Z", MIB)
LIBRARY = "11111111-2222-3333-4444-555555555555"


class Noted:
    """A member file that records the calls it gets."""

    def __init__(self) -> None:
        self.dropped: list[int] = []  # positions, in extents

    def drop(self, position: int, size: int) -> None:
        assert position % size == 0
        self.dropped.append(position // size)


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("size", [4096, MIB, MOST_BEHIND, 3 * MOST_BEHIND])
def test_the_oldest_extents_are_waited_for_and_never_the_newest(descriptor: int, size: int) -> None:
    behind, member = WriteBehind(), Noted()
    left = max(1, MOST_BEHIND // size)
    for number in range(left + 5):
        behind.written(member, descriptor, number * size, size)
    assert member.dropped == list(range(5))


def test_all_streams_on_a_disk_share_what_may_be_behind(descriptor: int) -> None:
    behind, members = WriteBehind(), [Noted(), Noted()]
    for number in range(8):
        behind.written(members[number % 2], descriptor, number // 2 * MIB, MIB)
    assert [member.dropped for member in members] == [[0, 1], [0, 1]]


def test_a_member_file_that_was_not_written_is_finished_beside_the_writing_thread(tmp_path: Path) -> None:
    """A dead mount's member files are trimmed by another thread, while streams write to the disk."""
    disk = LocalDisk(0, tmp_path, LIBRARY)
    dead = disk.member(1, MIB, OPENING)
    dead.write(Extent(1, 0, 0, 0, 1, NO_CODEC, 0, BLOCK, 1, b""), [memoryview(b"x")])
    dead.finish(None)
    is_over, trouble = threading.Event(), []

    def write() -> None:
        with open(tmp_path / "file", "wb") as file:
            for number in count():
                disk.write_behind.written(Noted(), file.fileno(), number % 100 * 4096, 4096)
                if is_over.is_set():
                    return

    thread = threading.Thread(target=write)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        for _ in range(2000):
            member = disk.reopen(1, BLOCK + BLOCK + 1)
            assert member is not None
            try:
                member.finish(None)
            except RuntimeError as error:
                trouble.append(error)
    finally:
        is_over.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert not trouble


def test_a_member_file_that_is_closed_is_forgotten(descriptor: int) -> None:
    behind, closed, other = WriteBehind(), Noted(), Noted()
    for number in range(2):
        behind.written(closed, descriptor, number * MIB, MIB)
        behind.written(other, descriptor, number * MIB, MIB)
    behind.forget(closed)
    for number in range(2, 6):
        behind.written(other, descriptor, number * MIB, MIB)
    assert (closed.dropped, other.dropped) == ([], [0, 1])


def write(member: LocalMember, session: int, number: int) -> None:
    position = BLOCK + number * (after(0, MIB))
    extent = Extent(session, number, 0, number * MIB, MIB, NO_CODEC, 0, position, MIB, b"")
    member.write(extent, [memoryview(bytes(MIB))])


def test_what_was_written_leaves_the_page_cache(tmp_path: Path) -> None:
    if subprocess.run(["stat", "-fc", "%T", tmp_path], capture_output=True, text=True, check=True).stdout == "tmpfs\n":
        pytest.skip("a tmpfs is nothing but page cache")
    member = LocalDisk(0, tmp_path, LIBRARY).member(1, MIB, OPENING)
    for number in range(64):
        write(member, 1, number)
    path = member_path(tmp_path, 1)
    words: list[str | Path] = ["fincore", "--bytes", "--noheadings", "--output", "RES", path]
    cached = int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert cached <= 2 * MOST_BEHIND
    member.finish(None)
    assert path.stat().st_size > 64 * MIB


def test_closing_a_member_file_leaves_no_descriptor(tmp_path: Path) -> None:
    disk = LocalDisk(0, tmp_path, LIBRARY)
    before = len(os.listdir("/proc/self/fd"))
    for session in (1, 2):
        member = disk.member(session, MIB, OPENING)
        for number in range(8):
            write(member, session, number)
        member.finish(None)
    assert len(os.listdir("/proc/self/fd")) == before
