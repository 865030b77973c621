"""The worker process: walks over streams that it is handed through a pipe, and says what is in them.

`child` starts it, and ends it where it takes too long. It has neither the library nor its disks: it may only ask for
bytes of the stream. It limits its own memory, writes no files, and as root becomes nobody before the first stream.
"""

import os
import resource
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO

from vtlfs.members import archive, frames, inputs
from vtlfs.members.filling import FoundArchive, FoundMember

NOBODY = 65534
MEMBERS_A_FRAME = 4000
TEXT_A_FRAME = 1 << 20
MAX_READ = 1 << 20
NO_CORE = (resource.RLIMIT_CORE, 0)
LIMITS = (NO_CORE, (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NOFILE, 32))
WRITING_LIMITS = (NO_CORE, (resource.RLIMIT_NOFILE, 64))  # of the worker that makes files


class Ended(Exception):
    """The mount has ended."""


class PipedSource:
    """The stream of one job, asked for over the pipes. What was read last is kept: it is often read again."""

    def __init__(self, size: int, reading: BinaryIO, writing: BinaryIO, patience: int) -> None:
        self.size = size
        self._reading = reading
        self._writing = writing
        self._patience = patience
        self._last = (0, b"")

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the stream. Raises Ended."""
        begin, known = self._last
        if begin <= offset and offset + size <= begin + len(known):
            return known[offset - begin : offset - begin + size]
        self.send(frames.numbers(frames.READ, offset, min(size, MAX_READ)))
        signal.alarm(0)
        letter, content = receive(self._reading)
        signal.alarm(self._patience)
        if letter != frames.DATA:
            raise Ended
        self._last = offset, content
        return content

    def send(self, frame: bytes) -> None:
        """Say something to the mount, which may be slow, or wait."""
        signal.alarm(0)
        self._writing.write(frame)
        self._writing.flush()
        signal.alarm(self._patience)


def receive(reading: BinaryIO) -> tuple[bytes, bytes]:
    """Return the next frame. Raises Ended."""
    header = reading.read(frames.HEADER.size)
    if len(header) < frames.HEADER.size:
        raise Ended
    letter, size = frames.HEADER.unpack(header)
    content = reading.read(size)
    if len(content) < size:
        raise Ended
    return letter, content


def work(source: PipedSource, start: int) -> None:
    """Walk over one stream, from `start` on, and say what is in it."""
    members: list[FoundMember] = []
    text = 0

    def send() -> None:
        nonlocal text
        if members:
            source.send(frames.members(members))
            members.clear()
            text = 0

    for found in archive.walk(source, start):
        if isinstance(found, FoundMember):
            members.append(found)
            text += len(found.path) + len(found.link or "")
            if len(members) >= MEMBERS_A_FRAME or text >= TEXT_A_FRAME:
                send()
            continue
        send()
        if isinstance(found, FoundArchive):
            source.send(frames.archive(found))
        else:
            source.send(frames.remark(found.text, is_unknown=found.is_unknown))
    send()
    source.send(frames.frame(frames.END, b""))


def limit(memory: int, limits: Sequence[tuple[int, int]] = LIMITS) -> None:
    """Limit what the process may take, for good. `memory`: bytes of address space."""
    for name, most in (*limits, (resource.RLIMIT_AS, memory)):
        hard = resource.getrlimit(name)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(name, (most, most))


def become_nobody() -> None:
    """Give up root's rights, for good."""
    if os.geteuid() == 0:
        with suppress(OSError):  # a container may forbid it
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)


def main() -> None:
    """Work until the mount ends. Arguments: bytes of memory, seconds of the longest step, and how nice to be."""
    memory, patience, nice = map(int, sys.argv[1:4])
    os.nice(nice)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the mount ends it
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with open(os.dup(0), "rb", buffering=1 << 20) as reading, open(os.dup(1), "wb", buffering=1 << 16) as writing:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        inputs.prepare()
        limit(memory)
        become_nobody()
        writing.write(frames.frame(frames.READY, b""))
        writing.flush()
        with suppress(Ended, BrokenPipeError):
            while True:
                letter, content = receive(reading)
                if letter != frames.JOB:
                    return
                size, start = frames.read_job(content)
                signal.alarm(patience)
                work(PipedSource(size, reading, writing, patience), start)
                signal.alarm(0)


if __name__ == "__main__":
    main()
