"""The worker process of a restore, from the side of the restore: started, given work, watched, ended. In its thread.

One that crashes, or does not answer, costs the archive member at which it was; the next member gets a new one.
"""

import select
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from vtlfs.errors import VtlfsError
from vtlfs.members import frames
from vtlfs.members.child import KILLED_SECONDS, how_it_ended, program
from vtlfs.members.values import ArchiveMember
from vtlfs.model import MIB
from vtlfs.restore import wire
from vtlfs.restore.extracting import BadMember, NotWritten
from vtlfs.restore.source import StreamBytes
from vtlfs.restore.wire import Task

LOOK_SECONDS = 0.2  # between two looks whether the restore is to stop


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading members may take. Tests hand in others."""

    memory: int = 1024 * MIB  # address space of the worker
    step: float = 300.0  # seconds in which the worker must ask for bytes, or say that it goes on
    crashes: int = 8  # of workers, after which no further member is tried


class Unusable(VtlfsError):
    """No worker can be had."""


class _Unread(Exception):
    """Bytes of the stream could not be read."""

    def __init__(self, why: Exception) -> None:
        self.why = why


class Extractor:
    """A worker process, which begins with the first member. Close it after use."""

    def __init__(self, check: Callable[[], object] = lambda: None, limits: Limits | None = None) -> None:
        """`check`: raises what ends the restore, and is asked now and then while the worker works."""
        self._check = check
        self._limits = limits or Limits()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._stream: StreamBytes | None = None
        self._crashes = 0
        self._unread: Exception | None = None  # why bytes of the stream could not be read

    @property
    def pid(self) -> int | None:
        """The number of the process; None: there is none just now."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def open(self, stream: StreamBytes) -> None:
        """Take the members that follow out of another stream."""
        self._stream, self._unread = stream, None
        if self._process is not None:
            self._run(self._say_stream)

    def headers(self, member: ArchiveMember) -> bytes:
        """Return the bytes with which a directory begins. Raises BadMember, and what reading the stream raises."""
        return self._ask(wire.HEADERS, Task(member))

    def write(self, member: ArchiveMember, directory: int, name: bytes, flags: int) -> list[str]:
        """Make the file of a member in a directory, where nothing has that name.

        Returns which attributes could not be set, as clauses. Raises BadMember, NotWritten, and what reading the stream
        raises: a part of the file may be left then.
        """
        return wire.read_clauses(self._ask(wire.WRITE, Task(member, name, flags), directory))

    def attributes(self, member: ArchiveMember, headers: bytes, directory: int, flags: int) -> list[str]:
        """Set the attributes of the open directory as its headers say. Returns and raises as `write` does."""
        return wire.read_clauses(self._ask(wire.ATTRIBUTES, Task(member, b".", flags), directory, headers))

    # --- question and answer ----------------------------------------------------------------------------------------

    def _ask(self, letter: bytes, task: Task, directory: int | None = None, data: bytes | None = None) -> bytes:
        return self._run(lambda: self._exchange(letter, task, directory, data))

    def _run(self, work: Callable[[], bytes]) -> bytes:
        """Do something with the worker; end it where that goes wrong. Raises BadMember where the worker is at fault."""
        if self._crashes >= self._limits.crashes:
            raise BadMember(
                f"not tried: of the members before, {self._crashes} have crashed the process that reads them"
            )
        is_sound = False
        try:
            if self._process is None:
                self._start()
            found = work()
            is_sound = True
        except (BadMember, NotWritten):
            is_sound = True
            raise
        except _Unread as error:
            is_sound = True
            raise error.why from None
        except Unusable:
            self._crashes += 1
            raise
        except (EOFError, OSError, frames.BadFrame) as error:
            self._crashes += 1
            text = str(error) if isinstance(error, frames.BadFrame) else how_it_ended(self._reap())
            raise BadMember(text) from None
        finally:
            if not is_sound:
                self.close()
        return found

    def _exchange(self, letter: bytes, task: Task, directory: int | None, data: bytes | None) -> bytes:
        self._send(letter, task.encode(), directory)
        if data is not None:
            self._send(wire.DATA, data)
        while True:
            letter, content = self._receive()
            if letter == wire.READ:
                self._hand_over(*frames.read_numbers(content))
            elif letter in (wire.DONE, wire.CONTENT):
                return content
            elif letter == wire.FAILED:
                raise self._failed(content)
            elif letter != wire.ALIVE:
                raise frames.BadFrame("the process that reads it says what makes no sense")

    def _hand_over(self, offset: int, size: int) -> None:
        assert self._stream is not None
        try:
            data = self._stream.read(offset, min(size, MIB))
        except (VtlfsError, OSError) as error:
            self._unread = error
            self._send(wire.NO_DATA, b"")
        else:
            self._send(wire.DATA, data)

    def _failed(self, content: bytes) -> BaseException:
        """Return what to raise. Raises BadFrame."""
        match wire.read_clauses(content):
            case [wire.DAMAGED, why]:
                return BadMember(why)
            case [wire.NOT_WRITTEN, why]:
                return NotWritten(why)
            case [wire.UNREAD, _] if self._unread is not None:
                return _Unread(self._unread)
        raise frames.BadFrame("the process that reads it says what makes no sense")

    # --- the process ------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._socket, other = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                program("vtlfs.restore.worker", self._limits.memory),
                stdin=other.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            self._socket.close()
            raise Unusable(f"the process that reads archives does not start: {error.strerror}") from None
        finally:
            other.close()
        try:
            letter, _ = self._receive()
        except (EOFError, OSError):
            letter = b""
        if letter != wire.READY:
            raise Unusable("the process that reads archives does not start; is there memory for it?")
        self._say_stream()

    def _say_stream(self) -> bytes:
        if self._stream is not None:
            self._send(wire.STREAM, frames.NUMBERS.pack(self._stream.size, self._stream.unit))
        return b""

    def _reap(self) -> int | None:
        """Wait a little for the end of a process that was killed, or has closed its socket; return its status."""
        process, self._process = self._process, None
        if self._socket is not None:
            self._socket.close()
        if process is None:
            return None
        with suppress(subprocess.TimeoutExpired):
            process.wait(KILLED_SECONDS)
        if process.poll() is None:
            process.kill()
            process.wait()
        return process.returncode

    def _send(self, letter: bytes, content: bytes, descriptor: int | None = None) -> None:
        assert self._socket is not None
        view = memoryview(frames.frame(letter, content))
        if descriptor is not None:
            sent = socket.send_fds(self._socket, [view[: frames.HEADER.size]], [descriptor])
            view = view[sent:]
        while view:
            self._wait(select.POLLOUT)
            with suppress(BlockingIOError):
                view = view[self._socket.send(view, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]

    def _receive(self) -> tuple[bytes, bytes]:
        letter, size = frames.HEADER.unpack(self._exactly(frames.HEADER.size))
        if size > frames.MAX_FRAME:
            raise frames.BadFrame("the process that reads it says too much")
        return letter, self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        assert self._socket is not None
        found = bytearray()
        while len(found) < size:
            self._wait(select.POLLIN)
            more = self._socket.recv(size - len(found))
            if not more:
                raise EOFError
            found += more
        return bytes(found)

    def _wait(self, event: int) -> None:
        """Wait until bytes can be sent, or are there. Raises BadFrame after too long."""
        assert self._socket is not None
        poll, until = select.poll(), monotonic() + self._limits.step
        poll.register(self._socket, event)
        while not poll.poll(LOOK_SECONDS * 1000):
            self._check()
            if monotonic() > until:
                raise frames.BadFrame(f"the process that reads it does not answer for {self._limits.step:.0f} s")
