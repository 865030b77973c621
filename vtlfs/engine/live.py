"""Live figures: how far each open session of a mount is, and what its disks have done, every second in a small file.

For those who watch, `vtlfs status` and the terminal UI: they read `mounts/N.live` in the library and ask nothing of the
mount. The file is rewritten in place and never synced (`publishing.py`); it is gone when the mount is. Two lines: the
CRC-32 of the second, which is a JSON text (docs/tracking.md).
"""

import json
import os
import stat
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vtlfs.engine.lease import DIRECTORY, LIVE

MAX_BYTES = 16 << 20  # that are read: what 200,000 open sessions need
TRIES = 3  # to read a file that is being rewritten


@dataclass(frozen=True, slots=True)
class LiveStats:
    """What a mount says of itself. Counters only grow, so that two of them make a rate."""

    at: float  # seconds of the machine's monotonic clock: to be compared with other figures of the same mount only
    sessions: dict[int, tuple[int, int]]  # of each open one: bytes that have come or were read, requests
    disks: dict[int, tuple[int, int]]  # of each disk: bytes written and bytes read since the mount began
    computed: dict[int, int] = field(default_factory=dict)  # of each disk: extents that were computed for readers


def path_of(library: Path, mount: int) -> Path:
    """Return where a mount keeps its figures."""
    return library / DIRECTORY / f"{mount}{LIVE}"


def read(library: Path, mount: int) -> LiveStats | None:
    """Return a mount's latest figures, None where there are none to be had. May block."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    for _ in range(TRIES):
        try:
            descriptor = os.open(path_of(library, mount), flags)
        except OSError:
            return None
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            check, _, rest = file.read(MAX_BYTES).partition(b"\n")
        body = rest.partition(b"\n")[0]
        if check == _check(body):
            return _parsed(body)
    return None


def write(descriptor: int, figures: LiveStats) -> None:
    """Rewrite the file that is open for writing. May block."""
    body = json.dumps(asdict(figures)).encode()
    os.pwrite(descriptor, b"%s\n%s\n" % (_check(body), body), 0)  # what was longer before stays behind the second line


def _check(body: bytes) -> bytes:
    return b"%08x" % zlib.crc32(body)


def _parsed(body: bytes) -> LiveStats | None:
    """Return the figures of a JSON text; None where somebody else wrote it."""
    try:
        document = json.loads(body)
        pairs = {
            name: {int(number): (int(pair[0]), int(pair[1])) for number, pair in document[name].items()}
            for name in ("sessions", "disks")
        }
        computed = {int(number): int(extents) for number, extents in document["computed"].items()}
        return LiveStats(float(document["at"]), **pairs, computed=computed)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError):
        return None
