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
from vtlfs.disks import discovery, marks
from vtlfs.disks.base import Disk
from vtlfs.disks.contents import Batch
from vtlfs.disks.discovery import Discovery
from vtlfs.disks.headers import MAX_DISKS
from vtlfs.durable import sync_directory, write_file
from vtlfs.engine import recover
from vtlfs.engine.lease import DIRECTORY
from vtlfs.engine.library import Library
from vtlfs.engine.media import cartridges
from vtlfs.engine.rebuild import lives, preconditions, seed
from vtlfs.engine.rebuild.found import Found, ReplayReport
from vtlfs.engine.rebuild.lives import Lives
from vtlfs.engine.rebuild.replay import Progress, Replay
from vtlfs.engine.tracking.database import FILE_NAME, Tracking
from vtlfs.engine.tracking.files import EndedSessions
from vtlfs.errors import DiskError, LibraryError, VtlfsError
from vtlfs.failpoints import reached
from vtlfs.model import MIB, UNKNOWN_DISK, DiskRecord, DiskState, Watermark

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
            looks_further = not disks
            return _Rebuild(path, config, found, tuple(sorted(without)), at, progress, looks_further).run()
    finally:
        if made and not any(path.iterdir()):
            path.rmdir()


class _Rebuild:
    """One rebuild. `found` are the disks that there are; `looks_further`: there may be more where the base saw them."""

    def __init__(
        self,
        path: Path,
        config: Config | None,
        found: Discovery,
        without: tuple[int, ...],
        at: str,
        progress: Progress,
        looks_further: bool,
    ) -> None:
        self._looks_further = looks_further
        self._path = path
        self._config = config
        self._uuid = found.library
        self._found = found
        self._without = without
        self._at = at
        self._progress = progress
        self._disks = found.disks()

    def run(self) -> Rebuilt:
        """Make the new database, and put it in its place."""
        try:
            seen = marks.read_all(self._there(), self._uuid)
            begun = seed.begin(
                self._path,
                self._path / TEMPORARY,
                self._uuid,
                self._disks,
                self._records(),
                complete=not self._without,
                moves=max((mark.moves for mark in seen), default=0),
            )
            reached("rebuild.begun")
            with closing(Tracking(self._path, name=TEMPORARY)) as tracking:
                tracking.set_journal_mode("OFF")  # what fails is thrown away
                with tracking.transaction(durable=False):
                    rebuilt = self._replay(tracking, begun, seen)
                seed.finish(tracking)
                config = self._config or self._new_config(tracking)
            aside = self._put_in_place(config)
        finally:
            seed.remove(self._path / TEMPORARY)
        library = Library(self._path, config)
        self._raise_marks(library)
        self._finish_headers(library, rebuilt.report)
        self._remember(library)
        return replace(rebuilt, library=library, aside=aside)

    def _records(self) -> list[DiskRecord]:
        """Return the rows of the disks that are there, and of those that are lost."""
        return [self._record(number) for number in sorted({*self._found.places, *self._without})]

    def _record(self, number: int) -> DiskRecord:
        if (place := self._found.places.get(number)) is not None:
            return DiskRecord(number, place.label.disk, str(place.path), place.label.created_at)
        paths = [path for path in (self._config.disks if self._config else ()) if path not in self._there()]
        lost = [one for one in self._without if one not in self._found.places]
        at = lost.index(number) if number in lost else len(paths)
        where = str(paths[at]) if at < len(paths) else f"/missing/disk{number}"
        return DiskRecord(
            number, f"{UNKNOWN_DISK}{number}", where, next(iter(self._found.places.values())).label.created_at
        )

    def _there(self) -> list[Path]:
        return [place.path for place in self._found.places.values()]

    # --- from the disks ---------------------------------------------------------------------------------------------

    def _replay(self, tracking: Tracking, begun: seed.Begun, seen: Sequence[Watermark]) -> Rebuilt:
        report = ReplayReport()
        report.tell(begun.refused, begun.notes)
        have = tracking.library.watermark()
        mark = max([have, *seen], key=lambda mark: mark.commits)
        has_moved = begun.base is None or not seen or have.moves < max(mark.moves, begun.moves)
        new = range(have.disks if begun.base is not None else 0, min(mark.disks, MAX_DISKS))
        doubtful = self._find_all(tracking, report, new, has_moved=has_moved)
        complete = not self._without
        tracking.rebuilding.count_past(mark, SPARE_COMMITS)
        found = Found(tracking.scanned, report)
        if has_moved and begun.base is not None:
            why = "extents were moved" if seen else "no disk has a high-water mark: extents may have moved"
            report.tell(ignored=[f"{why} since that database was made; all member files are looked through"])
        for batch in self._scanned(all_of_them=has_moved):
            found.take_in(batch)
            self._progress("member files", report.members)
        found.merge()
        for session, number, stripe_unit in found.headless():
            for batch in self._disks[number].scan_member(session, stripe_unit):
                found.take_in(batch)
        found.leave_out_strangers()
        if self._config and not set(self._there()) <= {Path(os.path.realpath(disk)) for disk in self._config.disks}:
            report.tell(ignored=[f"{configuration.FILE_NAME} has the disks elsewhere; change library.disks in it"])
        for number, disk in self._disks.items():
            tracking.disks.move(number, disk.path)
        if self._config:
            tracking.drives.ensure(self._config.drives)
        lives.remember(tracking, report, self._disks)
        commits = -1 if begun.base is None else begun.base.commits
        told = Lives(tracking, report, self._at, commits, max((one.latest for one in seen), default=""))
        Replay(tracking, report, told, self._disks, complete, self._at, self._progress).run()
        tracking.rebuilding.recount_stored()
        if doubtful or begun.base is None:
            is_erased = tracking.relived.has_ended_volumes()  # then what is missed may have been reclaimed
            lacks = not is_erased and seed.lacks_files(tracking, mark)
            self._check_doubtful(tracking, doubtful, is_missed=bool(report.lost) or lacks)
        report.tell(*seed.missed(tracking, mark))
        if self._without:
            gone = f"disk {', '.join(map(str, self._without))} is not there"
            if tracking.scanned.least_parity() < len(self._without):
                report.tell([gone])
            else:
                report.tell(ignored=[f"{gone}; what lay on it is computed from the other disks"])
        count = tracking.library.counters()
        return Rebuilt(Library(self._path, self._config or Config("", ())), begun.base, report, self._without, None,
                       count.media, count.sessions, count.tape_files, count.bytes)  # fmt: skip

    # --- which disks there should be --------------------------------------------------------------------------------

    def _find_all(self, tracking: Tracking, report: ReplayReport, new: range, *, has_moved: bool) -> list[int]:
        """Look whether all disks are there that should be. Return those that are missing, or have retired.

        `new`: numbers that were given since the database. `has_moved`: it does not know of all moves, so it does not
        know either which disks have retired. Raises LibraryError.
        """
        known = tracking.disks.ever()
        for disk in known:
            if disk.state is DiskState.RETIRED and (place := self._found.places.pop(disk.number, None)):
                report.tell(ignored=[f"disk {disk.number} ({place.path}) has left the library; it is passed over"])
        retired = {disk.number for disk in known if disk.state is DiskState.RETIRED}
        self._without = tuple(number for number in self._without if number not in retired)
        if self._looks_further:
            known = [disk for disk in tracking.disks.all() if disk.number not in self._without]
            discovery.look_further(self._found, known)
        self._disks = self._found.disks()
        if not self._found.places:
            raise LibraryError("all disks that are there have left the library; give the others with --disk")
        tracking.rebuilding.add_disks(self._records())
        in_use = {disk.number for disk in tracking.disks.all()}
        absent = sorted(in_use.union(new).difference(self._found.places, self._without))
        here = len(self._found.places) + len(self._without)
        if absent and (not has_moved or (self._config is not None and here < len(self._config.disks))):
            raise self._missing(absent)
        for number in in_use.intersection(absent):
            tracking.disks.retire(number, self._at)  # unless `_check_doubtful` finds that something of it is missed
        return absent

    def _check_doubtful(self, tracking: Tracking, doubtful: list[int], *, is_missed: bool) -> None:
        """Raise LibraryError where disks that may have retired are missing: something that lay on them is missed.

        `is_missed`: a tape file is not whole, or is not there at all; the disks that are given up may be why.
        """
        if not (is_missed and not self._without) and not tracking.scanned.is_missed(len(self._without)):
            return
        if doubtful:
            raise self._missing(doubtful)
        here = {*self._found.places, *self._without}
        if tracking.scanned.widest_stripe() > len(here):  # no disk has a mark that knows how many there are
            raise self._missing([max(here) + 1])

    def _missing(self, numbers: Sequence[int]) -> LibraryError:
        if len(numbers) == 1:
            which, it, directory = f"disk {numbers[0]} is missing", "it", "its directory"
        else:
            which, it, directory = f"disks {', '.join(map(str, numbers))} are missing", "them", "their directories"
        options = " ".join(f"--without-disk {number}" for number in numbers)
        return LibraryError(f"{which}; give {directory} with --disk, or {options} to go without what lies on {it}")

    # --- looking through the disks ----------------------------------------------------------------------------------

    def _scanned(self, *, all_of_them: bool) -> Iterator[Batch]:
        """Walk over all disks at once, a thread for each, and yield what they find. Raises VtlfsError.

        `all_of_them`: also the records of sessions of which the database knows all there was to know.
        """
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
                    for batch in disk.scan(_none_of if all_of_them else ended.among):
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
        disks = tuple(Path(disk.path) for disk in tracking.disks.all())
        return Config(
            self._uuid,
            disks,
            max(configuration.NEW_DRIVES, len(tracking.drives.all())),
            unit,
            min(parity, len(disks) - 1),  # there may have been more disks then
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
                    recover.trim(session, recover.file_of(tracking, session), None, [*self._disks.values()])
                with tracking.transaction():
                    recover.remove_leases(tracking, library.leases, left)
        except VtlfsError as error:
            log.warning("headers of member files: %s", error)

    def _remember(self, library: Library) -> None:
        """Have the disks remember of media what the new database has."""
        try:
            with closing(library.tracking(read_only=True)) as tracking:
                wanted = tracking.cartridges.all()
        except VtlfsError as error:
            log.warning("what the disks are to remember of media: %s", error)
            return
        for disk in self._disks.values():
            cartridges.bring_up_to_date(disk, wanted)


def _none_of(first: int, last: int) -> set[int]:
    """Return that nothing is known of the sessions from the first to the last."""
    return set()
