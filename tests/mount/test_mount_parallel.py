"""Many writers at once: every stream stays whole and has its own session, and bytes that have appeared never move."""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from mounting import SECONDS, OnDisks, Shared, Tape, random_bytes, shell

from vtlfs.engine.library import Library

WRITER = Path(__file__).resolve().parents[1] / "writer.py"
BLOCKS = [511, 4095, 4096, 10240, 65536, (1 << 20) + 1]


def write_at_once(writers: Iterable[tuple[Path, int, int, int, str]]) -> list[dict[str, int]]:
    """Run writers that all open at the same moment; return the JSON line of each."""
    reading, writing = os.pipe()
    processes = []
    for arguments in writers:
        words = [sys.executable, "-I", "-S", str(WRITER), *map(str, arguments)]
        processes.append(subprocess.Popen(words, stdin=reading, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    os.close(reading)
    os.close(writing)  # the end of their standard input: go
    said = []
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, b"")
        said.append(json.loads(output))
    return said


def streams_of(said: list[dict[str, int]]) -> dict[int, bytes]:
    return {one["session"]: random_bytes(one["seed"], one["size"]) for one in said}


def test_24_processes_that_open_one_path_at_the_same_moment(tape: Tape) -> None:
    path = tape.mounted.drive(0, tape.barcode)
    flags = itertools.cycle(["truncate", "append", "neither"])
    blocks = itertools.cycle(BLOCKS)
    said = write_at_once((path, seed, 500_000 + 9_973 * seed, next(blocks), next(flags)) for seed in range(24))
    streams = streams_of(said)
    assert len(streams) == 24
    listed = {one["id"]: one for one in tape.library.listed("--medium", tape.barcode)}
    assert set(streams) == set(listed)
    for number, stream in streams.items():
        known = listed[number]
        assert (known["access"], known["state"], known["error"]) == ("write", "released", None)
        assert (known["drive"], known["medium"], known["bytes"]) == (0, tape.barcode, len(stream))
    in_order = [tape_file.session for tape_file in tape.library.tape_files(tape.barcode)]
    assert tape.streams() == [streams[number] for number in in_order]


def test_many_rounds_of_writers_to_several_media_get_distinct_sessions(tape: Tape, shared: Shared) -> None:
    paths = [tape.path, tape.mounted.medium(next(shared[2])), tape.mounted.drive(3, tape.barcode)]
    seen: dict[int, bytes] = {}
    for start in (0, 100, 200):
        said = write_at_once((paths[n % 3], start + n, 10_000 + n, 4096, "truncate") for n in range(12))
        seen |= streams_of(said)
    assert len(seen) == 36
    by_medium = [tape_file for path in set(paths) for tape_file in tape.library.tape_files(path.name)]
    assert {tape_file.session for tape_file in by_medium} == set(seen)
    for tape_file in by_medium:
        assert tape.mounted.file(tape_file.medium, tape_file.number).read_bytes() == seen[tape_file.session]


@pytest.mark.parametrize("io", ["auto", "direct"])
def test_two_mounts_write_one_medium_at_the_same_time(library: OnDisks, tmp_path: Path, io: str) -> None:
    with (
        library.mounted(f"io={io},host=alpha") as alpha,
        library.mounted(f"io={io},host=beta", at=tmp_path / "beta") as beta,
    ):
        mounts = {"alpha": alpha, "beta": beta}
        said = write_at_once(
            (mounts[host].drive(1, "T1"), seed, 700_000 + seed, BLOCKS[seed % 6], "truncate")
            for seed in range(16)
            for host in [("alpha", "beta")[seed % 2]]
        )
        streams = streams_of(said)
        assert len(streams) == 16
        hosts = {one["session"]: ("alpha", "beta")[one["seed"] % 2] for one in said}
        assert {one["id"]: one["host"] for one in library.listed()} == hosts
        files = library.tape_files("T1")
        assert [tape_file.number for tape_file in files] == list(range(16))
        whole = b"".join(streams[tape_file.session] for tape_file in files)
        for mount in mounts.values():
            assert mount.medium("T1").read_bytes() == whole
            assert mount.file("T1", 7).read_bytes() == streams[files[7].session]
    assert library.extract("T1") == whole


def test_sessions_of_another_mount_are_seen(library: OnDisks, tmp_path: Path) -> None:
    with library.mounted("host=alpha") as alpha, library.mounted("host=beta", at=tmp_path / "beta") as beta:
        descriptor = os.open(alpha.medium("T1"), os.O_WRONLY | os.O_TRUNC)
        os.write(descriptor, b"from alpha")
        number = os.fstat(descriptor).st_ino
        assert os.listdir(beta.path / "sessions") == [str(number)]
        assert beta.session(number)["host"] == "alpha"
        assert beta.session(number)["state"] == "open"
        assert beta.medium("T1").read_bytes() == b""
        with open(beta.medium("T1"), "wb") as other:
            other.write(b"from beta")
        assert alpha.medium("T1").read_bytes() == b"from beta"
        os.close(descriptor)
        assert alpha.medium("T1").read_bytes() == b"from betafrom alpha"
        assert beta.medium("T1").read_bytes() == b"from betafrom alpha"
        assert beta.file("T1", 1).read_bytes() == b"from alpha"


def test_a_stream_is_seen_by_another_mount_however_long_its_release_takes(library: OnDisks, tmp_path: Path) -> None:
    """Another transaction keeps the database busy right after the close(), like a commit on a slow device."""
    with (
        library.mounted("host=alpha") as alpha,
        library.mounted("host=beta", at=tmp_path / "other") as beta,
        closing(Library.open(library.path).tracking()) as busy,
        ThreadPoolExecutor() as pool,
    ):
        for count in range(1, 4):
            alpha.medium("T1").write_bytes(b"x" * 1000)
            with busy.transaction():
                seen = pool.submit(beta.medium("T1").stat)
                time.sleep(0.7)
            assert seen.result(SECONDS).st_size == 1000 * count


def test_bytes_that_have_appeared_never_move(tape: Tape) -> None:
    """A reader reads again and again while streams come; it finds all that it has seen before, and perhaps more."""
    finished = threading.Event()
    seen = [b""]
    wrong: list[int] = []

    def look() -> None:
        last_round = False
        while not last_round:
            last_round = finished.is_set()
            now = tape.path.read_bytes()
            if not now.startswith(seen[-1]):
                wrong.append(len(now))
            if len(now) > len(seen[-1]):
                seen.append(now)

    reader = threading.Thread(target=look)
    reader.start()
    said: list[dict[str, int]] = []
    try:
        for start in range(0, 20, 4):
            said += write_at_once((tape.path, start + n, 300_000 + n, 10240, "truncate") for n in range(4))
    finally:
        finished.set()
        reader.join()
    assert not wrong
    assert len(seen[-1]) == sum(one["size"] for one in said)
    streams = tape.streams()
    borders = {sum(map(len, streams[:count])) for count in range(len(streams) + 1)}
    assert {len(content) for content in seen} <= borders


def test_reader_that_was_there_first_does_not_see_what_is_released_later(tape: Tape) -> None:
    first, second = random_bytes(1, 300_001), random_bytes(2, 300_001)
    tape.path.write_bytes(first)
    with open(tape.path, "rb", buffering=0) as reader:
        assert reader.read(1000) == first[:1000]
        writer = os.open(tape.path, os.O_WRONLY | os.O_TRUNC)
        os.write(writer, second)
        assert os.fstat(reader.fileno()).st_size == len(first)
        os.close(writer)
        assert reader.read() == first[1000:]
        assert reader.read(1) == b""
        assert os.fstat(reader.fileno()).st_size == len(first)
        assert tape.path.read_bytes() == first + second
        reader.seek(0)
        assert reader.read() == first
    assert tape.streams() == [first, second]


def test_open_stream_is_not_seen(tape: Tape) -> None:
    tape.path.write_bytes(b"before")
    writer = os.open(tape.path, os.O_WRONLY | os.O_TRUNC)
    os.write(writer, random_bytes(1, 3 << 20))
    os.fsync(writer)
    assert tape.path.read_bytes() == b"before"
    assert tape.path.stat().st_size == 6
    assert os.listdir(tape.mounted.path / "files" / tape.barcode) == ["0000"]
    os.close(writer)
    assert tape.streams() == [b"before", random_bytes(1, 3 << 20)]


def test_stat_after_close_sees_the_stream(tape: Tape) -> None:
    size = 0
    for number in range(200):
        descriptor = os.open(tape.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        size += os.write(descriptor, b"x" * (number + 1))
        os.close(descriptor)
        assert os.stat(tape.path).st_size == size
        if number % 10 == 0:
            assert tape.mounted.file(tape.barcode, number).read_bytes() == b"x" * (number + 1)
            assert len(os.listdir(tape.mounted.path / "files" / tape.barcode)) == number + 1


def test_order_on_the_medium_is_that_of_release(tape: Tape) -> None:
    descriptors = [os.open(tape.path, os.O_WRONLY | os.O_TRUNC) for _ in range(5)]
    for number, descriptor in enumerate(descriptors):
        os.write(descriptor, b"%d" % number)
    order = [3, 0, 4, 2, 1]
    for number in order:
        os.close(descriptors[number])
    assert tape.streams() == [b"%d" % number for number in order]


@pytest.mark.parametrize("before", [b"", b"not empty, and no multiple of a page"])
def test_appending_shells_at_the_same_time(tape: Tape, before: bytes) -> None:
    if before:
        tape.path.write_bytes(before)
    lines = "\n".join(f"(for i in $(seq 200); do echo {n} $i; done) >> {tape.path} &" for n in range(8))
    shell(f"{lines}\nwait")
    wanted = {"".join(f"{n} {i}\n" for i in range(1, 201)).encode() for n in range(8)}
    streams = tape.streams()
    assert set(streams[1:] if before else streams) == wanted
    assert len(streams) == 8 + bool(before)
    assert tape.path.read_bytes().startswith(before)


def test_writers_that_live_longer_than_others_do_not_hold_them_up(tape: Tape) -> None:
    slow = subprocess.Popen(
        ["bash", "-c", f"(echo begin; read -r line; echo $line) > {tape.path}"], stdin=subprocess.PIPE
    )
    try:
        for number in range(5):
            shell(f"echo {number} > {tape.path}")
        assert tape.streams() == [f"{number}\n".encode() for number in range(5)]
    finally:
        slow.communicate(b"end\n", timeout=30)
    assert tape.streams()[5] == b"begin\nend\n"
