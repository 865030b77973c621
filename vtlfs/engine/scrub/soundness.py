"""What a mount wants of a tracking database before it serves from it: that it is whole, and as new as the disks.

SQLite's own checksums of pages (its checksum VFS) are no part of Python's SQLite, so damage within a row that leaves
the page in order is found by what rows say of each other: here for the whole database as far as that is quick, when a
tape file is read (`TapeFiles.at`, `StreamReader`), and by `vtlfs check`.
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

QUICK_BYTES = 64 * MIB  # a larger database is looked through only after a mount that died

log = logging.getLogger("vtlfs")


def check_before_mount(library: Library, *, read_only: bool) -> None:
    """Raise LibraryError where the database is damaged, CatalogueBehind where it is older than the disks.

    `read_only`: the latter is only a line in the log. Brings the tables of an older vtlfs up to date. May block.
    """
    with closing(library.tracking(behind=read_only)) as tracking:
        if tracking.frozen:
            log.warning("%s: is older than the disks; what it lacks is not shown", library.path / FILE_NAME)
        strangers = currency.never_given(library.disks_to_read(), lambda: tracking.library.watermark().next_session)
        if strangers is not None and not read_only:
            raise CatalogueBehind(str(library.path / FILE_NAME), strangers)
        died = bool(recover.dead_mounts(tracking, library.leases))
        if died or (library.path / FILE_NAME).stat().st_size <= QUICK_BYTES:
            _check_rows(library.path, tracking)
    if (
        problem := cut_short(library.path)
    ) is not None:  # now that SQLite has folded the log in, if nobody else is there
        raise LibraryError(f"{library.path / FILE_NAME}: {problem}; {REMEDY}")


def _check_rows(library: Path, tracking: Tracking) -> None:
    for rule in invariants.QUICK:
        for problem in invariants.broken(tracking, rule):
            raise LibraryError(f"{library / FILE_NAME}: {problem}; `vtlfs check` tells more, and {REMEDY}")


def cut_short(library: Path) -> str | None:
    """Return in words how much of its last page the database's file lacks; None if nothing, or its log may have it."""
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
