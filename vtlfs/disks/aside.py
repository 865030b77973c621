"""Doing something with each disk of a library without waiting for one that hangs: in a child process.

For commands. Not in threads of the command itself: while one is stuck in a system call that can't be interrupted, its
process can't end, and whoever started the process waits with it. The child has a thread for each disk. If one is stuck,
the child is left behind; it holds nothing of ours, and ends when the disk answers. A mount, which may wait for its
threads at its end, has executors instead.
"""

import json
import os
import select
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

SECONDS = 2.0  # a disk that needs longer to answer counts as hung
NO_ANSWER = "does not answer"
ANSWER = 32768  # bytes, less than fits into a pipe


@dataclass(frozen=True, slots=True)
class Answer:
    """What a child has answered, a JSON value; or `problem` says why there is no answer."""

    value: Any = None
    problem: str | None = None

    @property
    def hangs(self) -> bool:
        """Tell whether the child had not answered in time."""
        return self.problem == NO_ANSWER


def each(paths: Sequence[Path], ask: Callable[[Path], Any], seconds: float = SECONDS) -> list[Answer]:
    """Call `ask` for each path in a child process, all at the same time; return the answers in the order of the paths.

    `ask` returns what JSON can express; it must neither print nor take a lock of this process. Waits `seconds` at most.
    """
    if not paths:
        return []
    process, reading = _start(paths, ask)
    try:
        answers, has_ended = _read(reading, len(paths), monotonic() + seconds)
    finally:
        os.close(reading)
    if has_ended:  # or ends now; another part of the program may have taken note
        with suppress(ChildProcessError):
            os.waitpid(process, 0)
    else:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    missing = Answer(problem="could not be looked at" if has_ended else NO_ANSWER)
    return [answers.get(number, missing) for number in range(len(paths))]


def _start(paths: Sequence[Path], ask: Callable[[Path], Any]) -> tuple[int, int]:
    """Start the child; return its process and where to read its answers: the number of a path and a value, a line."""
    reading, writing = os.pipe()
    try:
        process = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if process:
        os.close(writing)
        return process, reading
    try:
        _let_go(writing)
        _answer_all(paths, ask, writing)
    finally:
        os._exit(0)


def _answer_all(paths: Sequence[Path], ask: Callable[[Path], Any], writing: int) -> None:
    """Answer for all paths, each in a thread of its own. In the child."""
    turn = threading.Lock()

    def answer(number: int, path: Path) -> None:
        with suppress(Exception):  # without an answer, this one could not be looked at
            line = json.dumps([number, ask(path)]).encode()[:ANSWER] + b"\n"
            with turn:
                while line:
                    line = line[os.write(writing, line) :]

    if len(paths) == 1:
        answer(0, paths[0])
        return
    threads = [threading.Thread(target=answer, args=each, daemon=True) for each in enumerate(paths)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _let_go(writing: int) -> None:
    """Keep nothing open but the pipe, so that nobody waits for a child that hangs."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.closerange(3, writing)
    os.closerange(writing + 1, os.sysconf("SC_OPEN_MAX"))


def _read(reading: int, count: int, deadline: float) -> tuple[dict[int, Answer], bool]:
    """Return the answers that come until the deadline, by number; and whether the child has said all it had to say."""
    answers: dict[int, Answer] = {}
    rest = b""
    while len(answers) < count:
        ready, _, _ = select.select([reading], [], [], max(0.0, deadline - monotonic()))
        if not ready:
            return answers, False
        data = os.read(reading, ANSWER)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            with suppress(ValueError):
                number, value = json.loads(line)
                answers[number] = Answer(value)
    return answers, True
