"""Openers: the process that opens a file, its program, and the host that it works for, as /proc shows them."""

import ipaddress
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import psutil

from vtlfs.disks.executor import DiskExecutor
from vtlfs.errors import UsageError
from vtlfs.fs.connections import remote_address
from vtlfs.model import Opener, check_host, parse_size

T = TypeVar("T")

# Programs that themselves write to the file that they open, mostly in small blocks. Any other program may hand the open
# file to a child, as shells do, and the child may open the file again as /dev/stdout: see the mount option `reopen`.
WRITERS = frozenset(
    "tar bsdtar star cpio bsdcpio pax dd dump mbuffer pv cat tee gzip pigz bzip2 xz age gpg "
    "btrfs zfs xfsdump pg_dump pg_basebackup mysqldump mariadb-dump mariabackup".split()
)

# Programs that open their archive themselves, with O_TRUNC only where it begins anew: to append, they open it without.
# Of any other program nobody can tell whether whoever started it means to lose what is there.
ARCHIVERS = frozenset("tar bsdtar cpio bsdcpio pax afio dar dump".split())

# Programs that read back from the beginning of the path to which they wrote, as their catalogue or the names of their
# files have it. They never find what they append, so on a medium that has something they begin anew or are refused.
OVERWRITERS = frozenset({"dar"})
# Amanda's programs that write to a volume; all are Perl. For `diskflat:`, each opens it write-only, without O_TRUNC,
# and writes a label at its beginning.
AMANDA = frozenset("taper amlabel amvault amtapetype amcheck-device".split())
# Programs that open a file and hand it to others, as their output.
SHELLS = frozenset("sh dash bash zsh ksh ksh93 mksh ash fish csh tcsh busybox".split())
# Programs that come back to write a header, or leave holes, where lseek() works, and do without where it fails: they
# get ESPIPE from lseek(). So do programs to which a shell hands a file, for `pg_dump -Fc > TAPE` comes back. All others
# may ask where they are. cp, rsync, zstd and lz4 seek over holes, and write large blocks, so they are not in WRITERS.
STREAMERS = WRITERS | SHELLS | frozenset("ffmpeg zip".split())
TAR_WITH_ARGUMENT = frozenset("bfCTXFgHIKLNV")  # options of GNU tar, of one letter, behind which an argument follows

# sshd. With `internal-sftp` in sshd_config, the sftp server runs under this name, too.
SSHD = frozenset("sshd sshd-session".split())
# File servers. They give every write an offset, by lseek() or pwrite(), even if their client only streams.
FILE_SERVERS = SSHD | {"sftp-server", "smbd"}

MAX_PROGRAM = 64  # characters of a program's name that are kept; a user can start a program with a name of any length
THREADS = 40  # for as many simultaneous open() calls whose /proc entries can't be read at once
MAX_KNOWN = 1024  # openers that are remembered
_STARTED, _STACK = 19, 25  # places in /proc/PID/stat, counted behind the program's name


@dataclass(frozen=True, slots=True)
class Caller:
    """The process that opens a file, as the kernel's request names it."""

    pid: int
    uid: int
    gid: int
    writing: bool = True


class Openers:
    """Identifies openers, once for each process and program that it runs. Used in the trio loop.

    A daemon may open thousands of streams, and to read /proc for it and all its ancestors takes longer than many a
    stream.
    """

    def __init__(self, host: str | None, machine: str, most: int = MAX_KNOWN) -> None:
        """`host` and `machine`: see `identify`. `most`: openers that are remembered."""
        self._most = most
        self._host = host
        self._machine = machine
        self._known: dict[tuple[Caller, _Program], Opener] = {}
        self._looking = DiskExecutor("identify", THREADS)

    async def identify(self, caller: Caller) -> Opener:
        """Return the opener that the caller is.

        A thread reads /proc for a caller that is not known yet. Such a read may wait for a lock of the caller's
        process, which may hold the lock until this very open() is answered.
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

    async def look(self, question: Callable[[], T]) -> T:
        """Return what a thread has found out about processes."""
        return await self._looking.run(question)

    def close(self) -> None:
        """End the threads."""
        self._looking.close()

    def _look_at(self, caller: Caller) -> "tuple[Opener, _Program | None]":
        """Return the opener, and the program that the caller's process runs afterwards. Runs in a thread."""
        opener = identify(caller.pid, caller.uid, caller.gid, self._host, self._machine, writing=caller.writing)
        return opener, _program(caller.pid)


@dataclass(frozen=True, slots=True)
class _Program:
    """One run of a program. Two that are equal have the same arguments and environment."""

    name: bytes  # with the process's number
    started: bytes  # when the process started
    stack: bytes  # address of the stack, which changes with each exec()
    executable: str


def _program(pid: int) -> _Program | None:
    """Return the program that a process runs; None if the process can't be inspected.

    Unlike the command line and the environment, these files are read without a lock of the process, so the read can't
    wait for a process that waits for this mount.
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
    """Return the path of a process's executable; empty if it may not be read. Raises OSError if the process is gone."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except PermissionError:
        return ""


def identify(pid: int, uid: int, gid: int, host: str | None, machine: str, *, writing: bool = True) -> Opener:
    """Return the opener of a file, which opens it for `writing` or for reading. Reads /proc, so it may block.

    Its host is `host` if given (the mount's `host=`), else the client of the ssh connection under which the process or
    an ancestor runs, else `machine`. A process that can't be inspected has the host `machine`: it has ended, belongs to
    another user, or is in another container (pid 0).
    """
    try:
        process = psutil.Process(pid) if pid else None
        program = process.name()[:MAX_PROGRAM] if process else "?"
    except (psutil.Error, OSError):
        process, program = None, "?"
    executable = _executable(process) if process else ""
    is_perl = not executable or executable.startswith("perl")  # empty: it belongs to another user
    overwrites = (executable or program) in OVERWRITERS or (is_perl and program in AMANDA)
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
        streams_only=(executable or program) in STREAMERS,
        begins_anew=executable in ARCHIVERS or overwrites,
        overwrites=overwrites,
        changes_media=process is not None and program == "tar" and is_multi_volume(_words(process)),
    )


def means_anew(opener: Opener, flags: int) -> bool:
    """Tell whether an open() for writing means that the file begins anew, as far as its program is known."""
    if flags & os.O_TRUNC:
        return opener.begins_anew
    return opener.overwrites and flags & (os.O_ACCMODE | os.O_APPEND) == os.O_WRONLY


def is_multi_volume(words: list[str]) -> bool:
    """Tell whether the command line of a tar says --multi-volume or -M, also as `tar cMf`. An abbreviation counts."""
    for number, word in enumerate(words[1:]):
        if word == "--":
            return False
        if word.startswith("--mu"):
            return True
        if word.startswith("--"):
            continue
        bundled = not word.startswith("-")
        if bundled and number:
            continue
        letters = (
            word if bundled else next((word[:at] for at in range(len(word)) if word[at] in TAR_WITH_ARGUMENT), word)
        )
        if "M" in letters:
            return True
    return False


def dd_block(words: list[str], operand: str) -> int | None:
    """Return the block size in the command line of a dd; None if it names none. `operand`: `obs` or `ibs`, beside `bs`.

    dd is the usual program to write and read tapes in large blocks, and no other states its block size so plainly.
    """
    operands = dict(word.partition("=")[::2] for word in words[1:])
    text = operands.get("bs") or operands.get(operand)
    try:
        return parse_size(text) if text else None
    except UsageError:
        return None


def ssh_client(process: psutil.Process) -> str | None:
    """Return the address of the ssh client under which the process or an ancestor runs; None without one.

    A process under sshd has the address in its environment, unless that was cleared. sshd itself, which may be the sftp
    server, has the connection. The environment of sshd is that of its starter, so the search ends with sshd.
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
    """Return the client in SSH_CONNECTION of the environment. Raises ValueError or UsageError if it is no address."""
    address = process.environ().get("SSH_CONNECTION", "").partition(" ")[0]
    if address:
        ipaddress.ip_address(check_host(address))  # ip_address alone accepts any text after a %
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
