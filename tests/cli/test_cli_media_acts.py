"""`vtlfs media erase`, `retire`, `remove`, `protect`, `hold`, `release`, `set` and `show`, and `vtlfs events`."""

import json
import os
import pty
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from unmounted import PROGRAM, PROJECT, Done, Refused, Run, Shelf

from vtlfs.model import Medium, Volume


def medium(shelf: Shelf, barcode: str) -> Medium:
    with closing(shelf.library.tracking(read_only=True)) as tracking:
        return tracking.media.get(barcode)


def volumes(shelf: Shelf, barcode: str) -> list[Volume]:
    with closing(shelf.library.tracking(read_only=True)) as tracking:
        return tracking.volumes.of(barcode)


def events(done: Done, shelf: Shelf, *words: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done("events", shelf.path, *words, "--json"))
    return found


def at_a_terminal(shelf: Shelf, answer: str, *words: str) -> tuple[int, str]:
    """Run vtlfs with a person at its terminal who types an answer; return its exit status and what was shown."""
    master, slave = pty.openpty()
    command = [*PROGRAM, *words[:2], shelf.path, *words[2:]]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, cwd=PROJECT)
    os.close(slave)
    os.write(master, f"{answer}\n".encode())
    shown = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # nobody has the terminal open any more
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    return process.wait(60), shown.decode()


def test_erase(done: Done, shelf: Shelf) -> None:
    shelf.write("A00001L9", bytes(5000))
    assert done("media", "erase", shelf.path, "A00001L9", "--yes", "--reason", "rotation") == (
        "A00001L9: erased: 1 tape file with 4.88 KiB\n"
    )
    assert (medium(shelf, "A00001L9").volume, medium(shelf, "A00001L9").bytes) == (2, 0)
    assert done("files", shelf.path, "A00001L9") == "no tape files on A00001L9\n"
    (event,) = events(done, shelf, "A00001L9")
    assert (event["what"], event["volume"], event["uid"], event["program"]) == ("erased", 1, os.getuid(), "vtlfs")
    assert (event["reason"], event["details"]) == ("rotation", {"tape_files": 1, "bytes": 5000})
    assert done("media", "erase", shelf.path, "A00001L9", "-y") == "A00001L9: is empty already\n"


def test_patterns_ranges_and_barcodes_name_each_medium_once(done: Done, refused: Refused, shelf: Shelf) -> None:
    done("media", "add", shelf.path, "B1..B3")
    text = done("media", "protect", shelf.path, "B[12]", "B2..B3", "A00001L9", "B1")
    assert [line.split(":")[0] for line in text.splitlines()] == ["B1", "B2", "B3", "A00001L9"]
    listed = json.loads(done("media", "list", shelf.path, "B*", "--json"))
    assert [(one["barcode"], one["protected"]) for one in listed] == [("B1", True), ("B2", True), ("B3", True)]
    assert "no medium matches 'C*'" in refused(2, "media", "protect", shelf.path, "C*")
    assert "no medium 'B4' in this library" in refused(1, "media", "protect", shelf.path, "B4")


def test_all_or_nothing_and_each_reason_is_told(run: Run, done: Done, refused: Refused, shelf: Shelf) -> None:
    done("media", "add", shelf.path, "B1..B5")
    for number in (1, 2, 3):
        shelf.write(f"B{number}", b"data")
    done("media", "protect", shelf.path, "B1")
    done("media", "hold", shelf.path, "B2", "--name", "case-17", "--reason", "letter")
    done("media", "set", shelf.path, "B3", "--until", "2999-01-01")
    shelf.open("B4", b"more", host="beta")
    before = [medium(shelf, f"B{number}") for number in range(1, 6)]
    result = run("media", "erase", shelf.path, "B1..B5", "--yes")
    assert (result.returncode, result.stdout) == (1, "")
    line = result.stderr.removeprefix("vtlfs: ").removesuffix("\n")
    assert [medium(shelf, f"B{number}") for number in range(1, 6)] == before
    assert [one["what"] for one in events(done, shelf)][-3:] == ["refused"] * 3, (
        "of what is retained; nothing else has changed"
    )
    assert line.startswith("nothing was changed, as 4 of 5 media are refused: ")
    assert "medium B1 can't be erased: it is write-protected" in line
    assert "medium B2 can't be erased: it is under legal hold: case-17 (letter)" in line
    assert "medium B3 can't be erased: it is retained until 2999-01-01T00:00:00.000000Z (governance)" in line
    assert line.endswith("and 1 more")
    assert "session 4 of beta writes to it" in refused(1, "media", "erase", shelf.path, "B4", "--yes")


def test_dry_run_tells_each_medium_and_changes_nothing(run: Run, done: Done, shelf: Shelf) -> None:
    shelf.write("A00001L9", b"data")
    before = [medium(shelf, "A00001L9"), medium(shelf, "A00002L9")]
    assert done("media", "erase", shelf.path, "A*", "--dry-run") == (
        "A00001L9: would be erased: 1 tape file with 4 B\nA00002L9: is empty already\n"
    )
    result = run("media", "remove", shelf.path, "A*", "-n")
    assert result.returncode == 1
    assert result.stdout.splitlines() == [
        "refused: medium A00001L9 can't be removed: it has 1 tape file with 4 B; `vtlfs media erase` first",
        "A00002L9: would be removed",
        "nothing would be done, as 1 of 2 media are refused",
    ]
    result = run("media", "remove", shelf.path, "A*", "-n", "--json")
    assert [bool(one["refused"]) for one in json.loads(result.stdout)] == [True, False]
    assert [medium(shelf, "A00001L9"), medium(shelf, "A00002L9")] == before
    assert events(done, shelf) == []


@pytest.mark.parametrize(
    "words",
    [
        ["erase", "A00001L9"],
        ["remove", "A00002L9"],
        ["set", "A00001L9", "--mode", "worm"],
        ["set", "A00001L9", "--mode", "compliance", "--retain", "1d"],
    ],
)
def test_without_a_terminal_what_can_not_be_undone_needs_yes(refused: Refused, shelf: Shelf, words: list[str]) -> None:
    act, *rest = words
    assert "there is no terminal to ask at; give --yes" in refused(2, "media", act, shelf.path, *rest)


def test_a_person_is_asked(shelf: Shelf) -> None:
    shelf.write("A00001L9", b"data")
    status, shown = at_a_terminal(shelf, "n", "media", "erase", "A*")
    assert status == 1
    assert "Erase 1 medium with 1 tape file, 4 B: A00001L9? [y/N]" in shown
    assert "nothing was changed" in shown
    assert medium(shelf, "A00001L9").volume == 1
    status, shown = at_a_terminal(shelf, "y", "media", "erase", "A*")
    assert (status, medium(shelf, "A00001L9").volume) == (0, 2)
    status, shown = at_a_terminal(shelf, "", "media", "set", "A*", "--mode", "worm")
    assert status == 1
    assert "which nobody can undo" in shown


def test_override_is_for_root_with_a_reason(done: Done, refused: Refused, run: Run, shelf: Shelf) -> None:
    shelf.write("A00001L9", b"data")
    done("media", "set", shelf.path, "A00001L9", "--retain", "90d")
    words = ["media", "erase", shelf.path, "A00001L9", "--yes", "--override"]
    assert "needs a reason" in refused(2, *words)
    if os.getuid():
        assert "only root may override" in refused(1, *words, "--reason", "wrong disk")
        return
    done(*words, "--reason", "wrong disk")
    event = events(done, shelf)[-1]
    assert event["reason"] == "wrong disk"
    assert event["details"]["overridden"].endswith("(governance)")


def test_compliance_is_overridden_by_nobody(run: Run, done: Done, refused: Refused, shelf: Shelf) -> None:
    shelf.write("A00001L9", b"data")
    done("media", "set", shelf.path, "A00001L9", "--until", "2990-05-06T07:08:09Z", "--mode", "compliance", "--yes")
    result = run("media", "erase", shelf.path, "A00001L9", "-y", "--override", "--reason", "please")
    why = "can't be erased: it is retained until 2990-05-06T07:08:09.000000Z (compliance)\n"
    assert (result.returncode, result.stderr) == (1, f"vtlfs: medium A00001L9 {why}")
    for less in (["--until", "2980-01-01"], ["--retain", "1d"]):
        assert "never shortened" in refused(2, "media", "set", shelf.path, "A00001L9", *less)
    weaker = ["--until", "2991-01-01", "--mode", "governance"]
    assert "never made less strict" in refused(2, "media", "set", shelf.path, "A00001L9", *weaker)


def test_hold_and_release_of_all_that_have_it(done: Done, refused: Refused, shelf: Shelf) -> None:
    done("media", "hold", shelf.path, "A*", "--name", "case-17", "--reason", "letter")
    assert "needs a reason" in refused(2, "media", "hold", shelf.path, "A*", "--name", "other")
    listed = json.loads(done("media", "list", shelf.path, "--json"))
    assert [[hold["name"] for hold in one["holds"]] for one in listed] == [["case-17"], ["case-17"]]
    text = done("media", "release", shelf.path, "--name", "case-17", "--reason", "closed")
    assert text == "A00001L9: released: case-17 (letter)\nA00002L9: released: case-17 (letter)\n"
    assert "no medium has a hold 'case-17'" in refused(2, "media", "release", shelf.path, "--name", "case-17")
    assert [event["what"] for event in events(done, shelf)] == ["held", "held", "released", "released"]


def test_retired_media_are_taken_into_use_again(done: Done, shelf: Shelf) -> None:
    assert done("media", "retire", shelf.path, "A00001L9") == "A00001L9: retired\n"
    assert done("media", "retire", shelf.path, "A00001L9") == "A00001L9: is retired already\n"
    assert done("media", "list", shelf.path).splitlines()[1].split()[-2] == "retired"
    assert done("media", "retire", shelf.path, "A00001L9", "--off") == "A00001L9: taken into use\n"


def test_removed_media_are_in_no_list_and_can_be_added_anew(done: Done, refused: Refused, shelf: Shelf) -> None:
    done("load", shelf.path, 0, "A00001L9")
    assert "it is loaded in drive 0" in refused(1, "media", "remove", shelf.path, "A00001L9", "-y")
    done("unload", shelf.path, 0)
    done("media", "remove", shelf.path, "A00001L9", "-y")
    assert [one["barcode"] for one in json.loads(done("media", "list", shelf.path, "--json"))] == ["A00002L9"]
    assert "no medium 'A00001L9'" in refused(1, "load", shelf.path, 0, "A00001L9")
    assert "no medium 'A00001L9'" in refused(1, "media", "show", shelf.path, "A00001L9")
    done("media", "add", shelf.path, "A00001L9", "--capacity", "1GiB")
    assert [event["what"] for event in events(done, shelf, "A00001L9")] == ["loaded", "unloaded", "removed", "added"]


def test_capacity(done: Done, refused: Refused, shelf: Shelf) -> None:
    shelf.write("A00001L9", bytes(5000))
    assert done("media", "set", shelf.path, "A00001L9", "--capacity", "8KiB") == "A00001L9: capacity 8 KiB\n"
    assert "has 4.88 KiB already" in refused(2, "media", "set", shelf.path, "A00001L9", "--capacity", "4096")
    assert done("media", "set", shelf.path, "A00001L9", "--capacity", "none") == "A00001L9: no capacity limit\n"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], "nothing to set"),
        (["--retain", "1d", "--until", "2999-01-01"], "exclude each other"),
        (["--mode", "worm", "--until", "2999-01-01", "-y"], "retains for ever"),
        (["--mode", "compliance", "-y"], "is not retained yet"),
        (["--retain", "soon"], "is not a duration"),
        (["--until", "soon"], "is not a time"),
        (["--until", "2001-01-01"], "is over"),
        (["--capacity", "plenty"], "is not a size"),
        (["--retain", "1d", "--reason", "a\nb"], "printable"),
    ],
)
def test_what_can_not_be_set(refused: Refused, shelf: Shelf, words: list[str], wanted: str) -> None:
    assert wanted in refused(2, "media", "set", shelf.path, "A00001L9", *words)


def test_show_tells_volumes_retention_holds_and_events(done: Done, shelf: Shelf) -> None:
    shelf.write("A00001L9", bytes(5000))
    done("media", "erase", shelf.path, "A00001L9", "-y")
    done("media", "hold", shelf.path, "A00001L9", "--name", "case-17", "--reason", "letter")
    done("media", "set", shelf.path, "A00001L9", "--until", "2999-01-01")
    text = done("media", "show", shelf.path, "A00001L9")
    assert "retained: until 2999-01-01T00:00:00.000000Z (governance)\nheld: case-17 (letter), since " in text
    assert [line.split()[0] for line in text.splitlines() if line.startswith("     ")] == ["1", "2"]
    (found,) = json.loads(done("media", "show", shelf.path, "A00001L9", "--json"))
    assert [(one["number"], one["bytes"], one["ended_at"] is None) for one in found["volumes"]] == [
        (1, 5000, False),
        (2, 0, True),
    ]
    assert [event["what"] for event in found["events"]] == ["erased", "held", "retention set"]
    assert (found["retained"], found["retain_mode"]) == (True, "governance")


def test_events_of_some_media_and_of_a_time(done: Done, refused: Refused, shelf: Shelf) -> None:
    assert done("events", shelf.path) == "no events\n"
    done("media", "protect", shelf.path, "A*")
    done("media", "protect", shelf.path, "A00002L9", "--off", "--reason", "new week")
    assert [event["medium"] for event in events(done, shelf)] == ["A00001L9", "A00002L9", "A00002L9"]
    assert [event["what"] for event in events(done, shelf, "*2L9")] == ["protected", "unprotected"]
    assert [event["id"] for event in events(done, shelf, "--limit", 1)] == [3]
    assert len(events(done, shelf, "--since", "1d")) == 3
    assert events(done, shelf, "--since", "2999-01-01") == []
    lines = done("events", shelf.path, "--limit", 2).splitlines()
    assert lines[0] == "1 older event left out; --limit N shows more"
    assert lines[-1].split()[3:5] == ["unprotected", "A00002L9"]
    assert "new week" in lines[-1]
    assert "no medium 'B1'" in refused(1, "events", shelf.path, "B1")


def test_a_close_that_was_just_answered_is_waited_for(done: Done, shelf: Shelf, tmp_path: Path) -> None:
    """A stream whose close() is announced counts as written only when it is released."""
    number = shelf.open("A00001L9", b"data")
    with closing(shelf.library.tracking()) as tracking, tracking.transaction():
        tracking.sessions.announce(number, "2026-01-01T00:00:00.000000Z")
    command = [*PROGRAM, "media", "erase", shelf.path, "A00001L9", "-y"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.7)
    shelf.release(number)
    output, errors = process.communicate(timeout=60)
    assert (output, errors) == ("A00001L9: erased: 1 tape file with 4 B\n", "")


def test_a_snapshot_shows_the_events_of_then(done: Done, shelf: Shelf) -> None:
    done("media", "protect", shelf.path, "A00001L9")
    done("snapshot", "take", shelf.path)
    done("media", "protect", shelf.path, "A00002L9")
    assert "1 event by then; the newest:\n" in done("snapshot", "show", shelf.path, 1)
    found = json.loads(done("snapshot", "show", shelf.path, 1, "--json"))
    assert [event["medium"] for event in found["events"]] == ["A00001L9"]
