"""The real program without its start: each command runs in a process that is forked from one with all modules loaded.

Most of the processor time of a short command is the start of Python and its imports. A test of what commands do runs
them here; a test of the process itself (how it starts, its environment, its rights, signals) starts the program.
`python loaded.py commands|mounts DESCRIPTOR` serves: it loads modules, then forks for each request on that socket.
"""

import atexit
import gc
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from io import BufferedReader, BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
PROGRAM = [sys.executable, "-m", "vtlfs"]
PLAIN = {"capture_output", "text", "timeout", "cwd"}  # what a caller may ask of a forked command
LONGEST = 20_000  # characters of the words of a command
# What is not loaded, since it isn't needed.
APART = {
    "commands": ("vtlfs.tui", "vtlfs.fs", "vtlfs.daemon", "vtlfs.__main__"),
    "mounts": ("vtlfs.tui", "vtlfs.__main__"),
}
DESCRIPTORS = 4  # that come with a request: the standard streams, and the socket for the answer


# --- in the process that runs tests -----------------------------------------------------------------------------------


def run(words: Sequence[str | bytes], **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run a command as `subprocess.run` does, with its options. Where it can't be forked, start the program."""
    wanted: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 60.0, "cwd": PROJECT} | options
    said = [os.fsdecode(word) for word in words]
    server = _server("commands")
    is_short = sum(map(len, said)) < LONGEST
    if said[:1] == ["mount"] or not is_short or wanted.keys() - PLAIN or not server.stands_for_this_process():
        return subprocess.run([*PROGRAM, *words], check=False, **wanted)
    deadline = time.monotonic() + wanted["timeout"]
    (out, its_out), (err, its_err) = os.pipe(), os.pipe()
    try:
        command = server.start(said, (its_out, its_err), wanted["cwd"] or Path.cwd())
        os.close(its_out)
        os.close(its_err)
        try:
            written = _read_all((out, err), deadline)
            status = command.wait(max(0.1, deadline - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            command.kill()
            raise
    finally:
        os.close(out)
        os.close(err)
    output, errors = (text.decode() if wanted["text"] else text for text in written)
    return subprocess.CompletedProcess([*PROGRAM, *words], status, output, errors)


def start_mount(words: Sequence[str], output: int) -> "Forked | subprocess.Popen[bytes]":
    """Start a mount in the foreground, whose output goes to a descriptor. Where it can't be forked, start the program.

    It allocates as a mount does that starts the program, and has the same modules loaded.
    """
    server = _server("mounts")
    if server.stands_for_this_process():
        return server.start(words, (output, output), PROJECT)
    return subprocess.Popen([*PROGRAM, *words], stdout=output, stderr=output, cwd=PROJECT)


class Forked:
    """A forked process, with what tests use of `subprocess.Popen`."""

    def __init__(self, pid: int, answer: socket.socket, words: Sequence[str]) -> None:
        self.pid = pid
        self.args = words
        self.returncode: int | None = None
        self._answer = answer

    def poll(self) -> int | None:
        """Return the exit status, None before the end."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the exit status."""
        if self.returncode is None:
            ready, _, _ = select.select([self._answer], [], [], timeout)
            if not ready:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._answer.recv(100))
            self._answer.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process."""
        self.send_signal(signal.SIGKILL)


class Server:
    """The process that forks, as its client sees it. Any thread may use it."""

    def __init__(self, kind: str) -> None:
        self._for, self._environment = os.getpid(), _environment()
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            words = [sys.executable, __file__, kind, str(theirs.fileno())]
            environment = os.environ | ({"PYTHONMALLOC": "malloc"} if kind == "mounts" else {})
            self._process = subprocess.Popen(
                words, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, cwd=PROJECT, env=environment
            )
        atexit.register(self._end)

    def stands_for_this_process(self) -> bool:
        """Tell whether a process that the server forks gets what it would get from this process."""
        return (self._for, self._environment) == (os.getpid(), _environment()) and os.geteuid() == os.getuid() == 0

    def start(self, words: Sequence[str], outputs: tuple[int, int], cwd: str | Path) -> Forked:
        """Fork a process that runs a command, with these descriptors as standard output and standard error."""
        request = json.dumps({"words": [*words], "cwd": str(cwd), "umask": _umask()}).encode()
        answer, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, open(os.devnull, "rb") as null:
            socket.send_fds(self._requests, [request], [null.fileno(), *outputs, theirs.fileno()])
        return Forked(int(answer.recv(100)), answer, words)

    def _end(self) -> None:
        if os.getpid() == self._for:
            self._requests.close()
            self._process.wait()


_starting = threading.Lock()


@cache
def _started(kind: str) -> Server:
    return Server(kind)


def _server(kind: str) -> Server:
    with _starting:
        return _started(kind)


def _environment() -> dict[str, str]:
    """Return the environment, without what pytest says of the test that runs."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def _umask() -> int:
    """Return the umask without a change of it."""
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("Umask:"))
    return int(line.split()[1], 8)


def _read_all(descriptors: tuple[int, int], deadline: float) -> tuple[bytes, bytes]:
    """Return what comes from two pipes until nobody writes to them any more."""
    pieces: dict[int, list[bytes]] = {descriptor: [] for descriptor in descriptors}
    with selectors.DefaultSelector() as selector:
        for descriptor in descriptors:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError("a command takes too long")
            for key, _ in ready:
                piece = os.read(key.fd, 1 << 16)
                pieces[key.fd].append(piece)
                if not piece:
                    selector.unregister(key.fd)
    first, second = (b"".join(pieces[descriptor]) for descriptor in descriptors)
    return first, second


# --- the server -------------------------------------------------------------------------------------------------------


def load(kind: str) -> None:
    """Load what commands need, or mounts."""
    import vtlfs
    from vtlfs.engine.tracking.connection import fresh_tables
    from vtlfs.engine.tracking.sqlite_tools import sqlite_utils

    for module in walk_packages(vtlfs.__path__, "vtlfs."):
        if not module.name.startswith(APART[kind]):
            import_module(module.name)
    sqlite_utils()
    fresh_tables()
    gc.collect()
    gc.freeze()


def serve(requests: socket.socket) -> None:
    """Fork for each request. The answers are the number of the process, and at its end its status."""
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    if not _accept(requests, selector):
                        return
                    continue
                process, answer = key.data
                selector.unregister(key.fd)
                os.close(key.fd)
                status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
                with suppress(OSError):  # nobody may be left to hear it
                    answer.send(str(status).encode())
                answer.close()


def _accept(requests: socket.socket, selector: selectors.BaseSelector) -> bool:
    """Fork for the next request; return False after the last."""
    request, descriptors, _, _ = socket.recv_fds(requests, 10 * LONGEST, DESCRIPTORS)
    if not request:
        return False
    *streams, answer_descriptor = descriptors
    process = os.fork()
    if not process:
        _become(json.loads(request), streams)
    for descriptor in streams:
        os.close(descriptor)
    answer = socket.socket(fileno=answer_descriptor)
    answer.send(str(process).encode())
    selector.register(os.pidfd_open(process), selectors.EVENT_READ, (process, answer))
    return True


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """Run the command in this process, which ends with it as an interpreter does."""
    status = 1
    try:
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        sys.stdin, sys.stdout, sys.stderr = _stream(0, "r"), _stream(1, "w"), _stream(2, "w")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(request["cwd"])
        os.umask(request["umask"])
        sys.argv = ["vtlfs", *request["words"]]
        status = _main(request["words"])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status & 0xFF)


def _stream(number: int, mode: str) -> TextIOWrapper:
    """Return a standard stream as Python opens it where it is no terminal."""
    raw = FileIO(number, mode, closefd=False)
    buffer: Any = BufferedReader(raw) if mode == "r" else BufferedWriter(raw)
    return TextIOWrapper(buffer, sys.stdout.encoding, line_buffering=number == 2)


def _main(words: list[str]) -> int:
    from vtlfs.cli.main import main

    status = main(words)
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl+c is for those who run the tests
    load(sys.argv[1])
    with socket.socket(fileno=int(sys.argv[2])) as asked:
        serve(asked)
