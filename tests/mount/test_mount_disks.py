"""Disks that hang and disks that die under a mount."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from mounting import OnDisks, random_bytes, require_fuse, shell, wait_until

MIB = 1 << 20


def test_hung_disk_stalls_only_the_streams_that_use_it(frozen: OnDisks) -> None:
    with frozen.mounted("io=direct") as mounted:
        mounted.medium("T1").write_bytes(b"before")
        shell(f"fsfreeze -f {frozen.disks[0]}")
        streams = [subprocess.Popen(["sh", "-c", f"echo {number} > {mounted.medium('T2')}"]) for number in range(4)]
        wait_until(lambda: sum(one.poll() is not None for one in streams) == 2, "the streams on the good disk")
        mnt = mounted.path
        shell(f"ls -l {mnt}/media {mnt}/files/* {mnt}/drives/0 {mnt}/sessions && df {mnt} && stat {mnt}/media/T2")
        frozen.vtlfs("status", frozen.path, status=None)  # it is told once the disk has hung for a while
        assert len(frozen.listed("--open")) == 2
        assert mounted.medium("T1").stat().st_size == 6
        assert mounted.medium("T2").stat().st_size == 4
        assert all(one.returncode in (None, 0) for one in streams)
        shell(f"fsfreeze -u {frozen.disks[0]}")
        assert [one.wait(60) for one in streams] == [0] * 4
        assert sorted(mounted.medium("T2").read_bytes().split()) == [b"0", b"1", b"2", b"3"]


def test_snapshots_are_taken_while_a_disk_hangs(frozen: OnDisks) -> None:
    with frozen.mounted("io=direct") as mounted:
        mounted.medium("T1").write_bytes(b"before")
        shell(f"fsfreeze -f {frozen.disks[0]}")
        try:
            streams = [subprocess.Popen(["sh", "-c", f"echo {number} > {mounted.medium('T2')}"]) for number in range(4)]
            wait_until(lambda: sum(one.poll() is not None for one in streams) == 2, "the streams on the good disk")
            taken = json.loads(frozen.vtlfs("snapshot", "take", frozen.path, "--json"))
            assert (taken["sessions"], taken["open_sessions"]) == (5, 2)
            then = mounted.path / "snapshots" / str(taken["id"])
            assert (then / "media/T1").stat().st_size == 6
            assert (then / "media/T2").stat().st_size == 4
            frozen.vtlfs("snapshot", "diff", frozen.path, taken["id"], "now")
        finally:
            shell(f"fsfreeze -u {frozen.disks[0]}")
        assert [one.wait(60) for one in streams] == [0] * 4
        assert (then / "media/T2").stat().st_size == 4
        assert mounted.medium("T2").stat().st_size == 8


def test_snapshots_are_taken_while_a_disk_does_not_answer_at_all(tmp_path: Path) -> None:
    """The process that serves the disk's file system is stopped: even stat() of the disk never returns."""
    require_fuse()
    if shutil.which("mergerfs") is None:
        pytest.skip("mergerfs is not installed")
    behind, disk = tmp_path / "behind", tmp_path / "disk"
    for directory in (behind, disk):
        directory.mkdir()
    serving = subprocess.Popen(["mergerfs", "-f", behind, disk])
    try:
        wait_until(lambda: os.path.ismount(disk), "a mounted disk")
        library = OnDisks(tmp_path, [tmp_path / "other", disk])
        library.vtlfs("snapshot", "take", library.path)
        serving.send_signal(signal.SIGSTOP)
        library.vtlfs("snapshot", "take", library.path, "--name", "without it")
        first, second = (
            json.loads(library.vtlfs("snapshot", "show", library.path, number, "--json"))["disks"] for number in (1, 2)
        )
        assert second[1] == first[1], "as it was when it last answered"
        assert second[0]["seen_at"] > first[0]["seen_at"]
    finally:
        serving.send_signal(signal.SIGCONT)
        subprocess.run(["umount", "-l", disk], check=True)
        serving.kill()
        serving.wait()


def test_new_streams_avoid_a_disk_that_hangs(frozen: OnDisks) -> None:
    with frozen.mounted("io=direct") as mounted:
        shell(f"fsfreeze -f {frozen.disks[0]}")
        streams: list[subprocess.Popen[bytes]] = []

        def is_noticed() -> bool:
            """Start two streams: before the mount has noticed, one of them begins on the disk that hangs."""
            pair = [subprocess.Popen(["sh", "-c", f"echo x > {mounted.medium('T3')}"]) for _ in range(2)]
            streams.extend(pair)
            with suppress(subprocess.TimeoutExpired):
                return [one.wait(1) for one in pair] == [0, 0]
            return False

        try:
            wait_until(is_noticed, "streams that begin on the other disk")
            for number in range(6):
                shell(f"echo {number} > {mounted.medium('T4')}", timeout=30)
        finally:
            shell(f"fsfreeze -u {frozen.disks[0]}")
            assert [one.wait(60) for one in streams] == [0] * len(streams)
        assert mounted.medium("T4").read_bytes() == b"0\n1\n2\n3\n4\n5\n"
        assert mounted.medium("T3").read_bytes() == b"x\n" * len(streams)


@pytest.mark.parametrize("io", ["direct", "cached"])
def test_dead_disk_is_an_io_error_and_what_was_durable_stays(on_loop: OnDisks, io: str) -> None:
    """A write that is refused as a whole loses nothing, as the writer gets the error. Lost cached bytes are a loss."""
    if shutil.which("xfs_io") is None:
        pytest.skip("xfs_io is not installed")
    data = random_bytes(1, 6 * MIB)
    with on_loop.mounted(f"io={io}", expects=["Input/output error"], checked=False) as mounted:
        mounted.medium("T1").write_bytes(data)
        descriptor = os.open(mounted.medium("T1"), os.O_WRONLY | os.O_TRUNC)
        number = os.fstat(descriptor).st_ino
        durable = os.write(descriptor, data[: 2 * MIB + 5])
        os.fsync(descriptor)
        shell(f"xfs_io -x -c shutdown {on_loop.disks[0]}")
        accepted = durable

        def go_on() -> None:
            nonlocal accepted
            while accepted < len(data):
                accepted += os.write(descriptor, data[accepted:])
            os.fsync(descriptor)

        with pytest.raises(OSError, match="Input/output") as told:
            go_on()
        assert told.value.errno == errno.EIO
        with suppress(OSError):
            os.close(descriptor)
        known = wait_until(lambda: (one := on_loop.session(number)).released_at and one, "the end of the session")
        assert known.error == "EIO"
        assert known.state == ("failed" if io == "cached" else "released")
        assert durable <= known.bytes <= accepted
        assert io == "cached" or known.bytes == accepted
        assert mounted.medium("T1").stat().st_size == len(data) + known.bytes
        assert "No space" not in mounted.log.read_text()


def break_by_shutdown(disk: Path) -> None:
    shell(f"xfs_io -x -c shutdown {disk}")


def break_by_remounting_read_only(disk: Path) -> None:
    """ext4 remounts itself like this when it finds an error."""
    device = shell(f"findmnt -no SOURCE {disk}").stdout.strip()
    shell(f"mount -o remount,errors=remount-ro {disk} && echo 1 > /sys/fs/ext4/{Path(device).name}/trigger_fs_error")


def break_by_filling(disk: Path) -> None:
    shell(f"fallocate -l $(($(stat -f -c '%a*%S' {disk}))) {disk}/filler", timeout=60)


def break_by_removing(disk: Path) -> None:
    shell(f"umount -l {disk}")


@pytest.mark.parametrize("on_loop", [3], indirect=True)
@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (break_by_shutdown, "Input/output error"),
        (break_by_remounting_read_only, "Read-only file system"),
        (break_by_filling, None),
        (break_by_removing, "another device is mounted|No such file|right device mounted"),
    ],
)
@pytest.mark.parametrize("io", ["direct", "cached"])
def test_streams_go_on_without_a_disk_that_fails(
    on_loop: OnDisks, break_it: Callable[[Path], None], reason: str | None, io: str
) -> None:
    """Two healthy disks are left: no writer gets an error, no byte is lost, and status and log name the failed disk.

    A full disk is passed over; if no write to it was on its way, nothing is logged.
    """
    streams = [random_bytes(number, 40 * MIB + number) for number in range(3)]
    still_there = break_it is break_by_filling
    expects = [] if reason is None else ["disk 0"]
    with on_loop.mounted(f"io={io}", checked=still_there, expects=expects, allows=["disk 0"]) as mounted:
        writers = []
        for _ in streams:
            words = ["dd", f"of={mounted.medium('T1')}", "bs=10k", "iflag=fullblock", "status=none"]
            writers.append(subprocess.Popen(words, stdin=subprocess.PIPE))
        for part in (slice(0, 15 * MIB), slice(15 * MIB, None)):
            for writer, data in zip(writers, streams, strict=True):
                assert writer.stdin is not None
                writer.stdin.write(data[part])
                writer.stdin.flush()
            if part.start == 0:
                break_it(on_loop.disks[0])
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.close()
        assert [writer.wait(60) for writer in writers] == [0] * 3
        if reason is not None:
            wait_until(lambda: on_loop.disk_fault(0), "the fault in the tracking database")
            assert re.search(f"disk 0 .*({reason})", mounted.said())
            assert "disk 0" in on_loop.vtlfs("status", on_loop.path, status=3)
    used = [extent.disk for number in range(3) for extent in on_loop.extents("T1", number)]
    assert used.count(0) < len(used) / 3
    assert sorted(file.bytes for file in on_loop.tape_files("T1")) == [len(data) for data in streams]
    if still_there:
        assert {on_loop.extract("T1", number) for number in range(3)} == set(streams)


@pytest.mark.parametrize("on_loop", [3], indirect=True)
def test_stream_goes_on_while_a_disk_hangs_and_uses_it_again(frozen: OnDisks) -> None:
    data = random_bytes(1, 60 * MIB)
    with frozen.mounted("io=direct", expects=["disk 0"]) as mounted:
        with open(mounted.medium("T1"), "wb", 0) as stream:
            stream.write(data[: 10 * MIB])
            os.fsync(stream.fileno())
            shell(f"fsfreeze -f {frozen.disks[0]}")
            try:
                for start in range(10 * MIB, len(data), MIB):
                    stream.write(data[start : start + MIB])
                wait_until(lambda: frozen.disk_fault(0) == "it does not answer", "the hang in the database")
            finally:
                shell(f"fsfreeze -u {frozen.disks[0]}")
        assert mounted.medium("T1").read_bytes() == data
        wait_until(lambda: frozen.disk_fault(0) is None, "the disk that answers again")
    disks = [extent.disk for extent in frozen.extents("T1", 0)]
    assert disks[:10].count(0) in (3, 4)
    assert disks[10:].count(0) < 10
