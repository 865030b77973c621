"""Writers: the program that writes to a file that another one has opened, as a shell does for its redirections.

A shell opens the file and becomes the program by exec(), or hands the file to a child. FUSE tells no process of a
write that comes out of the kernel's page cache, and pyfuse3 of none. So /proc tells who holds the file when the first
write comes. These functions take no lock of a process, and ask no mount.
"""

import os
from collections.abc import Iterator
from contextlib import suppress

from vtlfs.fs.openers import MAX_PROGRAM, SHELLS

COMM = 15  # bytes of a program's name that the kernel keeps
MOST_CHILDREN = 100  # processes that are looked at
STDOUT = "1"


def name_of(pid: int) -> str | None:
    """Return the name of the program that a process runs, as far as the kernel keeps it; None if it has ended."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read(64).rstrip(b"\n").decode(errors="replace")[:MAX_PROGRAM]
    except OSError:
        return None


def has_become(pid: int, program: str) -> str | None:
    """Return the name of another program that the process runs by now; None if it still runs this one."""
    name = name_of(pid) if pid else None
    return None if name is None or name == os.fsencode(program)[:COMM].decode(errors="replace") else name


def writing_child(pid: int, file: str) -> str | None:
    """Return the name of a descendant of a shell that holds the file open; None without one. May take milliseconds.

    `file`: the last part of its path. A process whose standard output it is goes before others, since a shell hands its
    open files to every child. A process may have closed its output when the kernel sends what it wrote through the
    page cache: such a one is told where the shell has no other child.
    """
    children = {child: name for child in _descendants(pid) if (name := name_of(child)) and name not in SHELLS}
    held = {child: number for child in children if (number := _descriptor(child, file)) is not None}
    for child in sorted(held, key=lambda child: held[child] != STDOUT):
        return children[child]
    ends = [name for child, name in children.items() if _has_closed_output(child)]
    return ends[0] if len(children) == len(ends) == 1 else None


def _descriptor(pid: int, file: str) -> str | None:
    """Return the descriptor by which a process holds a file of this name; standard output, if that is one."""
    found = None
    with suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{number}").rpartition("/")[2] == file:
                    found = number if found != STDOUT else found
    return found


def _has_closed_output(pid: int) -> bool:
    """Tell whether a process has no standard output, as one that has closed it or ends."""
    try:
        return STDOUT not in os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return True


def _descendants(pid: int) -> Iterator[int]:
    """Yield the children of a process, and theirs."""
    waiting = [pid]
    for _ in range(MOST_CHILDREN):
        if not waiting:
            return
        parent = waiting.pop(0)
        with suppress(OSError), open(f"/proc/{parent}/task/{parent}/children") as file:
            children = [int(word) for word in file.read().split()]
            yield from children
            waiting.extend(children)
