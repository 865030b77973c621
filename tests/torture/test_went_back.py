"""A tracking database that went back: the program notices, and `vtlfs rebuild` takes in the rest from the disks."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from killed import DISKS, EARLY, LATE, Killed, write
from mounting import shell

from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import FILE_NAME

SQLITE_PAGE = 4096


def zero_page(killed: Killed) -> None:
    """Zero a page in the middle of the write-ahead log."""
    with killed.log.open("r+b") as log:
        log.seek(killed.log.stat().st_size // 2)
        log.write(bytes(SQLITE_PAGE))


def put_older_back(killed: Killed) -> None:
    """Put an older database in the place of the newest."""
    for suffix in ("-wal", "-shm"):
        (killed.path / f"{FILE_NAME}{suffix}").unlink()
    shutil.copy(killed.root / "older.db", killed.database)


WAYS = {
    "log cut in half": Killed.lose_end,
    "page of the log zeroed": zero_page,
    "log deleted": lambda killed: killed.log.unlink(),
    "older database": put_older_back,
}


def check_all_there(killed: Killed) -> None:
    """Assert that every acknowledged stream can be read, byte for byte."""
    with closing(Library.open(killed.path).tracking(read_only=True)) as tracking:
        numbers = {stream.session: tracking.sessions.get(stream.session).tape_file for stream in killed.streams}
    for stream in killed.streams:
        assert killed.extract(stream.barcode, numbers[stream.session]) == stream.content


@pytest.mark.parametrize("way", WAYS)
def test_database_that_went_back_is_refused_named_and_mended(killed: Killed, way: str) -> None:
    WAYS[way](killed)
    mountpoint = killed.root / "mnt"
    mountpoint.mkdir()
    refused = killed.vtlfs("mount", killed.path, mountpoint, status=3)
    assert "tracking.db: is older than the disks: it lacks the last " in refused
    assert "tape file" in refused
    assert "`vtlfs rebuild`" in refused
    assert refused.count("\n") == 1
    for words in (["media", "add", killed.path, "NEW"], ["recover", killed.path], ["verify", killed.path]):
        assert "is older than the disks" in killed.vtlfs(*words, status=3)
    assert "failed: the tracking database is older than the disks" in killed.vtlfs("status", killed.path, status=3)
    assert json.loads(killed.vtlfs("status", killed.path, "--json", status=3))["lacks"]
    assert "damage: tracking.db is older than the disks" in killed.vtlfs("check", killed.path, status=3)
    report = json.loads(killed.vtlfs("rebuild", killed.path, "--json", status=3 if way == "older database" else 0))
    assert Path(report["aside"]).exists()
    assert report["tape_files"] == EARLY + LATE
    killed.check()
    check_all_there(killed)
    killed.vtlfs("verify", killed.path)


@pytest.mark.parametrize("disks", [[0], range(DISKS)], ids=["of one disk", "of all"])
@pytest.mark.parametrize("way", [*WAYS, "recovered", "mounted"])
def test_headers_that_were_not_finished_are(killed: Killed, way: str, disks: Sequence[int]) -> None:
    """The database knows the ends of the streams, which a rebuild from the disks alone could not find."""
    assert killed.take_ends(disks)
    if way == "recovered":
        killed.vtlfs("verify", killed.path)  # what recovery is to do is no defect
        killed.vtlfs("recover", killed.path)
    elif way == "mounted":
        with killed.mounted(expects=["died"]):
            pass
    else:
        WAYS[way](killed)
        killed.vtlfs("rebuild", killed.path, status=None)
    assert not list((killed.path / "mounts").glob("*.lock"))
    killed.vtlfs("verify", killed.path)
    check_all_there(killed)
    before = killed.database.read_bytes()
    killed.database.unlink()
    told = killed.vtlfs("rebuild", killed.path, status=None)
    assert killed.database.read_bytes() != before
    assert "its end was not known" not in told
    killed.vtlfs("verify", killed.path)
    check_all_there(killed)


def test_media_that_nobody_wrote_to_and_snapshots_are_named(killed: Killed) -> None:
    """No disk has them, but the high-water marks show that they existed."""
    put_older_back(killed)
    told = killed.vtlfs("rebuild", killed.path, status=3)
    assert "lost: 1 media that nobody wrote to" in told
    assert "lost: snapshots from 1 to 1" in told


def test_read_only_mount_shows_what_there_is_and_leaves_the_rest_alone(killed: Killed) -> None:
    put_older_back(killed)
    before = {path: path.read_bytes() for disk in killed.disks for path in disk.rglob("*") if path.is_file()}
    early = sorted(stream.session for stream in killed.streams)[:EARLY]
    with killed.mounted("ro", checked=False, expects=["is older than the disks"]) as mounted:
        with closing(Library.open(killed.path).tracking(read_only=True)) as tracking:
            files = {session: tracking.sessions.get(session) for session in early}
        for stream in killed.streams:
            if stream.session in files:
                assert mounted.file(stream.barcode, files[stream.session].tape_file or 0).read_bytes() == stream.content
        shell(f"! echo x > {mounted.medium('T1')}")
    after = {path: path.read_bytes() for disk in killed.disks for path in disk.rglob("*") if path.is_file()}
    assert after == before
    assert "is older than the disks" in killed.vtlfs("recover", killed.path, status=3)
    newest = max(stream.session for stream in killed.streams)
    with closing(Library.open(killed.path).tracking(read_only=True)) as tracking:  # nobody got a number twice
        readers = [
            row[0] for row in tracking.sql.execute("SELECT id FROM session WHERE access = 'read' AND host <> 'alpha'")
        ]
    assert readers
    assert min(readers) > newest


def test_what_a_dead_mount_left_is_no_database_that_went_back(killed: Killed) -> None:
    """The mount was killed, but nothing is damaged, so the next mount goes on as usual."""
    with killed.mounted(expects=["died"]) as mounted:
        more = list(killed.streams)
        write(mounted, range(100, 104), more)
    assert {one.session for one in more[len(killed.streams) :]}.isdisjoint(one.session for one in killed.streams)
    killed.streams = more
    check_all_there(killed)
    killed.vtlfs("status", killed.path)


def test_rebuilding_what_is_in_order_loses_nothing(killed: Killed) -> None:
    """An administrator can rebuild without knowing the state of the database."""
    killed.vtlfs("recover", killed.path)
    report = json.loads(killed.vtlfs("rebuild", killed.path, "--json"))
    assert (report["began_with"], report["lost"], report["damaged"]) == ("old", [], [])
    killed.check()
    check_all_there(killed)
    with closing(Library.open(killed.path).tracking(read_only=True)) as tracking:
        assert tracking.media.get("T5").bytes == 0
        assert tracking.sql.one("SELECT count(*) FROM snapshot") == (1,)


def test_member_files_of_identifiers_that_were_never_given_are_a_sign_too(killed: Killed) -> None:
    """They are the only sign if the high-water marks were removed."""
    put_older_back(killed)
    for disk in killed.disks:
        (disk / "vtlfs-disk.mark").unlink()
    with closing(sqlite3.connect(killed.database)) as database:
        database.execute("UPDATE library SET next_session = (SELECT max(id) + 1 FROM session)")
        database.commit()
    (killed.root / "mnt").mkdir()
    told = killed.vtlfs("mount", killed.path, killed.root / "mnt", status=3)
    assert "lacks sessions whose member files are on the disks" in told


@pytest.mark.parametrize("disk", range(DISKS))
def test_one_disk_that_knows_is_enough(killed: Killed, disk: int) -> None:
    killed.lose_end()
    for number, path in enumerate(killed.disks):
        if number != disk:
            (path / "vtlfs-disk.mark").write_bytes(os.urandom(4096))
    # Its mark may lack the last commits, for each waits for one disk only; the log has lost far more than those.
    assert "is older than the disks" in killed.vtlfs("status", killed.path, status=3)


# --- damaged pages and rows -----------------------------------------------------------------------------------------


def test_database_without_its_last_byte_is_not_mounted(killed: Killed) -> None:
    killed.vtlfs("recover", killed.path)
    os.truncate(killed.database, killed.database.stat().st_size - 1)
    (killed.root / "mnt").mkdir()
    told = killed.vtlfs("mount", killed.path, killed.root / "mnt", status=1)
    assert "`vtlfs rebuild` makes a new one" in told
    assert "damage: " in killed.vtlfs("check", killed.path, status=3)
    killed.vtlfs("rebuild", killed.path, status=None)
    check_all_there(killed)


def test_tables_of_different_moments_are_not_mounted(killed: Killed) -> None:
    """If the log is lost during one of SQLite's checkpoints, some pages are newer than others."""
    killed.vtlfs("recover", killed.path)
    with closing(sqlite3.connect(killed.database)) as database:
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute("DELETE FROM tape_file WHERE number > 2")
        database.commit()
    (killed.root / "mnt").mkdir()
    told = killed.vtlfs("mount", killed.path, killed.root / "mnt", status=1)
    assert "the library's counters are" in told
    killed.vtlfs("rebuild", killed.path, status=None)
    check_all_there(killed)


CONTRADICTIONS: dict[str, str] = {
    "start": "UPDATE tape_file SET start = start - 1 WHERE medium = 'T1' AND number = 3",
    "bytes": "UPDATE tape_file SET bytes = bytes - 1 WHERE medium = 'T1' AND number = 3",
    "session": "UPDATE session SET bytes = bytes + 1 WHERE id ="
    " (SELECT session FROM tape_file WHERE medium = 'T1' AND number = 3)",
    "an extent's bytes": "UPDATE extent SET bytes = bytes - 1 WHERE offset = 0 AND bytes > 1",
    "a medium's bytes": "UPDATE medium SET bytes = bytes - 1 WHERE barcode = 'T1'",
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_rows_that_contradict_each_other_are_an_error_and_never_wrong_bytes(killed: Killed, what: str) -> None:
    """Tampering, or a damaged page, has changed a row of the database under a mount."""
    killed.vtlfs("recover", killed.path)
    whole = killed.extract("T1")
    first = killed.tape_files("T1")[0].bytes
    with killed.mounted("check=off", checked=False, allows=["contradict"]) as mounted:
        with closing(sqlite3.connect(killed.database)) as database:
            database.execute("PRAGMA foreign_keys = OFF")
            database.executescript(CONTRADICTIONS[what])
        with pytest.raises(OSError, match="Input/output"):
            mounted.medium("T1").read_bytes()
        if what not in ("an extent's bytes", "a medium's bytes"):
            with open(mounted.medium("T1"), "rb", buffering=0) as medium:  # what is before the contradiction
                assert medium.read(min(first, 4096)) == whole[: min(first, 4096)]
    assert "damage: " in killed.vtlfs("check", killed.path, status=3)


# --- settings -------------------------------------------------------------------------------------------------------


def put_copy_in_place(killed: Killed) -> None:
    """Replace the database by a copy of it, as administrators do."""
    killed.vtlfs("recover", killed.path)
    with closing(sqlite3.connect(killed.database)) as database:
        database.execute("VACUUM INTO ?", (str(killed.root / "copy.db"),))
    for suffix in ("-wal", "-shm"):
        (killed.path / f"{FILE_NAME}{suffix}").unlink(missing_ok=True)
    shutil.move(killed.root / "copy.db", killed.database)


def test_copy_in_place_of_the_database_gets_its_write_ahead_log_back(killed: Killed) -> None:
    put_copy_in_place(killed)
    assert "note: tracking.db: SQLite keeps no write-ahead log (journal mode delete)" in killed.vtlfs(
        "check", killed.path
    )
    with killed.mounted() as mounted, closing(sqlite3.connect(killed.database)) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        database.execute("BEGIN")
        assert database.execute("SELECT count(*) FROM session").fetchone()[0] > 0  # a reader that takes its time
        mounted.medium("T1").write_bytes(b"not kept out")
    assert "journal" not in killed.vtlfs("check", killed.path)


def test_identifier_is_not_given_twice_and_no_file_is_written_over(
    killed: Killed, again: Callable[[Path], Killed]
) -> None:
    """Even if the database allows it, and no check has run since, a running mount does not do so."""
    killed.vtlfs("recover", killed.path)
    with killed.mounted(checked=False, allows=["File exists"]) as mounted:
        with closing(sqlite3.connect(killed.database)) as database:  # what it was given already, it has
            database.execute("UPDATE library SET next_session = 1")
            database.commit()
        members = {path: path.read_bytes() for disk in killed.disks for path in disk.rglob("*.member")}
        for seed in range(20):
            mounted.medium("T1").write_bytes(f"{seed}".encode())
        assert all(path.read_bytes() == content for path, content in members.items())
