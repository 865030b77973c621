"""`vtlfs` with a thread that records every half second what the mount holds, which can't be seen from outside.

`python observed.py DIRECTORY mount …` keeps the file DIRECTORY/PID up to date, a JSON object. Nothing else is
different from `python -m vtlfs mount …`.
"""

import gc
import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from vtlfs.cli.main import main
from vtlfs.disks.local.member import LocalMember
from vtlfs.engine.reading.reader import MediumReader
from vtlfs.engine.reading.session import ReadSession
from vtlfs.engine.writing.session import WriteSession
from vtlfs.engine.writing.striping.extents import ExtentBuffer
from vtlfs.fs.operations import Operations

SECONDS = 0.5
KINDS = (LocalMember, ReadSession, MediumReader, WriteSession, ExtentBuffer)  # what an idle mount has none of


class Observed(Operations):
    """The FUSE handlers, which also remember their mount."""

    latest: "Observed"

    def __init__(self, *words: Any, **more: Any) -> None:
        super().__init__(*words, **more)
        Observed.latest = self

    def held(self) -> dict[str, object]:
        """Return the number of objects of each kind now."""
        engine = self._engine
        counts: dict[str, object] = {
            "inodes": len(self._inodes),
            "handles": len(self._files) + len(self._listings),
            "sessions": len(engine._writers) + len(engine._readers) + len(engine._releasing),
            "threads": sorted(thread.name for thread in threading.enumerate()),
        }
        if not counts["sessions"]:  # it takes a while, and is of interest only then
            gc.collect()
            found = Counter(type(each).__name__ for each in gc.get_objects() if type(each) in KINDS)
            counts["objects"] = dict(found)
        return counts


def observe(file: Path) -> None:
    """Record the numbers of objects, for ever."""
    new = file.with_suffix(".new")
    while True:
        time.sleep(SECONDS)
        if hasattr(Observed, "latest"):
            new.write_text(json.dumps(Observed.latest.held()))
            new.rename(file)


if __name__ == "__main__":
    import vtlfs.daemon

    vars(vtlfs.daemon)["Operations"] = Observed
    if os.getsid(0) != os.getpid():  # else it was started again
        os.setsid()  # Ctrl-C is for who runs the soak, who unmounts then
    threading.Thread(target=observe, args=[Path(sys.argv.pop(1)) / str(os.getpid())], daemon=True).start()
    sys.exit(main())
