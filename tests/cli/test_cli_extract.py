"""`vtlfs extract`."""

import os
import pty
import random
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from unmounted import Done, Refused, Run, Shelf

DATA = random.Random(5).randbytes(50_001)
MORE = random.Random(6).randbytes(8192)

HANGING = """
import sys, time
from vtlfs.cli.main import main
from vtlfs.disks.local.disk import LocalDisk
read = LocalDisk.read_stored
def hang(disk, extent, **more):
    return time.sleep(1000) if extent.offset == 5 * 4096 else read(disk, extent, **more)
LocalDisk.read_stored = hang
sys.exit(main())
"""


@pytest.fixture
def filled(shelf: Shelf) -> Shelf:
    shelf.write("A00001L9", DATA)
    shelf.write("A00001L9", MORE)
    return shelf


@pytest.fixture
def damaged(filled: Shelf) -> Shelf:
    """A library in which a late extent of the first tape file is damaged."""
    (member,) = filled.disks[1].glob("sessions/*/000000000001.member")
    with member.open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        file.write(b"\0")
    return filled


def hidden(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(("number", "wanted"), [([], DATA + MORE), ([0], DATA), ([1], MORE), (["0001"], MORE)])
def test_extract_to_standard_output(run: Run, filled: Shelf, number: list[int | str], wanted: bytes) -> None:
    options: list[list[str]] = [[], ["-o", "-"]]
    for option in options:
        result = run("extract", filled.path, "A00001L9", *number, *option, text=False)
        assert (result.returncode, result.stderr) == (0, b"")
        assert result.stdout == wanted


def test_extract_to_a_file(done: Done, filled: Shelf, tmp_path: Path) -> None:
    assert done("extract", filled.path, "A00001L9", 0, "-o", tmp_path / "out") == ""
    assert (tmp_path / "out").read_bytes() == DATA
    assert not hidden(tmp_path)


def test_extract_takes_the_place_of_an_older_file(done: Done, filled: Shelf, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old")
    (tmp_path / "out").chmod(0o640)
    (tmp_path / "link").symlink_to("out")
    done("extract", filled.path, "A00001L9", 1, "-o", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "out").read_bytes() == MORE
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640


def test_extract_of_an_empty_medium_is_an_empty_file(done: Done, filled: Shelf, tmp_path: Path) -> None:
    done("extract", filled.path, "A00002L9", "-o", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b""


def test_extract_to_a_named_pipe(done: Done, filled: Shelf, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    found = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    done("extract", filled.path, "A00001L9", "-o", tmp_path / "pipe")
    reader.join()
    assert found == [DATA + MORE]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_damage_leaves_an_older_file_as_it_was(refused: Refused, damaged: Shelf, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old")
    line = refused(3, "extract", damaged.path, "A00001L9", 0, "-o", tmp_path / "out")
    assert line.startswith("session 1, the extent at offset ")
    assert (tmp_path / "out").read_text() == "old"


def test_damage_ends_standard_output_before_it(run: Run, damaged: Shelf) -> None:
    result = run("extract", damaged.path, "A00001L9", 0, text=False)
    assert result.returncode == 3
    assert DATA.startswith(result.stdout)
    assert len(result.stdout) < len(DATA)
    offset = len(result.stdout)
    assert result.stderr.decode() == (
        f"vtlfs: session 1, the extent at offset {offset} on disk 1: its BLAKE3 is not the recorded one "
        f"(medium A00001L9, tape file 0000, offset {offset}, {offset} on the medium); `vtlfs verify` finds all damage\n"
    )


def test_undamaged_tape_file_beside_a_damaged_one(run: Run, damaged: Shelf) -> None:
    assert run("extract", damaged.path, "A00001L9", 1, text=False).stdout == MORE


@pytest.mark.parametrize(
    ("status", "words", "wanted"),
    [
        (1, ["B1"], "no medium 'B1' in this library"),
        (1, ["A00001L9", "2"], "medium A00001L9 has no tape file 2"),
        (1, ["A00001L9", str(2**63 - 1)], "has no tape file"),
        (2, ["A00001L9", str(2**64)], "is not a number"),
        (2, ["A00001L9", "-o", "x", "first"], "'first' is not a number"),
        (1, ["A00001L9", "-o", "{}/no/out"], "no/out: No such file or directory"),
        (1, ["A00001L9", "-o", "{}"], "Is a directory"),
        (2, ["A00001L9", "-o", ""], "the name of the output is empty"),
        (1, ["A00001L9", "-o", "/dev/full"], "/dev/full: No space left on device"),
    ],
)
def test_extract_that_can_not_be(
    refused: Refused, filled: Shelf, tmp_path: Path, status: int, words: list[str], wanted: str
) -> None:
    assert wanted in refused(status, "extract", filled.path, *(word.format(tmp_path) for word in words))


def test_full_standard_output(filled: Shelf) -> None:
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "vtlfs", "extract", filled.path, "A00001L9"]
        result = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == "vtlfs: standard output: No space left on device\n"


def test_full_disk_leaves_nothing(refused: Refused, filled: Shelf, full_disk: Path) -> None:
    assert "out: No space left on device" in refused(1, "extract", filled.path, "A00001L9", "-o", full_disk / "out")


def test_missing_disk_is_told(refused: Refused, filled: Shelf) -> None:
    filled.disks[1].rename(filled.root / "elsewhere")
    assert "missing; mount it" in refused(1, "extract", filled.path, "A00001L9", "-o", filled.root / "out")


def test_nobody_reads(filled: Shelf) -> None:
    words = [sys.executable, "-m", "vtlfs", "extract", filled.path, "A00001L9"]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        result = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writing)
    assert (result.returncode, result.stderr) == (141, "")


def test_closed_standard_output_is_refused(refused: Refused, filled: Shelf) -> None:
    words = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "vtlfs", "extract", filled.path, "A00001L9"]
    result = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=False)
    assert (result.returncode, result.stderr) == (2, "vtlfs: standard output is closed; give -o FILE\n")


def on_a_terminal(*words: object, stdout: bool = True) -> tuple[int, bytes]:
    """Run vtlfs with a terminal as its standard error and output; return its exit status and the text shown."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "vtlfs", *map(str, words)]
    environment = os.environ | {"TERM": "xterm"}
    process = subprocess.Popen(command, stderr=theirs, stdout=theirs if stdout else None, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # Linux: nobody has the terminal open any more
        pass
    os.close(ours)
    return process.wait(20), shown


def test_terminal_is_refused(filled: Shelf) -> None:
    status, shown = on_a_terminal("extract", filled.path, "A00001L9")
    assert status == 2
    assert shown.startswith(b"vtlfs: standard output is a terminal; give -o FILE")
    assert shown.count(b"\n") == 1


def test_terminal_that_is_asked_for_is_written_to(shelf: Shelf) -> None:
    shelf.write("A00001L9", b"short and sweet")
    status, shown = on_a_terminal("extract", shelf.path, "A00001L9", "-o", "-")
    assert status == 0
    assert b"short and sweet" in shown


def test_progress_is_shown_to_a_person(filled: Shelf, tmp_path: Path) -> None:
    status, shown = on_a_terminal("extract", filled.path, "A00001L9", 0, "-o", tmp_path / "out", stdout=False)
    assert status == 0
    assert b"A00001L9 0000" in shown
    assert (tmp_path / "out").read_bytes() == DATA


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_killed_extract_leaves_nothing(shelf: Shelf, tmp_path: Path, number: int) -> None:
    """A disk that hangs stops the program in the middle of its work."""
    shelf.write("A00001L9", DATA)
    out = tmp_path / "out"
    out.mkdir()
    words = [sys.executable, "-c", HANGING, "extract", shelf.path, "A00001L9", "-o", str(out / "file")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while not hidden(out):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert errors == ("vtlfs: interrupted\n" if number == signal.SIGINT else "")
    assert list(out.iterdir()) == []


# --- what is left of a damaged library ------------------------------------------------------------------------------


def told(stderr: bytes) -> list[str]:
    """Return the lines of standard error, except those that say that a disk's extents are computed."""
    return [line for line in stderr.decode().splitlines() if "are computed from the rest of their stripes" not in line]


def holes(stderr: bytes) -> list[tuple[int, int, int]]:
    """Return tape file, offset and length of each hole that standard error reports; check their count, too."""
    *lines, last = told(stderr)
    found = []
    for line in lines:
        match = re.fullmatch(r"vtlfs: medium A00001L9, tape file (\d+), offset (\d+): (\d+) bytes are lost, .+", line)
        assert match, line
        found.append((int(match[1]), int(match[2]), int(match[3])))
    assert last.startswith(f"vtlfs: {len(found)} hole"), last
    assert f": {sum(size for _, _, size in found)} of " in last
    return found


def with_holes(files: list[bytes], found: list[tuple[int, int, int]]) -> bytes:
    """Return the tape files with zeros in their holes."""
    contents = [bytearray(file) for file in files]
    for number, offset, size in found:
        contents[number][offset : offset + size] = bytes(size)
    return b"".join(contents)


@pytest.mark.parametrize("to_file", [True, False])
def test_damage_is_skipped(run: Run, damaged: Shelf, tmp_path: Path, to_file: bool) -> None:
    out = tmp_path / "out"
    words: list[object] = ["extract", damaged.path, "A00001L9", "--skip-damaged", *(["-o", out] if to_file else [])]
    result = run(*words, text=False)
    assert result.returncode == 3
    ((number, offset, size),) = holes(result.stderr)
    assert (number, offset % 4096, size) == (0, 0, 4096)
    assert b"disk 1: its BLAKE3 is not the recorded one" in result.stderr
    content = out.read_bytes() if to_file else result.stdout
    assert content == with_holes([DATA, MORE], [(number, offset, size)])
    assert not hidden(tmp_path)


def test_nothing_to_skip_is_success(done: Done, filled: Shelf, tmp_path: Path) -> None:
    assert done("extract", filled.path, "A00001L9", "--skip-damaged", "-o", tmp_path / "out") == ""
    assert (tmp_path / "out").read_bytes() == DATA + MORE


@pytest.mark.parametrize(
    ("disks", "parity", "gone", "is_whole"),
    [
        (2, 0, [0], False),
        (2, 0, [1], False),
        (2, 1, [0], True),
        (3, 0, [1], False),
        (3, 1, [2], True),
        (3, 1, [0, 2], False),
        (3, 2, [0, 1], True),
        (4, 1, [1, 3], False),
        (2, 0, [0, 1], False),
    ],
)
def test_what_is_left_is_saved_with_any_disks_missing(
    run: Run, tmp_path: Path, disks: int, parity: int, gone: list[int], is_whole: bool
) -> None:
    shelf = Shelf(tmp_path, disks, parity)
    mount = shelf.mount()
    for data in (DATA, MORE):
        shelf.write("A00001L9", data, mount=mount)
    for number in gone:
        shutil.rmtree(shelf.disks[number])
    result = run("extract", shelf.path, "A00001L9", "--skip-damaged", text=False)
    if is_whole:
        assert (result.returncode, told(result.stderr)) == (0, [])
        assert result.stdout == DATA + MORE
        return
    assert result.returncode == 3
    found = holes(result.stderr)
    assert result.stdout == with_holes([DATA, MORE], found)
    lost = sum(size for _, _, size in found)
    assert 0 < lost <= len(DATA + MORE)
    assert (lost == len(DATA + MORE)) == (len(gone) == disks)
    assert all(one[0] != other[0] or one[1] + one[2] < other[1] for one, other in pairwise(found)), "they are joined"
    assert b"is missing" in result.stderr


def test_rows_that_are_gone_are_a_hole(run: Run, filled: Shelf) -> None:
    with closing(sqlite3.connect(filled.library.path / "tracking.db")) as database:
        database.execute("DELETE FROM extent WHERE session = 1 AND offset IN (8192, 12288, 49152)")
        database.commit()
    result = run("extract", filled.path, "A00001L9", "--skip-damaged", text=False)
    found = holes(result.stderr)
    assert found == [(0, 8192, 8192), (0, 49152, len(DATA) - 49152)]
    assert result.stdout == with_holes([DATA, MORE], found)
    assert b"does not know where it lies" in result.stderr


def test_disk_that_hangs_is_skipped(filled: Shelf, tmp_path: Path) -> None:
    """The first extent of that disk is waited for a long time, the others a short time; other disks are read."""
    program = HANGING.replace("import sys", "import vtlfs.engine.reading.saving as saving\nimport sys, os", 1)
    program = program.replace("sys.exit(main())", "saving.PATIENCE = 3.0\nstatus = main()\nos._exit(status)")
    words = [sys.executable, "-c", program, "extract", filled.path, "A00001L9", "--skip-damaged"]
    result = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert result.returncode == 3
    assert holes(result.stderr) == [(0, 5 * 4096, 4096)]
    assert result.stdout == with_holes([DATA, MORE], [(0, 5 * 4096, 4096)])
    assert b"no answer for 3 s" in result.stderr
