"""Whose turn it is to verify: a command comes before a mount that verifies by itself, which goes on later."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic, sleep

from vtlfs.engine import lease
from vtlfs.engine.library import Library
from vtlfs.errors import LibraryError

WANTED = "verify.wanted"  # the lease of a command that wants to verify
CHILD = "care.verify"  # the lease of a mount's child process that verifies
PATIENCE_SECONDS = 30.0  # for the child, which looks every second
POLL_SECONDS = 0.1


@contextmanager
def before_mounts(library: Library, busy: str) -> Iterator[None]:
    """Be the only one who verifies the library, for the block. Raises LibraryError, saying why it is `busy`."""
    with ExitStack() as stack:
        try:
            stack.enter_context(lease.alone(library.path, busy))
        except LibraryError:
            if not lease.is_done(library.path, CHILD):
                raise
            _take_from_child(library, busy, stack)
        yield


def _take_from_child(library: Library, busy: str, stack: ExitStack) -> None:
    """Have the child process of a mount stop, and be the only one then. Raises LibraryError."""
    deadline = monotonic() + PATIENCE_SECONDS
    with lease.work(library.path, WANTED):
        while True:
            try:
                stack.enter_context(lease.alone(library.path, busy))
            except LibraryError:
                if monotonic() > deadline:
                    raise
                sleep(POLL_SECONDS)
            else:
                return
