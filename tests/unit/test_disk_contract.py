"""What every implementation of the storage port promises: the local directory, and the disk in memory of the tests.

A missing disk promises to refuse. What is a directory's own (names, links, crashes) is in test_local.py.
"""

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from blake3 import blake3
from memory_disk import MemoryDisk

from vtlfs.disks.base import Disk
from vtlfs.disks.contents import SESSIONS_PER_GROUP, Batch, Flaw, Kind, Part
from vtlfs.disks.headers import Ending, Opening
from vtlfs.disks.local import label as labels
from vtlfs.disks.local.disk import LocalDisk
from vtlfs.disks.local.label import Label
from vtlfs.disks.missing import MissingDisk
from vtlfs.disks.records import BLOCK, slot_offset
from vtlfs.errors import DamagedUnit, DiskError, DiskMissing
from vtlfs.model import Opener, State, StripeUnit, Watermark

UNIT = 4096
LIBRARY = "11111111-2222-3333-4444-555555555555"
AT = "2026-01-31T09:30:00.000000Z"
OPENING = Opening("A00001L9", 0, Opener("alpha", 7, 0, 0, "tar"), AT, UNIT, 2)
ENDING = Ending(State.RELEASED, None, AT, 0, 0, UNIT, 3)
MARK = Watermark(5, 2, 3, 4, 5, 6, 7, 8)


@dataclass
class Kit:
    """A disk to be tested, and how to turn a bit of a stripe unit behind its back."""

    disk: Disk
    damage: Callable[[StripeUnit], None]


@pytest.fixture(params=["local", "memory"])
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Kit:
    if request.param == "memory":
        memory = MemoryDisk(0, library=LIBRARY)
        return Kit(memory, memory.damage)
    labels.write(tmp_path, Label(LIBRARY, "a disk", 0, AT))
    local = LocalDisk(0, tmp_path, LIBRARY)

    def damage(unit: StripeUnit) -> None:
        with open(local.where(unit.session), "r+b") as file:
            file.seek(slot_offset(unit.slot, UNIT) + BLOCK + unit.bytes // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))

    return Kit(local, damage)


@pytest.fixture
def disk(kit: Kit) -> Disk:
    return kit.disk


def write(disk: Disk, session: int, *contents: bytes, ending: Ending | None = ENDING) -> list[StripeUnit]:
    """Have a session write stripe units, one into each slot, and end."""
    member = disk.member(session, UNIT, OPENING)
    units = [member.write(2 * slot, slot, [memoryview(data)], 0, 0) for slot, data in enumerate(contents)]
    member.sync()
    member.finish(ending)
    return units


def part(session: int, units: list[StripeUnit]) -> Part:
    return Part(session, UNIT, OPENING, ENDING, tuple(units), is_first=True)


def scanned(disk: Disk, known: Callable[[int, int], set[int]] = lambda first, last: set()) -> Batch:
    """Return all that a scan finds, in one."""
    whole = Batch(disk.number)
    for batch in disk.scan(known):
        for name in ("present", "headers", "records", "ignored", "damaged"):
            getattr(whole, name).extend(getattr(batch, name))
    return whole


# --- writing and reading ----------------------------------------------------------------------------------------------


def test_stripe_unit_that_was_written_is_read(disk: Disk) -> None:
    content = os.urandom(UNIT)
    (unit,) = write(disk, 17, content)
    assert unit == StripeUnit(17, 0, disk.number, 0, UNIT, blake3(content).digest())
    assert disk.read(unit, UNIT) == content


def test_stripe_unit_grows_and_every_length_stays_readable(disk: Disk) -> None:
    member, content = disk.member(1, UNIT, OPENING), os.urandom(300)
    first = member.write(0, 0, [memoryview(content)[:100]], 0, 0)
    second = member.write(0, 0, [memoryview(content)[:50], memoryview(content)[50:]], 100, 1)
    member.sync()
    assert disk.read(first, UNIT) == content[:100]
    assert disk.read(second, UNIT) == content


def test_harmed_stripe_unit_is_damage(kit: Kit) -> None:
    units = write(kit.disk, 1, b"a" * UNIT, b"b" * UNIT)
    kit.damage(units[0])
    with pytest.raises(DamagedUnit) as harmed:
        kit.disk.read(units[0], UNIT)
    assert (harmed.value.session, harmed.value.unit, harmed.value.disk) == (1, 0, 0)
    assert kit.disk.read(units[1], UNIT) == b"b" * UNIT


def test_stripe_unit_of_a_member_that_is_not_there_is_damage(disk: Disk) -> None:
    (unit,) = write(disk, 1, b"x")
    with pytest.raises(DamagedUnit):
        disk.read(replace(unit, session=2), UNIT)


def test_session_that_writes_nothing_has_no_member(disk: Disk) -> None:
    member = disk.member(1, UNIT, OPENING)
    member.sync()
    member.finish(ENDING)
    assert disk.sessions_from(0) == set()
    assert disk.header(1) is None
    assert disk.reopen(1, UNIT, 0) is None


def test_room_that_was_set_aside_makes_a_member(disk: Disk) -> None:
    member = disk.member(1, UNIT, OPENING)
    member.allocate(0)
    assert disk.sessions_from(0) == {1}
    unit = member.write(0, 0, [memoryview(b"x" * 10)], 0, 0)
    member.finish(ENDING)
    assert disk.read(unit, UNIT) == b"x" * 10
    assert disk.members(0).members[1].size == slot_offset(0, UNIT) + BLOCK + 10


def test_member_is_never_written_over(disk: Disk) -> None:
    (unit,) = write(disk, 1, b"x" * 10)
    with pytest.raises(DiskError) as refused:
        disk.member(1, UNIT, OPENING).write(0, 0, [memoryview(b"y" * 10)], 0, 0)
    assert refused.value.errno == errno.EEXIST
    assert disk.read(unit, UNIT) == b"x" * 10


def test_reopened_member_loses_what_does_not_count_and_gets_its_ending(disk: Disk) -> None:
    units = write(disk, 1, b"a" * UNIT, b"b" * UNIT, ending=None)
    again = disk.reopen(1, UNIT, 1)
    assert again is not None
    again.finish(replace(ENDING, state=State.RECOVERED))
    assert disk.read(units[0], UNIT) == b"a" * UNIT
    with pytest.raises(DamagedUnit):
        disk.read(units[1], UNIT)
    header = disk.header(1)
    assert header is not None
    assert header.ending is not None
    assert header.ending.state is State.RECOVERED


def test_removed_member_is_gone_and_others_stay(disk: Disk) -> None:
    (gone,), (kept,) = write(disk, 1, b"x"), write(disk, 2, b"y")
    disk.remove(1)
    disk.remove(1)
    disk.remove(3)
    assert disk.sessions_from(0) == {2}
    with pytest.raises(DamagedUnit):
        disk.read(gone, UNIT)
    assert disk.read(kept, UNIT) == b"y"


# --- looking at what is there -----------------------------------------------------------------------------------------


def test_empty_disk_has_nothing(disk: Disk) -> None:
    assert disk.groups() == (set(), [])
    assert disk.members(0).members == {}
    assert disk.sessions_from(0) == set()
    assert disk.copies() == []
    assert disk.mark() is None
    assert scanned(disk).present == []


def test_members_are_listed_by_groups(disk: Disk) -> None:
    for session in (1, 5, SESSIONS_PER_GROUP, 3 * SESSIONS_PER_GROUP + 2):
        write(disk, session, b"x" * session)
    assert disk.groups() == ({0, 1, 3}, [])
    listing = disk.members(0)
    assert listing.strange == []
    assert {session: entry.size for session, entry in listing.members.items()} == {
        session: slot_offset(0, UNIT) + BLOCK + session for session in (1, 5)
    }
    assert all(entry.is_file and entry.is_private for entry in listing.members.values())
    assert disk.members(2).members == {}
    assert disk.sessions_from(5) == {5, SESSIONS_PER_GROUP, 3 * SESSIONS_PER_GROUP + 2}


def test_header_says_who_wrote_and_how_it_ended(disk: Disk) -> None:
    write(disk, 1, b"x", ending=None)
    header = disk.header(1)
    assert header is not None
    assert (header.library, header.disk, header.session, header.ending) == (LIBRARY, 0, 1, None)
    assert header.opening is not None
    assert header.opening == OPENING
    write(disk, 2, b"x")
    header = disk.header(2)
    assert header is not None
    assert header.ending is not None
    assert (header.ending.state, header.ending.tape_file, header.ending.requests) == (State.RELEASED, 0, 3)


def test_place_of_a_member_can_be_told(disk: Disk) -> None:
    assert disk.path in disk.where(1)
    assert disk.where(1) != disk.where(2)
    assert disk.path in disk.where_copy(1)


def test_scan_finds_headers_and_records(disk: Disk) -> None:
    units = [*write(disk, 1, b"a" * UNIT, b"b" * 100), *write(disk, SESSIONS_PER_GROUP, b"c")]
    found = scanned(disk)
    assert found.present == [1, SESSIONS_PER_GROUP]
    assert [(session, header and header["state"]) for session, header in found.headers] == [
        (1, "released"),
        (SESSIONS_PER_GROUP, "released"),
    ]
    places = [StripeUnit(one.session, one.unit, 0, one.slot, one.bytes, one.blake3) for one in found.records]
    assert places == units
    assert (found.ignored, found.damaged) == ([], [])


def test_scan_opens_no_member_that_is_known(disk: Disk) -> None:
    write(disk, 1, b"a")
    write(disk, 2, b"b")
    asked = []

    def known(first: int, last: int) -> set[int]:
        asked.append((first, last))
        return {1}

    found = scanned(disk, known)
    assert asked == [(0, SESSIONS_PER_GROUP - 1)]
    assert sorted(found.present) == [1, 2]
    assert [session for session, _ in found.headers] == [2]
    assert [one.session for one in found.records] == [2]


def test_records_of_one_member_can_be_scanned(disk: Disk) -> None:
    units = write(disk, 1, b"a" * UNIT, b"b" * 100)
    records = [one for batch in disk.scan_member(1, UNIT) for one in batch.records]
    assert [(one.unit, one.slot, one.bytes, one.blake3) for one in records] == [
        (unit.unit, unit.slot, unit.bytes, unit.blake3) for unit in units
    ]


def test_examination_of_what_is_right_finds_nothing(disk: Disk) -> None:
    units = write(disk, 1, b"a" * UNIT, b"b" * UNIT, b"c" * 100)
    assert disk.examine(part(1, units)) == []


def test_examination_finds_a_bit_that_was_turned(kit: Kit) -> None:
    units = write(kit.disk, 1, b"a" * UNIT, b"b" * UNIT, b"c" * 100)
    kit.damage(units[1])
    (flaw,) = kit.disk.examine(part(1, units))
    assert (flaw.kind, flaw.unit, flaw.position) == (Kind.FLIPPED, units[1], slot_offset(1, UNIT) + BLOCK)


def test_examination_finds_a_member_that_is_gone(disk: Disk) -> None:
    units = write(disk, 1, b"a" * UNIT, b"b" * UNIT)
    disk.remove(1)
    assert [(flaw.kind, flaw.unit) for flaw in disk.examine(part(1, units))] == [(Kind.MISSING, unit) for unit in units]


def test_examination_finds_a_header_that_is_not_finished(disk: Disk) -> None:
    units = write(disk, 1, b"a", ending=None)
    (flaw,) = disk.examine(part(1, units))
    assert flaw.is_unfinished
    assert disk.examine(replace(part(1, units), is_first=False)) == []


def test_several_threads_may_examine(disk: Disk) -> None:
    units = write(disk, 1, *(bytes([slot]) * UNIT for slot in range(8)))
    found: list[list[Flaw]] = []
    threads = [threading.Thread(target=lambda unit=unit: found.append(disk.examine(part(1, [unit])))) for unit in units]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[]] * 8


# --- copies of the catalogue, and the high-water mark -----------------------------------------------------------------


def copy_of(content: bytes) -> Callable[[str, Callable[[int], None]], None]:
    def fill(file: str, check_room: Callable[[int], None]) -> None:
        check_room(len(content))
        assert os.path.getsize(file) == 0
        with open(file, "r+b") as target:
            target.write(content)

    return fill


def test_last_two_copies_are_kept(disk: Disk) -> None:
    for number in (1, 2, 10):
        disk.put_copy(number, copy_of(b"state %d" % number))
    assert disk.copies() == [10, 2]
    assert [b"".join(disk.read_copy(number)) for number in (10, 2)] == [b"state 10", b"state 2"]
    with pytest.raises(DiskError):
        b"".join(disk.read_copy(1))


def test_copy_that_fails_leaves_nothing(disk: Disk) -> None:
    disk.put_copy(1, copy_of(b"good"))

    def fill(file: str, check_room: Callable[[int], None]) -> None:
        copy_of(b"half")(file, check_room)
        raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))

    with pytest.raises(DiskError) as failed:
        disk.put_copy(2, fill)
    assert failed.value.errno == errno.ECANCELED
    assert disk.copies() == [1]


def test_copy_for_which_there_is_no_room_is_refused(disk: Disk) -> None:
    with pytest.raises(DiskError) as refused:
        disk.put_copy(1, lambda file, check_room: check_room(1 << 60))
    assert refused.value.errno == errno.ENOSPC
    assert disk.copies() == []


def test_mark_only_rises(disk: Disk) -> None:
    for commits in (5, 7, 6, 7, 1):
        disk.raise_mark(replace(MARK, commits=commits), durable=commits == 7)
    assert disk.mark() == replace(MARK, commits=7)


# --- health -----------------------------------------------------------------------------------------------------------


def test_disk_measures_itself_and_can_be_tried_out(disk: Disk) -> None:
    disk.measure()
    assert 0 < disk.free <= disk.total
    disk.try_out()
    assert disk.groups() == (set(), [])


# --- the missing disk -------------------------------------------------------------------------------------------------

REFUSED: dict[str, Callable[[Disk], object]] = {
    "member": lambda disk: disk.member(1, UNIT, OPENING),
    "read": lambda disk: disk.read(StripeUnit(1, 0, 1, 0, 1, bytes(32)), UNIT),
    "remove": lambda disk: disk.remove(1),
    "groups": lambda disk: disk.groups(),
    "members": lambda disk: disk.members(0),
    "sessions_from": lambda disk: disk.sessions_from(0),
    "header": lambda disk: disk.header(1),
    "scan": lambda disk: list(disk.scan(lambda first, last: set())),
    "scan_member": lambda disk: list(disk.scan_member(1, UNIT)),
    "examine": lambda disk: disk.examine(part(1, [])),
    "copies": lambda disk: disk.copies(),
    "put_copy": lambda disk: disk.put_copy(1, copy_of(b"")),
    "read_copy": lambda disk: list(disk.read_copy(1)),
    "mark": lambda disk: disk.mark(),
    "raise_mark": lambda disk: disk.raise_mark(MARK),
    "try_out": lambda disk: disk.try_out(),
}
ANSWERED = {"where", "where_copy", "reopen", "measure"}


@pytest.mark.parametrize("verb", REFUSED)
def test_missing_disk_refuses(verb: str) -> None:
    missing: Disk = MissingDisk(1, "/disk1")
    with pytest.raises(DiskMissing, match=r"disk 1 \(/disk1\): is missing"):
        REFUSED[verb](missing)


def test_missing_disk_says_where_it_should_be_and_has_nothing() -> None:
    missing: Disk = MissingDisk(1, "/disk1")
    missing.measure()
    assert (missing.free, missing.total, missing.device) == (0, 0, 0)
    assert missing.reopen(1, UNIT, 0) is None
    assert "/disk1" in missing.where(1)
    assert "/disk1" in missing.where_copy(1)


def test_every_verb_of_the_port_is_in_one_of_the_lists() -> None:
    verbs = {name for name, value in vars(Disk).items() if callable(value) and not name.startswith("_")}
    assert verbs == set(REFUSED) | ANSWERED
