"""`vtlfs verify`."""

import json
import os
import pty
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filling import UNIT, fill, flip, flip_at, make, member, nth
from unmounted import Done, Refused, Run

from vtlfs.disks.local import marks
from vtlfs.disks.records import BLOCK
from vtlfs.engine import lease
from vtlfs.engine.library import Library

LENGTH = 20 * UNIT + 5
DATA = [random.Random(seed).randbytes(LENGTH) for seed in range(2)]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    made = make(tmp_path / "lib")
    fill(made, ("T1", DATA[0]), ("T2", DATA[1]))
    return made


def test_all_right(run: Run, library: Library) -> None:
    result = run("verify", library.path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "160 KiB in 2 tape files on 2 media verified: all is as it should be\n"
    result = run("verify", library.path, "T3")
    assert result.stdout == "0 B in 0 tape files on 0 media verified: all is as it should be\n"


def test_library_is_left_as_it_is_but_for_the_database_and_marks(done: Done, library: Library, tmp_path: Path) -> None:
    def times() -> dict[Path, int]:
        found = {path: path.stat().st_mtime_ns for disk in library.config.disks for path in disk.rglob("*")}
        return {path: time for path, time in found.items() if path.name != marks.FILE_NAME}  # a commit raises those

    before = times()
    done("verify", library.path)
    assert times() == before


def flipped_record(library: Library) -> None:
    flip(member(library, 1, 2), 3, byte=-BLOCK + 20)


def flipped_data(library: Library) -> None:
    flip(member(library, 1, 2), 3)


def missing_disk(library: Library) -> None:
    library.config.disks[0].rename(library.config.disks[0].with_name("away"))


@pytest.mark.parametrize(
    ("defects", "status", "said"),
    [
        ([flipped_record], 5, "1 right, but wrongly described"),
        ([missing_disk], 4, "1 unreadable"),
        ([flipped_record, missing_disk], 4, "1 unreadable, 1 right, but wrongly described"),
        ([flipped_data, missing_disk], 3, "1 damaged, 1 unreadable"),
    ],
)
def test_exit_status_says_which_kind_of_defect(
    run: Run, library: Library, defects: list[Callable[[Library], None]], status: int, said: str
) -> None:
    for defect in defects:
        defect(library)
    result = run("verify", library.path)
    assert result.returncode == status
    assert result.stderr.startswith("vtlfs: ")
    assert result.stderr.endswith(f"in 2 tape files on 2 media verified: {said}\n")
    lines = [line for line in result.stdout.splitlines() if not line.startswith("hurt: ")]
    assert len(lines) == len(defects)
    hurt = 2 if missing_disk in defects else defects.count(flipped_data)
    assert len(result.stdout.splitlines()) == len(defects) + hurt


@pytest.mark.parametrize(("parity", "disks"), [(1, 3), (2, 4)])
def test_what_stripes_can_replace_is_told_with_each_defect_and_in_the_end(
    run: Run, done: Done, tmp_path: Path, parity: int, disks: int
) -> None:
    library = make(tmp_path / "parity", disks=disks, parity=parity)
    fill(library, ("T1", DATA[0]))
    assert "all is as it should be" in done("verify", library.path)
    flip(member(library, 1, 1), 0)
    member(library, 0, 1).unlink()
    result = run("verify", library.path, "--json")
    document = json.loads(result.stdout)
    damaged, replaceable = document["summary"]["damaged"], document["summary"]["replaceable"]
    assert sum(defect["extents"] for defect in document["defects"]) == damaged
    assert sum(defect["extents"] for defect in document["defects"] if defect["is_replaceable"]) == replaceable
    assert (result.returncode, document["summary"]["bytes"]) == (3, LENGTH)
    if parity == 1:
        assert 0 < replaceable < damaged
    else:
        assert replaceable == damaged
    result = run("verify", library.path)
    assert result.stderr.endswith(f"verified: {damaged} damaged, of which stripes can replace {replaceable}\n")
    *lines, last = result.stdout.splitlines()
    if replaceable < damaged:
        assert last == f"hurt: medium T1, tape file 0000 (session 1): {UNIT} of {LENGTH} bytes are lost"
        [hurt] = document["hurt"]
        assert hurt == {"medium": "T1", "tape_file": 0, "session": 1, "bytes": UNIT, "of_bytes": LENGTH}
    else:
        lines.append(last)
        assert document["hurt"] == []
    assert len(lines) == len(document["defects"])
    told = [line.endswith(("its stripe can replace it", "their stripes can replace them")) for line in lines]
    assert sorted(told) == sorted(defect["is_replaceable"] for defect in document["defects"])


def test_what_is_damaged_is_mended_with_repair(run: Run, done: Done, tmp_path: Path) -> None:
    library = make(tmp_path / "parity", disks=4, parity=1)
    fill(library, ("T1", DATA[0]))
    flip(member(library, 1, 1), 0)
    assert run("verify", library.path).returncode == 3
    said = done("verify", library.path, "--repair")
    assert said.endswith("verified: 1 damaged, of which stripes can replace 1; all are whole again\n")
    assert done("verify", library.path).endswith("all is as it should be\n")
    flip_at(member(library, 1, 1), 70)
    flip_at(member(library, 1, 1), BLOCK // 2 + 70)
    for disk in (0, 2, 3):
        member(library, disk, 1).unlink()
    result = run("verify", library.path, "--repair", "--json")
    assert result.returncode == 3
    document = json.loads(result.stdout)
    assert document["hurt"]
    assert document["summary"]["mended"] < document["summary"]["damaged"]
    result = run("verify", library.path, "--repair")
    assert "are whole again, and" in result.stderr
    with lease.work(library.path, "repair"):
        assert "another process is repairing the library" in run("verify", library.path, "--repair").stderr


def test_one_at_a_time(run: Run, library: Library) -> None:
    with lease.alone(library.path, "busy"):
        refused = run("verify", library.path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (f"vtlfs: {library.path}: another process is verifying it; wait for its end, or stop it\n")
    assert run("verify", library.path).returncode == 0


def test_json(run: Run, library: Library) -> None:
    flipped_data(library)
    result = run("verify", library.path, "T1", "T2", "--json")
    assert result.returncode == 3
    document = json.loads(result.stdout)
    (defect,) = document["defects"]
    assert defect == {
        "kind": "flipped",
        "severity": "damaged",
        "why": "its BLAKE3 is not the recorded one",
        "disk": 1,
        "path": str(member(library, 1, 2)),
        "position": nth(3) + BLOCK,
        "end_position": nth(4),
        "medium": "T2",
        "tape_file": 0,
        "session": 2,
        "stripe": defect["stripe"],
        "extents": 1,
        "parity": 0,
        "bytes": UNIT,
        "offset": defect["offset"],
        "last_offset": defect["offset"] + UNIT - 1,
        "medium_offset": defect["offset"],
        "is_replaceable": False,
        "lost_bytes": UNIT,
    }
    assert document["hurt"] == [
        {"medium": "T2", "tape_file": 0, "session": 2, "bytes": UNIT, "of_bytes": LENGTH},
    ]
    summary = document["summary"]
    assert summary.pop("started_at") < summary.pop("ended_at")
    assert summary == {
        "complete": True,
        "media": ["T1", "T2"],
        "bytes": 2 * LENGTH,
        "damaged": 1,
        "unreadable": 0,
        "metadata": 0,
        "replaceable": 0,
        "mended": 0,
        "left_out": {"count": 0, "sessions": []},
    }


def test_json_of_what_is_right(done: Done, library: Library) -> None:
    document = json.loads(done("verify", library.path, "--json"))
    assert document["defects"] == []
    assert document["summary"]["media"] is None


def test_no_library_and_wrong_words(refused: Refused, library: Library, tmp_path: Path) -> None:
    assert "no vtlfs library here" in refused(1, "verify", tmp_path / "nothing")
    assert "no medium 'T9' in this library" in refused(1, "verify", library.path, "T9")
    assert "is not a speed; write it like 100MB/s" in refused(2, "verify", library.path, "--limit", "fast")
    assert "is not a speed" in refused(2, "verify", library.path, "--limit", "0")
    assert "'100' has no unit; write it like 100MB/s" in refused(2, "verify", library.path, "--limit", "100")
    assert "leave the barcodes out" in refused(2, "verify", library.path, "T1", "--resume")
    assert "no verification was interrupted" in refused(1, "verify", library.path, "--resume")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_and_resumed(run: Run, library: Library, number: int, status: int) -> None:
    """The limit is so low that the interruption comes long before the end."""
    flip(member(library, 0, 1), 0)
    words = [sys.executable, "-m", "vtlfs", "verify", str(library.path), "--json", "--limit", "8KB/s"]
    begin = '{"defects": [\n{"kind": "flipped"'
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(len(begin)) == begin
        process.send_signal(number)
        output, errors = process.stdout.read(), process.stderr.read()
    assert process.returncode == status
    assert f"`vtlfs verify {library.path} --resume` goes on" in errors
    document = json.loads(begin + output)
    summary = document["summary"]
    assert len(document["defects"]) == summary["damaged"] == 1
    assert (summary["complete"], summary["ended_at"]) == (False, None)
    assert summary["bytes"] < 2 * LENGTH
    result = run("verify", library.path, "--resume", "--json")
    assert result.returncode == 3, "also for what was found before"
    document = json.loads(result.stdout)
    assert (document["summary"]["complete"], document["summary"]["bytes"]) == (True, 2 * LENGTH)
    assert (document["defects"], document["summary"]["damaged"]) == ([], 1)


def test_progress_is_shown_to_a_person(library: Library) -> None:
    controller, terminal = pty.openpty()
    words = [sys.executable, "-m", "vtlfs", "verify", str(library.path)]
    process = subprocess.Popen(words, stderr=terminal, stdout=subprocess.DEVNULL)
    os.close(terminal)
    shown = b""
    while chunk := _read(controller):
        shown += chunk
    os.close(controller)
    assert process.wait(60) == 0
    assert b"verifying" in shown
    assert b"KiB" in shown


def _read(controller: int) -> bytes:
    try:
        return os.read(controller, 4096)
    except OSError:
        return b""


def test_status_tells_when_all_media_were_last_verified(run: Run, done: Done, library: Library) -> None:
    def line() -> str:
        text: str = run("status", library.path).stdout
        return next(line for line in text.splitlines() if line.startswith("verified"))

    assert line() == "verified  never"
    done("verify", library.path, "T1")
    assert line() == "verified  never"
    done("verify", library.path)
    assert line().endswith(": all was as it should be")
    flipped_data(library)
    run("verify", library.path)
    assert line().endswith(": 1 damaged")
    assert json.loads(run("status", "--json", library.path).stdout)["verified"]["damaged"] == 1
