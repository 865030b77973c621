"""The benchmark as a program: small runs with real mounts, interruptions, and errors for bad options."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from mounting import PROJECT, SECONDS, mountpoints, require_fuse

from benchmarks import short_streams
from benchmarks.__main__ import _draw, main, measure
from benchmarks.cases import Case, Sizes, write_sessions, write_stream
from benchmarks.least import LOG_BYTES, PAGE
from benchmarks.measuring import Sample, together
from benchmarks.peers import Peer, Place, disks, least, plain
from benchmarks.programs import read_whole
from benchmarks.summary import Results

PROGRAM = [sys.executable, "-m", "benchmarks"]


def benchmarks(*words: str) -> "subprocess.Popen[str]":
    """Start the program."""
    pipe = subprocess.PIPE
    return subprocess.Popen([*PROGRAM, *words], stdout=pipe, stderr=pipe, text=True, cwd=PROJECT)


def test_a_small_run_writes_a_file_and_prints_tables(tmp_path: Path) -> None:
    require_fuse()
    words = ["--mib", "8", "--rounds", "1", "--peer", "plain", "--case", "write 1 MiB", "--case", "short"]
    output = tmp_path / "out.json"
    program = benchmarks(*words, "--directory", os.path.relpath(tmp_path, PROJECT), "--output", str(output))
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
    assert (tmp_path / "out.svg").exists() or "no plot was drawn" in errors
    assert {entry.name for entry in tmp_path.iterdir()} <= {"out.json", "out.svg"}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a place in which a case can be measured."""
    return Place(tmp_path, (tmp_path / "disk0", tmp_path / "disk1"))


def sizes_in(place: Place) -> dict[str, int]:
    """Return the size of each file on both disks."""
    return {f"{disk.name}/{path.name}": path.stat().st_size for disk in place.disks for path in disk.iterdir()}


def test_the_bound_of_the_disks_writes_all_of_the_stream_to_both(place: Place) -> None:
    sizes = Sizes.in_proportion(8)
    assert write_stream(place, disks(), sizes, 1 << 20).bytes == sizes.stream
    assert sizes_in(place) == {f"disk{disk}/part{part}": sizes.stream // 4 for disk in (0, 1) for part in (0, 1)}


def test_the_bound_of_pyfuse3_keeps_each_stream_and_writes_its_log(place: Place) -> None:
    require_fuse()
    sizes = Sizes.in_proportion(8)
    assert write_sessions(place, least("bound"), sizes).memory > 1 << 20
    found = sizes_in(place)
    assert found.pop("disk0/log") == LOG_BYTES
    assert list(found.values()) == [short_streams.BYTES] * sizes.sessions
    written = (place.disks[0] / "log").read_bytes()
    assert [written[page * PAGE] for page in range(sizes.sessions + 1)] == [1] * sizes.sessions + [0]
    assert str(place.mountpoint) not in mountpoints()


def test_the_bound_that_does_nothing_keeps_nothing(place: Place) -> None:
    require_fuse()
    write_sessions(place, least("bound", "--nothing"), Sizes.in_proportion(8))
    assert sizes_in(place) == {"disk0/log": LOG_BYTES}
    assert str(place.mountpoint) not in mountpoints()


def test_a_bound_that_can_not_be_mounted_is_an_error(place: Place) -> None:
    place.empty()
    place.disks[0].rmdir()
    with pytest.raises(RuntimeError, match="mnt: nothing is mounted; status 1"), least("bound").mount(place):
        pass


def test_without_matplotlib_there_is_no_plot_and_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    _draw(
        {Case("write 1 MiB", partial(write_stream, block=1 << 20)): {"vtlfs": [Sample(1, 1, 1)]}}, tmp_path / "out.svg"
    )
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("no plot was drawn: ")
    assert said[0].endswith("; run pip install 'vtlfs[bench]'")
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_keeps_what_was_measured_and_leaves_nothing_mounted(tmp_path: Path) -> None:
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


def test_to_be_terminated_is_an_interruption(tmp_path: Path) -> None:
    require_fuse()
    words = ["--mib", "8", "--rounds", "9", "--peer", "plain", "--case", "write 1 MiB"]
    program = benchmarks(*words, "--directory", str(tmp_path), "--output", str(tmp_path / "out.json"))
    assert program.stdout is not None
    program.stdout.readline()
    program.send_signal(signal.SIGTERM)
    _, errors = program.communicate(timeout=SECONDS)
    assert program.returncode == 130, errors
    assert {entry.name for entry in tmp_path.iterdir()} <= {"out.json", "out.svg"}
    assert not [path for path in mountpoints() if path.startswith(str(tmp_path))]


def test_peers_are_measured_in_another_order_each_round(place: Place) -> None:
    order: list[str] = []

    def note(place: Place, peer: Peer, sizes: Sizes) -> Sample:
        order.append(peer.name)
        return Sample(1, 1, 1)

    peers = [replace(disks(), name=name) for name in ("plain", "mergerfs", "vtlfs")]
    results: Results = {}
    measure(place, Case("a case", note), peers, Sizes(), 12, results)
    rounds = [order[at : at + 3] for at in range(0, len(order), 3)]
    assert all(sorted(one) == ["mergerfs", "plain", "vtlfs"] for one in rounds)
    before = {name: {a for a, b in pairwise(order) if b == name} for name in ("plain", "mergerfs", "vtlfs")}
    assert all(len(others) > 1 for others in before.values()), "nobody always follows the same"
    assert {name: len(samples) for name, samples in results.popitem()[1].items()} == dict.fromkeys(before, 12)


def test_a_program_that_vtlfs_does_not_know_writes_the_same(place: Place) -> None:
    sizes = Sizes.in_proportion(8)
    assert write_stream(place, plain(), sizes, 10 << 10, known=False).bytes == sizes.stream // 10240 * 10240
    assert sizes_in(place) == {"disk0/stream0": sizes.stream // 10240 * 10240}
    assert sorted(entry.name for entry in place.root.iterdir()) == ["disk0", "disk1", "mnt", "unknown"]


def test_reading_back_less_than_was_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100))
    with pytest.raises(RuntimeError, match="the file has 100 bytes, but 200 were written"):
        read_whole(tmp_path / "file", 10, 200)


def test_a_server_that_ends_is_an_error() -> None:
    with (
        subprocess.Popen(["true"]) as serving,
        pytest.raises(RuntimeError, match=f"process {serving.pid}, which serves"),
    ):
        together([["sleep", "60"]])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--rounds", "0"], "--rounds"),
        (["--rounds", "many"], "--rounds"),
        (["--mib", "-5"], "--mib"),
        (["--case", "wriet"], "no name contains 'wriet'; there are: write 10 KiB, "),
        (["--peer", "nfs"], "no name contains 'nfs'; there are: plain directory, "),
        (["--directory", "/nowhere"], "/nowhere is no directory"),
        (["--output", "/nowhere/out.json"], "/nowhere is no directory"),
        (["--output", "/"], "/ is a directory"),
        (["--output", "/dev/null"], "/dev/null is no regular file"),
        (["--output", "out.svg"], "another name"),
        (["--fast"], "--fast"),
    ],
)
def test_bad_options_are_one_line(words: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    require_fuse()
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert reason in said[-1]
    assert [line for line in said[:-1] if "left out" not in line] == []
