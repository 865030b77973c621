"""The `forgetful` file system loses unsynced changes, and keeps synced ones."""

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from blackout import SECTOR, Disk
from mounting import SECONDS, require_fuse
from powerless import forgetful

SEEDS = [random.Random(number) for number in range(60)]
Act = Callable[[Path], object]


def sync(*paths: Path) -> None:
    """Sync files or directories."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


@pytest.fixture
def cut(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that changes a `forgetful` file system, cuts the power, and returns the remaining directory."""
    require_fuse()
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    disks: dict[Act, Disk] = {}

    def act_and_cut(act: Act, chance: random.Random | None = None) -> Path:
        if act not in disks:
            with forgetful(mountpoint, tmp_path / "log") as log:
                act(mountpoint)
            disks[act] = Disk()
            disks[act].play(log)
        left = tmp_path / f"left{len(list(tmp_path.iterdir()))}"
        left.mkdir()
        disks[act].without_power(chance).write_out(left)
        return left

    return act_and_cut


def names(directory: Path) -> set[str]:
    """Return the names in a directory."""
    return {path.name for path in directory.iterdir()}


def test_file_is_there_when_it_and_its_directory_were_synced(cut: Callable[..., Path]) -> None:
    def act(root: Path) -> None:
        for name in ("both", "directory only"):
            (root / name).write_bytes(b"content")
        sync(root / "both")
        (root / "inner").mkdir()
        sync(root)
        (root / "inner" / "file").write_bytes(b"content")
        sync(root / "inner" / "file")
        (root / "both").unlink()

    left = cut(act)
    assert (left / "both").read_bytes() == b"content"
    assert (left / "directory only").read_bytes() == b""
    assert names(left / "inner") == set()
    assert {frozenset(names(cut(act, seed) / "inner")) for seed in SEEDS} == {frozenset(), frozenset({"file"})}
    assert {"both" in names(cut(act, seed)) for seed in SEEDS} == {True, False}


def test_write_that_was_not_synced_is_torn_between_sectors(cut: Callable[..., Path]) -> None:
    old, new = b"o" * 10 * SECTOR, b"n" * 10 * SECTOR

    def act(root: Path) -> None:
        (root / "file").write_bytes(old)
        sync(root / "file", root)
        with open(root / "file", "r+b", buffering=0) as file:
            file.write(new)

    assert (cut(act) / "file").read_bytes() == old
    found = {(cut(act, seed) / "file").read_bytes() for seed in SEEDS}
    assert {old, new} < found
    for content in found:
        assert len(content) == len(old)
        sectors = {content[start : start + SECTOR] for start in range(0, len(old), SECTOR)}
        assert sectors <= {old[:SECTOR], new[:SECTOR]}


def test_file_that_grew_has_any_of_its_lengths_and_zeros_for_what_is_not_there(cut: Callable[..., Path]) -> None:
    piece = b"x" * SECTOR

    def act(root: Path) -> None:
        with open(root / "file", "wb", buffering=0) as file:
            sync(root)
            for _ in range(4):
                file.write(piece)

    found = {(cut(act, seed) / "file").read_bytes() for seed in SEEDS}
    assert {len(content) // SECTOR for content in found} == {0, 1, 2, 3, 4}
    assert any(bytes(SECTOR) in content for content in found)
    assert not any(content.replace(piece, b"").strip(b"\0") for content in found)


def test_rename_happens_or_does_not(cut: Callable[..., Path]) -> None:
    def act(root: Path) -> None:
        for name in ("old", "new"):
            (root / name).write_text(name)
        sync(root / "old", root / "new", root)
        (root / "new").rename(root / "old")

    assert names(cut(act)) == {"old", "new"}
    found = {(tuple(sorted(names(left))), (left / "old").read_text()) for left in (cut(act, seed) for seed in SEEDS)}
    assert found == {(("new", "old"), "old"), (("old",), "new")}


WRITES = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("CREATE TABLE number (number)")
connection.execute("PRAGMA synchronous = FULL")
connection.execute("INSERT INTO number VALUES (1)")
connection.execute("PRAGMA synchronous = NORMAL")
connection.execute("INSERT INTO number VALUES (2)")
assert sqlite3.connect(sys.argv[1]).execute("SELECT count(*) FROM number").fetchone() == (2,)
os._exit(0)
"""


def test_database_keeps_what_it_was_to_keep(cut: Callable[..., Path]) -> None:
    """The database is SQLite's, in WAL mode, which maps a file that its connections share."""

    def act(root: Path) -> None:
        subprocess.run([sys.executable, "-c", WRITES, root / "db"], check=True, timeout=SECONDS)
        sync(root)

    def kept(left: Path) -> tuple[int, ...]:
        with closing(sqlite3.connect(left / "db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            return tuple(number for (number,) in connection.execute("SELECT number FROM number ORDER BY number"))

    assert kept(cut(act)) == (1,)
    assert {kept(cut(act, seed)) for seed in SEEDS} == {(1,), (1, 2)}
