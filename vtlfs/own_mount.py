"""System calls on the file system of the mount that makes them, by a child process of the serving process.

A thread of the serving process that waits for an answer of its own mount keeps /dev/fuse open. If the process is killed
in that moment, the kernel neither answers the thread nor ends the mount, so the dead process stays until somebody runs
`umount -f`. A child process holds no descriptor of /dev/fuse: when the serving process dies, its connection is aborted
and the child's call fails. Used by the daemon, in the trio loop.
"""

import subprocess
import sys
from pathlib import Path

import trio

_STAT = "os.stat(path)"
# syncfs() starts sending the kernel's unwritten pages, and does not wait for the answers of a FUSE mount.
_SYNC = "import ctypes; ctypes.CDLL(None).syncfs(os.open(path, os.O_RDONLY | os.O_DIRECTORY))"
_PROGRAM = """
import os, sys
path = sys.argv[1]
try:
    {}
except OSError as error:
    sys.exit(error.strerror)
"""


class CannotAsk(OSError):
    """The child process can't be started: there is no memory, or this user may have no more processes."""


async def ask(mountpoint: Path) -> None:
    """Return when the mount has answered a request. Raises CannotAsk, or OSError where it does not answer."""
    await _run(_STAT, mountpoint)


async def sync(mountpoint: Path) -> None:
    """Make the kernel send its unwritten pages to the mount. Raises OSError."""
    await _run(_SYNC, mountpoint)


async def _run(call: str, mountpoint: Path) -> None:
    """Run the call in a child process. If cancelled, leave the child alone: it ends with the connection, if not before.

    To wait for a killed child would be to wait for the mount's answer, for which the kernel does not interrupt a call.
    """
    words: list[str | Path] = [sys.executable, "-I", "-S", "-c", _PROGRAM.format(call), mountpoint]
    try:
        process = await trio.lowlevel.open_process(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    except OSError as error:
        raise CannotAsk(error.errno, error.strerror) from None
    assert process.stderr is not None
    said = b"".join([part async for part in process.stderr])
    if await process.wait() != 0:
        raise OSError(
            said.decode(errors="replace").strip() or f"a child process ended with status {process.returncode}"
        )
