"""A library that has lived: several hosts, two mounts at once, a mount that died, media of all kinds, snapshots."""

import os
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from mounting import OnDisks, random_bytes

from vtlfs.disks.local.opening import member_path
from vtlfs.engine.rebuild.rebuild import Rebuilt, rebuild
from vtlfs.engine.tracking.database import FILE_NAME
from vtlfs.model import KIB, utc_now

UNIT = 64 * KIB
Tables = dict[str, list[dict[str, Any]]]


class Lived(OnDisks):
    """The library, at a place of its own, and what was written to it."""

    def __init__(self, root: Path, like: Path, written: dict[tuple[str, int], bytes]) -> None:
        shutil.copytree(like, root, symlinks=True)
        self.root = root
        self.path = root / "library"
        self.disks = [root / f"disk{number}" for number in range(3)]
        self.written = written
        configuration = self.path / "library.toml"
        configuration.write_text(configuration.read_text().replace(str(like), str(root)))

    def lose(self) -> None:
        """Remove the tracking database."""
        for suffix in ("", "-wal", "-shm"):
            (self.path / f"{FILE_NAME}{suffix}").unlink(missing_ok=True)

    def forget_copies(self, *numbers: int) -> None:
        """Remove copies of the tracking database: those with these numbers, or all."""
        for disk in self.disks:
            for copy in (disk / "tracking").glob("*.db"):
                if not numbers or int(copy.stem) in numbers:
                    copy.unlink()

    def rebuild(self, *without: int) -> Rebuilt:
        """Rebuild the tracking database by the program's own function, which is quicker than the program."""
        there = [disk for number, disk in enumerate(self.disks) if number not in without]
        return self.rebuild_with(*there, without=without)

    def rebuild_with(self, *disks: Path, without: Sequence[int] = ()) -> Rebuilt:
        """Rebuild the tracking database from these disks."""
        return rebuild(self.path, disks, without, utc_now())

    def tables(self) -> Tables:
        """Return all tables of the tracking database."""
        return tables_of(self.path / FILE_NAME)

    def member(self, disk: int, session: int) -> Path:
        """Return where a session's member file lies on a disk."""
        return member_path(self.disks[disk], session)

    def check_streams(self) -> None:
        """Assert that every tape file that was written can be read, byte for byte."""
        for (barcode, number), content in self.written.items():
            assert self.extract(barcode, number) == content, (barcode, number)


def moved(root: Path) -> Path:
    """Move a library and its disks; return their new directory. So no copy finds disks at their old paths."""
    there = root.with_name("moved")
    root.rename(there)
    configuration = there / "library" / "library.toml"
    configuration.write_text(configuration.read_text().replace(str(root), str(there)))
    return there


def tables_of(file: Path) -> Tables:
    """Return all tables of a database."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")]
        return {name: [dict(row) for row in database.execute(f"SELECT * FROM {name} ORDER BY 1, 2")] for name in names}


def differing(before: Tables, after: Tables) -> dict[str, set[str]]:
    """Return the columns that differ in each table; `rows` where there are others."""
    found: dict[str, set[str]] = {}
    for name, rows in before.items():
        others = after[name]
        if len(rows) != len(others):
            found[name] = {"rows"}
            continue
        columns = {key for row, other in zip(rows, others, strict=True) for key in row if row[key] != other[key]}
        if columns:
            found[name] = columns
    return found


def live(library: OnDisks) -> dict[tuple[str, int], bytes]:
    """Use the library; return the content of its tape files. Two copies of the database are made meanwhile."""
    sizes = iter([3 * UNIT, 5, 10 * UNIT + 7, UNIT, 1, 2 * UNIT + 1, 40_000, 7 * UNIT])
    written: dict[tuple[str, int], bytes] = {}

    def write(path: Path, barcode: str) -> None:
        number = sum(1 for known, _ in written if known == barcode)
        written[barcode, number] = random_bytes(len(written), next(sizes))
        path.write_bytes(written[barcode, number])

    library.add("CAP", capacity=100 * UNIT)
    with (
        library.mounted("host=alpha") as alpha,
        library.mounted("host=beta", at=library.root / "beta") as beta,
    ):
        write(alpha.drive(0, "T1"), "T1")
        write(beta.drive(3, "T1"), "T1")
        write(beta.medium("CAP"), "CAP")
        assert alpha.medium("T1").read_bytes() == written["T1", 0] + written["T1", 1]
        library.vtlfs("load", library.path, 2, "T2")
        library.vtlfs("snapshot", "take", library.path, "--name", "first")
    with library.mounted("host=gamma,io=direct") as gamma:
        write(gamma.medium("T2"), "T2")
        write(gamma.medium("T1"), "T1")
        with open(gamma.medium("T3"), "wb"):
            pass  # a session that leaves nothing
        library.vtlfs("snapshot", "take", library.path)
        written["T2", 1] = cut_off = random_bytes(99, 2 * UNIT + 100)
        descriptor = os.open(gamma.medium("T2"), os.O_WRONLY)
        os.write(descriptor, cut_off)
        os.fsync(descriptor)
        gamma.kill()
        with suppress(OSError):
            os.close(descriptor)
        library.vtlfs("umount", gamma.path)
    with library.mounted("host=delta", expects=["died; 1 of its sessions"]) as delta:
        write(delta.medium("T1"), "T1")
        write(delta.medium("CAP"), "CAP")
    return written
