"""The contract of the storage port, for every implementation: the local directory, and the tests' disk in memory.

A missing disk refuses everything. Tests of directories alone (names, links, crashes) are in test_local.py.
"""

import errno
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from blake3 import blake3
from memory_disk import MemoryDisk

from vtlfs import failpoints
from vtlfs.disks.base import Disk, Member
from vtlfs.disks.cartridges import Cartridge
from vtlfs.disks.contents import SESSIONS_PER_GROUP, Batch, Flaw, Kind, Part
from vtlfs.disks.headers import Ending, Opening
from vtlfs.disks.local import label as labels
from vtlfs.disks.local.disk import LocalDisk
from vtlfs.disks.local.label import Label
from vtlfs.disks.missing import MissingDisk
from vtlfs.disks.records import BLOCK, Described, Found, after
from vtlfs.errors import DamagedExtent, DiskError, DiskMissing
from vtlfs.model import (
    MAX_SIZE,
    NO_CODEC,
    Extent,
    Hold,
    MediumState,
    Opener,
    RetainMode,
    State,
    Watermark,
)

UNIT = 4096
LIBRARY = "11111111-2222-3333-4444-555555555555"
AT = "2026-01-31T09:30:00.000000Z"
OPENING = Opening("A00001L9", 0, Opener("alpha", 7, 0, 0, "tar"), AT, UNIT, 1)
ENDING = Ending(State.RELEASED, None, AT, 0, 0, UNIT, 3)
MARK = Watermark(5, 2, 3, 4, 5, 6, 7, 8, 9, 10, AT)


@dataclass
class Kit:
    """A disk to be tested, and a function that flips a bit of an extent behind its back."""

    disk: Disk
    damage: Callable[[Extent], None]


@pytest.fixture(params=["local", "memory"])
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Kit:
    if request.param == "memory":
        memory = MemoryDisk(0, library=LIBRARY)
        return Kit(memory, memory.damage)
    labels.write(tmp_path, Label(LIBRARY, "a disk", 0, AT))
    local = LocalDisk(0, tmp_path, LIBRARY)

    def damage(extent: Extent) -> None:
        with open(local.where(extent.session), "r+b") as file:
            file.seek(extent.position + BLOCK + extent.stored // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))

    return Kit(local, damage)


@pytest.fixture
def disk(kit: Kit) -> Disk:
    return kit.disk


def extent_of(disk: Disk, session: int, number: int, position: int, data: bytes) -> Extent:
    """Return extent `number` to be written: a stripe of its own, in every other stripe unit."""
    where = (disk.number, position, len(data), b"")
    return Extent(session, number, 0, 2 * number * UNIT, len(data), NO_CODEC, *where)


def put(member: Member, disk: Disk, session: int, number: int, position: int, data: bytes) -> Extent:
    return member.write(extent_of(disk, session, number, position, data), [memoryview(data)])


def put_all(member: Member, disk: Disk, session: int, contents: Sequence[bytes]) -> list[Extent]:
    """Write extents to a member, one behind the other."""
    extents, position = [], BLOCK
    for number, data in enumerate(contents):
        extents.append(put(member, disk, session, number, position, data))
        position = after(position, len(data))
    return extents


def write(disk: Disk, session: int, *contents: bytes, ending: Ending | None = ENDING) -> list[Extent]:
    """Write extents in a session, and end the session."""
    member = disk.member(session, UNIT, OPENING)
    extents = put_all(member, disk, session, contents)
    member.sync()
    member.finish(ending)
    return extents


def part(session: int, extents: list[Extent]) -> Part:
    return Part(session, UNIT, OPENING, ENDING, tuple(extents), is_first=True)


def scanned(disk: Disk, known: Callable[[int, int], set[int]] = lambda first, last: set()) -> Batch:
    """Return all that a scan finds, as one value."""
    whole = Batch(disk.number)
    for batch in disk.scan(known):
        for name in ("present", "headers", "records", "ignored", "damaged"):
            getattr(whole, name).extend(getattr(batch, name))
    return whole


# --- writing and reading ----------------------------------------------------------------------------------------------


def test_extent_that_was_written_is_read(disk: Disk) -> None:
    content = os.urandom(UNIT)
    (extent,) = write(disk, 17, content)
    assert extent == Extent(
        *(17, 0, 0, 0, UNIT, NO_CODEC, disk.number, BLOCK, UNIT, blake3(content).digest()),
    )
    assert disk.read_stored(extent) == content


def test_parity_extent_is_written_and_read_as_data_is(disk: Disk) -> None:
    member, content = disk.member(17, UNIT, OPENING), os.urandom(UNIT)
    data = extent_of(disk, 17, 0, BLOCK, content)
    parity = Extent(17, 0, 1, None, 0, NO_CODEC, disk.number, BLOCK, 0, b"")
    written = member.write(parity, [memoryview(content)[:99], memoryview(content)[99:]], [data])
    member.sync()
    assert written == replace(parity, stored=UNIT, blake3=blake3(content).digest())
    assert disk.read_stored(written) == content
    member.finish(ENDING)


def test_extents_of_one_stripe_unit_are_all_readable(disk: Disk) -> None:
    """A stream that is flushed often has such extents."""
    member, content = disk.member(1, UNIT, OPENING), os.urandom(300)
    first = put(member, disk, 1, 0, BLOCK, content[:100])
    member.sync()
    rest = replace(extent_of(disk, 1, 1, after(BLOCK, 100), content[100:]), offset=100)
    second = member.write(rest, [memoryview(content)[100:150], memoryview(content)[150:]])
    member.sync()
    assert disk.read_stored(first) == content[:100]
    assert disk.read_stored(second) == content[100:]
    member.finish(ENDING)
    assert [one.extent for one in scanned(disk).records] == [first, second]


def test_changed_extent_is_damage(kit: Kit) -> None:
    extents = write(kit.disk, 1, b"a" * UNIT, b"b" * UNIT)
    kit.damage(extents[0])
    with pytest.raises(DamagedExtent) as harmed:
        kit.disk.read_stored(extents[0])
    assert (harmed.value.session, harmed.value.offset, harmed.value.disk) == (1, 0, 0)
    assert kit.disk.read_stored(extents[1]) == b"b" * UNIT


def test_extent_of_a_member_that_is_not_there_is_damage(disk: Disk) -> None:
    (extent,) = write(disk, 1, b"x")
    with pytest.raises(DamagedExtent):
        disk.read_stored(replace(extent, session=2))


def test_extent_that_is_elsewhere_is_damage(disk: Disk) -> None:
    extents = write(disk, 1, b"a" * UNIT, b"b" * UNIT)
    with pytest.raises(DamagedExtent):
        disk.read_stored(replace(extents[0], position=extents[1].position))
    with pytest.raises(DamagedExtent):
        disk.read_stored(replace(extents[0], position=extents[1].position + 10 * UNIT))


def test_session_that_writes_nothing_has_no_member(disk: Disk) -> None:
    member = disk.member(1, UNIT, OPENING)
    member.sync()
    member.finish(ENDING)
    assert disk.sessions_from(0) == set()
    assert disk.header(1) is None
    assert disk.reopen(1, 0) is None


def test_room_that_was_set_aside_makes_a_member(disk: Disk) -> None:
    member = disk.member(1, UNIT, OPENING)
    member.allocate(after(BLOCK, UNIT))
    assert disk.sessions_from(0) == {1}
    extent = put(member, disk, 1, 0, BLOCK, b"x" * 10)
    member.finish(ENDING)
    assert disk.read_stored(extent) == b"x" * 10
    assert disk.members(0).members[1].size == BLOCK + BLOCK + 10


def test_member_is_never_written_over(disk: Disk) -> None:
    (extent,) = write(disk, 1, b"x" * 10)
    with pytest.raises(DiskError) as refused:
        put(disk.member(1, UNIT, OPENING), disk, 1, 0, BLOCK, b"y" * 10)
    assert refused.value.errno == errno.EEXIST
    assert disk.read_stored(extent) == b"x" * 10


def test_reopened_member_loses_what_does_not_count_and_gets_its_ending(disk: Disk) -> None:
    extents = write(disk, 1, b"a" * UNIT, b"b" * UNIT, ending=None)
    again = disk.reopen(1, end_of(extents[0]))
    assert again is not None
    again.finish(replace(ENDING, state=State.RECOVERED))
    assert disk.read_stored(extents[0]) == b"a" * UNIT
    with pytest.raises(DamagedExtent):
        disk.read_stored(extents[1])
    header = disk.header(1)
    assert header is not None
    assert header.ending is not None
    assert header.ending.state is State.RECOVERED


def end_of(extent: Extent) -> int:
    return extent.position + BLOCK + extent.stored


@pytest.mark.parametrize("counting", [0, 1, 3])
def test_reopened_member_takes_further_extents(disk: Disk, counting: int) -> None:
    """A repair does this. `counting`: how many of the present extents are recorded."""
    before = write(disk, 1, b"a" * UNIT, b"b" * 100, b"c" * UNIT)
    kept = before[:counting]
    again = disk.reopen(1, max(map(end_of, kept), default=0))
    assert again is not None
    position, added = max((after(one.position, one.stored) for one in kept), default=BLOCK), []
    again.allocate(position + 2 * (BLOCK + UNIT))
    for number in (7, 8):
        added.append(put(again, disk, 1, number, position, b"%d" % number * 50))
        position = after(position, 50)
    again.sync()
    assert [disk.read_stored(one)[:1] for one in (*kept, *added)] == [*[b"a", b"b", b"c"][:counting], b"7", b"8"]
    again.finish(None)
    assert [disk.read_stored(one)[:1] for one in (*kept, *added)] == [*[b"a", b"b", b"c"][:counting], b"7", b"8"]
    assert [one.extent for one in scanned(disk).records] == [*kept, *added]
    assert disk.members(0).members[1].size == end_of(added[-1])
    header = disk.header(1)
    assert header is not None
    assert header.ending == ENDING


def test_removed_member_is_gone_and_others_stay(disk: Disk) -> None:
    (gone,), (kept,) = write(disk, 1, b"x"), write(disk, 2, b"y")
    disk.remove(1)
    disk.remove(1)
    disk.remove(3)
    assert disk.sessions_from(0) == {2}
    with pytest.raises(DamagedExtent):
        disk.read_stored(gone)
    assert disk.read_stored(kept) == b"y"


def test_member_of_a_session_that_has_ended_says_so_from_the_beginning(disk: Disk) -> None:
    member = disk.member(1, UNIT, OPENING, ENDING)
    written = member.write(Extent(1, 7, 2, 0, 1, NO_CODEC, 0, BLOCK, 1, b""), [memoryview(b"x")])
    member.sync()
    member.finish(None)
    assert disk.read_stored(written) == b"x"
    header = disk.header(1)
    assert header is not None
    assert (header.opening, header.ending) == (OPENING, ENDING)


def test_discarded_extent_is_gone_and_its_neighbours_stay(disk: Disk) -> None:
    first, gone, last = write(disk, 1, b"x" * UNIT, b"y" * UNIT, b"z" * 100)
    disk.discard(gone)
    disk.discard(replace(gone, session=2))
    with pytest.raises(DamagedExtent):
        disk.read_stored(gone)
    assert (disk.read_stored(first), disk.read_stored(last)) == (b"x" * UNIT, b"z" * 100)
    assert [one.extent for one in scanned(disk).records] == [first, gone, last]


def test_header_is_written_anew(disk: Disk) -> None:
    [kept] = write(disk, 1, b"x")
    other = replace(ENDING, start=UNIT)
    disk.restore_header(1, OPENING, other)
    disk.restore_header(2, OPENING, other)
    header = disk.header(1)
    assert header is not None
    assert (header.opening, header.ending) == (OPENING, other)
    assert disk.read_stored(kept) == b"x"
    assert disk.sessions_from(0) == {1}


@pytest.mark.parametrize("many", [1, 20])
def test_members_are_synced_together(disk: Disk, many: int) -> None:
    members = [disk.member(session, UNIT, OPENING, ENDING) for session in range(1, many + 1)]
    extents = [put(member, disk, number, 0, BLOCK, b"x" * 100) for number, member in enumerate(members, 1)]
    disk.sync_members(members)
    for member in members:
        member.finish(ENDING)
    for extent in extents:
        assert disk.read_stored(extent) == b"x" * 100


def test_members_that_were_never_made_do_not_keep_others_from_being_synced(disk: Disk) -> None:
    write(disk, 1, b"there already")
    in_the_way = disk.member(1, UNIT, OPENING, ENDING)
    with pytest.raises(DiskError, match="File exists"):
        put(in_the_way, disk, 1, 0, BLOCK, b"x" * 100)
    members = [disk.member(session, UNIT, OPENING, ENDING) for session in range(2, 22)]
    for number, member in enumerate(members, 2):
        put(member, disk, number, 0, BLOCK, b"x" * 100)
    synced: list[str] = []
    failpoints.observe(synced.append)
    try:
        disk.sync_members([in_the_way, *members])
    finally:
        failpoints.observe(None)
    assert isinstance(disk, MemoryDisk) or synced.count("disk.synced") == 1
    for member in members:
        member.finish(ENDING)


def test_the_end_of_a_member_is_behind_all_that_is_there(disk: Disk) -> None:
    extents = write(disk, 1, b"a" * 100, b"b" * 3000)
    again = disk.reopen(1, MAX_SIZE)
    assert again is not None
    assert again.end == after(extents[1].position, 3000)
    one = put(again, disk, 1, 7, again.end, b"c" * 10)
    again.sync()
    again.finish(None)
    assert [disk.read_stored(extent) for extent in (*extents, one)] == [b"a" * 100, b"b" * 3000, b"c" * 10]


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
        session: BLOCK + BLOCK + session for session in (1, 5)
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
    extents = [*write(disk, 1, b"a" * UNIT, b"b" * 100), *write(disk, SESSIONS_PER_GROUP, b"c")]
    found = scanned(disk)
    assert found.present == [1, SESSIONS_PER_GROUP]
    assert [(session, header and header["state"]) for session, header in found.headers] == [
        (1, "released"),
        (SESSIONS_PER_GROUP, "released"),
    ]
    assert found.records == [Found(extent) for extent in extents]
    assert (found.ignored, found.damaged) == ([], [])


def test_scan_finds_parity_and_what_it_is_of(disk: Disk) -> None:
    member = disk.member(1, UNIT, OPENING)
    others = [
        Extent(1, 4, place, place * UNIT, size, NO_CODEC, place + 1, BLOCK, size, blake3(b"%d" % place).digest())
        for place, size in enumerate((UNIT, UNIT, 7))
    ]
    parity = Extent(1, 4, 0, None, 0, NO_CODEC, disk.number, BLOCK, 0, b"")
    written = member.write(parity, [memoryview(bytes(UNIT))], others)
    member.finish(ENDING)
    assert scanned(disk).records == [Found(written, tuple(map(Described.of, others)))]


def test_scan_passes_over_room_that_was_promised(disk: Disk) -> None:
    member = disk.member(1, UNIT, OPENING)
    first = put(member, disk, 1, 0, BLOCK, b"a" * UNIT)
    second = put(member, disk, 1, 2, after(after(BLOCK, UNIT), UNIT), b"b" * 10)
    member.finish(ENDING)
    assert [one.extent for one in scanned(disk).records] == [first, second]
    assert [disk.read_stored(one)[:1] for one in (first, second)] == [b"a", b"b"]


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
    assert [one.extent.session for one in found.records] == [2]


def test_records_of_one_member_can_be_scanned(disk: Disk) -> None:
    extents = write(disk, 1, b"a" * UNIT, b"b" * 100)
    records = [one for batch in disk.scan_member(1, UNIT) for one in batch.records]
    assert records == [Found(extent) for extent in extents]


def test_examination_of_what_is_right_finds_nothing(disk: Disk) -> None:
    extents = write(disk, 1, b"a" * UNIT, b"b" * UNIT, b"c" * 100)
    assert disk.examine(part(1, extents)) == []


def test_examination_finds_a_bit_that_was_turned(kit: Kit) -> None:
    extents = write(kit.disk, 1, b"a" * UNIT, b"b" * UNIT, b"c" * 100)
    kit.damage(extents[1])
    (flaw,) = kit.disk.examine(part(1, extents))
    assert (flaw.kind, flaw.extent, flaw.position) == (Kind.FLIPPED, extents[1], extents[1].position + BLOCK)


def test_examination_finds_a_member_that_is_gone(disk: Disk) -> None:
    extents = write(disk, 1, b"a" * UNIT, b"b" * UNIT)
    disk.remove(1)
    assert [(flaw.kind, flaw.extent) for flaw in disk.examine(part(1, extents))] == [
        (Kind.MISSING, extent) for extent in extents
    ]


def test_examination_finds_a_header_that_is_not_finished(disk: Disk) -> None:
    extents = write(disk, 1, b"a", ending=None)
    (flaw,) = disk.examine(part(1, extents))
    assert flaw.is_unfinished
    assert disk.examine(replace(part(1, extents), is_first=False)) == []


def test_several_threads_may_examine(disk: Disk) -> None:
    extents = write(disk, 1, *(bytes([number]) * UNIT for number in range(8)))
    found: list[list[Flaw]] = []
    threads = [
        threading.Thread(target=lambda extent=extent: found.append(disk.examine(part(1, [extent]))))
        for extent in extents
    ]
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


# --- cartridge memory -------------------------------------------------------------------------------------------------

HOLD = Hold("T1", "case 7", "the auditors want it", AT, 0, "alpha")
CARTRIDGE = Cartridge(
    *("T1", 5, 4, 3, AT, AT, MediumState.RETIRED, True, 1 << 40),
    *(RetainMode.COMPLIANCE, 86400, "2027-01-31T09:30:00.000000Z", (HOLD,)),
)


def test_disk_remembers_the_newest_of_each_medium(disk: Disk) -> None:
    assert list(disk.cartridges()) == []
    other = Cartridge("T2", 1, 0, 1, AT, AT)
    for commits in (5, 7, 6, 7, 1):
        disk.put_cartridges([replace(CARTRIDGE, commits=commits, event=commits), other])
    disk.put_cartridges([])
    known = dict(disk.cartridges())
    assert list(known.values()) == [replace(CARTRIDGE, commits=7, event=7), other]


def test_disk_remembers_all_snapshots_that_were_ever_deleted(disk: Disk) -> None:
    assert disk.snapshots() == ()
    disk.put_cartridges([CARTRIDGE])
    for deleted in (((3, 5),), ((9, 9),), (), ((4, 7), (20, 30))):
        disk.put_snapshots(deleted)
    assert disk.snapshots() == ((3, 7), (9, 9), (20, 30))
    assert list(dict(disk.cartridges()).values()) == [CARTRIDGE]


# --- health -----------------------------------------------------------------------------------------------------------


def test_disk_measures_itself_and_can_be_tried_out(disk: Disk) -> None:
    disk.measure()
    assert 0 < disk.free <= disk.free + disk.reserved <= disk.total
    disk.try_out()
    assert disk.groups() == (set(), [])


# --- the missing disk -------------------------------------------------------------------------------------------------

REFUSED: dict[str, Callable[[Disk], object]] = {
    "member": lambda disk: disk.member(1, UNIT, OPENING).write(
        Extent(1, 0, 0, 0, 1, NO_CODEC, 1, BLOCK, 1, b""), [memoryview(b"x")]
    ),
    "sync_members": lambda disk: disk.sync_members([]),
    "read_stored": lambda disk: disk.read_stored(Extent(1, 0, 0, 0, 1, NO_CODEC, 1, BLOCK, 1, bytes(32))),
    "remove": lambda disk: disk.remove(1),
    "restore_header": lambda disk: disk.restore_header(1, OPENING, ENDING),
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
    "put_cartridges": lambda disk: disk.put_cartridges([CARTRIDGE]),
    "cartridges": lambda disk: list(disk.cartridges()),
    "put_snapshots": lambda disk: disk.put_snapshots(((1, 1),)),
    "snapshots": lambda disk: disk.snapshots(),
    "measure": lambda disk: disk.measure(),
    "try_out": lambda disk: disk.try_out(),
}
ANSWERED = {"where", "where_copy", "reopen", "discard"}


@pytest.mark.parametrize("verb", REFUSED)
def test_missing_disk_refuses(verb: str) -> None:
    missing: Disk = MissingDisk(1, "/disk1")
    with pytest.raises(DiskMissing, match=r"disk 1 \(/disk1\): is missing"):
        REFUSED[verb](missing)


def test_missing_disk_says_where_it_should_be_and_has_nothing() -> None:
    missing: Disk = MissingDisk(1, "/disk1")
    assert (missing.free, missing.total, missing.device) == (0, 0, 0)
    assert missing.reopen(1, 0) is None
    assert "/disk1" in missing.where(1)
    assert "/disk1" in missing.where_copy(1)


def test_every_verb_of_the_port_is_in_one_of_the_lists() -> None:
    verbs = {name for name, value in vars(Disk).items() if callable(value) and not name.startswith("_")}
    assert verbs == set(REFUSED) | ANSWERED
