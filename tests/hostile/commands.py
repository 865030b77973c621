"""Runs every command on libraries that were tampered with, in one process with little memory.

    python commands.py DIRECTORY...

Each library is `library` in a directory of its own. The process prints a JSON array with the result of each command. It
ends if a command takes too long; then standard error says what the command was doing.
"""

import faulthandler
import json
import resource
import sys
import traceback
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

from vtlfs.cli import main as program
from vtlfs.cli.show import line
from vtlfs.errors import VtlfsError

MEMORY = 2 << 30
SECONDS = 120


def commands(place: Path) -> Iterator[list[str]]:
    """Yield the commands for the library at `place/library`, those that only read first.

    A rebuild comes after the commands that write: the library that it makes counts as newer, so the old one is refused.
    """
    library = str(place / "library")
    yield ["status", library]
    yield ["status", library, "--json"]
    yield ["report", library]
    yield ["report", library, "--markdown"]
    yield ["notify", library, "--dry-run"]
    yield ["sessions", library]
    yield ["sessions", library, "--json", "--medium", "T1", "--host", "alpha"]
    yield ["files", library, "T1"]
    yield ["media", "list", library]
    yield ["snapshot", "list", library]
    yield ["snapshot", "show", library, "1", "--sessions"]
    yield ["snapshot", "diff", library, "1", "now"]
    yield ["snapshot", "diff", library, "1", "2", "--json"]
    yield ["snapshot", "export", library, "1", str(place / "out" / "1.db")]
    yield ["extract", library, "T1", "-o", str(place / "out" / "T1")]
    yield ["extract", library, "T2", "0", "--snapshot", "2", "-o", str(place / "out" / "T2")]
    yield ["check", library, "--json"]
    yield ["tui", library]
    yield ["verify", library, "--resume"]
    yield ["verify", library]
    yield ["snapshot", "prune", library, "--dry-run"]
    yield ["load", library, "0", "T1"]
    yield ["snapshot", "take", library]
    yield ["media", "add", library, "NEW"]
    yield ["rebuild", str(place / "rebuilt"), "--disk", str(place / "disk0"), "--disk", str(place / "disk1")]
    yield ["check", str(place / "rebuilt")]
    yield ["extract", str(place / "rebuilt"), "T1", "-o", str(place / "out" / "T1.rebuilt")]
    yield ["recover", library]
    yield ["status", library]


def run(words: list[str]) -> dict[str, Any]:
    """Run a command; return its words, its exit status, and what it printed."""
    output, errors = BytesIO(), BytesIO()
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    stdout, stderr = (TextIOWrapper(stream, "utf-8", write_through=True) for stream in (output, errors))
    with redirect_stdout(stdout), redirect_stderr(stderr):
        try:
            status = look(words[1]) if words[0] == "tui" else program.main(words)
        except BaseException:
            status = -1
            traceback.print_exc(file=stderr)
    faulthandler.cancel_dump_traceback_later()
    texts = (stream.getvalue().decode(errors="replace") for stream in (output, errors))
    return {"words": words, "status": status, **dict(zip(("stdout", "stderr"), texts, strict=True))}


def look(library: str) -> int:
    """Run the queries that the terminal UI runs when it shows a library."""
    from vtlfs.engine.tracking.repositories.sessions import SessionFilter
    from vtlfs.tui.source import Source

    try:
        source = Source.open(Path(library))
        for state in [None, *(snapshot.id for snapshot in source.snapshots())]:
            with source.tracking(state) as tracking:
                line(str([tracking.media.all(), tracking.drives.all(), tracking.disks.all(), tracking.mounts.live()]))
                line(str(tracking.sessions.find(SessionFilter(limit=100))))
    except (VtlfsError, OSError) as error:
        line(str(error))
        return 0
    return 0


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    results = [[run(words) for words in commands(Path(path))] for path in sys.argv[1:]]
    print(json.dumps(results))
