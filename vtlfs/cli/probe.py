"""Looking at a library's disks without waiting for one that hangs.

Each disk is looked at by a child process, all at once. Not by a thread: while one is stuck in a system call that can't
be interrupted, its process can't end, and whoever started the process waits with it. A child that is stuck is left
behind; it holds nothing of ours, and ends when the disk answers.
"""

import json
import os
import select
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

from vtlfs.disks import label as labels
from vtlfs.errors import VtlfsError

SECONDS = 2.0  # a disk that needs longer to answer counts as hung
ANSWER = 32768  # bytes, less than fits into a pipe


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found at a disk's path. Sizes are bytes; None where they can't be had, and `problem` says why.

    `number` is that of the disk's label, None without one of this library.
    """

    path: str
    number: int | None = None
    free: int | None = None
    total: int | None = None
    problem: str | None = None


def probe(library: str, paths: Sequence[Path], seconds: float = SECONDS) -> list[Probe]:
    """Look at the disks at these paths, in their order, for so long; `library` is the UUID that is theirs.

    Call from a process with a single thread.
    """
    children = [_start(library, path) for path in paths]
    deadline = monotonic() + seconds
    return [_answer(child, path, deadline) for child, path in zip(children, paths, strict=True)]


def _start(library: str, path: Path) -> tuple[int, int]:
    """Start a child; return its process and where to read its answer."""
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return process, reading
    try:
        _let_go(writing)
        os.write(writing, json.dumps(asdict(_look(library, path))).encode()[:ANSWER])
    finally:
        os._exit(0)


def _let_go(writing: int) -> None:
    """Keep nothing open but the pipe, so that nobody waits for a child that hangs."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.closerange(3, writing)
    os.closerange(writing + 1, os.sysconf("SC_OPEN_MAX"))


def _look(library: str, path: Path) -> Probe:
    try:
        if not path.is_dir():
            return Probe(str(path), problem="not a directory" if path.exists() else "no such directory")
        label = labels.read(path)
        status = os.statvfs(path)
    except VtlfsError as error:
        return Probe(str(path), problem=str(error))
    except OSError as error:
        return Probe(str(path), problem=error.strerror)
    problem = None
    if label is None:
        problem = "not labelled; is the right device mounted there?"
    elif label.library != library:
        problem = f"belongs to another library ({label.library})"
    elif not os.access(path, os.W_OK | os.X_OK):
        problem = "not writable"
    number = label.number if label is not None and label.library == library else None
    if number is None:
        return Probe(str(path), problem=problem)
    return Probe(str(path), number, status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize, problem)


def _answer(child: tuple[int, int], path: Path, deadline: float) -> Probe:
    process, reading = child
    try:
        ready, _, _ = select.select([reading], [], [], max(0.0, deadline - monotonic()))
        if not ready:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            return Probe(str(path), problem="does not answer")
        return Probe(**json.loads(os.read(reading, ANSWER)))
    except ValueError:
        return Probe(str(path), problem="could not be looked at")
    finally:
        os.close(reading)
