"""The log of a mount: on standard error in the foreground; in syslog, and so in the journal, in the background.

Each event is one line. A line that syslog does not take goes to a file in the library, so that none is lost. The
handlers of the background are imported by a mount only, since no other command needs them.
"""

import logging
import os
import queue
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any

from vtlfs import blame
from vtlfs.errors import VtlfsError

SYSLOG = "/dev/log"  # the socket of journald, rsyslog and others
FILE = "vtlfs.log"  # in the library
END_SECONDS = 5.0  # the longest wait for unwritten lines at the end, since syslog may hang
AGAIN_SECONDS = 600.0  # a limit that is still met is told again after this time
PAUSE_SECONDS = 0.05  # for which lines are collected: waking a thread for each takes a tenth of a short stream's time

_CONTROL = {number: f"\\x{number:02x}" for number in (*range(32), *range(127, 160))} | {
    ord("\n"): "\\n",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


class _OneLine(logging.Formatter):
    """Writes an event on one line, so that a name with a line feed in it can't look like another event."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).translate(_CONTROL)


class _StandardError(logging.StreamHandler[Any]):
    """Writes to the current `sys.stderr`, which may be replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _File(logging.FileHandler):
    """A file in the library that only its owner may read, made with its first line."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(
            self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600
        )
        return os.fdopen(descriptor, "a", encoding="utf-8", errors="surrogateescape")


def _syslog(otherwise: logging.Handler) -> logging.Handler:
    """Return a handler for syslog, which passes lines that syslog does not take to `otherwise`. Raises OSError."""
    from logging.handlers import SysLogHandler

    class Syslog(SysLogHandler):
        ident = f"vtlfs[{os.getpid()}]: "
        append_nul = False

        def emit(self, record: logging.LogRecord) -> None:
            if os.path.exists(SYSLOG):
                super().emit(record)
            else:  # SysLogHandler would try several kinds of sockets for each line
                otherwise.handle(record)

        def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's own name
            otherwise.handle(record)

    return Syslog(SYSLOG, SysLogHandler.LOG_DAEMON)


def _is_news(record: logging.LogRecord) -> bool:
    """Leave out a warning of pyfuse3: the kernel dropped a request, after an unmount or a signal to the program."""
    gone = record.getMessage().endswith("fuse_reply_* failed with No such file or directory")
    return not (gone and record.name.startswith("pyfuse3"))


class _OneACause(logging.Filter):
    """Tells a limit of the process or the machine once, with what to do, however many streams meet it.

    For a while, further lines with the same errno get the level `debug`. The line about a session's end is kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[int, float] = {}  # by errno: when it was told. Threads may race, and tell a limit twice

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or not isinstance(record.args, tuple):
            return True
        codes = [value.errno for value in record.args if isinstance(value, VtlfsError | OSError)]
        code = next((code for code in codes if code is not None and blame.is_limit(code)), None)
        if code is None:
            return True
        now, before = monotonic(), self._told.get(code)
        if before is None or now > before + AGAIN_SECONDS:
            self._told[code] = now
            record.msg, record.args = f"{record.getMessage()}: {blame.explained(code)}", ()
            return True
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return logging.getLogger().isEnabledFor(logging.DEBUG)


def to_standard_error(level: str) -> None:
    """Log to standard error, for commands and for a mount in the foreground."""
    handler = _StandardError()
    handler.setFormatter(_OneLine("vtlfs: %(levelname)s: %(message)s"))
    handler.addFilter(_is_news)
    handler.addFilter(_OneACause())
    logging.basicConfig(handlers=[handler])
    logging.getLogger().setLevel(level.upper())


@contextmanager
def in_background(library: Path, level: str) -> Iterator[None]:
    """Log to syslog for the block, or to a file in the library where there is no syslog.

    A thread writes, so that a log that hangs holds up nobody.
    """
    from logging.handlers import QueueHandler, QueueListener

    file = _File(library / FILE, delay=True)
    file.setFormatter(_OneLine(f"%(asctime)s vtlfs[{os.getpid()}]: %(levelname)s: %(message)s"))
    target: logging.Handler = file
    try:
        target = _syslog(file)
        target.setFormatter(_OneLine("%(levelname)s: %(message)s"))
    except OSError:
        pass  # no syslog is running, so all lines go to the file
    lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    at_end = Event()

    class Listener(QueueListener):
        def dequeue(self, block: bool) -> logging.LogRecord:  # logging's own signature
            if lines.empty():
                at_end.wait(PAUSE_SECONDS)
            return super().dequeue(block)

    listener = Listener(lines, target)
    root = logging.getLogger()
    handler = QueueHandler(lines)
    handler.addFilter(_is_news)
    handler.addFilter(_OneACause())
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    listener.start()
    try:
        yield
    finally:
        at_end.set()
        stopping = Thread(target=listener.stop, daemon=True)
        stopping.start()
        stopping.join(END_SECONDS)


def where(library: Path) -> str:
    """Return the place of the log of a mount in the background, for messages."""
    return "the journal or syslog (vtlfs)" if os.path.exists(SYSLOG) else str(library / FILE)
