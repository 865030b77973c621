"""The numbers that the kernel knows: fresh ones for media, stable ones for the rest, kept until they are forgotten."""

import itertools

import pytest
from pyfuse3 import ROOT_INODE, InodeT

from vtlfs.engine.memory import NO_LIMIT, MemoryBudget
from vtlfs.fs.inodes import INODE_BYTES, SESSION_BYTES, Inodes
from vtlfs.fs.nodes import (
    DRIVES,
    FILES,
    FRESH,
    MEDIA,
    POOLS,
    ROOT,
    SESSIONS,
    SNAPSHOTS,
    DriveDirectory,
    FilesDirectory,
    LoadedLink,
    MediumNode,
    Node,
    PastFilesDirectory,
    PastMediumNode,
    PoolFileNode,
    PoolFilesDirectory,
    PoolNode,
    SessionNode,
    SnapshotDirectory,
    TapeFileNode,
    stable_number,
)
from vtlfs.model import Medium, Snapshot, Stream, TapeFile

TIME = "2026-01-01T00:00:00.000000Z"


def medium(number: int) -> Medium:
    return Medium(number, f"T{number}", None, 0, 0, 0, TIME, None)


def tape_file(number: int, session: int = 17) -> TapeFile:
    return TapeFile("T1", number, session, 0, 10, 4096, TIME, "alpha")


def snapshot(number: int) -> Snapshot:
    return Snapshot(number, None, TIME, False, 0, 0, 0, 0, 0)


def all_nodes() -> list[Node]:
    nodes: list[Node] = [ROOT, DRIVES, MEDIA, FILES, SESSIONS, SNAPSHOTS, POOLS]
    for number in (1, 2, 99_999):
        nodes += [FilesDirectory(medium(number)), MediumNode(medium(number), None), SessionNode(number, b"", TIME)]
        nodes += [MediumNode(medium(number), drive) for drive in (0, 1, 999)]
        nodes += [TapeFileNode(medium(number), tape_file(n, number + (n << 20))) for n in (0, 1, 1_000_000)]
    for number in (1, 2, 2_000_000):
        nodes += [SnapshotDirectory(snapshot(number), part) for part in ("", "media", "files")]
        for which in (1, 2, 99_999):
            nodes += [
                PastFilesDirectory(snapshot(number), medium(which)),
                PastMediumNode(snapshot(number), medium(which)),
            ]
    for place in (0, 1, 99):
        nodes += [PoolNode("P", place, medium(1), "T1"), PoolFilesDirectory("P", place)]
        nodes += [PoolFileNode(Stream(place + 1, (tape_file(0),)))]
    for drive in (0, 1, 999):
        nodes += [DriveDirectory(drive), LoadedLink(drive, "T1", TIME)]
    return nodes


def test_stable_numbers_are_distinct_and_leave_room() -> None:
    numbers = [stable_number(node) for node in all_nodes()]
    assert len(set(numbers)) == len(numbers)
    assert all(1 << 55 < number < FRESH < 1 << 64 for number in numbers), "above any session's identifier"


def test_stable_number_depends_on_the_path_only() -> None:
    assert stable_number(MediumNode(medium(1), 0)) == stable_number(
        MediumNode(Medium(1, "T1", None, 77, 3, 0, TIME, TIME), 0)
    )
    assert stable_number(SessionNode(5, b"one", TIME)) == stable_number(SessionNode(5, b"two", ""))


@pytest.mark.parametrize("node", [MediumNode(medium(1), 0), PoolNode("P", 0, medium(1), "T1")])
def test_each_look_up_of_a_medium_or_a_pool_has_a_number_of_its_own(node: Node) -> None:
    inodes = Inodes(MemoryBudget(NO_LIMIT))
    seen = {inodes.looked_up(node).number for _ in range(100)}
    assert len(seen) == 100
    assert all(number >= FRESH for number in seen)
    assert len(inodes) == 101


def test_what_never_changes_keeps_its_inode() -> None:
    inodes = Inodes(MemoryBudget(NO_LIMIT))
    first = inodes.looked_up(TapeFileNode(medium(1), tape_file(0)))
    assert inodes.looked_up(TapeFileNode(medium(1), tape_file(0))) is first
    assert first.number == stable_number(first.node)
    assert first.lookups == 2


def test_inode_is_kept_until_it_is_forgotten_as_often_as_looked_up() -> None:
    inodes = Inodes(MemoryBudget(NO_LIMIT))
    node = inodes.looked_up(DRIVES)
    for _ in range(4):
        inodes.looked_up(DRIVES)
    inodes.forget(node.number, 3)
    assert inodes[node.number] is node
    inodes.forget(node.number, 2)
    with pytest.raises(KeyError):
        inodes[node.number]
    inodes.forget(node.number, 1)
    assert len(inodes) == 1


def test_root_is_never_forgotten() -> None:
    inodes = Inodes(MemoryBudget(NO_LIMIT))
    for lookups in itertools.repeat(1000, 5):
        inodes.forget(ROOT_INODE, lookups)
    assert inodes[InodeT(ROOT_INODE)].node == ROOT


def test_listing_counts_too() -> None:
    inodes = Inodes(MemoryBudget(NO_LIMIT))
    listed = inodes.listed(MediumNode(medium(1), None))
    assert listed.number == stable_number(listed.node) < FRESH
    inodes.forget(listed.number, 1)
    assert len(inodes) == 1


def test_inodes_are_counted_in_the_memory_budget() -> None:
    budget = MemoryBudget(NO_LIMIT)
    inodes = Inodes(budget)
    nodes: list[Node] = [MediumNode(medium(1), 0), SessionNode(5, b"one", TIME), DRIVES]
    for node in nodes * 2:
        inodes.looked_up(node)
    assert budget.used == (2 + 1) * INODE_BYTES + 2 * (INODE_BYTES + SESSION_BYTES)
    for number in [number for number in inodes._inodes if number != ROOT_INODE]:
        inodes.forget(number, 2)
    assert budget.used == 0
