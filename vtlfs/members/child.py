"""The worker process from the side of a mount or a command: started, handed streams, watched, ended. In the trio loop.

One worker reads stream after stream. One that crashes, says what makes no sense, or takes too long is ended; the next
stream gets a new one.
"""

import os
import select
import shlex
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from vtlfs.errors import IndexUnusable, VtlfsError
from vtlfs.members import frames
from vtlfs.members.filling import FoundArchive, FoundMember
from vtlfs.model import MIB

NICE = 10
START_SECONDS = 60.0
KILLED_SECONDS = 5.0  # in which a process that was killed ends


@dataclass(frozen=True, slots=True)
class Limits:
    """What one stream may take. Tests hand in others."""

    memory: int = 1024 * MIB  # address space of the worker
    step: float = 60.0  # seconds without a read and without a member, after which the worker is ended
    base: float = 120.0  # seconds of work in all ...
    bytes_a_second: int = 2 * MIB  # ... and one more for so many bytes of the stream that it was handed
    members: int = 50_000_000
    text: int = 4096 * MIB  # of names and directories that the index takes in
    room: int = 256 * MIB  # that is left on the file system of the library


class WorkerFailed(VtlfsError):
    """A stream that the worker could not read, in a clause."""


@dataclass(frozen=True, slots=True)
class FoundRemark:
    """Something that can't be read, in a clause. `is_unknown`: nothing of the stream can be."""

    text: str
    is_unknown: bool


Found = FoundArchive | list[FoundMember] | FoundRemark
Read = Callable[[int, int], Awaitable[bytes]]
Take = Callable[[Found], Awaitable[None]]


class Worker:
    """A worker process, which begins with the first stream. Close it after use."""

    def __init__(self, limits: Limits, *, is_background: bool = False) -> None:
        """`is_background`: it has a low priority."""
        self._limits = limits
        self._nice = NICE if is_background else 0
        self._process: trio.Process | None = None
        self._buffer = bytearray()

    async def walk(self, size: int, read: Read, take: Take, *, start: int = 0) -> None:
        """Have a stream of `size` bytes walked over. `read` returns bytes of it; `take` is told what is found.

        `start`: offset of a header of an archive that is not compressed, from which to go on.

        Raises WorkerFailed, IndexUnusable where no worker can be had, and what `read` and `take` raise.
        """
        is_done = False
        try:
            if self._process is None:
                await self._start()
            await self._walk(size, start, read, take)
            is_done = True
        except (trio.BrokenResourceError, trio.ClosedResourceError, frames.BadFrame) as error:
            raise WorkerFailed(self._how_it_ended(error)) from None
        finally:
            if not is_done:
                self.close()

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        self._buffer.clear()
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if isinstance(pipe, trio.lowlevel.FdStream):
                    pipe.close()
            _reap(process)

    async def _start(self) -> None:
        command = program("vtlfs.members.worker", self._limits.memory, int(self._limits.step) + 1, self._nice)
        self._process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            with trio.fail_after(START_SECONDS):
                letter, _ = await self._receive()
        except (trio.BrokenResourceError, trio.TooSlowError):
            letter = b""
        if letter != frames.READY:
            self.close()
            raise IndexUnusable(f"the process that reads archives does not start; `{shlex.join(command)}` says why")

    async def _walk(self, size: int, start: int, read: Read, take: Take) -> None:
        limits, spent, handed = self._limits, 0.0, 0
        await self._send(frames.job(size, start))
        while True:
            began = trio.current_time()
            with trio.move_on_after(limits.step) as scope:
                letter, content = await self._receive()
            spent += trio.current_time() - began
            if scope.cancelled_caught or spent > limits.base + handed / limits.bytes_a_second:
                raise WorkerFailed(f"it takes too long to read, more than {spent:.0f} s after {handed:,} bytes")
            match letter:
                case frames.READ:
                    data = await read(*frames.read_numbers(content))
                    handed += len(data)
                    await self._send(frames.frame(frames.DATA, data))
                case frames.MEMBERS:
                    await take(await trio.to_thread.run_sync(frames.read_members, content))
                case frames.ARCHIVE:
                    await take(frames.read_archive(content))
                case frames.REMARK:
                    await take(FoundRemark(*frames.read_remark(content)))
                case frames.END:
                    return
                case _:
                    raise frames.BadFrame("an unknown frame")

    async def _send(self, data: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with trio.move_on_after(self._limits.step) as scope:
            await self._process.stdin.send_all(data)
        if scope.cancelled_caught:
            raise WorkerFailed("it takes too long to read: the worker does not take its bytes")

    async def _receive(self) -> tuple[bytes, bytes]:
        while len(self._buffer) < frames.HEADER.size:
            await self._more()
        letter, size = frames.HEADER.unpack_from(self._buffer)
        if size > frames.MAX_FRAME:
            raise frames.BadFrame("too long a frame")
        while len(self._buffer) < frames.HEADER.size + size:
            await self._more()
        content = bytes(self._buffer[frames.HEADER.size : frames.HEADER.size + size])
        del self._buffer[: frames.HEADER.size + size]
        return letter, content

    async def _more(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        more = await self._process.stdout.receive_some()
        if not more:
            raise trio.BrokenResourceError
        self._buffer += more

    def _how_it_ended(self, error: BaseException) -> str:
        if isinstance(error, frames.BadFrame):
            return f"the process that reads it says what makes no sense: {error}"
        assert self._process is not None
        return how_it_ended(_reap(self._process))


def program(module: str, *arguments: object) -> list[str]:
    """Return the command that runs a module of vtlfs in a child process, without the user's own modules in its path."""
    isolated = ["-I"] if sys.flags.isolated else ["-P"]
    return [sys.executable, *isolated, "-m", module, *map(str, arguments)]


def how_it_ended(status: int | None) -> str:
    """Return why a worker that has ended by itself can't have read an archive. `status`: None where nobody knows."""
    how = "ended" if status is None else f"died by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"the process that reads it has {how}: the archive is damaged, or takes too much memory"


def _reap(process: trio.Process) -> int | None:
    """Wait a little for the end of a process that was killed, or has closed its pipe; return its status."""
    if process.poll() is None:
        descriptor = os.pidfd_open(process.pid)
        try:
            ended = select.poll()
            ended.register(descriptor, select.POLLIN)
            ended.poll(KILLED_SECONDS * 1000)
        finally:
            os.close(descriptor)
    return process.poll()  # which has trio let go of it
