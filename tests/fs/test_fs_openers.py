"""The opener of a file: its program, whether that is a shell, and the ssh connection of the process or an ancestor."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from vtlfs.fs import openers
from vtlfs.fs.openers import MAX_KNOWN, Caller, Openers, dd_block, identify, is_multi_volume, means_anew, ssh_client
from vtlfs.model import Opener

SSH = {"SSH_CONNECTION": "192.0.2.7 50000 192.0.2.1 22"}
Start = Callable[[list[str], dict[str, str]], subprocess.Popen[bytes]]  # with an environment
CHILD = "import sys; print(flush=True); sys.stdin.read()"


@pytest.fixture
def child(request: pytest.FixtureRequest) -> Start:
    """Return a function that starts a process with an environment; the process lives until the test ends."""

    def start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        request.addfinalizer(lambda: process.communicate(timeout=60))
        return process

    return start


def test_process_is_identified(child: Start) -> None:
    process = child([sys.executable, "-I", "-S", "-c", CHILD], {})
    opener = identify(process.pid, 12, 34, "alpha", "machine")
    assert (opener.host, opener.pid, opener.uid, opener.gid) == ("alpha", process.pid, 12, 34)
    assert opener.program == psutil.Process(process.pid).name()
    assert not opener.small_writes


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("tar -M -cf T .", True),
        ("tar -cMf T .", True),
        ("tar cMf T .", True),
        ("tar -c --multi-volume -f T .", True),
        ("tar --create --multi -fT .", True),
        ("tar -cf T M", False),
        ("tar cf M M", False),
        ("tar -cfM .", False),
        ("tar -cf T -- -M", False),
        ("tar", False),
    ],
)
def test_tar_that_goes_on_with_the_next_medium(words: str, changes: bool) -> None:
    assert is_multi_volume(words.split()) is changes


def test_shell_may_hand_on_what_it_opens(child: Start) -> None:
    process = child(["/bin/sh", "-c", "echo; read -r line; true"], {})
    assert not identify(process.pid, 0, 0, "alpha", "machine").small_writes


def test_writer_is_known_by_its_executable() -> None:
    process = subprocess.Popen(["dd", "of=/dev/null", "status=none"], stdin=subprocess.PIPE)
    while psutil.Process(process.pid).name() != "dd":
        pass
    assert identify(process.pid, 0, 0, "alpha", "machine").small_writes
    process.communicate(timeout=60)


def test_ssh_connection_of_the_process(child: Start) -> None:
    process = child([sys.executable, "-I", "-S", "-c", CHILD], SSH)
    assert identify(process.pid, 0, 0, None, "machine").host == "192.0.2.7"
    assert identify(process.pid, 0, 0, "told", "machine").host == "told"


def test_ssh_connection_of_an_ancestor(child: Start) -> None:
    script = "env -i /bin/sh -c 'echo $$; read -r line; true'; true"
    process = subprocess.Popen(["/bin/sh", "-c", script], env=SSH, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    inner = int(process.stdout.readline())
    try:
        assert "SSH_CONNECTION" not in psutil.Process(inner).environ()
        assert identify(inner, 0, 0, None, "machine").host == "192.0.2.7"
    finally:
        process.communicate(timeout=60)


@pytest.mark.parametrize("value", ["", "nonsense 1 2 3", "300.1.1.1 1 2 3", "192.0.2.7; rm -rf 1 2"])
def test_ssh_connection_that_is_none_does_not_count(child: Start, value: str) -> None:
    process = child([sys.executable, "-I", "-S", "-c", CHILD], {"SSH_CONNECTION": value})
    expected = ssh_client(psutil.Process()) or "machine"
    assert identify(process.pid, 0, 0, None, "machine").host == expected


def test_file_server_is_known_by_its_executable(child: Start, tmp_path: Path) -> None:
    for name, positions in (("sftp-server", True), ("smbd", True), ("sshd", True), ("cat", False), ("sftp", False)):
        program = tmp_path / name
        shutil.copy2("/bin/dash", program)
        process = child([str(program), "-c", "echo; read -r line; true"], {})
        opener = identify(process.pid, 0, 0, "alpha", "machine")
        assert (opener.program, opener.sends_offsets) == (name, positions)


@pytest.mark.parametrize(
    ("name", "interpreter", "expected"),
    [
        ("taper", "/usr/bin/perl", True),
        ("amlabel", "/usr/bin/perl", True),
        ("tapir", "/usr/bin/perl", False),
        ("taper", "/bin/sh", False),
    ],
)
def test_amanda_is_known_by_the_names_of_its_programs_in_perl(
    child: Start, tmp_path: Path, name: str, interpreter: str, expected: bool
) -> None:
    program = tmp_path / name
    body = "$| = 1; print qq(\\n); <STDIN>;" if "perl" in interpreter else "echo; read -r line; true"
    program.write_text(f"#!{interpreter}\n{body}\n")
    program.chmod(0o755)
    opener = identify(child([str(program)], {}).pid, 0, 0, "alpha", "machine")
    assert (opener.program, opener.overwrites, opener.begins_anew) == (name, expected, expected)


def test_open_that_means_that_a_file_begins_anew() -> None:
    archiver = Opener("alpha", 1, 0, 0, "tar", begins_anew=True)
    overwriter = Opener("alpha", 1, 0, 0, "taper", begins_anew=True, overwrites=True)
    other = Opener("alpha", 1, 0, 0, "sh")
    for opener, expected in ((archiver, [True, True, False, False, False]), (other, [False] * 5)):
        assert [means_anew(opener, flags) for flags in OPENS] == expected
    assert [means_anew(overwriter, flags) for flags in OPENS] == [True, True, True, False, False]


OPENS = [
    os.O_WRONLY | os.O_TRUNC,
    os.O_RDWR | os.O_TRUNC,
    os.O_WRONLY,
    os.O_WRONLY | os.O_APPEND,
    os.O_RDWR,
]


@pytest.fixture
def sshd(tmp_path: Path) -> Path:
    """Return a copy of the shell under the name sshd."""
    program = tmp_path / "sshd"
    shutil.copy2("/bin/bash", program)
    return program


def test_client_of_sshd_itself_is_the_other_end_of_its_connection(child: Start, sshd: Path) -> None:
    """sshd's internal sftp server has no environment of its own, and its parent process has the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = f"exec 3<>/dev/tcp/127.0.0.1/{port}; {sshd} -c 'exec 3>&-; echo $$; read -r line; true'; true"
        process = subprocess.Popen([sshd, "-c", script], env=SSH, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        accepted, _ = server.accept()
        with accepted:
            assert process.stdout is not None
            inner = int(process.stdout.readline())
            assert identify(inner, 0, 0, None, "machine").host == "127.0.0.1"
            process.communicate(b"\n", timeout=60)


def test_environment_of_sshd_is_not_that_of_its_client(sshd: Path) -> None:
    """sshd has the environment of the administrator who started it, perhaps through ssh."""
    script = f"{sshd} -c 'echo $$; read -r line; true'; true"
    process = subprocess.Popen(["bash", "-c", script], env=SSH, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    inner = int(process.stdout.readline())
    assert identify(inner, 0, 0, None, "machine").host == "machine"
    process.communicate(b"\n", timeout=60)


@pytest.mark.parametrize("address", ["2001:db8::7", "192.0.2.7", "::1"])
def test_both_families_of_addresses(child: Start, address: str) -> None:
    process = child([sys.executable, "-I", "-S", "-c", CHILD], {"SSH_CONNECTION": f"{address} 1 x 22"})
    assert ssh_client(psutil.Process(process.pid)) == address


def test_process_that_is_gone_or_of_another_container() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    for pid in (0, process.pid):
        opener = identify(pid, 5, 6, None, "machine")
        assert (opener.host, opener.program, opener.pid, opener.uid) == ("machine", "?", pid, 5)
        assert not opener.small_writes


def test_kernel_thread_has_no_executable() -> None:
    if not psutil.pid_exists(2) or psutil.Process(2).exe():
        pytest.skip("process 2 is no kernel thread here")
    assert not identify(2, 0, 0, "alpha", "machine").small_writes


def test_own_process() -> None:
    assert identify(os.getpid(), 0, 0, "alpha", "machine").program == psutil.Process().name()


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets each process that is looked at, in order."""
    found: list[int] = []

    def look(pid: int, *rest: Any, **more: Any) -> Opener:
        found.append(pid)
        return identify(pid, *rest, **more)

    monkeypatch.setattr(openers, "identify", look)
    return found


@pytest.fixture(params=[MAX_KNOWN])
async def known(request: pytest.FixtureRequest) -> AsyncIterator[Openers]:
    """Return the mount's cache of openers. The parameter: how many programs it remembers."""
    asked = Openers(None, "machine", request.param)
    yield asked
    asked.close()


async def test_program_is_looked_at_once(child: Start, known: Openers, looked: list[int]) -> None:
    process = child([sys.executable, "-I", "-S", "-c", CHILD], SSH)
    expected = identify(process.pid, 12, 34, None, "machine")
    for _ in range(3):
        assert await known.identify(Caller(process.pid, 12, 34)) == expected
    assert len(looked) == 1
    assert (await known.identify(Caller(process.pid, 12, 35))).gid == 35
    assert (await known.identify(Caller(process.pid, 12, 34, writing=False))).host == "192.0.2.7"
    assert len(looked) == 3


async def test_process_that_becomes_another_program_is_looked_at_again(
    child: Start, known: Openers, looked: list[int]
) -> None:
    """So is a process that becomes the same program with another environment."""
    again = "exec env SSH_CONNECTION='192.0.2.8 1 x 22' /bin/sh -c 'echo; read -r line; true'"
    process = child(["/bin/sh", "-c", f"echo; read -r line; {again}"], SSH)
    caller = Caller(process.pid, 0, 0)
    assert [(await known.identify(caller)).host for _ in range(2)] == ["192.0.2.7"] * 2
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    process.stdout.readline()
    assert (await known.identify(caller)).host == "192.0.2.8"
    assert len(looked) == 2


async def test_program_that_changes_while_it_is_looked_at_is_not_remembered(
    child: Start, known: Openers, looked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = child([sys.executable, "-I", "-S", "-c", CHILD], {})
    real, programs = openers._program, iter("abccc")

    def program(pid: int) -> openers._Program:
        found = real(pid)
        assert found is not None
        return replace(found, executable=next(programs))

    monkeypatch.setattr(openers, "_program", program)
    for _ in range(3):
        await known.identify(Caller(process.pid, 5, 6))
    assert len(looked) == 2


async def test_process_of_which_the_executable_is_not_shown_is_remembered(
    child: Start, known: Openers, looked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process belongs to another user, and the mount not to root."""
    process = child([sys.executable, "-I", "-S", "-c", CHILD], {})
    monkeypatch.setattr(os, "readlink", lambda path: (_ for _ in ()).throw(PermissionError(path)))
    for _ in range(2):
        await known.identify(Caller(process.pid, 5, 6))
    assert len(looked) == 1


async def test_what_can_not_be_looked_at_is_not_remembered(known: Openers, looked: list[int]) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    for pid in (0, 0, process.pid, process.pid):
        assert (await known.identify(Caller(pid, 5, 6))).program == "?"
    assert looked == [0, 0, process.pid, process.pid]


@pytest.mark.parametrize("known", [2], indirect=True)
async def test_so_many_programs_are_remembered(child: Start, known: Openers, looked: list[int]) -> None:
    process = child([sys.executable, "-I", "-S", "-c", CHILD], {})
    for uid in (1, 2, 1, 2, 3, 3, 1):
        await known.identify(Caller(process.pid, uid, 0))
    assert len(looked) == 4


@pytest.mark.parametrize(
    ("words", "block"),
    [
        (["dd", "of=x", "bs=1M"], 1 << 20),
        (["dd", "if=a=b", "of=x", "bs=64k", "conv=fsync"], 64 << 10),
        (["dd", "of=x", "ibs=1", "obs=512K"], 512 << 10),
        (["dd", "of=x", "bs=1MB"], 1_000_000),
        (["dd", "of=x"], None),
        (["dd", "bs=2x512"], None),
        (["dd", "bs="], None),
        ([], None),
    ],
)
def test_block_of_dd_is_told_by_its_operands(words: list[str], block: int | None) -> None:
    assert dd_block(words, "obs") == block


def test_block_that_dd_reads_is_told_by_other_operands() -> None:
    assert dd_block(["dd", "if=x", "ibs=2M", "obs=512K"], "ibs") == 2 << 20
    assert dd_block(["dd", "if=x", "bs=1M", "ibs=512"], "ibs") == 1 << 20
    assert dd_block(["dd", "if=x", "obs=1M"], "ibs") is None
