"""`vtlfs snapshot` and `vtlfs extract --snapshot`."""

import json
import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from unmounted import Done, Refused, Run, Shelf

from vtlfs.model import State, utc_now

ONE, TWO = random.Random(7).randbytes(50_001), random.Random(8).randbytes(8192)
COMMANDS = ("take", "list", "show", "diff", "export", "prune", "delete")


@pytest.fixture
def taken(done: Done, shelf: Shelf) -> Shelf:
    """A library with a snapshot between two streams, and a third stream open in both states."""
    shelf.write("A00001L9", ONE, host="alpha")
    opened = shelf.open("A00002L9", ONE[:5000], host="gamma")
    done("snapshot", "take", shelf.path, "--name", "between")
    shelf.write("A00001L9", TWO, host="beta", drive=2)
    with closing(shelf.library.tracking()) as tracking, tracking.transaction():
        tracking.sessions.release(opened, State.RELEASED, None, utc_now())
    return shelf


def as_json(done: Done, command: str, *words: object) -> Any:
    return json.loads(done("snapshot", command, *words, "--json"))


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_help_with_an_example(done: Done, command: str) -> None:
    text = done("snapshot", *command.split(), "--help")
    assert "Example:\n    vtlfs snapshot " in text
    assert all(f"\n  {name} " in text for name in COMMANDS) or command


def test_take_says_what_was_taken(done: Done, shelf: Shelf) -> None:
    shelf.write("A00001L9", ONE)
    assert done("snapshot", "take", shelf.path) == (
        "snapshot 1: 2 media, 1 session of which 0 open, 48.8 KiB in 1 tape file\n"
    )
    second = as_json(done, "take", shelf.path, "--name", "a name")
    assert (second["id"], second["name"], second["scheduled"]) == (2, "a name", False)
    assert (second["media"], second["sessions"], second["open_sessions"]) == (2, 1, 0)
    assert (second["tape_files"], second["bytes"]) == (1, len(ONE))
    assert as_json(done, "list", shelf.path)[1] == second


def test_take_looks_how_full_the_disks_are(done: Done, shelf: Shelf) -> None:
    done("snapshot", "take", shelf.path)
    status = os.statvfs(shelf.disks[0])
    for disk in as_json(done, "show", shelf.path, 1)["disks"]:
        assert disk["total"] == status.f_blocks * status.f_frsize
        assert 0 < disk["free"] <= disk["total"]
        assert disk["seen_at"] is not None


def test_take_with_a_disk_that_is_gone(done: Done, shelf: Shelf) -> None:
    shelf.disks[1].rename(shelf.root / "gone")
    done("snapshot", "take", shelf.path)
    first, second = as_json(done, "show", shelf.path, 1)["disks"]
    assert first["free"] is not None
    assert second["free"] is None


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 201])
def test_a_name_that_will_not_do_is_refused(refused: Refused, shelf: Shelf, name: str) -> None:
    assert "is no name for a snapshot" in refused(2, "snapshot", "take", shelf.path, "--name", name)


def test_list_as_table(done: Done, shelf: Shelf) -> None:
    assert "no snapshots; vtlfs snapshot take" in done("snapshot", "list", shelf.path)
    assert as_json(done, "list", shelf.path) == []
    shelf.write("A00001L9", ONE)
    done("snapshot", "take", shelf.path)
    done("snapshot", "take", shelf.path, "--name", "second")
    lines = done("snapshot", "list", shelf.path).splitlines()
    assert lines[0].split() == ["ID", "TAKEN", "BY", "MEDIA", "SESSIONS", "OPEN", "FILES", "BYTES", "NAME"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2"]
    assert lines[2].split()[3:] == ["hand", "2", "1", "0", "1", "48.8", "KiB", "second"]


def test_show_is_what_was_then(done: Done, taken: Shelf) -> None:
    then = as_json(done, "show", taken.path, 1, "--sessions")
    assert then["snapshot"]["name"] == "between"
    assert [(medium["barcode"], medium["bytes"]) for medium in then["media"]] == [
        ("A00001L9", len(ONE)),
        ("A00002L9", 0),
    ]
    assert [(one["host"], one["state"], one["bytes"]) for one in then["sessions"]] == [
        ("alpha", "released", len(ONE)),
        ("gamma", "open", 5000),
    ]
    assert [one["host"] for one in as_json(done, "show", taken.path, 1)["sessions"]] == ["gamma"]
    assert [drive["open_sessions"] for drive in then["drives"]] == [1, 0, 0, 0]
    assert then["mounts"]
    text = done("snapshot", "show", taken.path, 1)
    assert text.startswith("snapshot 1 (between), taken 2")
    assert "gamma" in text
    assert "beta" not in text


def test_difference_between_a_snapshot_and_now(done: Done, taken: Shelf) -> None:
    found = as_json(done, "diff", taken.path, 1, "now")
    assert [(one["host"], one["bytes"]) for one in found["sessions"]["came"]] == [("beta", len(TWO))]
    (change,) = found["sessions"]["changed"]
    assert (change["before"]["state"], change["after"]["state"]) == ("open", "released")
    assert found["sessions"]["went"] == []
    assert {file["medium"]: file["bytes"] for file in found["tape_files"]} == {"A00001L9": len(TWO), "A00002L9": 5000}
    assert found["bytes_by_host"] == {"beta": len(TWO), "gamma": 5000}
    assert found["bytes_by_medium"] == {"A00001L9": len(TWO), "A00002L9": 5000}
    assert found["bytes_by_drive"] == {"2": len(TWO), "0": 5000}
    assert found["bytes"] == len(TWO) + 5000
    assert {one["after"]["barcode"] for one in found["media"]["changed"]} == {"A00001L9", "A00002L9"}
    text = done("snapshot", "diff", taken.path, 1, "now")
    assert "by host: beta 8 KiB, gamma 4.88 KiB" in text
    assert "open → released" in text


def test_difference_between_two_snapshots_in_either_order(done: Done, taken: Shelf) -> None:
    assert done("snapshot", "diff", taken.path, 1, 1) == "no difference\n"
    done("snapshot", "take", taken.path)
    taken.write("A00001L9", b"later")
    found = as_json(done, "diff", taken.path, 1, 2)
    assert [one["host"] for one in found["sessions"]["came"]] == ["beta"]
    assert as_json(done, "diff", taken.path, 2, 1) == found


def test_export_is_a_plain_database(done: Done, refused: Refused, taken: Shelf, tmp_path: Path) -> None:
    file = tmp_path / "then.db"
    assert done("snapshot", "export", taken.path, 1, file) == f"snapshot 1 written to {file}\n"
    with closing(sqlite3.connect(file)) as database:
        sessions = database.execute("SELECT host, state, bytes FROM session ORDER BY id").fetchall()
        assert sessions == [("alpha", "released", len(ONE)), ("gamma", "open", 5000)]
        assert database.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'").fetchone() == (0,)
    assert "exists already" in refused(1, "snapshot", "export", taken.path, 1, file)
    assert "No such file" in refused(1, "snapshot", "export", taken.path, 1, tmp_path / "none" / "x.db")
    assert "is not a name of a file" in refused(2, "snapshot", "export", taken.path, 1, f"{tmp_path}/")


def test_prune_removes_what_no_rule_keeps(done: Done, refused: Refused, shelf: Shelf) -> None:
    configuration = shelf.library.path / "library.toml"
    text = configuration.read_text()
    assert "has no snapshots.keep" in refused(1, "snapshot", "prune", shelf.path)
    configuration.write_text(f"{text}\n[snapshots]\nkeep = {{ last = 2 }}\n")
    for name in (None, "named", None, None, None):
        done("snapshot", "take", shelf.path, *([] if name is None else ["--name", name]))
    assert [one["id"] for one in as_json(done, "prune", shelf.path, "--dry-run")] == [1, 3]
    assert "would remove snapshot 3, taken 2" in done("snapshot", "prune", shelf.path, "-n")
    assert len(as_json(done, "list", shelf.path)) == 5
    assert done("snapshot", "prune", shelf.path).splitlines()[-1] == "3 snapshots kept"
    assert [one["id"] for one in as_json(done, "list", shelf.path)] == [2, 4, 5]
    assert as_json(done, "prune", shelf.path) == []


@pytest.mark.parametrize(
    ("status", "words", "wanted"),
    [
        (1, ["show", "{}", 3], "no snapshot 3; `vtlfs snapshot list` shows the snapshots"),
        (1, ["diff", "{}", 1, 3], "no snapshot 3"),
        (1, ["diff", "{}", 3, "now"], "no snapshot 3"),
        (1, ["export", "{}", 3, "file.db"], "no snapshot 3"),
        (2, ["show", "{}"], "missing argument 'ID|NAME|latest'"),
        (1, ["show", "{}", "x"], "no snapshot 'x'"),
        (1, ["diff", "{}", "now", "1"], "no snapshot 'now'"),
        (2, ["take"], "which library?"),
        (2, [], "missing command"),
    ],
)
def test_what_can_not_be_is_one_line(
    refused: Refused, taken: Shelf, status: int, words: list[object], wanted: str
) -> None:
    assert wanted in refused(status, "snapshot", *(str(word).format(taken.path) for word in words))


def test_extract_what_was_then(run: Run, refused: Refused, taken: Shelf) -> None:
    def extracted(*words: object) -> bytes:
        result = run("extract", taken.path, *words, text=False)
        assert (result.returncode, result.stderr) == (0, b"")
        return bytes(result.stdout)

    assert extracted("A00001L9", "--snapshot", 1) == ONE
    assert extracted("A00001L9", 0, "--snapshot", 1) == ONE
    assert extracted("A00001L9") == ONE + TWO
    assert extracted("A00002L9", "--snapshot", 1) == b""
    assert extracted("A00002L9") == ONE[:5000]
    assert "no tape file 1" in refused(1, "extract", taken.path, "A00001L9", 1, "--snapshot", 1)
    assert "no snapshot 2" in refused(1, "extract", taken.path, "A00001L9", "--snapshot", 2)
