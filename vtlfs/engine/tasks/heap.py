"""What the C library keeps of memory that was freed: at rest, the system gets it back.

A mount has malloc keep what is freed (`daemon.py`), for a running stream would have each page mapped and cleared anew.
So this task, one of the engine's, trims the heap: in a thread, when much was freed and hardly anything goes on; under a
load that does not end, only where the process has grown far beyond what it uses, and seldom.
"""

import ctypes
import os
from collections.abc import Callable
from contextlib import suppress

import trio

from vtlfs.engine.memory import MemoryBudget
from vtlfs.engine.reading.loads import LoadCache
from vtlfs.model import MIB

EVERY_SECONDS = 1.0
REST_BYTES = 4 * MIB  # given back between two looks, and no more: hardly anything goes on
REST_LOOKS = 3  # ... so many times, before spare buffers are dropped, and the heap is trimmed
WORTH_A_TRIM = 8 * MIB  # given back since the last time
OTHER_BYTES = 48 * MIB  # that the process has besides what the budget counts: the interpreter, the database
AGAIN_SECONDS = 10.0  # between two trims under load


async def run(memory: MemoryBudget, cache: LoadCache) -> None:
    """Drop what is idle, and give free memory back to the system, now and then."""
    trim = _find_trim()
    trimmed, trimmed_at, looks = 0, trio.current_time(), 0
    while True:
        before = memory.given
        await trio.sleep(EVERY_SECONDS)
        cache.drop_idle()
        looks = looks + 1 if memory.given - before <= REST_BYTES else 0
        if looks == REST_LOOKS:
            memory.buffers.drop()
        if memory.given - trimmed < WORTH_A_TRIM:
            continue
        if looks >= REST_LOOKS or (trio.current_time() > trimmed_at + AGAIN_SECONDS and _is_bloated(memory)):
            trimmed, trimmed_at = memory.given, trio.current_time()
            await trio.to_thread.run_sync(trim)


def _is_bloated(memory: MemoryBudget) -> bool:
    return _resident() > memory.used + OTHER_BYTES + memory.limit // 8


def _resident() -> int:
    """Return how many bytes of the process's own are in memory, without those of files; 0 where nobody tells."""
    try:
        with open("/proc/self/statm", "rb") as file:
            fields = file.read().split()
        return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def _find_trim() -> Callable[[], object]:
    """Return glibc's malloc_trim(0). Other C libraries are left to themselves."""
    with suppress(OSError, AttributeError):
        trim = ctypes.CDLL(None).malloc_trim
        trim.argtypes = (ctypes.c_size_t,)
        return lambda: trim(0)
    return lambda: None
