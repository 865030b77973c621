"""A new tracking database from the disks, for a library whose own is lost or went back: what `vtlfs rebuild` does.

It is made beside the place of the old one and takes that place when it is whole and durable. Until then nothing has
changed, however it ends; the old one is kept under another name. docs/reliability.md says what can't come back.
"""

import logging
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from vtlfs import config as configuration
from vtlfs.config import Config
from vtlfs.disks import marks
from vtlfs.disks.base import Disk
from vtlfs.disks.contents import Batch
from vtlfs.disks.discovery import Discovery
from vtlfs.durable import sync_directory, write_file
from vtlfs.engine import recover
from vtlfs.engine.lease import DIRECTORY
from vtlfs.engine.library import Library
from vtlfs.engine.rebuild import preconditions, seed
from vtlfs.engine.rebuild.found import Found, ReplayReport
from vtlfs.engine.rebuild.replay import Progress, Replay
from vtlfs.engine.tracking.database import FILE_NAME, Tracking
from vtlfs.engine.tracking.files import EndedSessions
from vtlfs.errors import DiskError, LibraryError, VtlfsError
from vtlfs.failpoints import reached
from vtlfs.model import MIB, DiskRecord, Watermark

TEMPORARY = f".{FILE_NAME}.rebuild"
QUEUED_BATCHES = 16
SPARE_COMMITS = 1000  # numbers that are skipped: a missing disk may have a mark with a higher one

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What has come of it. `base`: what the database began with, None: nothing; `aside`: where the old one is kept."""

    library: Library
    base: seed.Base | None
    report: ReplayReport
    without: tuple[int, ...]
    aside: Path | None
    media: int
    sessions: int
    tape_files: int
    bytes: int


def rebuild(
    path: Path, disks: Sequence[Path], without: Sequence[int], at: str, progress: Progress = lambda what, count: None
) -> Rebuilt:
    """Make a new tracking database for the library in this directory from its disks. `at` is the time.

    `disks`: where they are, none: where library.toml says. `without`: numbers of those that are lost. `progress` is
    told what is done and how many of it so far. Raises UsageError or LibraryError; then nothing has changed.
    """
    path = Path(os.path.abspath(path))
    config = preconditions.configuration_of(path)
    found = preconditions.find_disks(config, disks, without)
    made = not path.exists()
    if made:
        path.mkdir(mode=0o700)
        reached("rebuild.directory_made")
    try:
        with preconditions.alone(path):
            return _Rebuild(path, config, found, tuple(sorted(without)), at, progress).run()
    finally:
        if made and not any(path.iterdir()):
            path.rmdir()


class _Rebuild:
    """One rebuild. `found` are the disks that there are."""

    def __init__(
        self,
        path: Path,
        config: Config | None,
        found: Discovery,
        without: tuple[int, ...],
        at: str,
        progress: Progress,
    ) -> None:
        self._path = path
        self._config = config
        self._uuid = found.library
        self._places = found.places
        self._without = without
        self._at = at
        self._progress = progress
        self._disks = found.disks()

    def run(self) -> Rebuilt:
        """Make the new database, and put it in its place."""
        try:
            self._check_complete(len(self._config.disks) if self._config else 0)
            begun = seed.begin(
                self._path,
                self._path / TEMPORARY,
                self._uuid,
                self._disks,
                self._records(0),
                complete=not self._without,
            )
            reached("rebuild.begun")
            with closing(Tracking(self._path, name=TEMPORARY)) as tracking:
                tracking.set_journal_mode("OFF")  # what fails is thrown away
                known = {disk.number: disk for disk in tracking.disks.all()}
                self._check_complete(len(known))
                with tracking.transaction(durable=False):
                    rebuilt = self._replay(tracking, begun)
                seed.finish(tracking)
                config = self._config or self._new_config(tracking)
            aside = self._put_in_place(config)
        finally:
            seed.remove(self._path / TEMPORARY)
        library = Library(self._path, config)
        self._raise_marks(library)
        self._finish_headers(library, rebuilt.report)
        return replace(rebuilt, library=library, aside=aside)

    def _check_complete(self, count: int) -> None:
        """Raise LibraryError where one of `count` disks is missing and not named in `without`."""
        missing = sorted(set(range(count)) - set(self._places) - set(self._without))
        if missing:
            raise LibraryError(
                f"disk {missing[0]} is missing; give its directory with --disk, or --without-disk {missing[0]} to go"
                " without what lies on it"
            )

    def _records(self, count: int) -> list[DiskRecord]:
        """Return the rows of at least so many disks."""
        numbers = range(max(count, max([*self._places, *self._without]) + 1))
        return [self._record(number) for number in numbers]

    def _record(self, number: int) -> DiskRecord:
        if (place := self._places.get(number)) is not None:
            return DiskRecord(number, place.label.disk, str(place.path), place.label.created_at)
        paths = [path for path in (self._config.disks if self._config else ()) if path not in self._there()]
        lost = [one for one in self._without if one not in self._places]
        at = lost.index(number) if number in lost else len(paths)
        where = str(paths[at]) if at < len(paths) else f"/missing/disk{number}"
        return DiskRecord(
            number, f"unknown, of disk {number}", where, next(iter(self._places.values())).label.created_at
        )

    def _there(self) -> list[Path]:
        return [place.path for place in self._places.values()]

    # --- from the disks ---------------------------------------------------------------------------------------------

    def _replay(self, tracking: Tracking, begun: seed.Begun) -> Rebuilt:
        complete = not self._without
        mark = self._mark(tracking)
        tracking.rebuilding.count_past(mark, SPARE_COMMITS)
        report = ReplayReport()
        found = Found(tracking.scanned, report)
        report.tell(begun.refused, begun.notes)
        for batch in self._scanned():
            found.take_in(batch)
            self._progress("member files", report.members)
        found.merge()
        for session, number, stripe_unit in found.headless():
            for batch in self._disks[number].scan_member(session, stripe_unit):
                found.take_in(batch)
        self._check_complete(most_disks := tracking.scanned.widest_stripe())
        found.leave_out_strangers()
        if self._config and not set(self._there()) <= {Path(os.path.realpath(disk)) for disk in self._config.disks}:
            report.tell(ignored=[f"{configuration.FILE_NAME} has the disks elsewhere; change library.disks in it"])
        for number, disk in self._disks.items():
            tracking.disks.move(number, disk.path)
        if self._config:
            tracking.drives.ensure(self._config.drives)
        tracking.rebuilding.add_disks(self._records(most_disks))
        Replay(tracking, report, self._disks, complete, self._at, self._progress).run()
        report.tell(*seed.missed(tracking, mark))
        if self._without:
            gone = f"disk {', '.join(map(str, self._without))} is not there"
            if tracking.scanned.least_parity() < len(self._without):
                report.tell([gone])
            else:
                report.tell(ignored=[f"{gone}; what lay on it is computed from the other disks"])
        have = tracking.library.counters()
        return Rebuilt(Library(self._path, self._config or Config("", ())), begun.base, report, self._without, None,
                       have.media, have.sessions, have.tape_files, have.bytes)  # fmt: skip

    def _mark(self, tracking: Tracking) -> Watermark:
        """Return the highest mark on the disks; without one, how far the base had come."""
        found = marks.read_all(self._there(), self._uuid)
        return max([tracking.library.watermark(), *found], key=lambda mark: mark.commits)

    def _scanned(self) -> Iterator[Batch]:
        """Walk over all disks at once, a thread for each, and yield what they find. Raises VtlfsError."""
        found: queue.Queue[Batch | Exception | None] = queue.Queue(QUEUED_BATCHES)
        given_up = threading.Event()

        def hand_over(item: Batch | Exception | None) -> None:
            while not given_up.is_set():
                with suppress(queue.Full):
                    found.put(item, timeout=0.1)
                    return

        def walk(disk: Disk) -> None:
            try:
                with closing(EndedSessions(self._path / TEMPORARY)) as ended:
                    for batch in disk.scan(ended.among):
                        hand_over(batch)
                        if given_up.is_set():
                            return
                hand_over(None)
            except DiskError as error:
                hand_over(error)
            except Exception as error:
                hand_over(LibraryError(f"disk {disk.number} ({disk.path}): {error}"))

        for number, disk in self._disks.items():
            threading.Thread(target=walk, args=(disk,), name=f"scan{number}", daemon=True).start()
        try:
            running = len(self._disks)
            while running:
                item = found.get()
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    running -= 1
                else:
                    yield item
        finally:
            given_up.set()

    # --- into place -------------------------------------------------------------------------------------------------

    def _new_config(self, tracking: Tracking) -> Config:
        """Return a configuration as `vtlfs init` makes it, with what is known of this library."""
        unit, parity = tracking.sessions.last_layout() or (MIB, 0)
        return Config(
            self._uuid,
            tuple(Path(disk.path) for disk in tracking.disks.all()),
            max(configuration.NEW_DRIVES, len(tracking.drives.all())),
            unit,
            parity,
            snapshot_every=configuration.NEW_EVERY,
            snapshot_keep=configuration.NEW_KEEP,
        )

    def _put_in_place(self, config: Config) -> Path | None:
        """Give the new database the old one's name, and keep the old one under another. Return that name."""
        (self._path / DIRECTORY).mkdir(mode=0o700, exist_ok=True)
        reached("rebuild.locks_made")
        if self._config is None:
            write_file(self._path / configuration.FILE_NAME, configuration.render(config).encode())
        descriptor = os.open(self._path / TEMPORARY, os.O_RDWR)
        try:
            os.fchmod(descriptor, 0o600)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        reached("rebuild.synced")
        preconditions.check_unmounted(self._path)
        aside = self._path / f"{FILE_NAME}.lost-{self._at.translate({ord(c): None for c in '-:.'})}"
        while aside.exists():  # from an earlier rebuild, at what the clock took for the same moment
            aside = aside.with_name(f"{aside.name}-again")
        kept = None
        for suffix in ("-wal", "-shm", ""):  # a log without its database would be taken for the new one's
            old = self._path / f"{FILE_NAME}{suffix}"
            if old.exists():
                old.rename(f"{aside}{suffix}")
                reached("rebuild.put_aside")
                kept = aside
        sync_directory(self._path)  # so that no power cut leaves the old log beside the new database
        (self._path / TEMPORARY).rename(self._path / FILE_NAME)
        reached("rebuild.named")
        sync_directory(self._path)
        sync_directory(self._path.parent)
        return kept

    def _raise_marks(self, library: Library) -> None:
        """Have the disks know that the new database is the newest: it is durable, and so are the marks then."""
        with closing(library.tracking(read_only=True)) as tracking:
            progress = tracking.library.watermark()
        marks.MarkChildren(self._there(), self._uuid).advance(progress)

    def _finish_headers(self, library: Library, report: ReplayReport) -> None:
        """Write to the disks how sessions ended, where headers do not say it. Nothing is cut off.

        They are those whose end this has decided, and those of mounts that died. Not where a disk is missing: when it
        comes back, it may be known better.
        """
        if self._without:
            return
        try:
            with closing(library.tracking()) as tracking:
                numbers = {session.id for session in report.recovered}.union(report.unfinished)
                left = recover.left_leases(tracking, library.leases)
                for mount in left:
                    ordinal = library.leases.finished_up_to(mount)
                    numbers.update(session.id for session in tracking.sessions.unfinished_of(mount, ordinal))
                for session in map(tracking.sessions.get, sorted(numbers)):
                    recover.trim(session, recover.start_of(tracking, session), None, [*self._disks.values()])
                with tracking.transaction():
                    recover.remove_leases(tracking, library.leases, left)
        except VtlfsError as error:
            log.warning("headers of member files: %s", error)
