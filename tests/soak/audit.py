"""The audit at the end: compares every stream, session and snapshot with what the programs did."""

import threading
import time
from collections import Counter
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from queue import Empty, SimpleQueue

from blake3 import blake3

from soak.commands import Taken
from soak.plan import CROWD_READS, CROWD_WRITES, Stage
from soak.shelf import AT_ONCE, Shelf, Shelves
from soak.writers import Ledger, Written
from vtlfs.engine.tracking.repositories.sessions import SessionFilter
from vtlfs.model import Access, Session, Snapshot, State
from vtlfs.snap import store

CROWD = {CROWD_WRITES, CROWD_READS}
THREADS = 2
RELEASE_SECONDS = 30.0


class Audit:
    """Compares the library with the ledger; every difference becomes a problem of the report."""

    def __init__(self, stage: Stage, ledger: Ledger) -> None:
        self.stage = stage
        self.report = stage.report
        self.ledger = ledger

    def run(self, taken: list[Taken]) -> None:
        """Make all comparisons."""
        with closing(Shelves(self.stage, self.ledger)) as shelves:
            deadline = time.monotonic() + RELEASE_SECONDS  # for the kernel says after close() that it was the last
            while shelves.tracking.sessions.open_ids() and time.monotonic() < deadline:
                time.sleep(0.1)
            self._sessions(shelves)
            shelf_of = {barcode: shelves.shelf(barcode) for barcode in self.stage.plan.barcodes}
            self._snapshots(shelves, shelf_of, taken)
        self._streams(list(shelf_of.values()))

    # --- sessions ---------------------------------------------------------------------------------------------------

    def _sessions(self, shelves: Shelves) -> None:
        """Check that every writer has one session, which says what the writer did, and that there are no others."""
        sessions: dict[int, list[Session]] = {}
        total = 0
        for session in shelves.tracking.sessions.find(SessionFilter()):
            self.report.want(session.state != State.OPEN, f"session {session.id} is open")
            if session.access == Access.READ:
                self.report.want(session.error is None, f"session {session.id}, reading: {session.error}")
                continue
            if session.medium in CROWD:
                told = f"session {session.id} of the crowd: {session.state}, {session.error}"
                self.report.want((session.state, session.error) == (State.RELEASED, None), told)
                continue
            written = self.ledger.of(session)
            self.report.want(written, f"nobody wrote session {session}")
            sessions.setdefault(id(written), []).append(session)
            total += session.bytes
        for written in self.ledger.all:
            self._session(written, sessions.get(id(written), []))
        kept = sum(medium.bytes for medium in shelves.tracking.media.all() if medium.barcode not in CROWD)
        self.report.want(total == kept, f"sessions have {total} bytes, media {kept}")
        self.report.count("written", total)

    def _session(self, written: Written, found: list[Session]) -> None:
        want = self.report.want
        if written.killed and not found:
            want(not written.acknowledged, f"{written}: killed, and no session")
            return
        if len(found) != 1:
            want(False, f"{written}: {len(found)} sessions: {[session.id for session in found]}")
            return
        [session] = found
        told = f"{written}: session {session.id}, {session.state}, {session.error}, {session.bytes} bytes"
        want((session.state, session.error) == (State.RELEASED, None), told)
        most = written.fed if written.killed else written.content.size
        want(written.acknowledged <= session.bytes <= most, f"{told}, {written.acknowledged} acknowledged of {most}")
        want((session.tape_file is not None) == bool(session.bytes), f"{told}: tape file {session.tape_file}")
        want(bool(session.requests) == bool(session.bytes), f"{told}: {session.requests} requests")

    # --- streams ----------------------------------------------------------------------------------------------------

    def _streams(self, shelves: list[Shelf]) -> None:
        """Check by BLAKE3, through every mount in turn, that each medium is its streams, one after the other."""
        waiting: SimpleQueue[Shelf] = SimpleQueue()
        for shelf in shelves:
            waiting.put(shelf)

        def work() -> None:
            while not self.stage.stopped.is_set():
                try:
                    self._medium(waiting.get_nowait())
                except Empty:
                    return
                except Exception as error:
                    self.report.problem(f"comparing: {error!r}")

        threads = [threading.Thread(target=work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _medium(self, shelf: Shelf) -> None:
        mounts = list(self.stage.mounts.values())
        for each in shelf.shelved:
            file, content = each.file, each.written.content
            read, wanted = blake3(), blake3()
            with open(mounts[file.number % len(mounts)].file(shelf.barcode, file.number), "rb", buffering=0) as source:
                while piece := source.read(AT_ONCE):
                    read.update(piece)
            for start in range(0, file.bytes, AT_ONCE):
                wanted.update(content.piece(start, min(file.bytes, start + AT_ONCE)))
            same = read.digest() == wanted.digest()
            self.report.want(
                same, f"tape file {file.number} of {shelf.barcode} is not what was written: {each.written}"
            )
            self.report.count("audited", file.bytes)
            self.report.count("streams compared")
        gaps = [(a, b) for a, b in pairwise(shelf.shelved) if a.file.end != b.file.start]
        self.report.want(not gaps, f"{shelf.barcode}: tape files do not follow each other: {gaps}")

    # --- snapshots --------------------------------------------------------------------------------------------------

    def _snapshots(self, shelves: Shelves, shelf_of: dict[str, Shelf], taken: list[Taken]) -> None:
        """Check that each snapshot that was kept shows, in each mount, what was released when it was taken."""
        kept = {snapshot.id: snapshot for snapshot in store.snapshots(shelves.tracking)}
        self.report.want(kept or not taken, "no snapshot is left")
        for one in taken:
            if one.number in kept:
                try:
                    self._snapshot(shelf_of, one, kept[one.number])
                except FileNotFoundError:  # the schedule goes on, and prunes by itself
                    still = one.number in {snapshot.id for snapshot in store.snapshots(shelves.tracking)}
                    self.report.want(not still, f"snapshot {one.number}: not there, and not pruned")

    def _snapshot(self, shelf_of: dict[str, Shelf], one: Taken, counts: Snapshot) -> None:
        """Check that a snapshot shows, in each mount, what was released when it was taken."""
        for host, mount in self.stage.mounts.items():
            root = mount.path / "snapshots" / str(one.number)
            files: Counter[str] = Counter()
            sizes = {path.name: path.stat().st_size for path in (root / "media").iterdir()}
            for barcode, shelf in shelf_of.items():
                least, size, most = one.before[barcode], sizes.get(barcode, -1), one.after[barcode]
                what = f"snapshot {one.number} through {host}: {barcode}"
                self.report.want(least <= size <= most, f"{what}: {size} bytes, not {least} to {most}")
                self.report.want(size in shelf.borders, f"{what}: {size} bytes, in the middle of a tape file")
                files[barcode] = len(list((root / "files" / barcode).iterdir()))
                follow = shelf.borders[files[barcode]] == size
                self.report.want(follow, f"{what}: {files[barcode]} tape files, {size} bytes")
            for barcode in CROWD:
                files[barcode] = len(list((root / "files" / barcode).iterdir()))
            counted = (counts.bytes, counts.tape_files)
            shown = (sum(sizes.values()), files.total())
            self.report.want(shown == counted, f"snapshot {one.number}: shows {shown}, counted {counted}")
            self._compare_past(root, shelf_of[self.stage.plan.barcodes[one.number % len(shelf_of)]])
            self.report.count("views")

    def _compare_past(self, root: Path, shelf: Shelf) -> None:
        """Compare a medium, as the snapshot shows it, with its streams."""
        path = root / "media" / shelf.barcode
        with open(path, "rb", buffering=0) as source:
            difference = shelf.difference(source, 0, path.stat().st_size)
        self.report.want(difference is None, f"{path}: {difference}")
