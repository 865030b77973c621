"""Checks, before a mount serves a library, that the tracking database is undamaged and as new as the disks.

Python's SQLite lacks the extension that checksums pages (checksum VFS). So damage that leaves a page in order is found
only where rows contradict each other. Such contradictions are looked for here as far as that is quick; when a tape file
is read (`TapeFiles.at`, `StreamReader`); and by `vtlfs check`.
"""

import logging
import os
from contextlib import closing
from pathlib import Path

from vtlfs.engine import recover
from vtlfs.engine.library import Library
from vtlfs.engine.tracking import currency, invariants
from vtlfs.engine.tracking.connection import REMEDY
from vtlfs.engine.tracking.database import FILE_NAME, Tracking
from vtlfs.errors import CatalogueBehind, LibraryError
from vtlfs.model import MIB

QUICK_BYTES = 64 * MIB  # the rows of a larger database are checked only after a mount died

log = logging.getLogger("vtlfs")


def check_before_mount(library: Library, *, read_only: bool) -> None:
    """Raise LibraryError if the database is damaged, CatalogueBehind if it is older than the disks.

    `read_only`: an older database is only logged. Migrates the tables of an older vtlfs. May block.
    """
    with closing(library.tracking(behind=read_only)) as tracking:
        if tracking.frozen:
            log.warning(
                "%s: is older than the disks; the mount does not show later sessions; `vtlfs rebuild` brings them back",
                library.path / FILE_NAME,
            )
        strangers = currency.never_given(library.disks_to_read(), lambda: tracking.library.watermark().next_session)
        if strangers is not None and not read_only:
            raise CatalogueBehind(str(library.path / FILE_NAME), strangers)
        died = bool(recover.dead_mounts(tracking, library.leases))
        if died or (library.path / FILE_NAME).stat().st_size <= QUICK_BYTES:
            _check_rows(library.path, tracking)
    # Checked last: closing the last connection has written SQLite's log into the file.
    if (problem := cut_short(library.path)) is not None:
        raise LibraryError(f"{library.path / FILE_NAME}: {problem}; {REMEDY}")


def _check_rows(library: Path, tracking: Tracking) -> None:
    for rule in invariants.QUICK:
        for problem in invariants.broken(tracking, rule):
            raise LibraryError(f"{library / FILE_NAME}: {problem}; `vtlfs check` tells more, and {REMEDY}")


def cut_short(library: Path) -> str | None:
    """Return in words how much the database's file lacks of its last page.

    None if the page is complete, or SQLite's write-ahead log is not empty and may have the rest.
    """
    file = library / FILE_NAME
    try:
        if os.stat(f"{file}-wal").st_size:
            return None
    except FileNotFoundError:
        pass
    with file.open("rb") as opened:
        head = opened.read(100)
    size, page = file.stat().st_size, int.from_bytes(head[16:18], "big")
    page = 65536 if page == 1 else page
    return f"its last page lacks {page - size % page} bytes" if page and size % page else None
