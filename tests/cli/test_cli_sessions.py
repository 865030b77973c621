"""`vtlfs sessions` and `vtlfs files`."""

import json
import os
import pwd
import shlex
import subprocess
from contextlib import closing
from datetime import datetime, timedelta, timezone

import pytest
from unmounted import PROGRAM, PROJECT, Done, Refused, Shelf

from vtlfs.model import Access, State, utc_now

PROMISED = (
    "id host pid uid program access drive medium state error opened_at released_at bytes requests tape_file disks"
)


@pytest.fixture
def filled(shelf: Shelf) -> Shelf:
    """Four sessions: two that wrote, one that reads, one that writes."""
    mount = shelf.mount("alpha")
    shelf.write("A00001L9", bytes(10_000), mount=mount)
    shelf.write("A00001L9", bytes(500), mount=mount, host="beta", drive=1)
    shelf.open("A00001L9", mount=mount, host="beta", drive=2, access=Access.READ, program="cat")
    shelf.open("A00002L9", bytes(5000), mount=mount, drive=1)
    return shelf


def listed(done: Done, shelf: Shelf, *words: object) -> list[int]:
    return [session["id"] for session in json.loads(done("sessions", shelf.path, "--json", *words))]


def test_sessions_as_json(done: Done, filled: Shelf) -> None:
    found = json.loads(done("sessions", filled.path, "--json"))
    assert [session["id"] for session in found] == [1, 2, 3, 4]
    assert set(PROMISED.split()) <= set(found[0])
    assert (found[0]["state"], found[0]["bytes"], found[0]["tape_file"]) == ("released", 10_000, 0)
    assert found[0]["disks"] == [0, 1]
    assert (found[2]["access"], found[2]["program"], found[2]["released_at"]) == ("read", "cat", None)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--open"], [3, 4]),
        (["--medium", "A00001L9"], [1, 2, 3]),
        (["--drive", "1"], [2, 4]),
        (["--host", "beta"], [2, 3]),
        (["--host", "nobody"], []),
        (["--host", "alpha", "--open", "--medium", "A00002L9", "--drive", "1"], [4]),
        (["--limit", "3"], [2, 3, 4]),
        (["--limit", "0"], []),
        (["--host", "beta", "--limit", "1"], [3]),
    ],
)
def test_sessions_that_are_wanted(done: Done, filled: Shelf, words: list[str], wanted: list[int]) -> None:
    assert listed(done, filled, *words) == wanted


def test_sessions_as_table(done: Done, filled: Shelf) -> None:
    lines = done("sessions", filled.path).splitlines()
    headings = "ID OPENED HOST PROGRAM DOES DRIVE MEDIUM FILE STATE BYTES"
    assert lines[0].split() == headings.split()
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3", "4"]
    assert lines[1].split()[-4:] == ["0000", "released", "9.77", "KiB"]
    assert lines[4].split()[5:] == ["write", "1", "A00002L9", "-", "open", "4.88", "KiB"]
    assert max(map(len, lines)) <= 80


def test_sessions_are_found_by_time_state_program_and_user(done: Done, shelf: Shelf) -> None:
    mount = shelf.mount()
    old = shelf.open("A00001L9", b"x", mount=mount, program="dd")
    shelf.write("A00001L9", b"x", mount=mount)
    failed = shelf.open("A00001L9", mount=mount)
    left = shelf.open("A00002L9", mount=mount, access=Access.READ)
    with closing(shelf.library.tracking()) as tracking, tracking.transaction():
        tracking.sessions.release(failed, State.FAILED, "EIO", utc_now())
        tracking.sessions.release(old, State.RELEASED, None, "2026-01-02T00:00:00.000000Z")
        for session, at in ((old, "2026-01-01T12:00:00.000000Z"), (left, "2026-01-01T06:00:00.000000Z")):
            tracking.sql.execute("UPDATE session SET opened_at = ? WHERE id = ?", at, session)
    ids = [session["id"] for session in json.loads(done("sessions", shelf.path, "--json", "--all"))]
    wrote = ids[1]
    assert ids == [old, wrote, failed, left]  # the order of opening, whatever the clock said
    assert listed(done, shelf, "--since", "yesterday") == [wrote, failed, left]
    assert listed(done, shelf, "--since", "-12h") == [wrote, failed, left]
    assert listed(done, shelf, "--until", "2026-01-01T12:00:01Z") == [old, left]
    assert listed(done, shelf, "--since", "2026-01-02T00:00:01Z", "--until", "3 days ago") == [left]
    assert listed(done, shelf, "--failed") == [failed]
    assert listed(done, shelf, "--state", "failed") == [failed]
    assert listed(done, shelf, "--state", "open") == [left]
    assert listed(done, shelf, "--writers") == [old, wrote, failed]
    assert listed(done, shelf, "--program", "dd") == [old]
    assert listed(done, shelf, "--user", "4000000") == []
    uid = json.loads(done("sessions", shelf.path, "--json"))[0]["uid"]
    assert listed(done, shelf, "--user", pwd.getpwuid(uid).pw_name) == [old, wrote, failed, left]


def on_terminal(words: list[str], columns: int, **environment: str) -> list[str]:
    """Run vtlfs on a terminal of a width; return the lines."""
    command = f"stty cols {columns}; {shlex.join([*PROGRAM, *words])}"
    variables = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}} | environment
    result = subprocess.run(
        ["script", "-qec", command, "/dev/null"], capture_output=True, timeout=60, check=True, cwd=PROJECT,
        env=variables | {"TERM": "dumb"}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return [line.rstrip() for line in result.stdout.decode().splitlines()]


@pytest.mark.parametrize(
    ("columns", "left_out"),
    [(200, []), (80, []), (60, ["DOES", "DRIVE", "FILE"])],
)
def test_table_has_a_line_a_row_and_leaves_out_whole_columns(filled: Shelf, columns: int, left_out: list[str]) -> None:
    lines = on_terminal(["sessions", filled.path], columns)
    assert max(map(len, lines[:5])) <= columns
    headings = "ID OPENED HOST PROGRAM DOES DRIVE MEDIUM FILE STATE BYTES".split()
    shown = lines[0].split()
    if "PROGRAM" in set(headings) - set(shown) - set(left_out):  # the names of programs may be long
        left_out = [*left_out, "PROGRAM"]
    assert shown == [heading for heading in headings if heading not in left_out]
    assert [line.split()[0] for line in lines[1:5]] == ["1", "2", "3", "4"]
    said = " ".join(lines[5:])
    if left_out:
        assert said.startswith("left out: ")
        assert sorted(said.removeprefix("left out: ").partition(";")[0].split(", ")) == sorted(left_out)
    else:
        assert not said


def test_times_are_local_for_people_and_utc_for_programs(filled: Shelf) -> None:
    document = subprocess.run(
        [*PROGRAM, "sessions", filled.path, "--json"], capture_output=True, check=True, cwd=PROJECT,
        env=os.environ | {"TZ": "Asia/Kolkata"},
    )  # fmt: skip
    opened = json.loads(document.stdout)[0]["opened_at"]
    assert opened.endswith("Z")
    there = datetime.fromisoformat(opened).astimezone(timezone(timedelta(hours=5, minutes=30)))
    line = on_terminal(["sessions", filled.path], 120, TZ="Asia/Kolkata")[1]
    assert f" {there:%Y-%m-%d %H:%M} " in line


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--since", "12"], "'12': no such time; write it like yesterday, -12h"),
        (["--until", "the day of days"], "no such time"),
        (["--user", "nobody-of-this-name"], "no user 'nobody-of-this-name' on this machine"),
        (["--state", "broken"], "'broken' is not one of"),
        (["--open", "--state", "failed"], "--open and --state failed exclude each other"),
    ],
)
def test_options_that_make_no_sense(refused: Refused, shelf: Shelf, words: list[str], wanted: str) -> None:
    assert wanted in refused(2, "sessions", shelf.path, *words)


def test_table_says_how_many_are_left_out(done: Done, filled: Shelf) -> None:
    lines = done("sessions", filled.path, "--limit", 1).splitlines()
    assert lines[0] == "3 older or empty sessions left out; --limit N and --all show more"
    assert [line.split()[0] for line in lines[2:]] == ["4"]
    lines = done("sessions", filled.path, "--limit", 1, "--host", "beta").splitlines()
    assert lines[0].startswith("1 older or empty session left out")
    assert [line.split()[0] for line in lines[2:]] == ["3"]


def test_table_has_the_last_fifty(done: Done, shelf: Shelf) -> None:
    mount = shelf.mount()
    for _ in range(53):
        shelf.open("A00001L9", mount=mount)
    lines = done("sessions", shelf.path).splitlines()
    assert lines[0].startswith("3 older or empty sessions left out")
    assert [int(line.split()[0]) for line in lines[2:]] == list(range(4, 54))
    assert listed(done, shelf) == list(range(1, 54))


def test_sessions_that_wrote_nothing_are_left_out_unless_all_are_wanted(done: Done, filled: Shelf) -> None:
    empty = filled.write("A00001L9", b"").id
    failed = filled.open("A00001L9")
    with closing(filled.library.tracking()) as tracking, tracking.transaction():
        tracking.sessions.release(failed, State.FAILED, "ENOSPC", utc_now())
    not_ended = filled.open("A00001L9")
    reader = filled.open("A00001L9", access=Access.READ)
    assert listed(done, filled) == [1, 2, 3, 4, failed, not_ended, reader]
    assert listed(done, filled, "--all") == [1, 2, 3, 4, empty, failed, not_ended, reader]
    assert listed(done, filled, "--medium", "A00001L9", "--limit", 4) == [3, failed, not_ended, reader]
    lines = done("sessions", filled.path).splitlines()
    assert lines[0] == "1 older or empty session left out; --limit N and --all show more"
    assert len(lines) == 2 + 7
    lines = done("sessions", filled.path, "--all").splitlines()
    assert [int(line.split()[0]) for line in lines[1:]] == [1, 2, 3, 4, empty, failed, not_ended, reader]
    lines = done("sessions", filled.path, "--all", "--limit", 7).splitlines()
    assert lines[0] == "1 older session left out; --limit N shows more"


def test_odd_bytes_do_not_reach_the_terminal(done: Done, shelf: Shelf) -> None:
    shelf.open("A00001L9", program="evil\x1b[2J\n\u202e\u00e9[red]")
    text = done("sessions", shelf.path)
    assert len(text.splitlines()) == 2
    assert "evil\\x1b[2J\\n\\u202e\u00e9[red]" in text
    assert done("sessions", shelf.path, "--json").isascii()


def test_no_sessions(done: Done, shelf: Shelf) -> None:
    assert done("sessions", shelf.path) == "no sessions\n"
    assert done("sessions", shelf.path, "--json") == "[]\n"


@pytest.mark.parametrize(
    ("status", "words", "wanted"),
    [
        (1, ["--medium", "B1"], "no medium 'B1' in this library"),
        (1, ["--drive", "4"], "no drive 4; this library has drives 0 to 3"),
        (1, ["--drive", "4", "--json"], "no drive 4; this library has drives 0 to 3"),
        (2, ["--drive", "x"], "'x' is not a number"),
        (2, ["--limit", "-1"], "'-1' is not a number"),
        (2, ["--medium", "?"], "is not a barcode"),
        (2, ["--host", b"\xff"], "is not UTF-8"),
    ],
)
def test_filters_that_mean_nothing(
    refused: Refused, shelf: Shelf, status: int, words: list[str | bytes], wanted: str
) -> None:
    assert wanted in refused(status, "sessions", shelf.path, *words)


def test_files_as_json(done: Done, filled: Shelf) -> None:
    first, second = json.loads(done("files", filled.path, "A00001L9", "--json"))
    assert (first["number"], first["session"], first["host"], first["start"], first["bytes"]) == (
        *(0, 1, "alpha"),
        *(0, 10_000),
    )
    assert (second["number"], second["host"], second["start"], second["bytes"]) == (1, "beta", 10_000, 500)
    assert first["released_at"] < second["released_at"]


def test_files_as_table(done: Done, filled: Shelf) -> None:
    lines = done("files", filled.path, "A00001L9").splitlines()
    assert lines[0].split() == ["FILE", "SESSION", "HOST", "START", "BYTES", "RELEASED"]
    assert lines[2].split()[:6] == ["0001", "2", "beta", "10000", "500", "B"]


def test_files_of_an_empty_medium(done: Done, shelf: Shelf) -> None:
    assert done("files", shelf.path, "A00001L9") == "no tape files on A00001L9\n"
    assert done("files", shelf.path, "A00001L9", "--json") == "[]\n"


def test_files_of_no_medium(refused: Refused, shelf: Shelf) -> None:
    assert "no medium 'B1' in this library" in refused(1, "files", shelf.path, "B1")
