"""`vtlfs mtx`, `vtlfs changer` and `vtlfs media move`: slots, drives, and the exact words that programs read."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from unmounted import PROGRAM, PROJECT, Done, Refused, Run, Shelf

from vtlfs.engine.library import Library

SCRIPT = Path("/etc/bacula/scripts/mtx-changer")


def mtx(run: Run, shelf: Shelf, *words: object) -> tuple[int, str, str]:
    """Return the exit status of `vtlfs mtx`, and what it says on standard output and error."""
    done = run("mtx", "-f", shelf.path, *words)
    return done.returncode, done.stdout, done.stderr


def listed(done: Done, shelf: Shelf) -> str:
    """Return what is where, in Bacula's words, in one line."""
    return " ".join(done("changer", shelf.path, "listall").split())


def test_status_is_that_of_mtx(run: Run, done: Done, shelf: Shelf) -> None:
    done("media", "add", shelf.path, "A00003L9")
    assert mtx(run, shelf, "load", 2, 1) == (0, "Loading media from Storage Element 2 into drive 1...done\n", "")
    assert mtx(run, shelf, "status") == (
        0,
        f"  Storage Changer {shelf.path}:4 Drives, 3 Slots ( 0 Import/Export )\n"
        "Data Transfer Element 0:Empty\n"
        "Data Transfer Element 1:Full (Storage Element 2 Loaded):VolumeTag = A00002L9\n"
        "Data Transfer Element 2:Empty\n"
        "Data Transfer Element 3:Empty\n"
        "      Storage Element 1:Full :VolumeTag=A00001L9\n"
        "      Storage Element 2:Empty\n"
        "      Storage Element 3:Full :VolumeTag=A00003L9\n",
        "",
    )
    assert "VolumeTag" not in mtx(run, shelf, "nobarcode", "status")[1]
    inquiry = mtx(run, shelf, "inquiry")[1].splitlines()
    assert inquiry[:3] == [
        "Product Type: Medium Changer",
        "Vendor ID: 'VTLFS   '",
        "Product ID: 'TAPE LIBRARY    '",
    ]
    assert mtx(run, shelf, "inventory") == (0, "", "")
    assert mtx(run, shelf, "noattach", "altres", "invert", "eepos", 0, "position", 1) == (0, "", "")
    by_name = run("mtx", "status", env={"PATH": "/bin", "CHANGER": shelf.path, "PYTHONPATH": str(PROJECT)})
    assert by_name.stdout == mtx(run, shelf, "status")[1]


def test_mtx_says_what_it_does_before_it_does_it(shelf: Shelf, done: Done) -> None:
    command = [*PROGRAM, "mtx", "-f", shelf.path, "load", "2", "1"]
    with closing(sqlite3.connect(Path(shelf.path) / "tracking.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # no other can move a medium meanwhile
        with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            begin = b"Loading media from Storage Element 2 into drive 1..."
            assert os.read(process.stdout.fileno(), 1000) == begin
            other.execute("ROLLBACK")
            assert process.stdout.read() == b"done\n"
        assert process.returncode == 0
    assert "D:1:F:2:A00002L9" in listed(done, shelf)


def test_last_slot_that_there_can_be(run: Run, done: Done, shelf: Shelf) -> None:
    done("media", "move", shelf.path, "A00002L9", 65_535)
    status = mtx(run, shelf, "status")[1].splitlines()
    assert len(status) == 1 + 4 + 65_535
    assert status[-1] == "      Storage Element 65535:Full :VolumeTag=A00002L9"
    assert mtx(run, shelf, "load", 65_535, 0)[0] == 0
    assert mtx(run, shelf, "transfer", 1, 65_536)[2] == "Invalid destination\n"
    assert done("changer", shelf.path, "slots") == "65535\n"


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Shelf]:
    """A library on a file system that is mounted read-only."""
    where = tmp_path / "read-only"
    where.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", where], capture_output=True, check=False).returncode:
        pytest.skip("a read-only file system wants the right to mount a tmpfs")
    try:
        shelf = Shelf(where)
        subprocess.run(["mount", "-o", "remount,ro", where], check=True)
        yield shelf
    finally:
        subprocess.run(["umount", where], check=True)


@pytest.mark.parametrize(
    "words",
    [
        ["mtx", "-f", "LIBRARY", "status"],
        ["mtx", "-f", "LIBRARY", "load", "1", "0"],
        ["changer", "LIBRARY", "listall"],
        ["load", "LIBRARY", "0", "A00001L9"],
        ["status", "LIBRARY"],
        ["media", "add", "LIBRARY", "B1"],
    ],
)
def test_read_only_file_system_is_told_as_such(refused: Refused, read_only: Shelf, words: list[str]) -> None:
    said = refused(1, *(read_only.path if word == "LIBRARY" else word for word in words))
    assert said.endswith("; its file system is read-only, and must be writable, also to look at the library")


def test_library_that_its_owner_has_made_unwritable_is_not_another_s(run: Run, shelf: Shelf) -> None:
    Path(shelf.path).chmod(0o500)
    try:
        for words in (["mtx", "-f", shelf.path, "load", 1, 0], ["load", shelf.path, 0, "A00001L9"]):
            done = run(*words, rights=False)
            assert done.returncode == 1
            assert "owner needs to read and write it and its files: chmod -R u+rwX" in done.stderr
    finally:
        Path(shelf.path).chmod(0o700)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("load 1 0", "Drive 0 Full (Storage Element 2 loaded)"),
        ("load 2 1", "Source Element Address 2 is Empty"),
        ("load 9 1", "Invalid <storage-element-number> argument '9' to 'load' command"),
        ("load 0 1", "No source specified"),
        ("load", "No source specified"),
        ("load 1 4", "illegal <drive-number> argument '4' to 'load' command"),
        ("unload 1 0", "Storage Element 1 is Already Full"),
        ("unload 9 0", "illegal <storage-element-number> argument '9' to 'unload' command"),
        ("unload 2 9", "illegal <drive-number> argument '9' to 'unload' command"),
        ("unload 2 1", "Data Transfer Element 1 is Empty"),
        ("transfer 1 3", "Destination Element Address 3 is Already Full"),
        ("transfer 1 2", "Storage Element 2 is kept for A00002L9, which is in drive 0"),
        ("transfer 2 5", "Source Element Address 2 is Empty"),
        ("transfer 9 1", "Invalid source"),
        ("transfer 1 9", "Invalid destination"),
        ("transfer 1", "No destination specified"),
        ("eepos 4", "eepos equires argument between 0 and 3."),
        ("erase", "vtlfs mtx erases nothing; `vtlfs media erase` does"),
    ],
)
def test_moves_that_can_not_be_made_change_nothing(run: Run, done: Done, shelf: Shelf, words: str, said: str) -> None:
    done("media", "add", shelf.path, "A00003L9..A00005L9")
    done("media", "remove", shelf.path, "A00004L9", "-y")
    mtx(run, shelf, "load", 2, 0)
    before = listed(done, shelf), done("events", shelf.path)
    assert mtx(run, shelf, *words.split()) == (1, "", f"{said}\n")
    assert (listed(done, shelf), done("events", shelf.path)) == before


def test_wrong_words_to_mtx(run: Run, done: Done, shelf: Shelf) -> None:
    assert mtx(run, shelf, "unload")[2] == "No Source for tape in drive 0!\n"
    for words in (["nonsense"], ["-x"], ["-f"]):
        status, out, err = mtx(run, shelf, *words)
        assert (status, out, err[:6]) == (1, "", "Usage:")
    assert run("mtx").stderr.startswith("Usage:")
    assert "mtx version 1.3.12" in run("mtx", "--version").stderr
    assert "transfer SLOT SLOT" in done("mtx", "--help")
    nothing = run("mtx", "-f", shelf.root / "nothing", "status")
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "no vtlfs library here" in nothing.stderr


def test_mtx_walks_from_medium_to_medium(run: Run, done: Done, shelf: Shelf) -> None:
    done("media", "add", shelf.path, "A00003L9..A00004L9")
    done("media", "remove", shelf.path, "A00003L9", "-y")
    steps = [
        ("next", 0, "D:0:F:1:A00001L9"),
        ("next", 0, "D:0:F:2:A00002L9"),
        ("next", 0, "D:0:F:4:A00004L9"),
        ("previous", 0, "D:0:F:2:A00002L9"),
        ("last", 0, "D:0:F:4:A00004L9"),
        ("last", 0, "D:0:F:4:A00004L9"),
        ("first", 0, "D:0:F:1:A00001L9"),
        ("previous", 1, "D:0:F:1:A00001L9"),
        ("last", 0, "D:0:F:4:A00004L9"),
        ("next", 1, "D:0:E"),
    ]
    for word, status, drive in steps:
        assert mtx(run, shelf, word)[0] == status
        assert listed(done, shelf).split()[0] == drive
    said = mtx(run, shelf, "load", 1, 3, "unload", 1, 3)[1]
    assert said == (
        "Loading media from Storage Element 1 into drive 3...done\nUnloading drive 3 into Storage Element 1...done\n"
    )


def test_bacula_gets_what_it_asks_for(run: Run, done: Done, shelf: Shelf) -> None:
    def ask(*words: object) -> str:
        return done("changer", shelf.path, *words)

    done("media", "add", shelf.path, "A00003L9")
    assert ask("slots") == "3\n"
    assert ask("list") == "1:A00001L9\n2:A00002L9\n3:A00003L9\n"
    assert ask("load", 2, "/dev/null", 1) == ""
    assert ask("loaded", 0, "/dev/null", 1) == "2\n"
    assert ask("loaded", 0, "/dev/null", 0) == "0\n"
    assert ask("list") == "1:A00001L9\n2:A00002L9\n3:A00003L9\n"
    assert ask("listall").split() == ["D:0:E", "D:1:F:2:A00002L9", "D:2:E", "D:3:E",
                                      "S:1:F:A00001L9", "S:2:E", "S:3:F:A00003L9"]  # fmt: skip
    full = run("changer", shelf.path, "load", 1, "/dev/null", 1)
    assert (full.returncode, full.stdout, full.stderr) == (1, "", "Drive 1 Full (Storage Element 2 loaded)\n")
    assert ask("unload", 2, "/dev/null", 1, "A00002L9") == ""
    done("media", "remove", shelf.path, "A00003L9", "-y")
    assert ask("slots") == "2\n"
    done("media", "move", shelf.path, "A00002L9", 4)
    assert ask("transfer", 1, 3) == ""
    assert listed(done, shelf) == "D:0:E D:1:E D:2:E D:3:E S:1:E S:2:E S:3:F:A00001L9 S:4:F:A00002L9"
    events = json.loads(done("events", shelf.path, "A00001L9", "A00002L9", "--json"))
    assert [(one["what"], one["medium"], one["details"]) for one in events] == [
        ("loaded", "A00002L9", {"drive": 1, "slot": 2}),
        ("unloaded", "A00002L9", {"drive": 1, "slot": 2}),
        ("moved", "A00002L9", {"slot": 4, "before": 2}),
        ("moved", "A00001L9", {"slot": 3, "before": 1}),
    ]


def test_wrong_words_to_the_changer(refused: Refused, shelf: Shelf) -> None:
    assert "load needs SLOT DEVICE DRIVE" in refused(2, "changer", shelf.path, "load", 1)
    assert "transfer needs SLOT SLOT" in refused(2, "changer", shelf.path, "transfer", 1)
    assert "there is no drive 4" in refused(2, "changer", shelf.path, "loaded", 0, "x", 4)
    assert "'x' is not a number" in refused(2, "changer", shelf.path, "load", "x", "x", 0)
    assert "'eat' is not one of" in refused(2, "changer", shelf.path, "eat")
    assert "no vtlfs library here" in refused(1, "changer", shelf.root, "list")


def test_a_slot_is_kept_until_the_medium_is_moved_or_removed(done: Done, refused: Refused, shelf: Shelf) -> None:
    def slots() -> dict[str, int]:
        return {one["barcode"]: one["slot"] for one in json.loads(done("media", "list", shelf.path, "--json"))}

    done("media", "add", shelf.path, "B1..B3")
    assert slots() == {"A00001L9": 1, "A00002L9": 2, "B1": 3, "B2": 4, "B3": 5}
    done("media", "remove", shelf.path, "A00001L9", "B2", "-y")
    assert slots() == {"A00002L9": 2, "B1": 3, "B3": 5}
    done("snapshot", "take", shelf.path, "--name", "then")
    done("media", "add", shelf.path, "C1..C3")
    assert slots() == {"A00002L9": 2, "B1": 3, "B3": 5, "C1": 1, "C2": 4, "C3": 6}
    done("media", "add", shelf.path, "B2")
    assert slots()["B2"] == 7
    assert "slot 3 is that of B1; choose an empty slot, or move B1 first" in refused(
        2, "media", "move", shelf.path, "B3", 3
    )
    for number in (0, 65_536):
        assert "slots are numbered from 1 to 65,535" in refused(2, "media", "move", shelf.path, "B3", number)
    assert done("media", "move", shelf.path, "B3", 20, "--dry-run") == "B3: would be moved from slot 5 to 20\n"
    assert slots()["B3"] == 5
    assert done("media", "move", shelf.path, "B3", 20) == "B3: moved from slot 5 to 20\n"
    assert done("media", "move", shelf.path, "B3", 20) == "B3: is in slot 20 already\n"
    assert slots()["B3"] == 20
    assert "slot 20; " in done("media", "show", shelf.path, "B3")
    then = json.loads(done("snapshot", "show", shelf.path, "then", "--json"))
    assert {one["barcode"]: one["slot"] for one in then["media"]} == {"A00002L9": 2, "B1": 3, "B3": 5}
    exported = shelf.root / "then.db"
    done("snapshot", "export", shelf.path, "then", exported)
    query = "SELECT barcode, slot FROM medium WHERE state <> 'removed' ORDER BY slot"
    shown = subprocess.run(["sqlite3", exported, query], capture_output=True, text=True, check=True).stdout
    assert shown == "A00002L9|2\nB1|3\nB3|5\n"
    assert done("check", shelf.path).endswith("all is well\n")


def test_disks_remember_the_slot_that_an_unload_gives(run: Run, done: Done, shelf: Shelf) -> None:
    done("media", "move", shelf.path, "A00001L9", 9)
    assert mtx(run, shelf, "load", 2, 0)[0] == 0
    assert mtx(run, shelf, "unload", 5, 0)[0] == 0
    for disk in Library.open(Path(shelf.path)).disks_that_answer():
        remembered = dict(disk.cartridges())["A00002L9.cartridge"]
        assert remembered is not None
        assert remembered.slot == 5


def test_a_medium_that_people_have_put_into_two_drives_is_in_no_slot(run: Run, done: Done, shelf: Shelf) -> None:
    for drive in (0, 1):
        done("load", shelf.path, drive, "A00001L9")
    there = listed(done, shelf)
    assert there == "D:0:F:1:A00001L9 D:1:F:1:A00001L9 D:2:E D:3:E S:1:E S:2:F:A00002L9"
    assert mtx(run, shelf, "unload", 1, 0)[0] == 0
    assert mtx(run, shelf, "load", 1, 0)[2] == "Source Element Address 1 is Empty\n"
    done("load", shelf.path, 1, "A00002L9")
    assert listed(done, shelf) == "D:0:E D:1:F:2:A00002L9 D:2:E D:3:E S:1:F:A00001L9 S:2:E"


def test_the_script_of_bacula_reads_what_mtx_says(done: Done, run: Run, shelf: Shelf, tmp_path: Path) -> None:
    """Bacula's own mtx-changer, with our mtx in the place of the real one."""
    if not SCRIPT.exists() or shutil.which("perl") is None:
        pytest.skip(f"{SCRIPT} or perl is missing; `make packages` installs bacula-sd")
    program = tmp_path / "mtx"
    program.write_text(f'#!/bin/sh\ncd {PROJECT} && exec {sys.executable} -m vtlfs mtx "$@"\n')
    program.chmod(0o755)
    script = tmp_path / "mtx-changer"
    text = SCRIPT.read_text().replace("MTX=/usr/sbin/mtx", f"MTX={program}")
    script.write_text(text.replace("/var/lib/bacula", str(tmp_path)))

    def ask(*words: object) -> str:
        call = ["sh", str(script), str(shelf.path), *map(str, words)]
        return subprocess.run(call, capture_output=True, text=True, timeout=60, check=True).stdout

    done("media", "add", shelf.path, "A00003L9")
    done("changer", shelf.path, "load", 2, "x", 1)
    assert ask("slots") == "3\n"
    for words in (["listall"], ["loaded", 0, "x", 1], ["loaded", 0, "x", 0]):
        assert ask(*words) == done("changer", shelf.path, *words)
    assert sorted(ask("list").split()) == done("changer", shelf.path, "list").split()
    assert ask("unload", 2, "x", 1) == "Unloading drive 1 into Storage Element 2...done\n"
    assert "D:1:E" in ask("listall")
