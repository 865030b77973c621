"""Doing something with each disk of a library without waiting for one that hangs: in a child process for each.

For commands. Not in threads: while one is stuck in a system call that can't be interrupted, its process can't end, and
whoever started the process waits with it. A child that is stuck is left behind; it holds nothing of ours, and ends when
the disk answers. A mount, which may wait for its threads at its end, has executors instead.
"""

import json
import os
import select
import signal
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
    children = [_start(path, ask) for path in paths]
    deadline = monotonic() + seconds
    return [_answer(child, deadline) for child in children]


def _start(path: Path, ask: Callable[[Path], Any]) -> tuple[int, int]:
    """Start a child; return its process and where to read its answer."""
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
        os.write(writing, json.dumps(ask(path)).encode()[:ANSWER])
    finally:
        os._exit(0)


def _let_go(writing: int) -> None:
    """Keep nothing open but the pipe, so that nobody waits for a child that hangs."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.closerange(3, writing)
    os.closerange(writing + 1, os.sysconf("SC_OPEN_MAX"))


def _answer(child: tuple[int, int], deadline: float) -> Answer:
    process, reading = child
    try:
        ready, _, _ = select.select([reading], [], [], max(0.0, deadline - monotonic()))
        if not ready:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            return Answer(problem=NO_ANSWER)
        answer = Answer(json.loads(os.read(reading, ANSWER)))
    except ValueError:
        answer = Answer(problem="could not be looked at")
    finally:
        os.close(reading)
    with suppress(
        ChildProcessError
    ):  # it has answered, so it ends now; another part of the program may have taken note
        os.waitpid(process, 0)
    return answer
