"""The ways by which people are told: a command that is run, and a URL to which JSON is posted. In the trio loop.

Each has a time limit. What fails is a `NotTold`; nothing else is raised. The command runs as the user of the process,
with an environment of its own, without a shell, in a session of its own, and is killed with its children at the limit.
"""

import os
import pwd
import signal
import stat
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import trio

from vtlfs.care.message import Message
from vtlfs.care_rules import NotifyRule
from vtlfs.config import FILE_NAME
from vtlfs.errors import VtlfsError

COMMAND, URL = "command", "url"
SAID_BYTES = 2048  # of the output of a command, or of an answer, that are kept
LAST_WORDS = 0.5  # seconds for the output of a command that has ended
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NotTold(VtlfsError):
    """A message could not be told. Its text says why, and has nothing of the URL but its host."""


def of(rule: NotifyRule) -> tuple[str, ...]:
    """Return the ways that library.toml asks for."""
    return tuple(way for way, value in ((COMMAND, rule.command), (URL, rule.url)) if value is not None)


async def tell(way: str, rule: NotifyRule, library: Path, message: Message) -> None:
    """Tell a message. Raises NotTold."""
    if way == COMMAND and rule.command is not None:
        check_trusted(library)
        await run_command(rule.command, message, rule.limit)
    elif way == URL and rule.url is not None:
        await post(rule.url, rule.headers, message, rule.limit)


# --- a command --------------------------------------------------------------------------------------------------------


def check_trusted(library: Path) -> None:
    """Raise NotTold where somebody else than root and the user of this process can change which command is run."""
    for path in (library / FILE_NAME, library):
        try:
            status = os.stat(path)
        except OSError as error:
            raise NotTold(f"{path}: {error.strerror}") from None
        if status.st_uid not in (0, os.geteuid()) or stat.S_IMODE(status.st_mode) & 0o022:
            raise NotTold(
                f"{path}: can be changed by others than its owner, so its command is not run; chmod go-w, or chown to"
                " the user of the mount"
            )


def environment(message: Message) -> dict[str, str]:
    """Return the whole environment of the command: nothing of the environment of this process is in it."""
    try:
        user = pwd.getpwuid(os.geteuid())
        name, home = user.pw_name, user.pw_dir
    except KeyError:
        name, home = str(os.geteuid()), "/"
    return {"PATH": PATH, "HOME": home, "USER": name, "LOGNAME": name, "LANG": "C.UTF-8"} | message.environment()


async def run_command(words: tuple[str, ...], message: Message, limit: float) -> None:
    """Run a command that gets the message on its standard input. Raises NotTold, also where it fails."""
    said = bytearray()
    with trio.move_on_after(limit) as scope:
        try:
            process = await trio.lowlevel.open_process(
                list(words),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment(message),
                cwd="/",
                start_new_session=True,
                umask=0o077,
            )
        except OSError as error:
            raise NotTold(f"{words[0]}: {error.strerror}") from None
        try:
            await _converse(process, message.document(), said)
        finally:
            _end(process)
    if scope.cancelled_caught:
        raise NotTold(f"{words[0]}: did not end within {limit:g} s, and was killed")
    if process.returncode:
        lines = said.decode("utf-8", "replace").strip().splitlines()
        why = f"exit status {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
        raise NotTold(f"{words[0]}: {why}{f': {lines[0][:200]}' if lines else ''}")


async def _converse(process: trio.Process, document: bytes, said: bytearray) -> None:
    """Hand the message over, hear what is said, and wait for the end of the process."""
    heard = trio.Event()

    async def hand_over() -> None:
        assert process.stdin is not None
        with suppress(trio.BrokenResourceError):  # it need not read it
            await process.stdin.send_all(document)
        await process.stdin.aclose()

    async def hear() -> None:
        assert process.stdout is not None
        while part := await process.stdout.receive_some(SAID_BYTES):
            said.extend(part[: SAID_BYTES - len(said)])
        heard.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hand_over)
        nursery.start_soon(hear)
        await process.wait()
        with trio.move_on_after(LAST_WORDS):  # a process that it leaves in the background may keep the pipe
            await heard.wait()
        nursery.cancel_scope.cancel()


def _end(process: trio.Process) -> None:
    """Kill the command and its children, unless it has ended by itself; and let go of its pipes."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        trio.lowlevel.spawn_system_task(process.wait)
    for pipe in (process.stdin, process.stdout):
        if isinstance(pipe, trio.lowlevel.FdStream):
            pipe.close()


# --- a URL ------------------------------------------------------------------------------------------------------------


async def post(url: str, headers: Mapping[str, str], message: Message, limit: float) -> None:
    """Post the message as JSON. Raises NotTold, also where the answer is not that it was taken."""
    with trio.move_on_after(limit) as scope:
        await trio.to_thread.run_sync(_post, url, dict(headers), message.document(), limit, abandon_on_cancel=True)
    if scope.cancelled_caught:
        raise NotTold(f"{_host(url)}: did not answer within {limit:g} s")


def _post(url: str, headers: dict[str, str], document: bytes, limit: float) -> None:
    """Post a document; in a thread. A redirection is an error: it would turn the request into another one."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class NoRedirection(HTTPRedirectHandler):
        def redirect_request(self, req: Request, fp: IO[bytes], *_: Any) -> None:
            return None

    sent = {"Content-Type": "application/json", "User-Agent": "vtlfs"} | headers
    try:
        with build_opener(NoRedirection).open(Request(url, document, sent, method="POST"), timeout=limit) as answer:
            answer.read(SAID_BYTES)
    except HTTPError as error:
        error.close()
        raise NotTold(f"{_host(url)}: HTTP status {error.code}") from None
    except (OSError, HTTPException, ValueError) as error:
        why = getattr(error, "reason", error)
        raise NotTold(f"{_host(url)}: {getattr(why, 'strerror', None) or why or type(why).__name__}") from None


def _host(url: str) -> str:
    """Return the host of a URL, which is no secret; the rest may have a token."""
    return urlsplit(url).hostname or "url"
