"""Readers: real programs that read media while more is written; their output is compared at once."""

import random
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path

from mounting import Mounted

from soak.plan import Stage
from soak.shelf import Shelf, Shelves
from soak.writers import Ledger

THREADS = 5
PAUSE_SECONDS = 0.3
BLOCK = 4096
LIMIT = 64 << 20  # of what one program reads of a medium


class Readers:
    """A few threads, each of which runs one program after another."""

    def __init__(self, stage: Stage, ledger: Ledger) -> None:
        self.stage = stage
        self.ledger = ledger
        self._chance = random.Random(-stage.plan.seed)
        self._ways = [self._whole, self._skipped, self._tail, self._both, self._past, self._drive, self._listed]
        self._threads = [threading.Thread(target=self._work) for _ in range(THREADS)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait for the last program."""
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        with closing(Shelves(self.stage, self.ledger)) as shelves:
            while not self.stage.over.wait(PAUSE_SECONDS):
                way = self._chance.choice(self._ways)
                try:
                    shelf = shelves.shelf(self._chance.choice(self.stage.plan.barcodes))
                    if shelf.shelved:
                        mount = self.stage.mounts[self._chance.choice(list(self.stage.mounts))]
                        way(mount, shelf, shelves)
                        self.stage.report.count("reads")
                except Exception as error:
                    self.stage.report.problem(f"reading, {way.__name__}: {error!r}")

    def _compare(self, words: list[object], shelf: Shelf, start: int, end: int) -> None:
        """Run a program; check that its output is these bytes of the medium."""
        report = self.stage.report
        with started(words) as process:
            assert process.stdout is not None
            difference = shelf.difference(process.stdout, start, end)
            _, errors = process.communicate()
        told = " ".join(map(str, words))
        report.want(difference is None, f"{told}: {difference}")
        report.want((process.returncode, errors) == (0, b""), f"{told}: {process.returncode}, {errors.decode()}")
        report.count("compared", end - start)

    # --- ways to read -----------------------------------------------------------------------------------------------

    def _whole(self, mount: Mounted, shelf: Shelf, _: Shelves) -> None:
        file = self._chance.choice(shelf.shelved).file
        self._compare(["cat", mount.file(shelf.barcode, file.number)], shelf, file.start, file.end)

    def _drive(self, mount: Mounted, shelf: Shelf, _: Shelves) -> None:
        end = min(shelf.size, self._chance.randrange(1, LIMIT))
        path = mount.drive(self._chance.randrange(4), shelf.barcode)
        self._compare(["head", "-c", end, path], shelf, 0, end)

    def _skipped(self, mount: Mounted, shelf: Shelf, _: Shelves) -> None:
        file = self._chance.choice(shelf.shelved).file
        path = mount.file(shelf.barcode, file.number)
        self._dd(path, shelf, file.start, file.end)

    def _dd(self, path: Path, shelf: Shelf, start: int, end: int) -> None:
        """Read some blocks of the file at the path, which has the bytes `start` to `end` of the medium."""
        skip = self._chance.randrange(0, max(1, (end - start) // BLOCK))
        count = self._chance.randrange(1, 2000)
        words = ["dd", f"if={path}", f"bs={BLOCK}", f"skip={skip}", f"count={count}", "status=none"]
        first = start + skip * BLOCK
        self._compare([*words], shelf, first, min(end, first + count * BLOCK))

    def _both(self, _: Mounted, shelf: Shelf, __: Shelves) -> None:
        file = self._chance.choice(shelf.shelved).file
        paths = [mount.file(shelf.barcode, file.number) for mount in self.stage.mounts.values()]
        with started(["cmp", *paths]) as process:
            said, errors = process.communicate()
        self.stage.report.want(process.returncode == 0, f"cmp {paths}: {said.decode()}{errors.decode()}")
        self.stage.report.count("compared", file.bytes)

    def _past(self, mount: Mounted, shelf: Shelf, _: Shelves) -> None:
        """Read a medium as a snapshot shows it. One without a name may be pruned meanwhile."""
        names = [path for path in (mount.path / "snapshots").iterdir() if (path / "media").is_dir()]
        if not names:
            return
        path = self._chance.choice(names) / "media" / shelf.barcode
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return
        if 0 < size <= shelf.size:
            self.stage.report.want(size in shelf.borders, f"{path}: {size} bytes, in the middle of a tape file")
            self._dd(path, shelf, 0, size)

    def _tail(self, mount: Mounted, shelf: Shelf, shelves: Shelves) -> None:
        """Read the end of a medium, which may have grown meanwhile by whole tape files."""
        size = self._chance.randrange(1, 1 << 20)
        path = mount.medium(shelf.barcode)
        with started(["tail", "-c", size, path]) as process:
            tail, errors = process.communicate()
        after = shelves.shelf(shelf.barcode)
        ends = [end for end in after.borders if end >= shelf.size and tail == after.piece(max(0, end - size), end)]
        self.stage.report.want(ends, f"tail -c {size} {path}: {process.returncode}, {errors.decode()}: not the end")
        self.stage.report.count("compared", len(tail))

    def _listed(self, mount: Mounted, shelf: Shelf, _: Shelves) -> None:
        for path in ("media", f"files/{shelf.barcode}", "sessions", "snapshots", "drives/1"):
            began = time.monotonic()
            with started(["ls", "-l", mount.path / path]) as process:
                said, errors = process.communicate()
            # A session or snapshot that was listed may be gone when it is looked at.
            fine = process.returncode == 0 or path in ("sessions", "snapshots")
            self.stage.report.want(fine, f"ls -l {path}: {errors.decode()}")
            self.stage.report.peak(f"ls {path.partition('/')[0]}", time.monotonic() - began)
            if path == f"files/{shelf.barcode}":
                few = len(said.splitlines()) - 1 < len(shelf.shelved)
                self.stage.report.want(not few, f"ls {path}: fewer than the {len(shelf.shelved)} that were there")


def started(words: list[object]) -> "subprocess.Popen[bytes]":
    """Start a program whose output is to be read; Ctrl-C does not reach it."""
    return subprocess.Popen(
        list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
