"""What a mount in the background inherits from the process that started it: nothing for which others may wait."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mounting import PROGRAM, PROJECT, SECONDS, OnDisks, mountpoints, shell, wait_until

from vtlfs.engine.library import Library

ALL_BLOCKED = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


class Started:
    """A library that is mounted in the background by a shell script or a process of the test's own."""

    def __init__(self, library: OnDisks) -> None:
        self.library = library
        self.path = library.root / "mnt"
        self.path.mkdir()
        self.words = [*PROGRAM, "mount", str(library.path), str(self.path)]
        self.command = " ".join(self.words)

    def run(self, script: str) -> str:
        """Run a script of the shell, in which MOUNT mounts; return what it printed."""
        text = script.replace("MOUNT", self.command)
        return shell(text, cwd=self.library.root, env=os.environ | {"PYTHONPATH": str(PROJECT)}).stdout

    def start(self, prepare: Callable[[], object], **more: Any) -> int:
        """Mount from a process that has called `prepare`; return the serving process."""
        options: dict[str, Any] = {"cwd": PROJECT, "check": True, "timeout": SECONDS} | more
        subprocess.run(self.words, preexec_fn=prepare, **options)
        return self.pid()

    def pid(self) -> int:
        """Return the process that serves."""
        with closing(Library.open(self.library.path).tracking(read_only=True)) as tracking:
            return tracking.mounts.live()[-1].pid

    def status(self, field: str) -> str:
        """Return a field of /proc/PID/status of the serving process."""
        lines = Path(f"/proc/{self.pid()}/status").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:"))


@pytest.fixture
def started(library: OnDisks) -> Iterator[Started]:
    """The library, and its mount's end."""
    mount = Started(library)
    yield mount
    if str(mount.path) in mountpoints():
        library.vtlfs("umount", mount.path)
    library.check()


def test_lock_of_whoever_mounts_is_released(started: Started) -> None:
    said = started.run("(flock -n 9; MOUNT) 9>lk; flock -n lk echo free")
    assert said == "free\n"
    assert os.path.ismount(started.path)


def test_pipe_of_whoever_mounts_comes_to_its_end(started: Started) -> None:
    assert started.run('out=$(MOUNT 3>&1 >/dev/null); echo "<$out>"') == "<>\n"
    assert os.path.ismount(started.path)


def test_file_system_that_was_open_can_be_unmounted(started: Started) -> None:
    started.run(
        "mkdir tmp && mount -t tmpfs tmpfs tmp && (cd tmp && MOUNT) 7>tmp/file; status=$?\n"
        "umount tmp || { umount -l tmp; exit 1; }; exit $status"
    )
    assert os.path.ismount(started.path)


def test_mount_works_where_all_standard_streams_are_closed(started: Started) -> None:
    started.run("MOUNT <&- >&- 2>&-")
    started.run(f"echo hi > {started.path}/media/T1 && cmp {started.path}/media/T1 <(echo hi)")


def test_nothing_is_open_but_its_own(started: Started) -> None:
    reading, writing = os.pipe()
    os.dup2(writing, 700)
    try:
        pid = started.start(lambda: None, pass_fds=[writing, 700])
        links = {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
        assert os.readlink(f"/proc/self/fd/{writing}") not in links
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        standard = [os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)]
        assert standard == ["/dev/null"] * 3
    finally:
        for descriptor in (reading, writing, 700):
            os.close(descriptor)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("how", ["ignored", "blocked"])
def test_signals_stop_it_whatever_the_starter_did_with_them(started: Started, number: signal.Signals, how: str) -> None:
    def prepare() -> None:
        if how == "blocked":
            signal.pthread_sigmask(signal.SIG_SETMASK, ALL_BLOCKED)
        else:
            for ignored in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1):
                signal.signal(ignored, signal.SIG_IGN)

    pid = started.start(prepare, restore_signals=False)
    assert int(started.status("SigBlk"), 16) == 0
    ignored = int(started.status("SigIgn"), 16)
    of_the_c_library = 3 << 31  # 32 and 33, which no program can set
    assert ignored & ~of_the_c_library == 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    os.kill(pid, number)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the mount")
    assert not os.path.ismount(started.path)


def test_nohup_keeps_a_mount_in_the_foreground(library: OnDisks) -> None:
    library.serving = ["nohup", *PROGRAM]
    with library.mounted() as mounted:
        os.kill(mounted.pid, signal.SIGHUP)
        mounted.medium("T1").write_bytes(b"after")
        assert mounted.medium("T1").read_bytes() == b"after"


def test_environment_is_forgotten_but_what_is_needed(started: Started) -> None:
    secret = "unguessable-7261"
    pid = started.start(lambda: None, env=os.environ | {"AWS_SECRET_ACCESS_KEY": secret, "NOTIFY_SOCKET": "/none"})
    assert secret.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    started.run(f"echo hi > {started.path}/media/T1 && cmp {started.path}/media/T1 <(echo hi)")


def test_umask_is_its_own(started: Started) -> None:
    """With a umask that shuts the owner out, nobody could open the member files again."""
    started.start(lambda: os.umask(0o777))
    assert started.status("Umask") == "0077"
    (started.path / "media" / "T1").write_bytes(b"bytes")
    members = [path for disk in started.library.disks for path in disk.rglob("*.member")]
    assert [path.stat().st_mode & 0o777 for path in members] == [0o600]


def test_session_is_its_own_and_priority_that_of_the_starter(started: Started) -> None:
    pid = started.start(lambda: os.nice(5))
    assert os.getsid(pid) == pid != os.getsid(0)
    assert os.getpriority(os.PRIO_PROCESS, pid) == 5
