"""`vtlfs check`: compares the tracking database of a library with itself, and with the files on the disks.

A check takes seconds, because it writes nothing and reads no extent. Streams that are written meanwhile raise no false
alarm: the check reads the recorded length of a member file before the file's size, and no file gets shorter than its
recorded length; and it lists the member files before it asks the database which sessions there are.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from vtlfs.disks import marks
from vtlfs.disks.base import Disk
from vtlfs.disks.contents import SESSIONS_PER_GROUP, Entry, Listing
from vtlfs.engine import recover
from vtlfs.engine.library import Library
from vtlfs.engine.scrub import soundness
from vtlfs.engine.tracking import currency, invariants
from vtlfs.engine.tracking.database import FILE_NAME, Tracking
from vtlfs.engine.tracking.rules.rule import Rule
from vtlfs.errors import DiskError, TrackingError
from vtlfs.model import Watermark

SHOWN = 20  # of findings of one kind; the others are counted
CONNECTIONS = 2  # to the tracking database, at the same time

_REBUILD = "`vtlfs rebuild` makes a new one from the disks, and keeps the old one"


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem, and the advice what to do about it. A finding that is no damage is a note."""

    damage: bool
    problem: str
    advice: str

    def __str__(self) -> str:
        return f"{'damage' if self.damage else 'note'}: {self.problem}; {self.advice}"


@dataclass
class Report:
    """The result of a check. `files`: member files that were compared, on `disks` disks.

    `more`: how many findings of a kind there are beyond the first SHOWN.
    """

    sessions: int = 0
    tape_files: int = 0
    files: int = 0
    disks: int = 0
    findings: list[Finding] = field(default_factory=list)
    more: Counter[str] = field(default_factory=Counter)
    _kinds: Counter[str] = field(default_factory=Counter)

    @property
    def damaged(self) -> bool:
        """Tell whether anything is damaged."""
        return any(finding.damage for finding in self.findings)

    def add(self, kind: str, problem: str, advice: str, *, damage: bool = True) -> None:
        """Add a finding; of each kind, those after the first SHOWN are only counted."""
        self._kinds[kind] += 1
        if self._kinds[kind] > SHOWN:
            self.more[kind] += 1
        else:
            self.findings.append(Finding(damage, problem, advice))

    def as_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        findings = [
            {"severity": "damage" if one.damage else "note", "problem": one.problem, "advice": one.advice}
            for one in self.findings
        ]
        counts = {name: getattr(self, name) for name in ("sessions", "tape_files", "files", "disks")}
        return {"damaged": self.damaged, "checked": counts, "findings": findings, "more": dict(self.more)}


def check(library: Library, progress: Callable[[float], object] = lambda _: None) -> Report:
    """Check the library. `progress` is called with the part that is done, 0 to 1. Raises LibraryError."""
    report = Report()
    seen = marks.read_all(library.config.disks, library.config.uuid)  # first: a mark is written after its commit
    with closing(library.tracking(read_only=True)) as tracking:
        _check_age(library, tracking, seen, report)
        if not _check_database(library, tracking, report, lambda part: progress(part / 2)):
            return report
        counted = tracking.library.counters()
        report.sessions, report.tape_files = counted.sessions, counted.tape_files
        _check_mounts(library, tracking, report)
        _check_leftovers(tracking, report)
        disks = _labelled(library, tracking, report)
        report.disks = len(disks)
        _check_files(tracking, disks, report, lambda part: progress(0.5 + part / 2))
    return report


# --- the database ---------------------------------------------------------------------------------------------------


def _check_age(library: Library, tracking: Tracking, seen: list[Watermark], report: Report) -> None:
    """Compare the database with the disks' high-water marks, and check the size and journal mode of its file."""
    if (lacks := currency.lacking(tracking.library.watermark(), seen)) is not None:
        report.add("behind", f"{FILE_NAME} is older than the disks: it lacks {lacks}", _REBUILD)
    if (problem := soundness.cut_short(library.path)) is not None:
        report.add("cut short", f"{FILE_NAME}: {problem}", _REBUILD)
    if (mode := tracking.journal_mode()) != "wal":
        problem = f"{FILE_NAME}: SQLite keeps no write-ahead log (journal mode {mode})"
        report.add("journal", problem, "the next mount has it keep one", damage=False)


def _check_database(library: Library, tracking: Tracking, report: Report, progress: Callable[[float], object]) -> bool:
    """Check whether the database contradicts itself; return False if it is too damaged to check anything else."""
    advice = _REBUILD
    try:
        for problem in invariants.broken(tracking, invariants.SOUND):
            report.add(invariants.SOUND.problem, problem, advice)
        if report.damaged:
            return False
        rules = invariants.rules(tracking)
        with _asker(library) as ask, ThreadPoolExecutor(CONNECTIONS) as pool:
            for done, (rule, problems) in enumerate(zip(rules, pool.map(ask, rules), strict=True), 1):
                for problem in problems:
                    report.add(rule.problem, problem, advice)
                progress(done / len(rules))
    except TrackingError as error:
        report.add("unreadable", str(error), advice)
        return False
    return True


@contextmanager
def _asker(library: Library) -> Iterator[Callable[[Rule], list[str]]]:
    """Yield a function that asks the database, in any thread, over one of CONNECTIONS connections."""
    with ExitStack() as stack:
        idle: SimpleQueue[Tracking] = SimpleQueue()
        for _ in range(CONNECTIONS):
            idle.put(stack.enter_context(closing(library.tracking(read_only=True))))

        def ask(rule: Rule) -> list[str]:
            tracking = idle.get()
            try:
                return list(invariants.broken(tracking, rule))
            finally:
                idle.put(tracking)

        yield ask


def _check_mounts(library: Library, tracking: Tracking, report: Report) -> None:
    """Report mounts that died, and leases of mounts after which recovery has something to finish."""
    dead = {mount.id for mount in recover.dead_mounts(tracking, library.leases)}
    # A mount that ends in order records its end before it gives up its lease, so it is no longer among the live ones.
    for mount in (mount for mount in tracking.mounts.live() if mount.id in dead):
        left = len(tracking.sessions.open_of(mount.id))
        problem = f"mount {mount.id} (pid {mount.pid}) died and left {left} sessions open"
        report.add("died", problem, "`vtlfs recover` or the next mount ends them", damage=False)
    for number in recover.left_leases(tracking, library.leases):
        problem = f"mount {number} has ended, but its recovery is not finished"
        report.add("lock", problem, "`vtlfs recover` or the next mount finishes it", damage=False)


def _check_leftovers(tracking: Tracking, report: Report) -> None:
    """Look for members of reclaimed sessions that may still be on a disk."""
    for disk in tracking.disks.all():
        if tracking.reclaiming.is_left_on(disk.number):
            problem = f"disk {disk.number}: members of reclaimed sessions may be left there"
            report.add("leftover", problem, "`vtlfs reclaim` or a mount removes them", damage=False)


# --- the disks ------------------------------------------------------------------------------------------------------


def _labelled(library: Library, tracking: Tracking, report: Report) -> list[Disk]:
    """Return the disks of the library that were found; report missing disks and wrong labels."""
    ever = tracking.disks.ever()
    known = {disk.number: disk for disk in tracking.disks.all()}
    retired = {disk.number: disk for disk in ever if disk.number not in known}
    found = library.discover(ever)
    for lost in found.lost:
        report.add(
            "label", str(lost), "see that library.toml names the disk's path, and that its device is mounted there"
        )
    labels = {number: place.label.disk for number, place in found.places.items()}
    right = {number for number, uuid in labels.items() if number in known and known[number].is_labelled(uuid)}
    left = {number for number, uuid in labels.items() if number in retired and retired[number].is_labelled(uuid)}
    for number in sorted(left):
        problem = f"disk {found.places[number].path}: is disk {number}, which has left the library"
        report.add("retired", problem, "take it out of library.toml", damage=False)
    for number in sorted(found.places.keys() - right - left):
        problem = (
            f"disk {found.places[number].path}: its label says disk {number}, but another label is recorded for that"
        )
        report.add("label", problem, "mount the right device there")
    for number in sorted(known.keys() - right):
        report.add("missing", f"disk {number}: it is missing", "mount it, and name its path in library.toml")
    return [disk for number, disk in found.disks().items() if number in right]


def _check_files(tracking: Tracking, disks: list[Disk], report: Report, progress: Callable[[float], object]) -> None:
    """Compare the member files with their recorded lengths, one directory of each disk at a time."""
    groups = tracking.sessions.groups(SESSIONS_PER_GROUP)
    groups = groups.union(*(_groups(disk, report) for disk in disks))
    with ThreadPoolExecutor(max(1, len(disks))) as pool:
        for done, group in enumerate(sorted(groups), 1):
            first = group * SESSIONS_PER_GROUP
            end = first + SESSIONS_PER_GROUP - 1
            lengths = tracking.extents.member_lengths(first, end)
            listings = list(pool.map(lambda disk, group=group: _members(disk, group), disks))
            known = tracking.sessions.known(first, end)
            given = tracking.library.next_session()
            for disk, listing in zip(disks, listings, strict=True):
                if isinstance(listing, DiskError):
                    _unreadable(listing, report)
                    continue
                report.files += len(listing.members)
                _strange(listing.strange, report)
                _compare(tracking, disk, lengths.get(disk.number, {}), listing.members, report)
                _strays(disk, listing.members.keys() - known, given, report)
            progress(done / len(groups))


def _groups(disk: Disk, report: Report) -> set[int]:
    try:
        numbers, strange = disk.groups()
    except DiskError as error:
        _unreadable(error, report)
        return set()
    _strange(strange, report)
    return numbers


def _members(disk: Disk, group: int) -> Listing | DiskError:
    try:
        return disk.members(group)
    except DiskError as error:
        return error


def _compare(
    tracking: Tracking, disk: Disk, lengths: dict[int, int], members: dict[int, Entry], report: Report
) -> None:
    """Compare the member files of one directory with their recorded lengths; a file may be longer."""
    for session, length in lengths.items():
        entry = members.get(session)
        if entry is None and tracking.reclaiming.is_reclaimed(session):
            continue  # meanwhile
        if entry is None:
            report.add("gone", f"{disk.where(session)}: gone, with extents of session {session}", _restore(disk))
        elif entry.is_file and entry.size < length:
            problem = f"{disk.where(session)}: {entry.size} bytes are left of {length} of session {session}"
            report.add("short", problem, _restore(disk))
    for session, entry in members.items():
        if entry.is_file and entry.is_private:
            continue
        path = disk.where(session)
        if not entry.is_file:
            report.add("no file", f"{path}: not a regular file", _restore(disk))
        else:
            problem = f"{path}: others than its owner may read it"
            report.add("mode", problem, "`chmod 600` it", damage=False)


def _strays(disk: Disk, sessions: Iterable[int], given: int, report: Report) -> None:
    for session in sorted(sessions):
        problem = f"{disk.where(session)}: the tracking database does not know session {session}"
        if session >= given or _is_whole(disk, session):
            advice = f"{FILE_NAME} is older than the disks; `vtlfs rebuild` takes in what it lacks"
            report.add("newer", problem, advice)
        else:
            advice = "left by a power cut in the session's first moments; nothing in it was acknowledged"
            report.add("stray", problem, advice, damage=False)


def _is_whole(disk: Disk, session: int) -> bool:
    """Tell whether the header of a member file names a tape file; then its session was acknowledged."""
    try:
        said = disk.header(session)
    except DiskError:
        return False
    return said is not None and said.ending is not None and said.ending.tape_file is not None


def _strange(places: Iterable[str], report: Report) -> None:
    for place in places:
        report.add("strange", f"{place}: not a member file", "vtlfs did not make it, and leaves it alone", damage=False)


def _unreadable(error: DiskError, report: Report) -> None:
    report.add("disk", str(error), "check the device and its cables, or replace the disk with `vtlfs disk replace`")


def _restore(disk: Disk) -> str:
    return (
        f"restore it from a copy of disk {disk.number}; until then, its extents can be read only where a stripe has"
        " parity"
    )
