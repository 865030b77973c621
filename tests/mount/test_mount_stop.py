"""The end of a mount: by unmounting, or by a signal, perhaps with streams open. No written byte is lost."""

import os
import re
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from mounting import PROGRAM, PROJECT, SECONDS, OnDisks, mountpoints, random_bytes, shell, wait_until

from vtlfs import daemon
from vtlfs.errors import MountError
from vtlfs.fs.options import parse

MIB = 1 << 20


def test_stopping_takes_in_what_the_kernel_still_has_of_a_stream(library: OnDisks) -> None:
    """The kernel still caches bytes that no close() or fsync() has sent to vtlfs."""
    data = random_bytes(1, 3 * MIB + 77)
    with library.mounted("io=cached") as mounted, suppress(OSError), open(mounted.medium("T1"), "wb") as stream:
        os.write(stream.fileno(), data)
        number = os.fstat(stream.fileno()).st_ino
        assert mounted.session(number)["state"] == "open"
        assert mounted.stop(signal.SIGTERM) == 0
    ended = library.session(number)
    assert (ended.state, ended.error, ended.bytes) == ("failed", "ESHUTDOWN", len(data))
    assert library.extract("T1") == data


def test_second_signal_stops_at_once(library: OnDisks) -> None:
    with library.mounted("io=cached") as mounted, suppress(OSError), open(mounted.medium("T1"), "wb", 0) as stream:
        ended = threading.Event()

        def write_on() -> None:
            with suppress(OSError):
                while not ended.is_set():
                    os.write(stream.fileno(), b"x" * MIB)

        writer = threading.Thread(target=write_on)
        writer.start()
        try:
            os.kill(mounted.pid, signal.SIGTERM)
            wait_until(lambda: "stopped by SIGTERM" in mounted.said(), "the first signal")
            assert mounted.stop(signal.SIGINT) == 0
        finally:
            ended.set()
            writer.join()


@pytest.mark.parametrize("program", ["umount", "vtlfs umount"])
def test_unmounting_right_after_close_releases_the_session(library: OnDisks, program: str) -> None:
    """The kernel drops a RELEASE that is on its way when it unmounts; the FLUSH before it counts."""
    for number in range(8):
        with library.mounted(f"io={('direct', 'cached')[number % 2]}") as mounted:
            write = f"head -c {1000 * number + 1} /dev/zero > {mounted.medium('T1')}"
            if program == "umount":
                shell(f"{write} && umount {mounted.path}")
                assert mounted.ended() == 0
                mounted.has_ended = True
            else:
                shell(write)
    assert [(one["state"], one["error"]) for one in library.listed("--medium", "T1")] == [("released", None)] * 8
    assert [one.bytes for one in library.tape_files("T1")] == [1000 * number + 1 for number in range(8)]


def test_unmounting_does_not_wait_for_a_disk_that_hangs(frozen: OnDisks) -> None:
    """Everything is durable and recorded; only the tidying of the disk is left to do.

    No process can end while the kernel has one of its threads wait for a disk; `vtlfs umount` knows.
    """
    with frozen.mounted("io=direct", allows=["disk 0"]) as mounted:
        for _ in range(2):
            mounted.medium("T1").write_bytes(b"durable")
        shell(f"fsfreeze -f {frozen.disks[0]}")
        frozen.vtlfs("umount", mounted.path)
        mounted.has_ended = True
        assert [(one["state"], one["bytes"]) for one in frozen.listed()] == [("released", 7)] * 2
        shell(f"fsfreeze -u {frozen.disks[0]}")
        assert mounted.ended() == 0


def write_and_sync(descriptor: int) -> None:
    """Write bytes, and wait until they are durable, or the mount is gone."""
    with suppress(OSError):
        os.write(descriptor, b"more")
        os.fsync(descriptor)


@pytest.mark.parametrize("busy", [False, True])
def test_stopping_ends_all_streams_while_a_disk_hangs(frozen: OnDisks, busy: bool) -> None:
    """Acknowledged bytes are durable and recorded. The process itself can't end before the disk answers.

    `busy`: a writer waits for the disk, so its stream can't end before the disk answers.
    """
    with frozen.mounted("io=direct", allows=["disk 0"]) as mounted:
        streams = [os.open(mounted.medium(f"T{number}"), os.O_WRONLY) for number in range(1, 5)]
        for stream in streams:
            os.write(stream, b"durable")
            os.fsync(stream)
        numbers = [os.fstat(stream).st_ino for stream in streams]
        on_disk_0 = [number for number in numbers if frozen.session(number).disks == (0,)]
        assert len(on_disk_0) == 2
        shell(f"fsfreeze -f {frozen.disks[0]}")
        # Nothing can be started once nobody serves the mount: a child's copies of the streams would be closed first.
        thawing = subprocess.Popen(["sh", "-c", f"read _; fsfreeze -u {frozen.disks[0]}"], stdin=subprocess.PIPE)
        waiting = threading.Thread(target=write_and_sync, args=[streams[numbers.index(on_disk_0[0])]])
        if busy:
            waiting.start()
            wait_until(lambda: mounted.session(on_disk_0[0])["received"] == 11, "what the disk does not take")
            numbers.remove(on_disk_0[0])
        os.kill(mounted.pid, signal.SIGTERM)
        mounted.has_ended = True
        try:
            wait_until(lambda: all(frozen.session(number).state != "open" for number in numbers), "the end of streams")
        finally:
            thawing.communicate(b"now\n", timeout=SECONDS)
        assert mounted.ended() == 0
        if busy:
            waiting.join()
        for stream in streams:
            with suppress(OSError):
                os.close(stream)
        assert sorted(one["bytes"] for one in frozen.listed()) == [7, 7, 7, 11 if busy else 7]


def test_stopping_unmounts_what_has_another_name_by_now(library: OnDisks) -> None:
    (library.root / "above").mkdir()
    with library.mounted(at=library.root / "above/mnt") as mounted:
        (library.root / "above").rename(library.root / "renamed")
        (library.root / "renamed/mnt/media/T1").write_bytes(b"data")
        assert mounted.stop(signal.SIGTERM) == 0
        assert not [path for path in mountpoints() if path.startswith(f"{library.root}/")]
        assert list((library.root / "renamed/mnt").iterdir()) == []


def test_mount_that_was_unmounted_lazily_leaves_the_next_one_alone(library: OnDisks) -> None:
    with library.mounted() as first, suppress(OSError), open(first.medium("T1"), "wb"):
        shell(f"umount -l {first.path}")
        with library.mounted() as second:
            assert first.stop(signal.SIGTERM) == 0
            second.medium("T2").write_bytes(b"still here")
            assert str(second.path) in mountpoints()


def test_serving_process_that_dies_before_it_serves_is_an_error(
    library: OnDisks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "_serve", lambda *_: os._exit(9))
    (library.root / "mnt").mkdir()
    with pytest.raises(MountError, match="died"):
        daemon.mount(library.path, library.root / "mnt", "", foreground=False)


# --- the log --------------------------------------------------------------------------------------------------------

LISTEN = """
import socket, sys
heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
heard.bind("/dev/log")
print("listening", flush=True)
while True:
    print(heard.recv(65536), flush=True)
"""


def test_background_mount_logs_to_syslog(library: OnDisks) -> None:
    """The mount runs in a namespace with its own /dev, so that nothing reaches the log of the machine."""
    script = f"""
        mkdir {library.root}/dev {library.root}/mnt && mount -t tmpfs tmpfs {library.root}/dev
        for node in null zero urandom fuse; do cp -a /dev/$node {library.root}/dev/; done
        mount --move {library.root}/dev /dev
        {PROGRAM[0]} -c '{LISTEN}' > {library.root}/heard & listener=$!
        until grep -q listening {library.root}/heard; do sleep 0.01; done
        {" ".join(PROGRAM)} mount {library.path} {library.root}/mnt -o host=alpha
        echo data > {library.root}/mnt/drives/2/T1
        {" ".join(PROGRAM)} umount {library.root}/mnt
        kill $listener
    """
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-e", "-c", script], cwd=PROJECT, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    lines = (library.root / "heard").read_text()
    assert re.search(r"<30>vtlfs\[\d+\]: INFO: \S+/mnt: \S+ is mounted \(mount 1, host alpha\)", lines)
    assert re.search(r"session 1: opened by bash \(pid \d+, uid 0\) of alpha, to write T1 through drive 2", lines)
    assert "session 1: released: 1 requests, 5 bytes kept as tape file 0000 of T1" in lines
    assert not (library.path / "vtlfs.log").exists()


@pytest.mark.parametrize(("level", "said"), [("debug", True), ("info", False)])
def test_level_of_the_log(library: OnDisks, level: str, said: bool) -> None:
    with library.mounted(f"log={level}") as mounted:
        mounted.medium("T1").write_bytes(b"x")
        assert mounted.medium("T1").read_bytes() == b"x"
    assert bool(re.search(r"session \d+: opened by \S+ of \S+, to read T1", mounted.said())) == said
    assert "session 1: released" in mounted.said()


def test_names_can_not_add_lines_to_the_log(library: OnDisks) -> None:
    """A program can choose its own name, line breaks included."""
    program = Path(library.root, "sh\nvtlfs: forged")
    program.symlink_to("/bin/dash")
    with library.mounted() as mounted:
        subprocess.run([program, "-c", f"echo x > {mounted.medium('T1')}"], check=True, timeout=SECONDS)
    assert "opened by sh\\nvtlfs: forg" in mounted.said()


def test_unknown_level_is_refused() -> None:
    with pytest.raises(Exception, match="debug, info, warning or error"):
        parse("log=loud")
