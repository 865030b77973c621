"""Unexpected arguments of commands: the error is one line, and nothing has changed."""

import hashlib
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from commands import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tampering import complaints

from vtlfs.engine.library import create
from vtlfs.model import utc_now
from vtlfs.snap import store

NASTY = (
    "", " ", ".", "..", "../../canary", "/", "-", "--", "-x", "--help=1", "-o", "a\nb", "\x1b[2J", "'", '"', "\\",
    "`id`", "$(id)", "'; DROP TABLE session; --", "\udcff\udcfe", "\u202e", "é" * 127, "A" * 255, "A" * 5000,
    "T1/../T2", "T1..", "..T1", "T1..T99999999999999999999", "9" * 5000, "-1", "1e9", "0x10", "²", "٣",
    "now", "host=a\nb", "uid=-1", "mode=9", "host=" + "a" * 256, "=", ",,,", "%s%n", "{0}", "[bold]",
)  # fmt: skip
# What a shell can pass on: no NUL; bytes that are not UTF-8 are lone surrogates.
WORDS = st.sampled_from(NASTY) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from("\udc80\udcff/.-"), max_size=40
)
COMMANDS = (
    "WORD", "status WORD", "check WORD", "recover WORD", "tui WORD", "umount WORD", "media add LIB WORD",
    "media add LIB N1 --capacity WORD", "media WORD", "load LIB WORD T1", "load LIB 0 WORD", "unload LIB WORD",
    "files LIB WORD", "sessions LIB --host WORD", "sessions LIB --medium WORD", "sessions LIB --drive WORD",
    "sessions LIB --limit WORD", "snapshot take LIB --name WORD", "snapshot show LIB WORD", "snapshot diff LIB 1 WORD",
    "snapshot export LIB WORD x.db", "extract LIB WORD -o x", "extract LIB T1 WORD -o x",
    "extract LIB T1 --snapshot WORD -o x", "verify LIB WORD", "verify LIB --limit WORD", "rebuild LIB --disk WORD",
    "rebuild LIB --without-disk WORD", "mount LIB /nowhere/at/all -o WORD", "fstab LIB /mnt -o WORD",
    "media export LIB WORD -o /dev/null", "media export LIB T1 -o /dev/null --snapshot WORD",
    "media import LIB nowhere --as WORD", "media import LIB nowhere/WORD", "media copy LIB T1 WORD",
    "init WORD --disk WORD --disk WORD", "init new --disk DISK --disk WORD", "init new --disk WORD --stripe-unit WORD",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library with a medium and a snapshot, beside an empty directory to work in."""
    root = tmp_path_factory.mktemp("words")
    disks = [root / "disk0", root / "disk1"]
    for path in (*disks, root / "work"):
        path.mkdir()
    library = create(root / "library", disks, drives=2, stripe_unit=4096, at=utc_now())
    with closing(library.tracking()) as tracking, tracking.transaction():
        tracking.media.add(["T1"], None, utc_now())
        store.take(tracking, utc_now())
    return root


def state(root: Path) -> dict[str, str]:
    """Return all files with their contents; of the database, only the content of its main file."""
    files = (path for path in root.rglob("*") if not path.name.endswith(("-wal", "-shm")))
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in files}


@settings(deadline=None, max_examples=int(os.environ.get("VTLFS_FUZZ", "1")) * 250, database=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(command=st.sampled_from(COMMANDS), word=WORDS)
def test_any_word_is_taken_or_refused_in_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, command: str, word: str
) -> None:
    monkeypatch.chdir(place / "work")
    monkeypatch.setenv("VTLFS_TRACEBACK", "1")
    before = state(place)
    meant = {"WORD": word, "LIB": str(place / "library"), "DISK": str(place / "disk0")}
    result = run([meant.get(part, part) for part in command.split()])
    if not (command.startswith("fstab") and result["status"] == 0):  # which may advise `vtlfs install`
        assert complaints(result) == []
    if result["status"]:
        assert state(place) == before
    else:  # what the word asked for
        (place / "work/x").unlink(missing_ok=True)
        (place / "work/x.db").unlink(missing_ok=True)
        assert state(place).keys() == before.keys()


@pytest.mark.parametrize("word", [b"\xff\x1b[2J\n", b"../../x", b"A" * 255, b"'; DROP TABLE medium; --", b"--"])
def test_the_real_program_refuses_such_words(place: Path, word: bytes) -> None:
    before = state(place)
    words: list[str | bytes] = [sys.executable, "-m", "vtlfs", "media", "add", str(place / "library"), word]
    done = subprocess.run(words, capture_output=True, check=False, timeout=60, cwd=place / "work")
    assert (done.returncode, done.stdout) == (2, b"")
    said = done.stderr.decode()
    assert said.startswith("vtlfs: ")
    assert said.endswith("\n")
    assert said[:-1].isprintable()
    assert state(place) == before
