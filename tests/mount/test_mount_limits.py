"""Resource limits of the serving process: they fail a stream or an open(), blame no disk, and are logged once."""

import errno
import json
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from mounting import ALARMING, PROGRAM, OnDisks, random_bytes, require_fuse

MIB = 1 << 20
NO_RAISING = [
    "setpriv",
    "--bounding-set",
    "-sys_resource",
    "--inh-caps",
    "-sys_resource",
]  # also where tests run as root


@pytest.fixture
def striped(tmp_path: Path, _no_descriptor_left: None) -> OnDisks:
    """A library on three disks, so that there is one to go to when a disk is blamed."""
    require_fuse()
    return OnDisks(tmp_path, 3, media="T001..T100")


def serve(library: OnDisks, limits: Sequence[str]) -> None:
    """Serve all later mounts of the library with these limits."""
    library.serving = ["prlimit", *limits, *NO_RAISING, *PROGRAM]


def alarming(text: str) -> list[str]:
    """Return the warnings and errors of a log."""
    return [line for line in text.splitlines() if ALARMING.search(line)]


def healthy(library: OnDisks) -> bool:
    """Tell whether `vtlfs status` reports no fault of a disk."""
    disks = json.loads(library.vtlfs("status", library.path, "--json", status=None))["disks"]
    assert len(disks) == len(library.disks)
    return all(disk["fault"] is None for disk in disks)


@pytest.mark.parametrize("io", ["direct", "cached"])
def test_file_size_limit_ends_streams_and_blames_no_disk(striped: OnDisks, io: str) -> None:
    serve(striped, [f"--fsize={4 * MIB}"])
    sent = {number: random_bytes(number, 20 * MIB) for number in range(1, 9)}
    told: dict[int, int | None] = {}

    def write(number: int) -> None:
        told[number] = None
        try:
            with open(mounted.medium(f"T{number:03d}"), "wb", 0) as stream:
                view = memoryview(sent[number])
                while view:
                    view = view[stream.write(view[:MIB]) :]
        except OSError as error:
            told[number] = error.errno

    with striped.mounted(f"io={io}", allows=["RLIMIT_FSIZE"]) as mounted:
        writers = [threading.Thread(target=write, args=[number]) for number in sent]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert told == dict.fromkeys(sent, errno.EFBIG)
        assert healthy(striped)
        mounted.medium("T050").write_bytes(b"small")  # streams that fit go on
        assert mounted.medium("T050").read_bytes() == b"small"
        for number, data in sent.items():
            assert data.startswith(mounted.medium(f"T{number:03d}").read_bytes())
        log = mounted.said()
    assert len(alarming(log)) == 2, log  # at the start, and when it was met
    ended = {session["error"] for session in striped.listed() if session["medium"] != "T050"} - {None}
    assert ended == {"EFBIG"}


def test_file_size_limit_of_the_database_is_told_as_that(striped: OnDisks) -> None:
    """With small streams, the write-ahead log reaches the limit first."""
    serve(striped, [f"--fsize={MIB // 2}"])
    told: set[int | None] = set()
    with striped.mounted("io=direct", allows=["RLIMIT_FSIZE"], checked=False) as mounted:
        for _ in range(200):
            try:
                mounted.medium("T001").write_bytes(b"x")
            except OSError as error:
                told.add(error.errno)
        assert healthy(striped)
        striped.vtlfs("umount", mounted.path)
        assert mounted.ended() in (0, 1)  # 1: its end could not be recorded either; a small commit may still fit
        mounted.has_ended = True
        log = mounted.said()
    assert told <= {errno.EFBIG}
    assert "disk I/O error" not in log
    assert len(alarming(log)) == 2, log  # at the start, and when it was met
    striped.serving = PROGRAM
    with striped.mounted("io=direct", allows=["died"]):  # the dead mount's sessions are ended, and all is well
        pass


def test_writers_beyond_the_descriptors_are_refused_and_the_others_live(striped: OnDisks) -> None:
    serve(striped, ["--nofile=128"])
    size = 6 * MIB + 77
    refused: list[int | None] = []
    admitted: dict[int, int] = {}
    with striped.mounted("io=direct", expects=["descriptors"]) as mounted:
        for number in range(1, 101):
            try:
                admitted[number] = os.open(mounted.medium(f"T{number:03d}"), os.O_WRONLY)
            except OSError as error:
                refused.append(error.errno)
        assert 2 <= len(admitted) < 100
        assert set(refused) == {errno.EMFILE}
        writers = [threading.Thread(target=fill, args=[stream, number, size]) for number, stream in admitted.items()]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        for number in admitted:
            assert mounted.medium(f"T{number:03d}").read_bytes() == random_bytes(number, size)
        mounted.medium("T100").write_bytes(b"and there is room again")
        assert healthy(striped)
        log = mounted.said()
    assert len(alarming(log)) == 1, log
    assert re.search(r"at most \d+ streams", log)


def fill(stream: int, number: int, size: int) -> None:
    """Write all bytes of a stream, and close it."""
    view = memoryview(random_bytes(number, size))
    while view:
        view = view[os.write(stream, view[: MIB // 4]) :]
    os.close(stream)


def test_hundred_writers_at_once_with_few_descriptors(striped: OnDisks) -> None:
    """Each writer opens, writes and closes; a writer that is refused tries again."""
    serve(striped, ["--nofile=128"])
    errors: list[OSError] = []

    def write(number: int) -> None:
        while True:
            try:
                stream = os.open(mounted.medium(f"T{number:03d}"), os.O_WRONLY)
            except OSError as error:
                if error.errno == errno.EMFILE:
                    continue
                errors.append(error)
                return
            try:
                fill(stream, number, 2 * MIB + number)
            except OSError as error:
                errors.append(error)
            return

    with striped.mounted("io=direct", allows=["descriptors"]) as mounted:
        writers = [threading.Thread(target=write, args=[number]) for number in range(1, 101)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert not errors
        for number in range(1, 101):
            assert mounted.medium(f"T{number:03d}").read_bytes() == random_bytes(number, 2 * MIB + number)
        assert healthy(striped)
        log = mounted.said()
    assert len(alarming(log)) <= 1, log


def test_soft_limits_are_raised(library: OnDisks) -> None:
    library.serving = ["prlimit", "--nofile=64:8192", f"--fsize={MIB}:", "--cpu=5:", *PROGRAM]
    with library.mounted("io=direct") as mounted:
        mounted.medium("T1").write_bytes(random_bytes(1, 8 * MIB))
        limits = Path(f"/proc/{mounted.pid}/limits").read_text()
    soft = {line[:25].strip(): line[26:47].strip() for line in limits.splitlines()}
    assert soft["Max file size"] == soft["Max cpu time"] == "unlimited"
    assert int(soft["Max open files"]) >= 8192
