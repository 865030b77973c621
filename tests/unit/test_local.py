"""A directory as a disk: member files, written and read back, by vtlfs and by the documentation's own reader."""

import errno
import os
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import format_reader
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtlfs.disks import records
from vtlfs.disks.headers import Ending, Opening
from vtlfs.disks.local import label as labels
from vtlfs.disks.local import member as members
from vtlfs.disks.local.disk import LocalDisk
from vtlfs.disks.local.member import LocalMember
from vtlfs.disks.local.opening import member_path
from vtlfs.disks.records import BLOCK, slot_offset
from vtlfs.durable import sync_directory
from vtlfs.engine.stripe import RoundRobin
from vtlfs.errors import DamagedUnit, DiskError
from vtlfs.model import Opener, State, StripeUnit

UNIT = 4096
LIBRARY = "11111111-2222-3333-4444-555555555555"
OPENING = Opening("A00001L9", 0, Opener("alpha", 7, 0, 0, "tar"), "2026-01-31T09:30:00.000000Z", UNIT, 1)
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
    "disks": 1,
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


def put(member: LocalMember, unit: int, slot: int, data: bytes, start: int = 0, generation: int = 0) -> StripeUnit:
    pieces = [memoryview(data)[: len(data) // 3], memoryview(data)[len(data) // 3 :]]
    return member.write(unit, slot, pieces, start, generation)


def path_of(disk: LocalDisk, session: int) -> Path:
    return member_path(Path(disk.path), session)


def test_a_unit_that_was_written_is_read(disk: LocalDisk) -> None:
    member = member_of(disk, 17)
    written = put(member, 0, 0, b"x" * UNIT)
    member.sync()
    assert (written.session, written.unit, written.disk, written.slot, written.bytes) == (17, 0, 0, 0, UNIT)
    assert disk.read(written, UNIT) == b"x" * UNIT
    member.finish(None)
    assert disk.read(written, UNIT) == b"x" * UNIT


def test_member_files_lie_where_the_document_says(disk: LocalDisk) -> None:
    root = Path(disk.path)
    for session in (1, 999, 1000, 123_456_789, 12_345_678_901_234):
        put(member_of(disk, session), 0, 0, b"x")
        assert path_of(disk, session) == format_reader.member(root, session)
        assert path_of(disk, session).is_file()
    assert str(path_of(disk, 1000)).endswith("/sessions/000001/000000001000.member")


def test_only_the_owner_may_look(disk: LocalDisk) -> None:
    put(member_of(disk, 1), 0, 0, b"x")
    path = path_of(disk, 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700


def test_a_session_that_writes_nothing_has_no_member_file(disk: LocalDisk) -> None:
    member = member_of(disk, 1)
    member.sync()
    member.finish(ENDING)
    assert os.listdir(disk.path) == []


def test_a_unit_grows_and_every_length_of_it_stays_readable(disk: LocalDisk) -> None:
    member, content = member_of(disk, 1), os.urandom(UNIT)
    written, start = [], 0
    for generation, size in enumerate((1, 511, 512, 4000, UNIT)):
        written.append(put(member, 0, 0, content[:size], start, generation))
        member.sync()
        start = size
        for earlier in written:
            assert disk.read(earlier, UNIT) == content[: earlier.bytes]


def test_growing_does_not_rewrite_what_is_there(disk: LocalDisk) -> None:
    """A mount that dies while a unit grows must leave what was acknowledged, also if the page is torn."""
    member = member_of(disk, 1)
    first = put(member, 0, 0, b"a" * 100)
    before = path_of(disk, 1).read_bytes()
    put(member, 0, 0, b"?" * 100 + b"b" * 100, 100, 1)
    after = path_of(disk, 1).read_bytes()
    assert after[: slot_offset(0, UNIT) + 2048] == before[: slot_offset(0, UNIT) + 2048]
    assert after[: len(before)][slot_offset(0, UNIT) + BLOCK :] == b"a" * 100
    assert disk.read(first, UNIT) == b"a" * 100


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=20), data=st.data())
def test_a_unit_may_come_in_any_number_of_pieces(tmp_path: Path, sizes: list[int], data: st.DataObject) -> None:
    disk = LocalDisk(0, tmp_path, LIBRARY)
    path_of(disk, 1).unlink(missing_ok=True)
    content = os.urandom(sum(sizes) + 1)
    start = data.draw(st.integers(0, len(content) - 1))
    member = member_of(disk, 1)
    if start:
        put(member, 0, 0, content[:start])
    pieces, at = [], 0
    for size in [*sizes, 1]:
        pieces.append(memoryview(content)[at : at + size])
        at += size
    row = member.write(0, 0, pieces, start, int(start > 0))
    assert disk.read(row, UNIT) == content
    member.finish(None)


def test_a_unit_in_more_pieces_than_one_call_takes(disk: LocalDisk) -> None:
    content = os.urandom(UNIT)
    pieces = [memoryview(content)[at : at + 1] for at in range(UNIT)]
    row = member_of(disk, 1).write(0, 0, pieces, 0, 0)
    assert disk.read(row, UNIT) == content


def test_slots_may_be_written_in_any_order(disk: LocalDisk) -> None:
    member = member_of(disk, 1)
    rows = [put(member, unit, slot, bytes([unit]) * UNIT) for unit, slot in ((5, 2), (0, 0), (3, 1))]
    for row in rows:
        assert disk.read(row, UNIT) == bytes([row.unit]) * UNIT


def test_finish_gives_back_what_was_allocated_and_not_used(disk: LocalDisk) -> None:
    member = member_of(disk, 1)
    for slot in range(4):
        member.allocate(slot)
    assert path_of(disk, 1).stat().st_size == slot_offset(4, UNIT)
    row = put(member, 0, 0, b"x" * 10)
    member.finish(ENDING)
    assert path_of(disk, 1).stat().st_size == slot_offset(0, UNIT) + BLOCK + 10
    assert disk.read(row, UNIT) == b"x" * 10


def test_allocating_does_not_change_what_is_written(disk: LocalDisk) -> None:
    member = member_of(disk, 1)
    row = put(member, 0, 0, b"x" * UNIT)
    member.allocate(0)
    member.allocate(1)
    assert disk.read(row, UNIT) == b"x" * UNIT


def test_the_header_says_who_wrote_and_how_it_ended(disk: LocalDisk) -> None:
    member = member_of(disk, 1)
    put(member, 0, 0, b"x")
    identity = {"library": LIBRARY, "disk": 0, "session": 1}
    assert format_reader.header(path_of(disk, 1)) == identity | HEADER
    member.finish(ENDING)
    assert format_reader.header(path_of(disk, 1)) == identity | HEADER | RELEASE


def test_finish_twice_is_finish_once(disk: LocalDisk) -> None:
    member = member_of(disk, 1)
    put(member, 0, 0, b"x")
    member.finish(ENDING)
    content = path_of(disk, 1).read_bytes()
    member.finish(replace(ENDING, state=State.FAILED))
    assert path_of(disk, 1).read_bytes() == content


def test_no_descriptor_is_left_open(disk: LocalDisk) -> None:
    before = len(os.listdir("/proc/self/fd"))
    member = member_of(disk, 1)
    row = put(member, 0, 0, b"x" * 10)
    member.sync()
    disk.read(row, UNIT)
    member.finish(ENDING)
    again = disk.reopen(1, UNIT, 1)
    assert again is not None
    again.finish(ENDING)
    assert len(os.listdir("/proc/self/fd")) == before


# --- after a crash ----------------------------------------------------------------------------------------------------


def test_a_reopened_member_is_cut_behind_the_slots_that_count(disk: LocalDisk) -> None:
    member = member_of(disk, 1)
    rows = [put(member, unit, unit, bytes([unit]) * UNIT) for unit in range(4)]
    del member
    again = disk.reopen(1, UNIT, 2)
    assert again is not None
    again.finish(replace(ENDING, state=State.RECOVERED))
    assert path_of(disk, 1).stat().st_size == slot_offset(2, UNIT)
    assert [disk.read(row, UNIT)[:1] for row in rows[:2]] == [b"\0", b"\1"]
    header = format_reader.header(path_of(disk, 1))
    assert header is not None
    assert (header["state"], header["medium"], header["session"]) == ("recovered", "A00001L9", 1)
    with pytest.raises(DamagedUnit):
        disk.read(rows[2], UNIT)


def test_a_reopened_member_with_nothing_behind_stays_as_long_as_it_was(disk: LocalDisk) -> None:
    member = member_of(disk, 1)
    row = put(member, 0, 0, b"x" * 10)
    size = path_of(disk, 1).stat().st_size
    again = disk.reopen(1, UNIT, 1)
    assert again is not None
    again.finish(None)
    assert path_of(disk, 1).stat().st_size == size
    assert disk.read(row, UNIT) == b"x" * 10


def test_the_books_can_be_closed_twice(disk: LocalDisk) -> None:
    put(member_of(disk, 1), 0, 0, b"x" * 10)
    for state in ("recovered", "released", "failed"):
        again = disk.reopen(1, UNIT, 1)
        assert again is not None
        again.finish(replace(ENDING, state=State(state)))
        header = format_reader.header(path_of(disk, 1))
        assert header is not None
        assert header["state"] == state


def test_a_member_that_was_never_made_is_not_reopened(disk: LocalDisk) -> None:
    assert disk.reopen(1, UNIT, 0) is None


def test_a_member_whose_header_is_damaged_is_reopened_all_the_same(disk: LocalDisk) -> None:
    row = put(member_of(disk, 1), 0, 0, b"x" * 10)
    with path_of(disk, 1).open("r+b") as file:
        file.write(bytes(BLOCK))
    again = disk.reopen(1, UNIT, 1)
    assert again is not None
    again.finish(ENDING)
    assert disk.read(row, UNIT) == b"x" * 10


def test_a_session_is_never_written_over(disk: LocalDisk) -> None:
    row = put(member_of(disk, 1), 0, 0, b"x" * 10)
    with pytest.raises(DiskError) as caught:
        put(member_of(disk, 1), 0, 0, b"y" * 10)
    assert caught.value.errno == errno.EEXIST
    assert disk.read(row, UNIT) == b"x" * 10


# --- damage -----------------------------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(byte=st.integers(0, UNIT - 1), change=st.integers(1, 255))
def test_any_byte_that_changed_is_noticed(tmp_path: Path, byte: int, change: int) -> None:
    disk = LocalDisk(0, tmp_path, LIBRARY)
    path_of(disk, 1).unlink(missing_ok=True)
    row = put(member_of(disk, 1), 3, 0, b"x" * UNIT)
    with path_of(disk, 1).open("r+b") as file:
        file.seek(slot_offset(0, UNIT) + BLOCK + byte)
        file.write(bytes([ord("x") ^ change]))
    with pytest.raises(DamagedUnit, match="session 1, stripe unit 3 on disk 0: its BLAKE3"):
        disk.read(row, UNIT)


def test_a_unit_that_was_cut_off_is_noticed(disk: LocalDisk) -> None:
    row = put(member_of(disk, 1), 0, 0, b"x" * 100)
    os.truncate(path_of(disk, 1), slot_offset(0, UNIT) + BLOCK + 60)
    with pytest.raises(DamagedUnit, match="60 bytes are left of 100"):
        disk.read(row, UNIT)
    os.truncate(path_of(disk, 1), 0)
    with pytest.raises(DamagedUnit, match="0 bytes are left of 100"):
        disk.read(row, UNIT)


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
    row = put(member_of(disk, 1), 0, 0, b"x" * 100)
    victim = tmp_path / "victim"
    victim.write_bytes(path_of(disk, 1).read_bytes())
    defect(path_of(disk, 1), victim)
    with pytest.raises(DamagedUnit, match=why):
        disk.read(row, UNIT)


def test_without_checking_only_what_is_missing_is_damage(tmp_path: Path) -> None:
    disk = LocalDisk(0, tmp_path, "library", check=False)
    row = put(member_of(disk, 1), 0, 0, b"x" * 100)
    with open(path_of(disk, 1), "r+b") as file:
        file.seek(slot_offset(0, UNIT) + 4096)
        file.write(b"y")
    assert disk.read(row, UNIT) == b"y" + b"x" * 99
    os.truncate(path_of(disk, 1), slot_offset(0, UNIT) + 4096 + 50)
    with pytest.raises(DamagedUnit, match="50 bytes are left of 100"):
        disk.read(row, UNIT)


def test_a_link_in_the_place_of_a_new_member_is_not_followed(disk: LocalDisk, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    path_of(disk, 1).parent.mkdir(parents=True)
    path_of(disk, 1).symlink_to(victim)
    with pytest.raises(DiskError):
        put(member_of(disk, 1), 0, 0, b"x")
    with pytest.raises(DiskError):
        disk.reopen(1, UNIT, 1)
    path_of(disk, 1).unlink()
    path_of(disk, 1).symlink_to(tmp_path / "nowhere")
    with pytest.raises(DiskError):
        put(member_of(disk, 1), 0, 0, b"x")
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()


def test_a_disk_that_is_gone_is_a_disk_error(tmp_path: Path) -> None:
    disk = LocalDisk(3, tmp_path / "gone", LIBRARY)
    with pytest.raises(DiskError, match=r"disk 3 \(.*gone\): No such file") as caught:
        put(member_of(disk, 1), 0, 0, b"x")
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
    put(member_of(disk, 1), 0, 0, b"x" * UNIT)
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
    """The directory below a disk that was unmounted is on another device."""
    labels.write(small_disk, labels.Label(LIBRARY, "x", 0, "t"))
    disk = LocalDisk(0, small_disk, LIBRARY)
    disk.measure()
    subprocess.run(["umount", "-l", small_disk], check=True)
    with pytest.raises(DiskError) as gone:
        put(member_of(disk, 1), 0, 0, b"x")
    assert gone.value.errno == errno.ENODEV
    assert os.listdir(small_disk) == []


def test_a_full_disk_is_enospc_and_what_was_written_stays(small_disk: Path) -> None:
    disk = LocalDisk(0, small_disk, LIBRARY)
    member, rows = member_of(disk, 1), list[StripeUnit]()

    def write_for_ever() -> None:
        for unit in range(1000):
            rows.append(put(member, unit, unit, bytes([unit % 256]) * UNIT))

    with pytest.raises(DiskError) as caught:
        write_for_ever()
    assert caught.value.errno == errno.ENOSPC
    assert len(rows) > 100
    member.finish(ENDING)
    assert [disk.read(row, UNIT)[0] for row in rows] == [row.unit % 256 for row in rows]


def test_what_was_allocated_can_be_written_on_a_full_disk(small_disk: Path, fill: Callable[[Path], Path]) -> None:
    disk = LocalDisk(0, small_disk, LIBRARY)
    member = member_of(disk, 1)
    for slot in range(8):
        member.allocate(slot)
    fill(small_disk)
    with pytest.raises(DiskError) as caught:
        member.allocate(8)
    assert caught.value.errno == errno.ENOSPC
    rows = [put(member, unit, unit, b"x" * UNIT) for unit in range(8)]
    member.sync()
    member.finish(ENDING)
    assert all(disk.read(row, UNIT) == b"x" * UNIT for row in rows)


def test_a_session_that_finds_the_disk_full_leaves_no_file(small_disk: Path, fill: Callable[[Path], Path]) -> None:
    disk = LocalDisk(0, small_disk, LIBRARY)
    put(member_of(disk, 1), 0, 0, b"x")
    fill(small_disk)
    member = member_of(disk, 2)
    with pytest.raises(DiskError):
        put(member, 0, 0, b"y")
    member.finish(ENDING)
    assert not path_of(disk, 2).exists()
    (small_disk / "filler").unlink()
    put(member_of(disk, 2), 0, 0, b"y")


# --- durability -------------------------------------------------------------------------------------------------------


def test_every_session_syncs_all_directories_that_may_be_new(
    disk: LocalDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second session must not count on the first one's sync, which may not have come yet."""
    synced: list[Path] = []
    real = sync_directory

    def spy(path: Path) -> None:
        synced.append(path)
        real(path)

    monkeypatch.setattr(members, "sync_directory", spy)
    first, second = member_of(disk, 1), member_of(disk, 2)
    put(first, 0, 0, b"x")
    put(second, 0, 0, b"x")
    second.sync()
    assert set(synced) == {tmp_path, tmp_path / "sessions", tmp_path / "sessions" / "000000"}
    synced.clear()
    first.sync()
    assert tmp_path / "sessions" / "000000" in synced
    synced.clear()
    first.sync()
    second.sync()
    assert synced == []


# --- the document -----------------------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(data=st.data())
def test_a_reader_made_from_the_document_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Several sessions of one medium, dealt over several disks, in any order, growing, some cut off."""
    root = tmp_path_factory.mktemp("library")
    disks = [LocalDisk(number, root / f"disk{number}", LIBRARY) for number in range(data.draw(st.integers(2, 4)))]
    for disk in disks:
        Path(disk.path).mkdir()
    start, streams = 0, []
    for number in range(data.draw(st.integers(1, 3))):
        size = data.draw(st.integers(1, 6 * UNIT))
        content = data.draw(st.binary(min_size=1, max_size=64)).ljust(size, b"%d" % number)[:size]
        session = 998 + number
        acknowledged = write_session(data, disks, session, content)
        ending = replace(ENDING, tape_file=number, start=start, bytes=len(acknowledged))
        finish_session(disks, session, ending)
        streams.append(acknowledged)
        start += len(acknowledged)
        assert format_reader.stream([Path(disk.path) for disk in disks], session) == acknowledged
    assert format_reader.medium([Path(disk.path) for disk in disks], "A00001L9") == b"".join(streams)


def write_session(data: st.DataObject, disks: list[LocalDisk], session: int, content: bytes) -> bytes:
    """Write the content as one session, and return what of it counts."""
    members = [disk.member(session, UNIT, replace(OPENING, disks=len(disks))) for disk in disks]
    dealer = RoundRobin(len(disks), data.draw(st.integers(0, len(disks) - 1)))
    units = list(range(-(-len(content) // UNIT)))
    for unit in data.draw(st.permutations(units)):
        disk, slot = dealer.deal(unit)
        whole = content[unit * UNIT : (unit + 1) * UNIT]
        sizes = sorted(data.draw(st.sets(st.integers(1, len(whole)), max_size=3)) | {len(whole)})
        for generation, size in enumerate(sizes):
            put(members[disk], unit, slot, whole[:size], 0 if generation == 0 else sizes[generation - 1], generation)
    for member in members:
        member.sync()
        member.finish(None)
    return content[: data.draw(st.integers(max(1, len(content) - 10), len(content)))]


def finish_session(disks: list[LocalDisk], session: int, ending: Ending) -> None:
    for disk in disks:
        path = path_of(disk, session)
        if path.exists():
            slots = -(-(path.stat().st_size - BLOCK) // (BLOCK + UNIT))
            member = disk.reopen(session, UNIT, slots)
            assert member is not None
            member.finish(ending)


def test_the_longest_header_fits_into_a_record() -> None:
    longest = {"medium": "x" * 32, "host": "x" * 255, "program": "x" * 255, "error": "ENAMETOOLONG", "bytes": 2**62}
    numbers = dict.fromkeys(("pid", "uid", "gid", "drive", "disks", "tape_file", "session"), 2**31)
    records.encode({"library": LIBRARY} | HEADER | RELEASE | longest | numbers, 0)
