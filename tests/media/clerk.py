"""Runs commands of the real program one after the other, each in a process of its own that is forked with all loaded.

For each line of JSON on standard input, {"words": [...], "failpoint": ...}, it writes a line of JSON with the exit
status and what was printed. libfaketime, under which the test starts it, gives all of them the test's clock.
"""

import json
import os
import sys
import tempfile
import traceback

from vtlfs import failpoints
from vtlfs.cli.main import main
from vtlfs.engine import recover  # noqa: F401, so that every command finds them loaded
from vtlfs.engine.media import lifecycle  # noqa: F401, so that every command finds them loaded
from vtlfs.engine.reclaim import foreground  # noqa: F401
from vtlfs.engine.scrub import check, verify  # noqa: F401
from vtlfs.engine.transfer import exporting, importing  # noqa: F401
from vtlfs.snap import store  # noqa: F401


def run(words: list[str], failpoint: str | None) -> tuple[int, str]:
    """Run one command; return its exit status, and what it printed."""
    with tempfile.TemporaryFile() as output:
        if not (child := os.fork()):
            status = 1
            try:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                if failpoint:
                    failpoints.arm(failpoint)
                status = main(words)
                sys.stdout.flush()
                sys.stderr.flush()
            except BaseException:
                os.write(2, traceback.format_exc().encode())
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        size = os.fstat(output.fileno()).st_size  # the position is also that of what the child has started
        return status, os.pread(output.fileno(), size, 0).decode()


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)
