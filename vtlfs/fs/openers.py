"""Who opens a file: the process, its program, and the host that it works for."""

import ipaddress
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import psutil

from vtlfs.disks.executor import DiskExecutor
from vtlfs.errors import UsageError
from vtlfs.fs.connections import remote_address
from vtlfs.model import Opener, check_host, parse_size

# Programs that write to the file they open themselves, mostly in small blocks. Any other program may hand the open file
# on to what it starts, as shells and scripts do, and that may open it again under /dev/stdout.
WRITERS = frozenset(
    "tar bsdtar star cpio bsdcpio pax dd dump mbuffer pv cat tee cp rsync gzip pigz bzip2 xz zstd lz4 age gpg "
    "btrfs zfs xfsdump pg_dump pg_basebackup mysqldump mariadb-dump mariabackup".split()
)

# sshd, as which also the sftp server runs where sshd_config says `internal-sftp`.
SSHD = frozenset("sshd sshd-session".split())
# File servers. They give every write an offset, by lseek() or pwrite(), though the client may only be streaming.
FILE_SERVERS = SSHD | {"sftp-server", "smbd"}

MAX_PROGRAM = 64  # characters of a program's name; whoever starts it can make it as long as he likes
THREADS = 40  # for as many opens by processes that can't be looked at just now
MAX_KNOWN = 1024  # programs that have opened something, and are remembered
_STARTED, _STACK = 19, 25  # places in /proc/PID/stat, counted behind the program's name


@dataclass(frozen=True, slots=True)
class Caller:
    """What the kernel says of whoever opens."""

    pid: int
    uid: int
    gid: int
    writing: bool = True


class Openers:
    """Who opens, found out once for a process and the program that it runs. Used in the trio loop.

    A daemon may open thousands of streams, and to look at it and all its ancestors takes longer than many a stream.
    """

    def __init__(self, host: str | None, machine: str, most: int = MAX_KNOWN) -> None:
        """`host` and `machine`: see `identify`. `most`: programs that are remembered."""
        self._most = most
        self._host = host
        self._machine = machine
        self._known: dict[tuple[Caller, _Program], Opener] = {}
        self._looking = DiskExecutor("identify", THREADS)

    async def identify(self, caller: Caller) -> Opener:
        """Return who the caller is.

        What is not known yet a thread finds out: the locks of a process that it waits for may be held until we answer.
        """
        program = _program(caller.pid)
        known = None if program is None else self._known.get((caller, program))
        if known is not None:
            return known
        opener, still = await self._looking.run(self._look_at, caller)
        if program is not None and program == still:
            if len(self._known) >= self._most:
                self._known.clear()
            self._known[caller, program] = opener
        return opener

    def close(self) -> None:
        """Let the threads end."""
        self._looking.close()

    def _look_at(self, caller: Caller) -> "tuple[Opener, _Program | None]":
        """Return who it is, and what it still runs when that is known."""
        opener = identify(caller.pid, caller.uid, caller.gid, self._host, self._machine, writing=caller.writing)
        return opener, _program(caller.pid)


@dataclass(frozen=True, slots=True)
class _Program:
    """What tells one run of a program from all others: as long as it is the same, so is what it was started with."""

    name: bytes  # with the process's number
    started: bytes  # the process
    stack: bytes  # where it begins, which changes with each exec()
    executable: str


def _program(pid: int) -> _Program | None:
    """Return what a process runs; None where it can't be looked at.

    Unlike the command line and the environment, this is read without a lock of the process, which may be waiting for us
    while it holds that.
    """
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            name, _, rest = os.read(descriptor, 1024).rpartition(b")")
        finally:
            os.close(descriptor)
        fields = rest.split()
        return _Program(name, fields[_STARTED], fields[_STACK], _link(pid))
    except (OSError, IndexError):
        return None


def _link(pid: int) -> str:
    """Return the path of what a process runs; nothing where it is not for us to see. Raises OSError if it is gone."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except PermissionError:
        return ""


def identify(pid: int, uid: int, gid: int, host: str | None, machine: str, *, writing: bool = True) -> Opener:
    """Return who the process is that opens, for writing or for reading. May block: it reads /proc.

    The host is `host` if given (the mount's `host=`), else the client of the ssh connection under which the process or
    an ancestor runs, else `machine`. A process that can't be looked at (it is gone, another user's, or in another
    container: pid 0) works for the machine.
    """
    try:
        process = psutil.Process(pid) if pid else None
        program = process.name()[:MAX_PROGRAM] if process else "?"
    except (psutil.Error, OSError):
        process, program = None, "?"
    executable = _executable(process) if process else ""
    if host is None:
        host = (ssh_client(process) if process else None) or machine
    block = dd_block(_words(process), "obs" if writing else "ibs") if process and program == "dd" else None
    return Opener(
        host,
        pid,
        uid,
        gid,
        program,
        small_writes=executable in WRITERS,
        block=block,
        sends_offsets=(executable or program) in FILE_SERVERS,
    )


def dd_block(words: list[str], operand: str) -> int | None:
    """Return the bytes that a dd with this command line writes or reads at a time; None where that can't be told.

    `operand`: the one that says so beside `bs`. dd is what people write tapes with in large blocks, and read them;
    nothing else says its block size so plainly.
    """
    operands = dict(word.partition("=")[::2] for word in words[1:])
    text = operands.get("bs") or operands.get(operand)
    try:
        return parse_size(text) if text else None
    except UsageError:
        return None


def ssh_client(process: psutil.Process) -> str | None:
    """Return the address of the ssh client under which the process or an ancestor runs; None without one.

    What runs under sshd has it in its environment, unless that was cleared. sshd, which can be the sftp server too, has
    the connection; its own environment is that of whoever started it, so the search ends there.
    """
    under_sshd = False
    for relative in _lineage(process):
        is_sshd = _is_sshd(relative)
        if under_sshd and not is_sshd:
            break
        under_sshd = is_sshd
        with suppress(psutil.Error, OSError, ValueError, UsageError):
            if address := remote_address(relative.pid) if is_sshd else _told(relative):
                return address
    return None


def _is_sshd(process: psutil.Process) -> bool:
    try:
        return (_executable(process) or process.name()) in SSHD
    except (psutil.Error, OSError):
        return False


def _told(process: psutil.Process) -> str | None:
    """Return the client that the environment names. Raises ValueError or UsageError where that is no address."""
    address = process.environ().get("SSH_CONNECTION", "").partition(" ")[0]
    if address:
        ipaddress.ip_address(check_host(address))  # which would take any text behind a %
    return address or None


def _lineage(process: psutil.Process) -> Iterator[psutil.Process]:
    current: psutil.Process | None = process
    while current is not None:
        yield current
        try:
            current = current.parent()
        except (psutil.Error, OSError):
            return


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except (psutil.Error, OSError):
        return []


def _executable(process: psutil.Process) -> str:
    try:
        return os.path.basename(process.exe())
    except (psutil.Error, OSError):
        return ""
