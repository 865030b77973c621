"""A directory as a disk: member files, as vtlfs and a reader made from the documentation read them."""

import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import format_reader
import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtlfs.disks import records
from vtlfs.disks.contents import Kind, Part
from vtlfs.disks.headers import Ending, Opening
from vtlfs.disks.local import label as labels
from vtlfs.disks.local import member as members
from vtlfs.disks.local.disk import LocalDisk
from vtlfs.disks.local.member import LocalMember
from vtlfs.disks.local.opening import member_path
from vtlfs.disks.records import BLOCK, after
from vtlfs.durable import sync_directory
from vtlfs.engine.layout import erasure
from vtlfs.engine.layout.dealer import Candidate, Dealer
from vtlfs.errors import DamagedExtent, DiskError
from vtlfs.model import NO_CODEC, Extent, Opener, State

UNIT = 4096
LIBRARY = "11111111-2222-3333-4444-555555555555"
OPENING = Opening("A00001L9", 0, Opener("alpha", 7, 0, 0, "tar"), "2026-01-31T09:30:00.000000Z", UNIT)
HEADER = {
    "medium": "A00001L9",
    "drive": 0,
    "host": "alpha",
    "pid": 7,
    "uid": 0,
    "gid": 0,
    "program": "tar",
    "opened_at": "2026-01-31T09:30:00.000000Z",
    "stripe_unit": UNIT,
    "parity": 0,
    "volume": 1,
    "codec": "none",
}
ENDING = Ending(State.RELEASED, None, "2026-01-31T09:31:00.000000Z", 0, 0, UNIT + 10)
RELEASE = {
    "state": "released",
    "error": None,
    "released_at": "2026-01-31T09:31:00.000000Z",
    "tape_file": 0,
    "start": 0,
    "bytes": UNIT + 10,
}


@pytest.fixture
def disk(tmp_path: Path) -> LocalDisk:
    return LocalDisk(0, tmp_path, LIBRARY)


def member_of(disk: LocalDisk, session: int) -> LocalMember:
    return disk.member(session, UNIT, OPENING)


def at(number: int) -> int:
    """Return the position of the extent behind `count` full ones."""
    return BLOCK + number * (BLOCK + UNIT)


def extent_of(session: int, unit: int, position: int, data: bytes, *, disk: int = 0) -> Extent:
    """Return an extent to be written: a stripe of its own, at the beginning of a stripe unit."""
    return Extent(session, unit, 0, unit * UNIT, len(data), NO_CODEC, disk, position, len(data), b"")


def put(member: LocalMember, unit: int, position: int, data: bytes) -> Extent:
    pieces = [memoryview(data)[: len(data) // 3], memoryview(data)[len(data) // 3 :]]
    return member.write(extent_of(member.owner.session, unit, position, data, disk=member.owner.disk), pieces)


def path_of(disk: LocalDisk, session: int) -> Path:
    return member_path(Path(disk.path), session)


def test_an_extent_that_was_written_is_read(disk: LocalDisk) -> None:
    member = member_of(disk, 17)
    written = put(member, 0, BLOCK, b"x" * UNIT)
    member.sync()
    assert (written.session, written.offset, written.disk, written.position) == (17, 0, 0, BLOCK)
    assert (written.bytes, written.stored) == (UNIT, UNIT)
    assert disk.read_stored(written) == b"x" * UNIT
    member.finish(None)
    assert disk.read_stored(written) == b"x" * UNIT


def test_member_files_lie_where_the_document_says(disk: LocalDisk) -> None:
    root = Path(disk.path)
    for session in (1, 999, 1000, 123_456_789, 12_345_678_901_234):
        put(member_of(disk, session), 0, BLOCK, b"x")
        assert path_of(disk, session) == format_reader.member(root, session)
        assert path_of(disk, session).is_file()
    assert str(path_of(disk, 1000)).endswith("/sessions/000001/000000001000.member")


def test_only_the_owner_may_look(disk: LocalDisk) -> None:
    put(member_of(disk, 1), 0, BLOCK, b"x")
    path = path_of(disk, 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700


def test_what_a_repair_has_appended_is_not_cut_off_by_the_writer(disk: LocalDisk) -> None:
    member = member_of(disk, 1)
    first = put(member, 0, BLOCK, b"x" * UNIT)
    member.allocate(at(3))  # more than it uses in the end
    repair = disk.reopen(1, 1 << 60)
    assert repair is not None
    appended = put(repair, 7, repair.end, b"y" * UNIT)
    repair.sync()
    repair.finish(None)
    member.finish(ENDING)
    assert (disk.read_stored(first), disk.read_stored(appended)) == (b"x" * UNIT, b"y" * UNIT)


def test_a_session_that_writes_nothing_has_no_member_file(disk: LocalDisk) -> None:
    member = member_of(disk, 1)
    member.sync()
    member.finish(ENDING)
    assert os.listdir(disk.path) == []


def test_an_extent_that_is_added_leaves_all_others_as_they_are(disk: LocalDisk) -> None:
    """A mount that dies during a write must not damage acknowledged extents, even if a page is torn."""
    member, position, written = member_of(disk, 1), BLOCK, list[Extent]()
    content = os.urandom(UNIT)
    for unit, size in enumerate((1, 511, 512, 4000, UNIT)):
        before = path_of(disk, 1).read_bytes() if written else b""
        written.append(put(member, unit, position, content[:size]))
        position = after(position, size)
        assert path_of(disk, 1).read_bytes().startswith(before)
        member.sync()
        for earlier in written:
            assert disk.read_stored(earlier) == content[: earlier.stored]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=20))
def test_an_extent_may_come_in_any_number_of_pieces(tmp_path: Path, sizes: list[int]) -> None:
    disk = LocalDisk(0, tmp_path, LIBRARY)
    path_of(disk, 1).unlink(missing_ok=True)
    content = os.urandom(sum(sizes) + 1)
    member = member_of(disk, 1)
    pieces, start = [], 0
    for size in [*sizes, 1]:
        pieces.append(memoryview(content)[start : start + size])
        start += size
    row = member.write(extent_of(1, 0, BLOCK, content), pieces)
    assert disk.read_stored(row) == content
    member.finish(None)


def test_an_extent_in_more_pieces_than_one_call_takes(disk: LocalDisk) -> None:
    content = os.urandom(UNIT)
    pieces = [memoryview(content)[start : start + 1] for start in range(UNIT)]
    row = member_of(disk, 1).write(extent_of(1, 0, BLOCK, content), pieces)
    assert disk.read_stored(row) == content


def test_extents_may_be_written_in_any_order_of_the_stream(disk: LocalDisk) -> None:
    member = member_of(disk, 1)
    rows = [put(member, unit, at(number), bytes([unit]) * UNIT) for unit, number in ((5, 0), (0, 1), (3, 3))]
    for row in rows:
        assert disk.read_stored(row) == bytes([row.stripe]) * UNIT


def test_finish_gives_back_what_was_allocated_and_not_used(disk: LocalDisk) -> None:
    member = member_of(disk, 1)
    for number in range(4):
        member.allocate(at(number + 1))
    assert path_of(disk, 1).stat().st_size == at(4)
    row = put(member, 0, BLOCK, b"x" * 10)
    member.finish(ENDING)
    assert path_of(disk, 1).stat().st_size == BLOCK + BLOCK + 10
    assert disk.read_stored(row) == b"x" * 10


def test_allocating_does_not_change_what_is_written(disk: LocalDisk) -> None:
    member = member_of(disk, 1)
    row = put(member, 0, BLOCK, b"x" * UNIT)
    member.allocate(at(1))
    member.allocate(at(2))
    assert disk.read_stored(row) == b"x" * UNIT


def test_the_header_says_who_wrote_and_how_it_ended(disk: LocalDisk) -> None:
    member = member_of(disk, 1)
    put(member, 0, BLOCK, b"x")
    identity = {"library": LIBRARY, "disk": 0, "session": 1}
    assert format_reader.header(path_of(disk, 1)) == identity | HEADER
    member.finish(ENDING)
    assert format_reader.header(path_of(disk, 1)) == identity | HEADER | RELEASE


def test_finish_twice_is_finish_once(disk: LocalDisk) -> None:
    member = member_of(disk, 1)
    put(member, 0, BLOCK, b"x")
    member.finish(ENDING)
    content = path_of(disk, 1).read_bytes()
    member.finish(replace(ENDING, state=State.FAILED))
    assert path_of(disk, 1).read_bytes() == content


def test_no_descriptor_is_left_open(disk: LocalDisk) -> None:
    before = len(os.listdir("/proc/self/fd"))
    member = member_of(disk, 1)
    row = put(member, 0, BLOCK, b"x" * 10)
    member.sync()
    disk.read_stored(row)
    member.finish(ENDING)
    again = disk.reopen(1, at(1))
    assert again is not None
    again.finish(ENDING)
    assert len(os.listdir("/proc/self/fd")) == before


# --- after a crash ----------------------------------------------------------------------------------------------------


def test_a_reopened_member_is_cut_behind_the_extents_that_count(disk: LocalDisk) -> None:
    member = member_of(disk, 1)
    rows = [put(member, unit, at(unit), bytes([unit]) * UNIT) for unit in range(4)]
    del member
    again = disk.reopen(1, at(2))
    assert again is not None
    again.finish(replace(ENDING, state=State.RECOVERED))
    assert path_of(disk, 1).stat().st_size == at(2)
    assert [disk.read_stored(row)[:1] for row in rows[:2]] == [b"\0", b"\1"]
    header = format_reader.header(path_of(disk, 1))
    assert header is not None
    assert (header["state"], header["medium"], header["session"]) == ("recovered", "A00001L9", 1)
    with pytest.raises(DamagedExtent):
        disk.read_stored(rows[2])


def test_a_reopened_member_with_nothing_behind_stays_as_long_as_it_was(disk: LocalDisk) -> None:
    member = member_of(disk, 1)
    row = put(member, 0, BLOCK, b"x" * 10)
    size = path_of(disk, 1).stat().st_size
    again = disk.reopen(1, at(1))
    assert again is not None
    again.finish(None)
    assert path_of(disk, 1).stat().st_size == size
    assert disk.read_stored(row) == b"x" * 10


def test_a_member_can_be_recovered_twice(disk: LocalDisk) -> None:
    put(member_of(disk, 1), 0, BLOCK, b"x" * 10)
    for state in ("recovered", "released", "failed"):
        again = disk.reopen(1, at(1))
        assert again is not None
        again.finish(replace(ENDING, state=State(state)))
        header = format_reader.header(path_of(disk, 1))
        assert header is not None
        assert header["state"] == state


def test_a_member_that_was_never_made_is_not_reopened(disk: LocalDisk) -> None:
    assert disk.reopen(1, 0) is None


def test_a_member_whose_header_is_damaged_is_reopened_all_the_same(disk: LocalDisk) -> None:
    row = put(member_of(disk, 1), 0, BLOCK, b"x" * 10)
    with path_of(disk, 1).open("r+b") as file:
        file.write(bytes(BLOCK))
    again = disk.reopen(1, at(1))
    assert again is not None
    again.finish(ENDING)
    assert disk.read_stored(row) == b"x" * 10


def test_a_session_is_never_written_over(disk: LocalDisk) -> None:
    row = put(member_of(disk, 1), 0, BLOCK, b"x" * 10)
    with pytest.raises(DiskError) as caught:
        put(member_of(disk, 1), 0, BLOCK, b"y" * 10)
    assert caught.value.errno == errno.EEXIST
    assert disk.read_stored(row) == b"x" * 10


def test_a_reopened_member_whose_header_is_damaged_gets_no_false_one(disk: LocalDisk) -> None:
    """A false header would not name the owner of the file, and a rebuild would skip the whole file."""
    row = put(member_of(disk, 1), 0, BLOCK, b"x" * 10)
    for wrong in (bytes(BLOCK), path_of(disk, 1).read_bytes()[BLOCK:][:BLOCK]):
        with path_of(disk, 1).open("r+b") as file:
            file.write(wrong)
        again = disk.reopen(1, at(1))
        assert again is not None
        again.finish(ENDING)
        assert path_of(disk, 1).read_bytes()[:BLOCK] == wrong
        (batch,) = [one for one in disk.scan(lambda first, last: set()) if one.present]
        assert (batch.present, batch.headers) == ([1], [(1, None)])
        assert [one.extent for batch in disk.scan_member(1, UNIT) for one in batch.records] == [row]


def test_a_reopened_member_has_room_set_aside_also_within_the_file(
    small_disk: Path, fill: Callable[[Path], Path]
) -> None:
    disk = LocalDisk(0, small_disk, LIBRARY)
    put(member_of(disk, 1), 0, BLOCK, b"x" * UNIT)
    os.truncate(path_of(disk, 1), at(9))  # a hole, as left by room that was set aside and not used
    again = disk.reopen(1, at(1))
    assert again is not None
    again.allocate(at(8))
    fill(small_disk)
    rows = [put(again, unit, at(unit), b"y" * UNIT) for unit in range(1, 8)]
    again.sync()
    again.finish(None)
    assert all(disk.read_stored(row) == b"y" * UNIT for row in rows)
    assert path_of(disk, 1).stat().st_size == at(8)


# --- whatever lies in a member file -----------------------------------------------------------------------------------

SEGMENTS = ["extent", "extent", "parity", "torn data", "torn record", "copied", "session", "library", "hole", "rubbish"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    kinds=st.lists(st.tuples(st.sampled_from(SEGMENTS), st.integers(1, UNIT)), max_size=12),
    cut=st.integers(0, 2 * BLOCK),
    data=st.data(),
)
def test_a_scan_finds_all_extents_and_nothing_else(
    tmp_path: Path, kinds: list[tuple[str, int]], cut: int, data: st.DataObject
) -> None:
    disk = LocalDisk(0, tmp_path, LIBRARY)
    path_of(disk, 1).unlink(missing_ok=True)
    put(member_of(disk, 1), 0, BLOCK, b"x")
    content = bytearray(path_of(disk, 1).read_bytes()[:BLOCK])
    there: list[Extent] = []
    for number, (kind, size) in enumerate(kinds):
        position = len(content)
        piece = bytes([65 + number]) * size
        extent = replace(extent_of(1, number, position, piece), blake3=blake3(piece).digest())
        members: list[Extent] = []
        owner = disk.owner(1)
        if kind == "parity":
            members, extent = [extent], replace(extent, place=1, offset=None, bytes=0)
        elif kind == "session":
            owner = disk.owner(2)
        elif kind == "library":
            owner = replace(owner, library="another")
        elif kind == "copied":
            extent = replace(extent, position=position + BLOCK)
        block = records.encode_extent(owner, extent, members)
        if kind == "torn record":
            length = data.draw(st.integers(0, 63 + int.from_bytes(block[12:16], "little")))
            block = block[:length].ljust(BLOCK, b"\0")
        elif kind == "hole":
            block, piece = bytes(BLOCK), bytes(size)
        elif kind == "rubbish":
            block, piece = data.draw(st.randoms(use_true_random=False)).randbytes(BLOCK), piece
        elif kind == "torn data":
            piece = piece[: size // 2].ljust(size, b"\0")
        content += (block + piece).ljust(records.padded(BLOCK + size), b"\0")
        if kind in ("extent", "parity", "torn data"):
            there.append(extent)
    del content[max(BLOCK, len(content) - cut) :]
    path_of(disk, 1).write_bytes(content)
    there = [one for one in there if one.position + BLOCK <= len(content)]  # the others have no whole record
    found = [one.extent for batch in disk.scan_member(1, UNIT) for one in batch.records]
    partly = [one for one in found if one not in there]
    assert [one for one in found if one not in partly] == there
    assert all(one.position + BLOCK > len(content) for one in partly)  # a record may be whole before its block is
    said = list(format_reader.extents(path_of(disk, 1), (LIBRARY, 0, 1)))
    assert [about["position"] for about, _ in said] == [one.position for one in found]


def other_session(disk: LocalDisk, row: Extent) -> bytes:
    return records.encode_extent(disk.owner(2), replace(row, session=2))


def other_disk(disk: LocalDisk, row: Extent) -> bytes:
    return records.encode_extent(replace(disk.owner(1), disk=7), replace(row, disk=7))


def other_library(disk: LocalDisk, row: Extent) -> bytes:
    return records.encode_extent(replace(disk.owner(1), library="another"), row)


def other_position(disk: LocalDisk, row: Extent) -> bytes:
    return records.encode_extent(disk.owner(1), replace(row, position=row.position + BLOCK))


def other_stripe(disk: LocalDisk, row: Extent) -> bytes:
    return records.encode_extent(disk.owner(1), replace(row, stripe=99))


def torn(disk: LocalDisk, row: Extent) -> bytes:
    return records.encode_extent(disk.owner(1), row)[:200].ljust(BLOCK, b"\0")


def nothing(disk: LocalDisk, row: Extent) -> bytes:
    return bytes(BLOCK)


@pytest.mark.parametrize(
    ("block", "damaged"),
    [
        (other_session, Kind.SWAPPED),
        (other_disk, Kind.SWAPPED),
        (other_library, Kind.FOREIGN),
        (other_position, Kind.SWAPPED),
        (other_stripe, Kind.FLIPPED),
        (torn, Kind.FLIPPED),
        (nothing, Kind.FLIPPED),
    ],
)
def test_an_examination_tells_what_lies_in_the_place_of_an_extent(
    disk: LocalDisk, block: Callable[[LocalDisk, Extent], bytes], damaged: Kind
) -> None:
    """If the bytes are right, the record is wrong; if they are wrong, the record tells why."""
    member = member_of(disk, 1)
    rows = [put(member, unit, at(unit), bytes([65 + unit]) * UNIT) for unit in range(4)]
    member.finish(ENDING)
    part = Part(1, UNIT, OPENING, ENDING, tuple(rows), is_first=True)
    assert disk.examine(part) == []
    with path_of(disk, 1).open("r+b") as file:
        file.seek(at(2))
        file.write(block(disk, rows[2]))
    (flaw,) = disk.examine(part)
    assert (flaw.kind, flaw.extent, flaw.position) == (Kind.RECORD, rows[2], at(2))
    with path_of(disk, 1).open("r+b") as file:
        file.seek(at(2) + BLOCK + 5)
        file.write(b"?")
    (flaw,) = disk.examine(part)
    assert (flaw.kind, flaw.extent, flaw.position) == (damaged, rows[2], at(2) + BLOCK)


def test_an_examination_finds_a_record_of_parity_that_lists_what_can_not_be(disk: LocalDisk) -> None:
    member = member_of(disk, 1)
    data = replace(extent_of(1, 0, BLOCK, b"x" * 9, disk=1), blake3=blake3(b"x" * 9).digest())
    parity = member.write(replace(data, place=0, offset=None, bytes=0, disk=0), [memoryview(b"x" * 9)], [data])
    member.finish(ENDING)
    part = Part(1, UNIT, OPENING, ENDING, (parity,), is_first=True)
    assert disk.examine(part) == []
    for wrong in ([replace(data, stored=8, bytes=8)], []):
        with path_of(disk, 1).open("r+b") as file:
            file.seek(BLOCK)
            file.write(records.encode_extent(disk.owner(1), parity, wrong))
        (flaw,) = disk.examine(part)
        assert (flaw.kind, flaw.extent, flaw.position) == (Kind.RECORD, parity, BLOCK)


@pytest.mark.parametrize("left", [0, 10, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + UNIT - 1])
def test_an_examination_of_a_file_that_ends_early(disk: LocalDisk, left: int) -> None:
    member = member_of(disk, 1)
    rows = [put(member, unit, at(unit), bytes([65 + unit]) * UNIT) for unit in range(3)]
    member.finish(ENDING)
    os.truncate(path_of(disk, 1), at(1) + left)
    flaws = disk.examine(Part(1, UNIT, OPENING, ENDING, tuple(rows), is_first=True))
    assert [(flaw.kind, flaw.extent) for flaw in flaws] == [(Kind.TRUNCATED, row) for row in rows[1:]]
    assert flaws[0].why == f"its member file ends {UNIT - max(0, left - BLOCK)} bytes too early"


# --- damage -----------------------------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(byte=st.integers(0, UNIT - 1), change=st.integers(1, 255))
def test_any_byte_that_changed_is_noticed(tmp_path: Path, byte: int, change: int) -> None:
    disk = LocalDisk(0, tmp_path, LIBRARY)
    path_of(disk, 1).unlink(missing_ok=True)
    row = put(member_of(disk, 1), 3, BLOCK, b"x" * UNIT)
    with path_of(disk, 1).open("r+b") as file:
        file.seek(BLOCK + BLOCK + byte)
        file.write(bytes([ord("x") ^ change]))
    with pytest.raises(DamagedExtent, match=f"session 1, the extent at offset {3 * UNIT} on disk 0: its BLAKE3"):
        disk.read_stored(row)


def test_an_extent_that_was_cut_off_is_noticed(disk: LocalDisk) -> None:
    row = put(member_of(disk, 1), 0, BLOCK, b"x" * 100)
    os.truncate(path_of(disk, 1), BLOCK + BLOCK + 60)
    with pytest.raises(DamagedExtent, match="60 bytes are left of 100"):
        disk.read_stored(row)
    os.truncate(path_of(disk, 1), 0)
    with pytest.raises(DamagedExtent, match="0 bytes are left of 100"):
        disk.read_stored(row)


def replaced_by_link(path: Path, victim: Path) -> None:
    path.unlink()
    path.symlink_to(victim)


def replaced_by_fifo(path: Path, victim: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replaced_by_directory(path: Path, victim: Path) -> None:
    path.unlink()
    path.mkdir()


def in_a_linked_directory(path: Path, victim: Path) -> None:
    path.parent.rename(victim.with_name("elsewhere"))
    path.parent.symlink_to(victim.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("defect", "why"),
    [
        (lambda path, victim: path.unlink(), "its member file is gone"),
        (replaced_by_link, "a symbolic link is in its place"),
        (replaced_by_fifo, "a FIFO is in its place"),
        (replaced_by_directory, "a directory is in its place"),
        (in_a_linked_directory, "a symbolic link is in the place of the directory 000000"),
    ],
)
def test_a_member_file_that_is_gone_or_something_else_is_damage(
    disk: LocalDisk, tmp_path: Path, defect: Callable[[Path, Path], None], why: str
) -> None:
    row = put(member_of(disk, 1), 0, BLOCK, b"x" * 100)
    victim = tmp_path / "victim"
    victim.write_bytes(path_of(disk, 1).read_bytes())
    defect(path_of(disk, 1), victim)
    with pytest.raises(DamagedExtent, match=why):
        disk.read_stored(row)


def test_without_checking_only_what_is_missing_is_damage(tmp_path: Path) -> None:
    disk = LocalDisk(0, tmp_path, "library", check=False)
    row = put(member_of(disk, 1), 0, BLOCK, b"x" * 100)
    with open(path_of(disk, 1), "r+b") as file:
        file.seek(BLOCK + BLOCK)
        file.write(b"y")
    assert disk.read_stored(row) == b"y" + b"x" * 99
    os.truncate(path_of(disk, 1), BLOCK + BLOCK + 50)
    with pytest.raises(DamagedExtent, match="50 bytes are left of 100"):
        disk.read_stored(row)


def test_a_link_in_the_place_of_a_new_member_is_not_followed(disk: LocalDisk, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    path_of(disk, 1).parent.mkdir(parents=True)
    path_of(disk, 1).symlink_to(victim)
    with pytest.raises(DiskError):
        put(member_of(disk, 1), 0, BLOCK, b"x")
    with pytest.raises(DiskError):
        disk.reopen(1, at(1))
    path_of(disk, 1).unlink()
    path_of(disk, 1).symlink_to(tmp_path / "nowhere")
    with pytest.raises(DiskError):
        put(member_of(disk, 1), 0, BLOCK, b"x")
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()


def test_a_disk_that_is_gone_is_a_disk_error(tmp_path: Path) -> None:
    disk = LocalDisk(3, tmp_path / "gone", LIBRARY)
    with pytest.raises(DiskError, match=r"disk 3 \(.*gone\): No such file") as caught:
        put(member_of(disk, 1), 0, BLOCK, b"x")
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(DiskError):
        disk.measure()


# --- full disks -------------------------------------------------------------------------------------------------------


def test_a_disk_measures_itself(small_disk: Path) -> None:
    labels.write(small_disk, labels.Label(LIBRARY, "a disk", 0, "now"))
    disk = LocalDisk(0, small_disk, LIBRARY)
    disk.measure()
    assert disk.total == 1 << 20
    free = disk.free
    assert 0 < free <= 1 << 20
    put(member_of(disk, 1), 0, BLOCK, b"x" * UNIT)
    assert disk.free < free


@pytest.mark.parametrize("label", [None, labels.Label(LIBRARY, "x", 1, "t"), labels.Label("other", "x", 0, "t")])
def test_a_disk_whose_label_is_not_there_is_gone(disk: LocalDisk, label: labels.Label | None) -> None:
    if label is not None:
        labels.write(Path(disk.path), label)
    for look in (disk.measure, disk.try_out):
        with pytest.raises(DiskError, match="is the right device mounted") as gone:
            look()
        assert gone.value.errno == errno.ENODEV


def test_trying_out_leaves_nothing_behind(disk: LocalDisk) -> None:
    labels.write(Path(disk.path), labels.Label(LIBRARY, "x", 0, "t"))
    before = os.listdir(disk.path)
    disk.try_out()
    assert os.listdir(disk.path) == before


def test_trying_out_wants_some_room(small_disk: Path) -> None:
    labels.write(small_disk, labels.Label(LIBRARY, "x", 0, "t"))
    with pytest.raises(DiskError, match="No space left"):
        LocalDisk(0, small_disk, LIBRARY).try_out()
    assert os.listdir(small_disk) == [labels.FILE_NAME]


def test_nothing_is_written_where_the_device_is_not_mounted(tmp_path: Path, small_disk: Path) -> None:
    """After a disk was unmounted, the directory at its mount point is on another device."""
    labels.write(small_disk, labels.Label(LIBRARY, "x", 0, "t"))
    disk = LocalDisk(0, small_disk, LIBRARY)
    disk.measure()
    subprocess.run(["umount", "-l", small_disk], check=True)
    with pytest.raises(DiskError) as gone:
        put(member_of(disk, 1), 0, BLOCK, b"x")
    assert gone.value.errno == errno.ENODEV
    assert os.listdir(small_disk) == []


def test_a_full_disk_is_enospc_and_what_was_written_stays(small_disk: Path) -> None:
    disk = LocalDisk(0, small_disk, LIBRARY)
    member, rows = member_of(disk, 1), list[Extent]()

    def write_for_ever() -> None:
        for unit in range(1000):
            rows.append(put(member, unit, at(unit), bytes([unit % 256]) * UNIT))

    with pytest.raises(DiskError) as caught:
        write_for_ever()
    assert caught.value.errno == errno.ENOSPC
    assert len(rows) > 100
    member.finish(ENDING)
    assert [disk.read_stored(row)[0] for row in rows] == [row.stripe % 256 for row in rows]
    assert path_of(disk, 1).stat().st_size == at(len(rows))


def test_what_was_allocated_can_be_written_on_a_full_disk(small_disk: Path, fill: Callable[[Path], Path]) -> None:
    disk = LocalDisk(0, small_disk, LIBRARY)
    member = member_of(disk, 1)
    member.allocate(at(8))
    fill(small_disk)
    for _ in range(2):
        with pytest.raises(DiskError) as caught:
            member.allocate(at(9))
        assert caught.value.errno == errno.ENOSPC
    rows = [put(member, unit, at(unit), b"x" * UNIT) for unit in range(8)]
    member.sync()
    member.finish(ENDING)
    assert all(disk.read_stored(row) == b"x" * UNIT for row in rows)


def test_a_session_that_finds_the_disk_full_leaves_no_file(small_disk: Path, fill: Callable[[Path], Path]) -> None:
    disk = LocalDisk(0, small_disk, LIBRARY)
    put(member_of(disk, 1), 0, BLOCK, b"x")
    fill(small_disk)
    member = member_of(disk, 2)
    with pytest.raises(DiskError):
        put(member, 0, BLOCK, b"y")
    member.finish(ENDING)
    assert not path_of(disk, 2).exists()
    (small_disk / "filler").unlink()
    put(member_of(disk, 2), 0, BLOCK, b"y")


# --- durability -------------------------------------------------------------------------------------------------------


def test_every_session_syncs_all_directories_that_may_be_new(
    disk: LocalDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second session must not rely on the sync of the first session, which may still be to come."""
    synced: list[Path] = []
    real = sync_directory

    def spy(path: Path) -> None:
        synced.append(path)
        real(path)

    monkeypatch.setattr(members, "sync_directory", spy)
    first, second = member_of(disk, 1), member_of(disk, 2)
    put(first, 0, BLOCK, b"x")
    put(second, 0, BLOCK, b"x")
    second.sync()
    assert set(synced) == {tmp_path, tmp_path / "sessions", tmp_path / "sessions" / "000000"}
    synced.clear()
    first.sync()
    assert tmp_path / "sessions" / "000000" in synced
    synced.clear()
    first.sync()
    second.sync()
    assert synced == []


def test_a_member_that_is_written_to_again_syncs_all_directories_that_may_be_new(
    disk: LocalDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mount that made the member file may have died before it synced the directories."""
    put(member_of(disk, 1), 0, BLOCK, b"x")
    synced: list[Path] = []
    monkeypatch.setattr(members, "sync_directory", synced.append)
    again = LocalDisk(0, tmp_path, LIBRARY).reopen(1, at(1))
    assert again is not None
    put(again, 1, at(1), b"y")
    again.sync()
    assert set(synced) == {tmp_path, tmp_path / "sessions", tmp_path / "sessions" / "000000"}
    again.finish(None)


# --- the document -----------------------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(data=st.data())
def test_a_reader_made_from_the_document_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A medium has several sessions, with stripes dealt anew or cut off; then as many disks are lost as may be."""
    root = tmp_path_factory.mktemp("library")
    parity = data.draw(st.integers(0, 2))
    disks = [LocalDisk(number, root / f"disk{number}", LIBRARY) for number in range(data.draw(st.integers(3, 5)))]
    for disk in disks:
        Path(disk.path).mkdir()
        labels.write(Path(disk.path), labels.Label(LIBRARY, f"disk {disk.number}", disk.number, "t"))
    start, streams = 0, []
    for number in range(data.draw(st.integers(1, 3))):
        size = data.draw(st.integers(1, 6 * UNIT))
        content = data.draw(st.binary(min_size=1, max_size=64)).ljust(size, b"%d" % number)[:size]
        session = 998 + number
        acknowledged = Writer(data, disks, session, parity).write(content)
        ending = replace(ENDING, tape_file=number, start=start, bytes=len(acknowledged))
        finish_session(disks, session, ending)
        streams.append(acknowledged)
        start += len(acknowledged)
        assert format_reader.stream([Path(disk.path) for disk in disks], session) == acknowledged
    lost = data.draw(st.sets(st.sampled_from(range(len(disks))), min_size=parity, max_size=parity))
    for number in lost:
        break_disk(Path(disks[number].path), data.draw(st.sampled_from(["gone", "emptied", "damaged"])))
    left = [Path(disk.path) for disk in disks if Path(disk.path).exists()]
    assert format_reader.medium(left, "A00001L9") == b"".join(streams)


def break_disk(disk: Path, how: str) -> None:
    """Remove a disk, or its member files, or flip a bit in the middle of each of its extents."""
    if how == "gone":
        shutil.rmtree(disk)
        return
    for path in list(format_reader.members(disk)):
        if how == "emptied":
            path.unlink()
            continue
        content = bytearray(path.read_bytes())
        about = (LIBRARY, format_reader.label(disk)["number"], int(path.stem))
        for extent, _ in list(format_reader.extents(path, about)):
            content[extent["position"] + BLOCK + extent["stored"] // 2] ^= 1
        path.write_bytes(content)


class Writer:
    """A session that writes stripes to real disks, as Hypothesis chooses."""

    def __init__(self, data: st.DataObject, disks: list[LocalDisk], session: int, parity: int) -> None:
        self.data = data
        self.session = session
        self.members = [disk.member(session, UNIT, replace(OPENING, parity=parity)) for disk in disks]
        self.candidates = [Candidate(disk.number, disk.number, 1 << 30) for disk in disks]
        self.dealer = Dealer(parity, data.draw(st.integers(0, 9)))
        self.ends = dict.fromkeys(range(len(disks)), BLOCK)
        self.number = 0

    def write(self, content: bytes) -> bytes:
        """Write the content; return the part of it that is recorded."""
        offsets = list(range(0, len(content), UNIT))
        flushes = self.data.draw(st.sets(st.integers(1, max(1, len(content) - 1)), max_size=5))
        offsets = sorted({offset for offset in (*offsets, *flushes) if offset < len(content)})
        pieces = [
            (offset, content[offset:end]) for offset, end in zip(offsets, [*offsets[1:], len(content)], strict=True)
        ]
        while pieces:
            count = self.stripe(pieces, flushes)
            if self.data.draw(st.integers(0, 3)) < 3:  # else the stripe is dealt anew
                del pieces[:count]
        for member in self.members:
            member.sync()
            member.finish(None)
        return content[: self.data.draw(st.integers(max(1, len(content) - 10), len(content)))]

    def stripe(self, pieces: list[tuple[int, bytes]], flushes: set[int]) -> int:
        """Write a stripe; return how many of the pieces are in it."""
        self.dealer.begin(self.candidates)
        extents: list[Extent] = []
        contents: list[bytes] = []
        for offset, piece in pieces:
            if self.dealer.is_full(self.candidates) or (extents and offset in flushes):
                break
            disk = self.dealer.deal(self.candidates)
            described = Extent(
                *(self.session, self.number, len(extents), offset, len(piece), NO_CODEC),
                *(disk, self.position(disk, len(piece)), len(piece), b""),
            )
            extents.append(self.members[disk].write(described, [memoryview(piece)]))
            contents.append(piece)
        for row, disk in enumerate(self.dealer.close(self.candidates)):
            parity = bytes(erasure.parity(row, contents))
            assert parity == format_reader.parity(row, contents)
            position = self.position(disk, len(parity))
            described = Extent(self.session, self.number, row, None, 0, NO_CODEC, disk, position, 0, b"")
            self.members[disk].write(described, [memoryview(parity)], extents)
        self.number += self.data.draw(st.integers(1, 3))
        return len(extents)

    def position(self, disk: int, stored: int) -> int:
        """Return the position of a disk's next extent; sometimes room that was set aside before it stays empty."""
        if self.data.draw(st.integers(0, 5)) == 5:
            self.ends[disk] = after(self.ends[disk], self.data.draw(st.integers(1, UNIT)))
        position = self.ends[disk]
        self.ends[disk] = after(position, stored)
        return position


def finish_session(disks: list[LocalDisk], session: int, ending: Ending) -> None:
    for disk in disks:
        path = path_of(disk, session)
        if path.exists():
            member = disk.reopen(session, path.stat().st_size)
            assert member is not None
            member.finish(ending)


def test_the_example_of_the_document_is_right() -> None:
    data = [bytes.fromhex(text) for text in ("01 02 03", "0a 0b", "80")]
    rows = {row: bytes.fromhex(text) for row, text in enumerate(("8b 09 03", "2f 14 03"))}
    document = Path(__file__).parents[2].joinpath("docs/format.md").read_text()
    for name, one in (*zip("D₀ D₁ D₂".split(), data, strict=True), ("P", rows[0]), ("Q", rows[1])):
        assert f"| {name} | `{one.hex(' ')}` |" in document
    for row, one in rows.items():
        assert format_reader.parity(row, data) == one == erasure.parity(row, data)
    for lost in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2)):
        known = {place: one for place, one in enumerate(data) if place not in lost}
        for used in ([0], [1], [0, 1]):
            if len(used) >= len(lost):
                found = format_reader.solve(lost, known, {row: rows[row] for row in used})
                assert {place: one[: len(data[place])] for place, one in found.items()} == {x: data[x] for x in lost}


def test_the_longest_header_fits_into_a_record() -> None:
    longest = {"medium": "x" * 32, "host": "x" * 255, "program": "x" * 255, "error": "ENAMETOOLONG", "bytes": 2**62}
    numbers = dict.fromkeys(("pid", "uid", "gid", "drive", "volume", "tape_file", "session"), 2**31)
    records.encode({"library": LIBRARY} | HEADER | RELEASE | longest | numbers, 0)
