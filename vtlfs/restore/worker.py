"""The worker process of a restore: reads archive members with libarchive, and makes their files.

`child` starts it. libarchive is C and an archive may be hostile: what it crashes is this process, and not the command
or the terminal UI. It asks for the bytes of the stream over a socket, and is handed each directory as a descriptor, so
it needs no path; of root's rights it keeps those that owners, devices and attributes need.
"""

import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from time import monotonic

from vtlfs.members import frames
from vtlfs.members.inputs import prepare
from vtlfs.members.worker import WRITING_LIMITS, Ended, limit
from vtlfs.restore import wire
from vtlfs.restore.extracting import BadMember, Extraction, NotWritten
from vtlfs.restore.source import Block, Source, StreamBytes
from vtlfs.restore.wire import Task

MAX_READ = 1 << 20
MAX_HEADERS = 2 << 20  # bytes of a directory's headers
ALIVE_SECONDS = 1.0


class Unread(Exception):
    """The restore can't read bytes of the stream; it knows why."""


class Link:
    """The socket to the restore."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._said = monotonic()

    def send(self, letter: bytes, content: bytes = b"") -> None:
        """Send a frame."""
        self._connection.sendall(frames.frame(letter, content))
        self._said = monotonic()

    def alive(self) -> None:
        """Say that the work goes on, once a second."""
        if monotonic() > self._said + ALIVE_SECONDS:
            self.send(wire.ALIVE)

    def receive(self) -> tuple[bytes, bytes, int | None]:
        """Return the next frame, and the descriptor that comes with it. Raises Ended."""
        header, descriptors, _, _ = socket.recv_fds(self._connection, frames.HEADER.size, 1)
        header += self._exactly(frames.HEADER.size - len(header))
        letter, size = frames.HEADER.unpack(header)
        return letter, self._exactly(size), descriptors[0] if descriptors else None

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the stream. Raises Unread, Ended."""
        self.send(wire.READ, frames.NUMBERS.pack(offset, min(size, MAX_READ)))
        letter, content, _ = self.receive()
        if letter == wire.NO_DATA:
            raise Unread
        return content

    def _exactly(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            more = self._connection.recv(size - len(found))
            if not more:
                raise Ended
            found += more
        return bytes(found)


class Server:
    """Does what the restore says, member after member."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._source: Source | None = None

    def run(self) -> None:
        """Work until the restore ends. Raises Ended."""
        while True:
            letter, content, directory = self._link.receive()
            try:
                if letter == wire.STREAM:
                    self._open(*frames.read_numbers(content))
                    continue
                self._link.send(*self._do(letter, Task.decode(content), directory))
            except BadMember as error:
                self._fail(wire.DAMAGED, str(error))
            except NotWritten as error:
                self._fail(wire.NOT_WRITTEN, str(error))
            except Unread:
                self._fail(wire.UNREAD, "")
            finally:
                if directory is not None:
                    os.close(directory)

    def _open(self, size: int, unit: int) -> None:
        if self._source is not None:
            self._source.close()
        self._source = Source(StreamBytes(size, unit, self._link.read), self._link.alive)

    def _do(self, letter: bytes, task: Task, directory: int | None) -> tuple[bytes, bytes]:
        if letter == wire.HEADERS:
            block, headers = self._bytes(task), b""
            while len(headers) < MAX_HEADERS and (piece := block()):
                headers += piece
            return wire.CONTENT, headers
        if letter == wire.WRITE:
            return wire.DONE, self._write(task, self._bytes(task), directory)
        _, headers, _ = self._link.receive()
        pieces = iter((headers,))
        return wire.DONE, self._write(task, lambda: next(pieces, b""), directory)

    def _write(self, task: Task, block: Block, directory: int | None) -> bytes:
        assert directory is not None
        os.fchdir(directory)
        with closing(Extraction(task.member, block)) as extraction:
            return wire.clauses(extraction.write(task.name, task.flags))

    def _bytes(self, task: Task) -> Callable[[], bytes]:
        assert self._source is not None
        return self._source.open(task.member)

    def _fail(self, what: str, why: str) -> None:
        self._link.send(wire.FAILED, wire.clauses([what, why]))


def main() -> None:
    """Work until the restore ends. Argument: bytes of memory."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the restore ends it
    connection = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    prepare()
    limit(int(sys.argv[1]), WRITING_LIMITS)
    link = Link(connection)
    with suppress(Ended, OSError):
        link.send(wire.READY)
        Server(link).run()


if __name__ == "__main__":
    main()
