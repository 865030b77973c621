"""`vtlfs sessions` and `vtlfs files`."""

import json
from contextlib import closing

import pytest
from unmounted import Done, Refused, Shelf

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
    headings = "ID HOST PROGRAM DOES DRIVE/MEDIUM STATE OPENED BYTES FILE"
    assert lines[0].split() == headings.split()
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3", "4"]
    assert lines[1].split()[-3:] == ["9.77", "KiB", "0000"]
    assert lines[4].split()[3:6] == ["write", "1/A00002L9", "open"]
    assert max(map(len, lines)) <= 80


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
        (2, ["--drive", "x"], "'x' is no number"),
        (2, ["--limit", "-1"], "'-1' is no number"),
        (2, ["--medium", "?"], "is no barcode"),
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
