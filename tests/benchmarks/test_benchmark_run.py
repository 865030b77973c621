"""The benchmark as a program: small runs with real mounts, interruptions, and what it says of bad options."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mounting import PROJECT, SECONDS, mountpoints, require_fuse

from benchmarks import short_streams
from benchmarks.__main__ import _draw, main
from benchmarks.cases import Case, Sizes, write_sessions, write_stream
from benchmarks.least import PAGE
from benchmarks.measuring import Sample
from benchmarks.peers import Place, least, past_the_cache

PROGRAM = [sys.executable, "-m", "benchmarks"]


def benchmarks(*words: str) -> "subprocess.Popen[str]":
    """Start the program."""
    pipe = subprocess.PIPE
    return subprocess.Popen([*PROGRAM, *words], stdout=pipe, stderr=pipe, text=True, cwd=PROJECT)


def test_a_small_run_writes_a_file_and_prints_tables(tmp_path: Path):
    require_fuse()
    words = ["--mib", "8", "--rounds", "1", "--peer", "plain", "--case", "write 1 MiB", "--case", "short"]
    output = tmp_path / "out.json"
    program = benchmarks(*words, "--directory", str(tmp_path), "--output", str(output))
    said, errors = program.communicate(timeout=SECONDS)
    assert program.returncode == 0, errors
    document = json.loads(output.read_text())
    assert {case: list(of["peers"]) for case, of in document["cases"].items()} == {
        "write 1 MiB": ["plain directory", "vtlfs"],
        "short sessions": ["plain directory", "vtlfs"],
    }
    write = document["cases"]["write 1 MiB"]["peers"]
    assert [write[peer]["samples"][0]["bytes"] for peer in write] == [8 << 20, 8 << 20]
    assert write["vtlfs"]["memory"] > 1 << 20
    assert [(target["case"], target["limit"]) for target in document["targets"]] == [
        ("write 1 MiB", 0.9),
        ("short sessions", 0.5),
    ]
    assert (document["mib"], document["rounds"]) == (8, 1)
    assert "| short sessions" in said
    assert "to reach" in said
    assert (tmp_path / "out.svg").exists() or "there is no plot" in errors
    assert {entry.name for entry in tmp_path.iterdir()} <= {"out.json", "out.svg"}


def test_the_limits_are_measured_with_real_bytes(tmp_path: Path):
    """The stream past the page cache is whole on its disk, and each short stream a file, beside the log."""
    require_fuse()
    place = Place(tmp_path, (tmp_path / "disk0", tmp_path / "disk1"))
    sizes = Sizes.in_proportion(8)
    assert write_stream(place, past_the_cache(), sizes, 1 << 20).bytes == sizes.stream
    assert (place.disks[0] / "stream0").stat().st_size == sizes.stream
    sample = write_sessions(place, least(), sizes)
    assert sample.memory > 1 << 20
    found = {path.name: path.stat().st_size for path in place.disks[0].iterdir()}
    assert found.pop("log") == sizes.sessions * PAGE
    assert list(found.values()) == [short_streams.BYTES] * sizes.sessions
    assert str(place.mountpoint) not in mountpoints()


def test_a_limit_that_can_not_be_mounted_is_an_error(tmp_path: Path):
    place = Place(tmp_path, (tmp_path / "disk0", tmp_path / "disk1"))
    place.empty()
    place.disks[0].rmdir()
    with pytest.raises(RuntimeError, match=r"least.*: status 1"), least().mount(place):
        pass


def test_without_matplotlib_there_is_no_plot_and_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    _draw({Case("write 1 MiB", write_stream): {"vtlfs": [Sample(1, 1, 1)]}}, tmp_path / "out.svg")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("there is no plot: ")
    assert said[0].endswith("; pip install 'vtlfs[bench]' would help")
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_keeps_what_was_measured_and_leaves_nothing_mounted(tmp_path: Path):
    require_fuse()
    words = ["--mib", "8", "--rounds", "1", "--peer", "plain", "--case", "write 1 MiB"]
    output = tmp_path / "out.json"
    program = benchmarks(*words, "--directory", str(tmp_path), "--output", str(output))
    assert program.stdout is not None
    first = program.stdout.readline()
    program.send_signal(signal.SIGINT)
    said, errors = program.communicate(timeout=SECONDS)
    assert program.returncode == 130, errors
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert "| write 1 MiB" in said
    peers = json.loads(output.read_text())["cases"]["write 1 MiB"]["peers"]
    assert first.startswith("write 1 MiB        plain directory ")
    assert len(peers["plain directory"]["samples"]) == 1
    assert {entry.name for entry in tmp_path.iterdir()} <= {"out.json", "out.svg"}
    assert not [path for path in mountpoints() if path.startswith(str(tmp_path))]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--rounds", "0"], "--rounds"),
        (["--rounds", "many"], "--rounds"),
        (["--mib", "-5"], "--mib"),
        (["--case", "wriet"], "nothing is called 'wriet'; there are: write 10 KiB, "),
        (["--peer", "nfs"], "nothing is called 'nfs'; there are: plain directory, "),
        (["--directory", "/nowhere"], "/nowhere is no directory"),
        (["--output", "/nowhere/out.json"], "/nowhere is no directory"),
        (["--output", "/"], "/ is a directory"),
        (["--output", "out.svg"], "another name"),
        (["--fast"], "--fast"),
    ],
)
def test_bad_options_are_one_line(words: list[str], reason: str, capsys: pytest.CaptureFixture[str]):
    require_fuse()
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert reason in said[-1]
    assert [line for line in said[:-1] if "left out" not in line] == []
