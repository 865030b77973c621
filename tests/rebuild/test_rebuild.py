"""The tracking database is lost: `vtlfs rebuild` makes a new one from the disks."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lived import UNIT, Lived, differing, tables_of
from mounting import PROJECT, SECONDS, OnDisks

from vtlfs.disks import records
from vtlfs.disks.local import copies as on_disk
from vtlfs.disks.local.disk import LocalDisk
from vtlfs.engine.library import Library
from vtlfs.engine.tracking import invariants
from vtlfs.engine.tracking.database import FILE_NAME, Tracking
from vtlfs.errors import DiskError, LibraryError, NoSuchMedium, UsageError, VtlfsError
from vtlfs.model import Extent, TapeFile

# The columns that no disk has: counters of the library, times of copies, mounts.
NUMBERS = {
    "library": {"commits", "epoch", "next_session"},
    "copy": {"begun_at", "again_at", "state"},
    "event": {"rows"},
}


def test_with_the_last_copy_everything_is_as_it_was(lived: Lived) -> None:
    before = lived.tables()
    lived.lose()
    report = json.loads(lived.vtlfs("rebuild", lived.path, "--json"))
    assert differing(before, lived.tables()) == NUMBERS | {"disk": {"path"}}
    assert (report["copy"]["number"], report["replayed"], report["lost"], report["damaged"]) == (2, 0, [], [])
    lived.check()
    lived.check_streams()


def test_sessions_after_the_copy_come_from_their_member_files(lived: Lived) -> None:
    before = lived.tables()
    lived.lose()
    lived.forget_copies(2)
    rebuilt = lived.rebuild()
    assert rebuilt.base is not None
    assert rebuilt.base.number == 1
    after = lived.tables()
    lacking = [row for row in before["session"] if row["id"] not in {new["id"] for new in after["session"]}]
    assert [(row["access"], row["bytes"]) for row in lacking] == [("write", 0)]  # one that wrote nothing
    before["session"] = [row for row in before["session"] if row not in lacking]
    assert differing(before, after) == {
        "library": {"commits", "epoch", "next_session", "sessions", "announced"},
        "copy": {"begun_at", "again_at", "state", "number"},
        "event": {"rows"},
        "disk": {"path", "free", "seen_at"},
        "medium": {"since"},
        "session": {"mount", "flushed_at", "announced", "since", "sequence"},
        "tape_file": {"epoch", "ordinal"},  # over all media, that of the rebuild
        "mount": {"rows"},
        "snapshot": {"rows"},
        "disk_history": {"rows"},
        "medium_history": {"rows"},
        "mount_history": {"rows"},
    }
    assert [row["id"] for row in after["snapshot"]] == [1]
    lived.check()
    lived.check_streams()


def test_without_any_copy_streams_are_where_they_were(lived: Lived) -> None:
    before = lived.tables()
    lived.lose()
    lived.forget_copies()
    told = lived.vtlfs("rebuild", lived.path, status=3)
    assert told.count("lost: ") == 3
    assert "no copy of the tracking database" in told
    unused = len([row for row in before["medium"] if not row["bytes"]])
    assert f"lost: {unused} media that nobody wrote to" in told  # which the disks' marks know of
    assert "lost: snapshots from 1 to 2" in told
    after = lived.tables()
    assert after["extent"] == before["extent"]
    drop = {"epoch", "ordinal"}
    assert without(after["tape_file"], drop) == without(before["tape_file"], drop)
    sessions = [row for row in before["session"] if row["disks"] != "[]"]
    drop = {"mount", "flushed_at", "announced", "since", "sequence"}
    assert without(after["session"], drop) == without(sessions, drop)
    used = {row["medium"] for row in sessions}
    media = [row for row in before["medium"] if row["barcode"] in used]
    drop = {"id", "capacity", "added_at", "begun_at", "since"}
    by_barcode = sorted(after["medium"], key=lambda row: [old["barcode"] for old in media].index(row["barcode"]))
    assert without(by_barcode, drop) == without(media, drop)
    assert [row["number"] for row in after["drive"]] == [0, 1, 2, 3]
    assert after["library"][0]["next_session"] > before["library"][0]["next_session"]
    assert not after["snapshot"]
    lived.check()
    lived.check_streams()


def without(rows: list[dict[str, Any]], columns: set[str]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in columns} for row in rows]


def test_library_goes_on_after_a_rebuild(lived: Lived) -> None:
    last = max(row["id"] for row in lived.tables()["session"])
    lived.lose()
    lived.rebuild()
    with lived.mounted() as mounted:
        with open(mounted.medium("T9"), "wb") as stream:
            assert os.fstat(stream.fileno()).st_ino > last
            stream.write(b"new")
        assert mounted.medium("T1").read_bytes() == b"".join(lived.written["T1", number] for number in range(4))
        assert sorted(os.listdir(mounted.path / "snapshots")) == ["1", "2"]
        assert os.readlink(mounted.path / "drives" / "2" / "loaded") == "T2"
    assert on_disk.numbers(lived.disks[0]) == [3, 2]
    lived.vtlfs("snapshot", "take", lived.path)
    assert lived.tables()["snapshot"][-1]["id"] > 2 + 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(os.urandom(50_000)),
        lambda file: file.write_bytes(file.read_bytes()[:100] + os.urandom(file.stat().st_size - 100)),
        lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    ],
    ids=["gone", "empty", "garbage", "mangled", "cut short"],
)
def test_lost_database_is_told_in_one_line_and_rebuilt(
    lived: Lived, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    database = lived.path / FILE_NAME
    damage(database)
    old = database.read_bytes() if database.exists() else None
    for words in (["status"], ["media", "list"], ["recover"], ["sessions"]):
        told = lived.vtlfs(*words, lived.path, status=1) if old is None or len(old) < 100_000 else ""
        assert told.count("\n") == bool(told)
        assert not told or "vtlfs rebuild" in told, told
    report = json.loads(lived.vtlfs("rebuild", lived.path, "--json"))
    if old is None:
        assert report["aside"] is None
    else:
        assert Path(report["aside"]).read_bytes() == old
    lived.check()
    lived.check_streams()


def test_old_log_is_not_taken_for_the_new_databases(lived: Lived) -> None:
    """SQLite would replay an old write-ahead log into any database of the same name."""
    with closing(sqlite3.connect(lived.path / FILE_NAME)) as database:
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.execute("UPDATE medium SET capacity = 1 << 40")
        database.commit()
        log = (lived.path / f"{FILE_NAME}-wal").read_bytes()
    lived.lose()
    (lived.path / f"{FILE_NAME}-wal").write_bytes(log)
    rebuilt = lived.rebuild()
    assert {row["capacity"] for row in lived.tables()["medium"] if row["barcode"] != "CAP"} == {None}
    assert rebuilt.aside is not None
    assert Path(f"{rebuilt.aside}-wal").read_bytes() == log


def test_rebuild_refuses_what_it_must_not_do(lived: Lived, tmp_path: Path) -> None:
    with lived.mounted(), pytest.raises(LibraryError, match="is mounted"):
        lived.rebuild()
    lived.lose()
    with pytest.raises(LibraryError, match=r"disk 1 is missing.*--without-disk 1"):
        lived.rebuild_with(lived.disks[0], lived.disks[2])
    with pytest.raises(UsageError, match="disk 1 is there"):
        lived.rebuild_with(*lived.disks, without=[1])
    (tmp_path / "plain").mkdir()
    with pytest.raises(LibraryError, match="not labelled"):
        lived.rebuild_with(*lived.disks, tmp_path / "plain")
    (tmp_path / "other").mkdir()
    other = OnDisks(tmp_path / "other")
    with pytest.raises(LibraryError, match="belongs to another library"):
        lived.rebuild_with(*lived.disks, other.disks[0])
    assert sorted(os.listdir(lived.path)) == ["library.toml", "mounts", "reserve"]


def test_disks_that_have_moved_are_told(lived: Lived, tmp_path: Path) -> None:
    lived.lose()
    lived.disks[1] = lived.disks[1].rename(tmp_path / "moved")
    assert lived.rebuild().report.ignored == ["library.toml has the disks elsewhere; change library.disks in it"]
    assert lived.tables()["disk"][1]["path"] == str(tmp_path / "moved")


def test_newest_copy_that_is_in_order_is_taken(lived: Lived) -> None:
    lived.lose()
    for disk in lived.disks[:2]:
        path = on_disk.path_of(disk, 2)
        path.write_bytes(path.read_bytes()[:20_000] + os.urandom(20_000))
    rebuilt = lived.rebuild()
    assert rebuilt.base is not None
    assert rebuilt.base.where == str(on_disk.path_of(lived.disks[2], 2))
    assert len(rebuilt.report.damaged) == 2
    lived.lose()
    with closing(sqlite3.connect(on_disk.path_of(lived.disks[2], 2))) as copy:
        copy.execute("CREATE TRIGGER harmful AFTER INSERT ON session BEGIN DELETE FROM snapshot; END")
        copy.commit()
    rebuilt = lived.rebuild()
    assert rebuilt.base is not None
    assert rebuilt.base.number == 1
    lived.check()
    lived.check_streams()


def test_library_toml_is_made_anew(lived: Lived) -> None:
    before = lived.tables()
    shutil.rmtree(lived.path)
    told = lived.vtlfs("rebuild", lived.path, status=2)
    assert "--disk" in told
    assert not lived.path.exists()
    with pytest.raises(LibraryError, match="disk 1 is missing"):
        lived.rebuild_with(lived.disks[0], lived.disks[2])
    assert not lived.path.exists()
    lived.vtlfs("rebuild", lived.path, *(word for disk in lived.disks for word in ("--disk", disk)))
    assert differing(before, lived.tables()) == NUMBERS | {"disk": {"path"}}
    lived.check()
    with lived.mounted() as mounted:
        assert mounted.file("T1", 2).read_bytes() == lived.written["T1", 2]


# --- a disk is gone too -------------------------------------------------------------------------------------------


def complete(lived: Lived, gone: int) -> set[tuple[str, int]]:
    """Return the tape files that have no extents on a disk."""
    sessions = {row["id"]: json.loads(row["disks"]) for row in lived.tables()["session"]}
    return {
        (row["medium"], row["number"]) for row in lived.tables()["tape_file"] if gone not in sessions[row["session"]]
    }


@pytest.mark.parametrize("copy", [True, False], ids=["copy", "no copy"])
@pytest.mark.parametrize("gone", [0, 1, 2])
def test_with_a_disk_gone_what_is_elsewhere_comes_back(lived: Lived, gone: int, copy: bool) -> None:
    whole = complete(lived, gone)
    before = lived.tables()
    assert whole
    lived.lose()
    if not copy:
        lived.forget_copies()
    shutil.rmtree(lived.disks[gone])
    rebuilt = lived.rebuild(gone)
    after = lived.tables()
    last = {row["medium"]: row["number"] for row in after["tape_file"]}
    for row in before["tape_file"]:
        if row["number"] <= last.get(row["medium"], -1):
            new = next(r for r in after["tape_file"] if (r["medium"], r["number"]) == (row["medium"], row["number"]))
            assert (new["start"], new["bytes"]) == (row["start"], row["bytes"])  # nothing has moved
    for barcode, number in lived.written:
        if (barcode, number) in whole:
            assert lived.extract(barcode, number) == lived.written[barcode, number]
        elif number <= last.get(barcode, -1):
            with pytest.raises(DiskError, match="is missing"):
                lived.extract(barcode, number)
    told = {(lost.medium, lost.tape_file) for lost in rebuilt.report.lost}
    assert told == {key for key in set(lived.written) - whole if key[1] <= last.get(key[0], -1)}
    assert copy is (last == {"T1": 3, "T2": 1, "CAP": 1}) or not copy


def test_without_a_disk_the_library_can_be_mounted_for_reading(lived: Lived) -> None:
    whole = complete(lived, 1)
    lived.lose()
    shutil.rmtree(lived.disks[1])
    told = lived.vtlfs("rebuild", lived.path, "--without-disk", 1, status=3)
    assert "disk 1 is not there" in told
    assert "disk" in lived.vtlfs("mount", lived.path, lived.root / "nowhere", status=1)
    expects = ["disk 1 (", "is missing"]
    with lived.mounted("ro", expects=expects, checked=False) as mounted:
        for barcode, number in lived.written:
            if (barcode, number) in whole:
                assert mounted.file(barcode, number).read_bytes() == lived.written[barcode, number]
            else:
                with pytest.raises(OSError, match="Input/output error"):
                    mounted.file(barcode, number).read_bytes()


@pytest.mark.parametrize("begins_with", ["nothing", "a copy", "the old one", "the old one, and copies"])
def test_disk_that_comes_back_brings_the_rest(lived: Lived, tmp_path: Path, begins_with: str) -> None:
    before = lived.tables()
    lived.lose()
    if "cop" not in begins_with:
        lived.forget_copies()
    shutil.move(lived.disks[1], tmp_path / "away")
    lived.rebuild(1)
    shutil.move(tmp_path / "away", lived.disks[1])
    if "old" not in begins_with:
        lived.lose()
    lived.rebuild()
    assert lived.tables()["extent"] == before["extent"]
    lived.check()
    lived.check_streams()


# --- power cuts ---------------------------------------------------------------------------------------------------


def lose_ending(lived: Lived, session: int) -> None:
    """Take the ends of sessions out of the headers, as if these had not reached the disks."""
    for disk in range(3):
        path = lived.member(disk, session)
        if path.exists():
            with open(path, "r+b") as file:
                block = file.read(records.BLOCK)
                document, generation = records.decode_all(block)[0]
                assert document["state"]
                file.seek(records.place(generation))
                file.write(bytes(records.RECORD))


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_stream_whose_end_is_not_on_the_disks_stays_where_it_was(lived: Lived, number: int) -> None:
    before = lived.tables()
    session = next(row["session"] for row in before["tape_file"] if (row["medium"], row["number"]) == ("T1", number))
    lose_ending(lived, session)
    lived.lose()
    lived.forget_copies()
    rebuilt = lived.rebuild()
    assert [(found.id, found.tape_file) for found in rebuilt.report.recovered if found.tape_file is not None] == [
        (session, number)
    ]
    assert lived.tables()["extent"] == before["extent"]
    lived.check()
    lived.check_streams()
    lived.lose()
    again = lived.rebuild()  # the headers say it now
    assert [found for found in again.report.recovered if found.tape_file is not None] == []
    lived.check_streams()


def test_extent_that_was_not_synced_ends_a_stream_without_an_end(lived: Lived) -> None:
    """A power cut can leave the record of an extent without its bytes."""
    with lived.mounted("io=direct") as mounted:
        descriptor = os.open(mounted.medium("T5"), os.O_WRONLY)
        session = os.fstat(descriptor).st_ino
        os.write(descriptor, b"a" * 1000)
        os.fsync(descriptor)
        os.write(descriptor, b"b" * 1000)
        os.fsync(descriptor)
        mounted.kill()
        with pytest.raises(OSError, match="not connected"):
            os.close(descriptor)
        lived.vtlfs("umount", mounted.path)
    last = next(row for row in lived.tables()["extent"] if (row["session"], row["offset"]) == (session, 1000))
    with open(lived.member(last["disk"], session), "r+b") as file:
        file.seek(last["position"] + records.BLOCK + 500)
        file.write(b"lost")
    lived.lose()
    lived.forget_copies()
    rebuilt = lived.rebuild()
    assert any(f"session {session}: an extent that a disk describes" in text for text in rebuilt.report.ignored)
    assert lived.extract("T5", 0) == b"a" * 1000
    lived.check()


@pytest.mark.parametrize("is_right", [True, False])
def test_of_an_extent_on_two_disks_the_later_one_is_taken_if_it_is_right(lived: Lived, is_right: bool) -> None:
    """A failed disk may still have the records of a stripe that was dealt anew; so may a disk of the new stripe."""
    for row in [row for row in lived.tables()["extent"] if row["offset"] == 0]:
        source, target = (local_disk(lived, (row["disk"] + turn) % 3) for turn in (0, 1))
        ends = [
            one for one in lived.tables()["extent"] if (one["session"], one["disk"]) == (row["session"], target.number)
        ]
        end = max((records.after(one["position"], one["stored"]) for one in ends), default=records.BLOCK)
        first = Extent(**{name: row[name] for name in Extent.__slots__})
        other = replace(first, stripe=1000, disk=target.number, position=end)
        content = source.read_stored(first)
        header = source.header(first.session)
        assert header is not None
        assert header.opening is not None
        member = target.reopen(first.session, end) or target.member(first.session, UNIT, header.opening)
        member.write(other, [memoryview(content)])
        member.finish(None)
        with open(lived.member(other.disk, other.session), "r+b") as file:
            file.seek(end + records.BLOCK)
            file.write(content[:1] if is_right else bytes([content[0] ^ 1]))
    lived.lose()
    lived.forget_copies()
    lived.rebuild()
    assert {row["stripe"] == 1000 for row in lived.tables()["extent"] if row["offset"] == 0} == {is_right}
    lived.check_streams()
    lived.check()


def local_disk(lived: Lived, number: int) -> LocalDisk:
    return LocalDisk(number, lived.disks[number], Library.open(lived.path).config.uuid)


# --- what does not belong there -----------------------------------------------------------------------------------


def test_strange_things_on_a_disk_are_passed_over(lived: Lived, tmp_path: Path) -> None:
    before = lived.tables()
    lived.lose()
    lived.forget_copies()
    sessions = lived.disks[0] / "sessions"
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(sorted(sessions.glob("*/*.member"))[0], tmp_path / "elsewhere" / "000000009001.member")
    (sessions / "000009").symlink_to(tmp_path / "elsewhere")
    (sessions / "000000" / "000000000999.member").symlink_to("/etc/passwd")
    (sessions / "000000" / "000000000998.member").write_bytes(os.urandom(100))
    (sessions / "000000" / "000000000997.member").write_bytes(b"")
    os.mkfifo(sessions / "000000" / "000000000996.member")
    shutil.copy(sorted(sessions.glob("*/*.member"))[0], sessions / "000000" / "000000000995.member")
    (sessions / "000000" / "notes.txt").write_text("mine")
    (sessions / "stuff").mkdir()
    (lived.disks[0] / "tracking" / "000000000009.db").symlink_to("/etc/passwd")
    rebuilt = lived.rebuild()
    assert len(rebuilt.report.ignored) == 10  # one of them tells of slots
    told = ("000000000009.db", "no copy", "media that nobody wrote to", "snapshots from 1 to 2")
    assert all(any(word in text for word in told) for text in rebuilt.report.damaged)
    assert lived.tables()["extent"] == before["extent"]
    lived.check_streams()


def test_damaged_header_is_made_up_for_by_another_disks(lived: Lived) -> None:
    session = next(row["id"] for row in lived.tables()["session"] if row["disks"] == "[0,1,2]")
    with open(lived.member(0, session), "r+b") as file:
        file.write(os.urandom(records.BLOCK))
    lived.lose()
    lived.forget_copies()
    lived.rebuild()
    lived.check_streams()


# --- interruptions ------------------------------------------------------------------------------------------------

DYING = """
import os, pathlib, sys
from vtlfs.engine.rebuild import seed, found, rebuild, replay
from vtlfs.cli.main import main
owner, name, count = {"scan": (found.Found, "take_in", 1), "replay": (replay.Replay, "_note_losses", 1),
    "finish": (seed, "finish", 1), "rename1": (pathlib.Path, "rename", 1), "rename2": (pathlib.Path, "rename", 2),
    "sync": (rebuild, "sync_directory", 2)}[sys.argv[1]]
real, calls = getattr(owner, name), []
def dying(*arguments, **more):
    calls.append(1)
    if len(calls) == count:
        os.kill(os.getpid(), 9)
    return real(*arguments, **more)
setattr(owner, name, dying)
sys.exit(main(["rebuild", sys.argv[2]]))
"""


@pytest.mark.parametrize("step", ["scan", "replay", "finish", "rename1", "rename2", "sync"])
def test_rebuild_that_is_killed_can_be_done_again(lived: Lived, step: str) -> None:
    lived.forget_copies(2)
    database = lived.path / FILE_NAME
    broken = database.read_bytes()[:5000]
    database.write_bytes(broken)
    killed = subprocess.run(
        [sys.executable, "-c", DYING, step, lived.path], cwd=PROJECT, timeout=SECONDS, check=False, capture_output=True
    )
    assert killed.returncode == -9, killed.stderr
    if step in ("scan", "replay", "finish", "rename1"):
        assert database.read_bytes() == broken
    if step != "sync":
        lived.rebuild()
    assert broken in [file.read_bytes() for file in lived.path.glob(f"{FILE_NAME}.lost-*")]
    lived.check()
    lived.check_streams()
    assert [name for name in os.listdir(lived.path) if name.startswith(".")] == []


def test_copy_on_disk_is_not_changed_by_a_rebuild(lived: Lived) -> None:
    before = [(path, path.read_bytes()) for disk in lived.disks for path in (disk / "tracking").iterdir()]
    lived.lose()
    lived.rebuild()
    assert [(path, path.read_bytes()) for disk in lived.disks for path in (disk / "tracking").iterdir()] == before
    assert tables_of(before[0][0])["snapshot"]


# --- anything at all ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_damaged_nothing_wrong_is_ever_read(lived: Lived, seed: int) -> None:
    """Bytes anywhere on the disks are changed: reading a stream returns the right bytes, or an error."""
    chance = random.Random(seed)
    files = sorted(file for disk in lived.disks for file in disk.glob("*/**/*") if file.is_file())
    for file in chance.sample(files, 5):
        content = bytearray(file.read_bytes())
        for _ in range(chance.choice([1, 3, 30])):
            at = chance.randrange(min(len(content), chance.choice([100, 5000, len(content)])))
            content[at] = chance.randrange(256)
        file.write_bytes(content[: chance.choice([len(content), len(content), chance.randrange(len(content))])])
    lived.lose()
    if seed % 2:
        lived.forget_copies()
    lived.rebuild()
    with closing(Library.open(lived.path).tracking(read_only=True)) as tracking:
        for rule in [invariants.SOUND, *invariants.rules(tracking)]:
            assert list(invariants.broken(tracking, rule)) == []
        kept = {(file.medium, file.number) for barcode in ("T1", "T2", "CAP") for file in files_of(tracking, barcode)}
    assert kept
    read = 0
    for barcode, number in kept & set(lived.written):
        try:
            left = lived.extract(barcode, number)
        except VtlfsError:
            continue
        assert lived.written[barcode, number].startswith(left)
        read += 1
    assert read


def files_of(tracking: Tracking, barcode: str) -> list[TapeFile]:
    try:
        return tracking.tape_files.of(barcode)
    except NoSuchMedium:
        return []
