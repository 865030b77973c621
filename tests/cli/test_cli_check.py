"""`vtlfs check`: every kind of error in the tracking database and on the disks is found and named."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from filling import tracked
from unmounted import Done, Refused, Run, Shelf

from vtlfs.disks.local.opening import member_path
from vtlfs.engine.scrub.check import check
from vtlfs.engine.tracking import invariants
from vtlfs.model import utc_now
from vtlfs.snap import store

# What breaks a library of `filled`, and what the check then says.
DAMAGE = {
    "UPDATE library SET media = 7": "the library's counters are 7 media",
    "UPDATE library SET bytes = 7": "the library's counters are 2 media, 3 sessions, 2 tape files, 7 bytes",
    "INSERT INTO library SELECT * FROM library": "the table library has 2 rows",
    "DELETE FROM copy": "the table copy has 0 rows",
    "UPDATE disk SET fault = 'x' WHERE number = 1": "disk 1: its fault is x, since None",
    "UPDATE library SET next_session = 2": "session 3: identifiers from 2 on have not been given yet",
    "DELETE FROM disk WHERE number = 0": "there are 1 disks that have not retired; two or more are needed",
    "UPDATE library SET disks = 1": "disk 1: number 1 is the one that the next disk gets",
    "UPDATE disk SET state_at = 'x' WHERE number = 0": "disk 0: it is in use, since x, and disk None replaces it",
    "UPDATE disk SET state = 'retiring', state_at = 'x', successor = 7": "disk 0: it is retiring, since x, and disk 7",
    "UPDATE disk SET state = 'retired', state_at = 'x' WHERE number = 1": "disk 1: it has retired, with 3 extents on",
    "UPDATE stored SET bytes = 0 WHERE disk = 0": "disk 0: 4 extents with 0 bytes are counted on it, and 4 with",
    "DELETE FROM stored WHERE disk = 1": "disk 1: 0 extents with 0 bytes are counted on it, and 3 with",
    "INSERT INTO lack VALUES (1, 0, 'x', 1, 1, 0)": "session 1: its stripe 0 is said to lack 1 of 0 parity",
    "INSERT INTO lack VALUES (1, 99, 'x', 1, 0, 1)": "session 1: its stripe 99 is said to lack something",
    "INSERT INTO part VALUES (1, 'P', 1, 1)": "stream 1 of pool P: part 1 is session 1, and does not follow",
    "INSERT INTO job VALUES ('repair', 'x', 'x', 'x', 1, 2, NULL)": "job repair: 1 of 2 bytes are done; its end is x,",
    "INSERT INTO incident VALUES (0, 'x', 'disk full', 'disk 1', NULL, 'x', NULL, 1)": "incident 0: it is about disk 1",
    "INSERT INTO telling VALUES ('url', '', 7, NULL, NULL, 0, NULL)": "by url, people were told of  up to incident 7,",
    "UPDATE drive SET loaded = 'A00001L9'": "drive 0: loaded is A00001L9, since None",
    "UPDATE mount SET unmounted_at = 'x' WHERE id = 1": "mount 1: it is mounted, and its end x",
    "UPDATE medium SET bytes = 1 WHERE bytes > 0": "medium A00001L9: volume 1 has 1 bytes in 2 tape files",
    "UPDATE medium SET tape_files = 3 WHERE bytes > 0": "medium A00001L9: volume 1 has 15000 bytes in 3",
    "UPDATE medium SET written_at = 'x'": "medium A00001L9: it was last written x",
    "UPDATE medium SET reserved = 5 WHERE id = 2": "medium A00002L9: 5 bytes are promised, but 0 to open sessions",
    "UPDATE medium SET slot = NULL WHERE id = 1": "medium A00001L9: it is in use, and its slot is None",
    "UPDATE medium SET slot = 0 WHERE id = 1": "medium A00001L9: it is in use, and its slot is 0",
    "DROP INDEX medium_slot; UPDATE medium SET slot = 1": "slot 1: it is that of 2 media: A00001L9, A00002L9",
    "UPDATE tape_file SET start = 9999 WHERE number = 1": "medium A00001L9: tape file 1 begins at 9999, but 1",
    "UPDATE tape_file SET number = 5 WHERE number = 1": "medium A00001L9: tape file 5 begins at 10000, but 1",
    "UPDATE tape_file SET bytes = 1 WHERE number = 0": "tape file 0 of A00001L9: 1 bytes, of session 1, which",
    "UPDATE tape_file SET epoch = 9": "tape file 0 of A00001L9: it came in epoch 9, which is yet to come",
    "UPDATE tape_file SET ordinal = 9 WHERE number = 1": "tape file 1 of A00001L9: its ordinal is 9; it came as",
    "UPDATE tape_file SET ordinal = 7 WHERE number = 0": "tape file 1 of A00001L9: its ordinal is 2, after 7 of",
    "UPDATE tape_file SET epoch = 2 - number": "tape file 1 of A00001L9: it came in epoch 1, after one in epoch 2",
    "INSERT INTO verification (started_at, last) VALUES ('x', 9)": "verification 1: it goes up to tape file 9 in the",
    "UPDATE session SET announced = 9 WHERE id = 3": "session 3: its last announcement of a close() is number 9",
    "UPDATE session SET released_at = NULL WHERE id = 1": "session 1: it is released, with released_at None",
    "UPDATE session SET reserved = 5 WHERE id = 1": "session 1: it is released, with released_at",
    "UPDATE session SET tape_file = NULL WHERE id = 1": "session 1: 10000 bytes are recorded, but it left no tape file",
    "UPDATE session SET tape_file = 1 WHERE id = 3": "3 sessions say that they left a tape file, but there are 2",
    "UPDATE session SET medium = 'A00002L9' WHERE id = 1": "tape file 0 of A00001L9: 10000 bytes, of session 1",
    "UPDATE mount SET state = 'dead', unmounted_at = 'x'": "session 3: it is open, but its mount 3 is dead",
    "UPDATE session SET bytes = 9 WHERE id = 3": "session 3: 9 bytes on disks [0,1]; its extents have 5000 bytes on",
    "UPDATE session SET disks = '[1]' WHERE id = 3": "session 3: 5000 bytes on disks [1]; its extents have 5000 bytes",
    "UPDATE session SET access = 'read' WHERE id = 1": "session 1: 10000 bytes on disks [0,1]; its extents have 10000",
    "UPDATE extent SET offset = 9000 WHERE session = 1 AND offset = 8192": "session 1: the extent at offset 9000 is at"
    " place 0 of stripe 2; before it is the one up to offset 8192, at place 0 of stripe 1",
    "UPDATE extent SET stripe = 0 WHERE session = 1 AND stripe = 2": "session 1: 2 extents are at place 0 of stripe 0",
    "UPDATE session SET stripe_unit = 6000": "session 1: the extent at offset 4096 has 4096 bytes, and reaches beyond",
    "UPDATE extent SET blake3 = x'00'": "session 1: an extent of stripe 0, at position 4096 on disk 0, can't be so:",
    "UPDATE extent SET codec = 'zip'": "session 1: an extent of stripe 0, at position 4096 on disk 0, can't be so:",
    "UPDATE extent SET stored = 4095 WHERE bytes = 4096": "session 1: an extent of stripe 0, at position 4096 on disk",
    "UPDATE extent SET position = -4096 WHERE stripe = 0": "session 1: an extent of stripe 0, at position -4096 on",
    "UPDATE extent SET position = 4097 WHERE stripe = 0": "session 1: an extent of stripe 0, at position 4097 on",
    "UPDATE extent SET stripe = -1 WHERE stripe = 0": "session 1: an extent of stripe -1, at position 4096 on disk 0,",
    "UPDATE extent SET position = 8192 WHERE position > 9": "session 1: two extents overlap on disk 0, at position",
    "UPDATE extent SET stripe = 0, place = offset / 4096": "session 1: 2 extents of stripe 0 are on disk 0",
    "INSERT INTO parity VALUES (1, 7, 0, 0, 1048576, 5, zeroblob(32))": "session 1: the parity of stripe 7 has 5 bytes,"
    " and the longest of its extents None",
    "INSERT INTO parity VALUES (1, 0, 0, 1, 1048576, 4096, zeroblob(32))": "session 1: stripe 0 has parity of row 0,"
    " but stripes are to have 0 parity extents",
    "DELETE FROM extent WHERE session = 3": "session 3: 5000 bytes are recorded, but no extent",
    "UPDATE medium SET volume = 2 WHERE id = 1": "medium A00001L9: its current volume is 2; it has 1 volumes, of which",
    "DELETE FROM volume": "medium A00001L9: its current volume is 1; it has None volumes, of which the last is None",
    "UPDATE session SET volume = 2 WHERE id = 1": "session 1: it is of volume 2 of A00001L9, which has 1",
    "UPDATE volume SET ended_at = 'x'": "medium A00001L9: its volume 1 began in epoch 1 and ended in epoch None, at x",
    "UPDATE session SET volume = 2 WHERE id = 3; UPDATE medium SET volume = 3 WHERE id = 1": "session 3: it writes to"
    " volume 2 of A00001L9, whose current volume is 3",
    "UPDATE volume SET reclaimed_at = 'x'": "medium A00001L9: its volume 1 is said to be reclaimed, and the bytes of",
    "UPDATE tape_file SET retain_mode = 'governance', retain_until = 'x'": "medium A00001L9: its volume 1 is retained",
    "UPDATE session SET reclaimed = 1 WHERE id = 1": "session 1: it is said to be reclaimed, with",
    "INSERT INTO leftover (session, disk) VALUES (1, 0)": "session 1: members of it are said to be left, and it is not",
    "UPDATE snapshot SET id = 9 WHERE id = 2": "snapshot 9: it is not before the epoch 3",
    "UPDATE snapshot SET sessions = 0 WHERE id = 2": "snapshot 2: it counts less than the one before it",
    "UPDATE snapshot SET bytes = 1 WHERE id = 2": "snapshot 2: it counts 2 tape files with 1 bytes; of its time are 2",
    "UPDATE medium SET since = 9": "medium A00001L9: it has been so since epoch 9, which is yet to come",
    "UPDATE medium_history SET since = until": "medium A00001L9: its history from epoch 2 to 2 overlaps",
    "UPDATE medium_history SET until = 3": "medium A00001L9: its history ends with epoch 3, after epoch 2",
    "UPDATE session SET mount = 77 WHERE id = 1": "a row of session names a row of mount that is not there",
    "CREATE INDEX x ON session (host); PRAGMA writable_schema = 1;"
    " DELETE FROM sqlite_master WHERE name = 'x'; PRAGMA writable_schema = 0": "SQLite finds it damaged: ***",
}


@pytest.fixture
def filled(shelf: Shelf) -> Iterator[Shelf]:
    """A library with two tape files, two snapshots and an open session of a live mount."""
    mounts = [shelf.mount() for _ in range(3)]
    shelf.write("A00001L9", b"x" * 10_000, mount=mounts[0])
    with closing(shelf.library.tracking()) as tracking:
        with tracking.transaction():
            store.take(tracking, utc_now())
        shelf.write("A00001L9", b"y" * 5000, mount=mounts[1])
        with tracking.transaction():
            store.take(tracking, utc_now())
    shelf.open("A00001L9", b"z" * 5000, mount=mounts[2])
    leases = [shelf.library.leases.take(mount) for mount in mounts]
    yield shelf
    for lease in leases:
        lease.let_go()


def change(shelf: Shelf, statements: str) -> None:
    """Change the database without its triggers, checks and foreign keys."""
    with closing(sqlite3.connect(shelf.library.path / "tracking.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        for statement in statements.split("; "):
            connection.execute(statement)


def found(shelf: Shelf, *, damaged: bool) -> list[str]:
    """Return the findings, by the program's own function, which is quicker than the program."""
    report = check(shelf.library)
    assert report.damaged is damaged
    return [str(finding) for finding in report.findings]


def test_library_in_order(filled: Shelf, done: Done, shelf: Shelf) -> None:
    counts = "3 sessions, 2 tape files, 6 member files on 2 disks"
    assert done("check", shelf.path) == f"checked {counts}: all is well\n"
    assert json.loads(done("check", shelf.path, "--json")) == {
        "damaged": False,
        "checked": {"sessions": 3, "tape_files": 2, "files": 6, "disks": 2},
        "findings": [],
        "more": {},
    }


def test_contradictions_in_the_database_are_found_and_named(filled: Shelf) -> None:
    """Each statement breaks the rule that has to find it, and every rule is broken by a statement."""
    with closing(filled.library.tracking(read_only=True)) as tracking:
        rules = {invariants.SOUND, *invariants.rules(tracking)}
    broken = {rule for rule in rules if rule.problem.split()[0] in ("disk", "session", "drive", "mount")} & {
        rule for rule in rules if "_history" in rule.sql or "since > epoch" in rule.sql
    }  # as those of `medium`
    with closing(sqlite3.connect(":memory:")) as whole:
        with closing(sqlite3.connect(filled.library.path / "tracking.db")) as connection:
            connection.backup(whole)
        for statement, said in DAMAGE.items():
            change(filled, statement)
            with closing(filled.library.tracking(read_only=True)) as tracking:
                problems = {rule: list(invariants.broken(tracking, rule)) for rule in rules}
            broken |= {rule for rule in rules if problems[rule]}
            assert any(text.startswith(said) for texts in problems.values() for text in texts), (statement, problems)
            with closing(sqlite3.connect(filled.library.path / "tracking.db")) as connection:
                whole.backup(connection)
    assert {rule.problem for rule in rules - broken} == set()


@pytest.mark.parametrize(("parity", "disks"), [(1, 2), (1, 3), (2, 3), (2, 5)])
def test_library_with_parity_in_order(tmp_path: Path, parity: int, disks: int) -> None:
    shelf = Shelf(tmp_path, disks, parity)
    for size in (1, 4096, 4097, 50_000):
        shelf.write("A00001L9", bytes(size))
    report = check(shelf.library)
    notes = {str(finding).split(" ", 2)[0] for finding in report.findings}
    assert (report.damaged, notes) == (False, {"note:"}), "of mounts that have died"
    member_path(shelf.disks[1], 4).unlink()
    damage = [line for line in found(shelf, damaged=True) if line.startswith("damage")]
    assert [line.split("; ")[0].split(": ")[-1] for line in damage] == ["gone, with extents of session 4"]


PARITY_DAMAGE = {
    "UPDATE extent SET place = 3 WHERE offset = 8192": "session 1: the extent at offset 8192 is at place 3 of stripe 0",
    "UPDATE extent SET stripe = 1, place = 0 WHERE offset = 8192": "session 1: 2 extents are at place 0 of stripe 1",
    "UPDATE parity SET stored = 4095 WHERE stripe = 0": "session 1: the parity of stripe 0 has 4095 bytes, and the"
    " longest of its extents 4096",
    "UPDATE parity SET stripe = 9 WHERE stripe = 0 AND place = 1": "session 1: the parity of stripe 9 has 4096 bytes,",
    "UPDATE session SET parity = 1": "session 1: stripe 0 has parity of row 1, but stripes are to have 1 parity",
    "UPDATE parity SET disk = 0 WHERE stripe = 0 AND place = 0": "session 1: 2 extents of stripe 0 are on disk 0",
    "UPDATE parity SET disk = 3 WHERE stripe = 0": "session 1: 2 extents of stripe 0 are on disk 3",
    "UPDATE parity SET position = 4096 WHERE disk = 1": "session 1: two extents overlap on disk 1, at position 4096",
    "UPDATE parity SET blake3 = x'00' WHERE stripe = 1": "session 1: an extent of stripe 1, at position",
    "UPDATE parity SET place = -1 WHERE stripe = 0 AND place = 0": "session 1: an extent of stripe 0, at position",
    "DELETE FROM extent; UPDATE session SET bytes = 0": "session 1: the parity of stripe 0 has 4096 bytes, and the",
    "DELETE FROM parity WHERE disk = 4; UPDATE extent SET disk = 2 WHERE disk = 4": "session 1: 50000 bytes on disks"
    " [0,1,2,3,4]; its extents have 50000 bytes on disks [0,1,2,3]",
}


@pytest.mark.parametrize("statements", PARITY_DAMAGE)
def test_contradictions_about_parity_are_found_and_named(tmp_path: Path, statements: str) -> None:
    shelf = Shelf(tmp_path, 5, 2)
    shelf.write("A00001L9", bytes(50_000))
    change(shelf, statements)
    assert any(line.startswith(f"damage: {PARITY_DAMAGE[statements]}") for line in found(shelf, damaged=True))


def test_json_names_damage_and_advice(filled: Shelf, run: Run) -> None:
    change(filled, "UPDATE library SET media = 7")
    result = run("check", filled.path, "--json")
    assert result.returncode == 3
    document = json.loads(result.stdout)
    assert document["damaged"]
    (finding,) = document["findings"]
    assert finding["severity"] == "damage"
    assert "counters" in finding["problem"]
    assert "rebuild" in finding["advice"]


def test_database_that_cannot_be_read(filled: Shelf, run: Run) -> None:
    path = filled.library.path / "tracking.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'session'").fetchone()[0]
    with open(path, "r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))
    result = run("check", filled.path)
    assert result.returncode == 3
    assert "SQLite finds it damaged" in result.stdout or "malformed" in result.stdout
    assert "Traceback" not in result.stderr


def test_no_library(refused: Refused, tmp_path: Path) -> None:
    assert "no vtlfs library here" in refused(1, "check", tmp_path / "nothing")


# --- the disks ------------------------------------------------------------------------------------------------------


def test_missing_file(filled: Shelf) -> None:
    path = member_path(filled.disks[1], 2)
    path.unlink()
    (line,) = found(filled, damaged=True)
    assert line.startswith(f"damage: {path}: gone, with extents of session 2; ")


def test_missing_directory_of_many_files(filled: Shelf) -> None:
    member_path(filled.disks[1], 2).parent.rename(filled.root / "elsewhere")
    lines = found(filled, damaged=True)
    assert [line.split(": ")[2].split(",")[0] for line in lines] == ["gone"] * 3


def test_file_that_is_too_short(filled: Shelf) -> None:
    path = member_path(filled.disks[0], 1)
    size = path.stat().st_size
    os.truncate(path, size - 1)
    (line,) = found(filled, damaged=True)
    assert f"{path}: {size - 1} bytes are left of {size} of session 1" in line


def test_file_that_is_longer_is_no_damage(filled: Shelf) -> None:
    path = member_path(filled.disks[0], 1)
    os.truncate(path, path.stat().st_size + 5000)
    assert found(filled, damaged=False) == []


def test_symbolic_link_in_the_place_of_a_file(filled: Shelf) -> None:
    path = member_path(filled.disks[0], 1)
    path.rename(filled.root / "target")
    path.symlink_to(filled.root / "target")
    (line,) = found(filled, damaged=True)
    assert line.startswith(f"damage: {path}: not a regular file; ")


def test_file_that_others_may_read(filled: Shelf) -> None:
    path = member_path(filled.disks[0], 1)
    path.chmod(0o640)
    (line,) = found(filled, damaged=False)
    assert line == f"note: {path}: others than its owner may read it; `chmod 600` it"


def test_strange_names(filled: Shelf) -> None:
    for name in ("sessions/17", "sessions/000000/000000000001.member~", "sessions/000000/000000002000.member"):
        (filled.disks[0] / name).touch()
    lines = found(filled, damaged=False)
    assert len(lines) == 3
    assert all("not a member file" in line for line in lines)


def test_file_of_a_session_that_the_database_does_not_know(filled: Shelf, shelf: Shelf) -> None:
    with closing(tracked(shelf.library)) as tracking, tracking.transaction():
        tracking.library.take_sessions(100)
    path = member_path(filled.disks[0], 50)
    path.touch(mode=0o600)
    (line,) = found(filled, damaged=False)
    assert line.startswith(f"note: {path}: the tracking database does not know session 50; left by a power cut")


def test_database_that_is_older_than_the_disks(filled: Shelf) -> None:
    member_path(filled.disks[0], 50).touch(mode=0o600)
    (line,) = found(filled, damaged=True)
    assert "tracking.db is older than the disks" in line


def test_disk_that_is_not_there(filled: Shelf) -> None:
    filled.disks[1].rename(filled.root / "elsewhere")
    filled.disks[1].mkdir()
    lines = found(filled, damaged=True)
    assert [line.split(";")[0] for line in lines] == [
        f"damage: disk {filled.disks[1]}: not labelled",
        "damage: disk 1: it is missing",
    ]


def test_same_disk_twice(filled: Shelf) -> None:
    label = filled.disks[0] / "vtlfs-disk.json"
    (filled.disks[1] / "vtlfs-disk.json").write_bytes(label.read_bytes())
    lines = found(filled, damaged=True)
    assert f"damage: disk {filled.disks[1]}: is disk 0, and so is {filled.disks[0]}" in lines[0]


def test_many_findings_of_one_kind_are_counted(filled: Shelf, run: Run) -> None:
    for number in range(50):
        (filled.disks[0] / "sessions" / f"strange{number}").touch()
    lines = found(filled, damaged=False)
    assert len(lines) == 20
    assert "and 30 more like these" in run("check", filled.path).stdout


# --- mounts ---------------------------------------------------------------------------------------------------------


def test_dead_mount_is_a_note_that_says_what_to_do(shelf: Shelf, run: Run) -> None:
    shelf.open("A00001L9", b"x" * 5000)
    (line,) = found(shelf, damaged=False)
    assert line.startswith("note: mount 1 (pid 4711) died and left 1 sessions open; `vtlfs recover`")
    run("recover", shelf.path)
    assert found(shelf, damaged=False) == []


def test_lease_of_a_mount_whose_recovery_is_not_finished(shelf: Shelf) -> None:
    shelf.library.leases.take(7).let_go()
    (line,) = found(shelf, damaged=False)
    assert line.startswith("note: mount 7 has ended, but its recovery is not finished; `vtlfs recover`")
