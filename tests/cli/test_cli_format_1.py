"""Every command refuses a library of format 1 in one line, and changes nothing of it."""

import json
import os
import pty
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest
from unmounted import Refused, Run

from vtlfs.cli.main import program

UUID = "11111111-2222-3333-4444-555555555555"
AT = "2026-01-31T09:30:00.000000Z"
REFUSED = "format 1, which this vtlfs does not read; vtlfs 0.1 does"
STEPS = (
    *("first_schema", "few_of_many", "counted_commits", "order_without_clocks", "numbered_announcements"),
    "severity_of_metadata",
)
TABLES = """
CREATE TABLE library (
    uuid TEXT NOT NULL, created_at TEXT NOT NULL, epoch INTEGER NOT NULL, next_session INTEGER NOT NULL,
    media INTEGER NOT NULL DEFAULT 0, sessions INTEGER NOT NULL DEFAULT 0, tape_files INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0, commits INTEGER NOT NULL DEFAULT 0, announced INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE disk (
    number INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, path TEXT NOT NULL, added_at TEXT NOT NULL, total INTEGER,
    free INTEGER, seen_at TEXT, fault TEXT, fault_at TEXT, since INTEGER
) STRICT;
CREATE TABLE stripe_unit (
    session INTEGER NOT NULL, unit INTEGER NOT NULL, disk INTEGER NOT NULL REFERENCES disk (number),
    slot INTEGER NOT NULL, bytes INTEGER NOT NULL CHECK (bytes > 0), blake3 BLOB NOT NULL, PRIMARY KEY (session, unit)
) STRICT, WITHOUT ROWID;
CREATE TABLE "_sqlite_migrations" ("id" INTEGER PRIMARY KEY, "migration_set" TEXT, "name" TEXT, "applied_at" TEXT);
"""
COMMANDS = {
    "media add": ["LIBRARY", "A00001L9"],
    "media list": ["LIBRARY"],
    "media show": ["LIBRARY", "A00001L9"],
    "media erase": ["LIBRARY", "A00001L9", "--yes"],
    "media retire": ["LIBRARY", "A00001L9"],
    "media move": ["LIBRARY", "A00001L9", "2"],
    "media remove": ["LIBRARY", "A00001L9", "--yes"],
    "media protect": ["LIBRARY", "A00001L9"],
    "media hold": ["LIBRARY", "A00001L9", "--name", "case", "--reason", "why"],
    "media release": ["LIBRARY", "--name", "case"],
    "media set": ["LIBRARY", "A00001L9", "--capacity", "1TB"],
    "media export": ["LIBRARY", "A00001L9", "-o", "FILE"],
    "media copy": ["LIBRARY", "A00001L9", "LIBRARY"],
    "events": ["LIBRARY"],
    "index": ["LIBRARY"],
    "find": ["LIBRARY", "passwd"],
    "reclaim": ["LIBRARY"],
    "mount": ["LIBRARY", "MOUNTPOINT"],
    "load": ["LIBRARY", "0", "A00001L9"],
    "unload": ["LIBRARY", "0"],
    "mtx": ["-f", "LIBRARY", "status"],
    "changer": ["LIBRARY", "listall"],
    "status": ["LIBRARY"],
    "metrics": ["LIBRARY"],
    "report": ["LIBRARY"],
    "notify": ["LIBRARY"],
    "sessions": ["LIBRARY"],
    "files": ["LIBRARY", "A00001L9"],
    "extract": ["LIBRARY", "A00001L9"],
    "restore": ["LIBRARY", "home/ann", "-C", "/"],
    "snapshot take": ["LIBRARY"],
    "snapshot list": ["LIBRARY"],
    "snapshot show": ["LIBRARY", "1"],
    "snapshot diff": ["LIBRARY", "1", "now"],
    "snapshot export": ["LIBRARY", "1", "FILE"],
    "snapshot prune": ["LIBRARY"],
    "snapshot delete": ["LIBRARY", "1", "--yes"],
    "disk list": ["LIBRARY"],
    "disk add": ["LIBRARY", "MOUNTPOINT"],
    "disk replace": ["LIBRARY", "0", "MOUNTPOINT"],
    "disk retire": ["LIBRARY", "0"],
    "disk repair": ["LIBRARY"],
    "recover": ["LIBRARY"],
    "verify": ["LIBRARY"],
    "check": ["LIBRARY"],
    "rebuild": ["LIBRARY"],
}
IN_A_TERMINAL = {"tui"}
AFTER_ITS_INPUT = {"media import"}  # looks first at what it is to import
WITHOUT_A_LIBRARY = {"init", "umount", "fstab", "install", "uninstall"}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A library of the format that vtlfs 0.1 made."""
    library = tmp_path / "library"
    library.mkdir(mode=0o700)
    (library / "locks").mkdir()
    disks = [tmp_path / "disk0", tmp_path / "disk1"]
    toml = f'[library]\nuuid = "{UUID}"\ndisks = {json.dumps([str(disk) for disk in disks])}\ndrives = 4\n'
    (library / "library.toml").write_text(toml + '[stripe]\nunit = "1MiB"\n[snapshots]\nkeep = { last = 1 }\n')
    for number, disk in enumerate(disks):
        disk.mkdir(mode=0o700)
        label = {"format": 1, "library": UUID, "disk": f"disk {number}", "number": number, "created_at": AT}
        (disk / "vtlfs-disk.json").write_text(json.dumps(label))
    with closing(sqlite3.connect(library / "tracking.db")) as database, database:
        database.executescript(TABLES)
        database.execute("INSERT INTO library (uuid, created_at, epoch, next_session) VALUES (?, ?, 1, 1)", (UUID, AT))
        for number, disk in enumerate(disks):
            row = (number, f"disk {number}", str(disk), AT)
            database.execute("INSERT INTO disk (number, uuid, path, added_at) VALUES (?, ?, ?, ?)", row)
        for step in STEPS:
            columns = "(migration_set, name, applied_at)"
            database.execute(f"INSERT INTO _sqlite_migrations {columns} VALUES ('vtlfs', ?, ?)", (step, AT))
    return library


def commands(group: click.Group, *names: str) -> Iterator[str]:
    """Yield the names of all commands."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)
        else:
            yield " ".join([*names, name])


def words(command: str, library: Path) -> list[object]:
    """Return the arguments of a command for this library."""
    (library.parent / "mountpoint").mkdir(exist_ok=True)
    places = {"LIBRARY": library, "MOUNTPOINT": library.parent / "mountpoint", "FILE": library.parent / "file"}
    return [*command.split(), *(places.get(word, word) for word in COMMANDS[command])]


def test_every_command_is_in_one_of_the_lists() -> None:
    assert set(commands(program)) == set(COMMANDS) | IN_A_TERMINAL | WITHOUT_A_LIBRARY | AFTER_ITS_INPUT


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_command_refuses_a_library_of_format_1(refused: Refused, old: Path, command: str) -> None:
    line = refused(1, *words(command, old)).removesuffix("; without it: --without-disk N")
    assert line in {f"{old}/tracking.db: {REFUSED}", f"disk {old.parent}/disk0: vtlfs-disk.json: {REFUSED}"}


@pytest.mark.parametrize("options", ["ro", "sync=none"])
def test_mount_with_options_refuses_it_too(refused: Refused, old: Path, options: str) -> None:
    assert refused(1, *words("mount", old), "-o", options) == f"{old}/tracking.db: {REFUSED}"


def test_rebuild_of_one_whose_database_is_lost_refuses_its_disks(refused: Refused, old: Path) -> None:
    (old / "tracking.db").unlink()
    assert refused(1, "rebuild", old).startswith(f"disk {old.parent}/disk0: vtlfs-disk.json: {REFUSED}")


def test_disk_of_one_is_not_taken_for_a_new_library(refused: Refused, old: Path) -> None:
    (old.parent / "other").mkdir()
    line = refused(1, "init", old.parent / "new", "--disk", old.parent / "disk0", "--disk", old.parent / "other")
    assert line == f"disk {old.parent}/disk0: vtlfs-disk.json: {REFUSED}"


@pytest.mark.parametrize("name", ["library", "exported.db"])
def test_terminal_ui_refuses_one_and_a_snapshot_of_it(run: Run, old: Path, name: str) -> None:
    shutil.copy(old / "tracking.db", old.parent / "exported.db")
    ours, theirs = pty.openpty()
    try:
        shown = run(
            *("tui", old.parent / name),
            capture_output=False,
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    file = old / "tracking.db" if name == "library" else old.parent / name
    assert (shown.returncode, shown.stderr) == (1, f"vtlfs: {file}: {REFUSED}\n")
