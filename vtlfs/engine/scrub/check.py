"""Checking a library: its tracking database against itself, and against what lies on the disks.

Nothing is written and no stripe unit is read, so it takes seconds; it may run while the library is mounted. What is
written meanwhile raises no false alarm: files are looked at after what was recorded of them, and are never shortened
below that; whether the database knows a session is asked after its file was seen.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtlfs.disks import headers, inventory, marks, records
from vtlfs.disks import label as labels
from vtlfs.disks.inventory import Entry
from vtlfs.disks.opening import SESSIONS_PER_DIRECTORY, NotAFile, member_path, opened
from vtlfs.disks.records import BLOCK
from vtlfs.engine import recover
from vtlfs.engine.library import Library
from vtlfs.engine.scrub import soundness
from vtlfs.engine.tracking import currency, invariants
from vtlfs.engine.tracking.database import FILE_NAME, Tracking
from vtlfs.engine.tracking.invariants import Rule
from vtlfs.errors import LibraryError, TrackingError
from vtlfs.model import Watermark

SHOWN = 20  # of findings of one kind; the others are counted
CONNECTIONS = 2  # to the database, at the same time

_REBUILD = "`vtlfs rebuild` makes a new one from the disks, and keeps this one"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be: what, and what to do about it. All but damage is a note."""

    damage: bool
    problem: str
    advice: str

    def __str__(self) -> str:
        return f"{'damage' if self.damage else 'note'}: {self.problem}; {self.advice}"


@dataclass
class Report:
    """What a check found. `files`: member files that were looked at, on `disks` disks; `more`: findings like others."""

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
        """Note a finding; of those of one kind, only the first ones as such."""
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


@dataclass(frozen=True, slots=True)
class _Disk:
    number: int
    path: Path


def check(library: Library, progress: Callable[[float], object] = lambda _: None) -> Report:
    """Check the library. `progress` is told how much is done, from 0 to 1. Raises LibraryError where it can't be."""
    report = Report()
    seen = marks.read_all(library.config.disks, library.config.uuid)  # before the database is asked
    with closing(library.tracking(read_only=True)) as tracking:
        _check_age(library, tracking, seen, report)
        if not _check_database(library, tracking, report, lambda part: progress(part / 2)):
            return report
        counted = tracking.library.counters()
        report.sessions, report.tape_files = counted.sessions, counted.tape_files
        _check_mounts(library, tracking, report)
        disks = _labelled(library, tracking, report)
        report.disks = len(disks)
        _check_files(tracking, disks, report, lambda part: progress(0.5 + part / 2))
    return report


# --- the database ---------------------------------------------------------------------------------------------------


def _check_age(library: Library, tracking: Tracking, seen: list[Watermark], report: Report) -> None:
    """Compare the database with the disks' high-water marks, and look at its file."""
    if (lacks := currency.lacking(tracking.library.watermark(), seen)) is not None:
        report.add("behind", f"{FILE_NAME} is older than the disks: it lacks {lacks}", _REBUILD)
    if (problem := soundness.cut_short(library.path)) is not None:
        report.add("cut short", f"{FILE_NAME}: {problem}", _REBUILD)
    if (mode := tracking.journal_mode()) != "wal":
        problem = f"{FILE_NAME}: SQLite keeps no write-ahead log (journal mode {mode})"
        report.add("journal", problem, "the next mount has it keep one", damage=False)


def _check_database(library: Library, tracking: Tracking, report: Report, progress: Callable[[float], object]) -> bool:
    """Look whether the database contradicts itself; tell whether it can be relied on at all."""
    advice = _REBUILD
    try:
        for problem in invariants.broken(tracking, invariants.SOUND):
            report.add(invariants.SOUND.problem, problem, advice)
        if report.damaged:
            return False
        rules = invariants.rules(tracking)
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            for done, (rule, problems) in enumerate(zip(rules, pool.map(_asker(library), rules), strict=True), 1):
                for problem in problems:
                    report.add(rule.problem, problem, advice)
                progress(done / len(rules))
    except TrackingError as error:
        report.add("unreadable", str(error), advice)
        return False
    return True


def _asker(library: Library) -> Callable[[Rule], list[str]]:
    """Return a function that asks the database over a connection of its own, for it may be called in any thread."""

    def ask(rule: Rule) -> list[str]:
        with closing(library.tracking(read_only=True)) as tracking:
            return list(invariants.broken(tracking, rule))

    return ask


def _check_mounts(library: Library, tracking: Tracking, report: Report) -> None:
    """Look for mounts that died, and for locks that nobody needs."""
    dead = {mount.id for mount in recover.dead_mounts(tracking, library.path)}
    # One that has just ended in order had said so before it gave up its lock.
    for mount in (mount for mount in tracking.mounts.live() if mount.id in dead):
        left = len(tracking.sessions.open_of(mount.id))
        problem = f"mount {mount.id} (pid {mount.pid}) died and left {left} sessions open"
        report.add("died", problem, "`vtlfs recover` or the next mount closes their books", damage=False)
    for number in recover.left_locks(tracking, library.path):
        problem = f"mount {number} has ended, and something was not done after it"
        report.add("lock", problem, "`vtlfs recover` or the next mount does it", damage=False)


# --- the disks ------------------------------------------------------------------------------------------------------


def _labelled(library: Library, tracking: Tracking, report: Report) -> list[_Disk]:
    """Return the disks that are where they should be."""
    known = {disk.number: disk.uuid for disk in tracking.disks.all()}
    found: dict[int, _Disk] = {}
    for path in library.config.disks:
        try:
            label = labels.read(path)
        except LibraryError as error:
            report.add("label", str(error), "see to it that the right device is mounted there and sound")
            continue
        if label is None or label.library != library.config.uuid or known.get(label.number) != label.disk:
            report.add("label", f"disk {path}: it has no label of this library", "is the right device mounted there?")
        elif label.number in found:
            problem = f"disk {path}: it is disk {label.number}, and so is {found[label.number].path}"
            report.add("label", problem, "one is a copy: name the other disk in library.toml")
        else:
            found[label.number] = _Disk(label.number, path)
    for number in sorted(set(known) - set(found)):
        report.add("missing", f"disk {number}: it is not there", "mount it, and have library.toml lead to it")
    return [found[number] for number in sorted(found)]


def _check_files(tracking: Tracking, disks: list[_Disk], report: Report, progress: Callable[[float], object]) -> None:
    """Compare the member files with what is recorded of them, a directory of each disk at a time."""
    groups = tracking.sessions.groups(SESSIONS_PER_DIRECTORY)
    groups = groups.union(*(_groups(disk, report) for disk in disks))
    with ThreadPoolExecutor(max(1, len(disks))) as pool:
        for done, group in enumerate(sorted(groups), 1):
            first = group * SESSIONS_PER_DIRECTORY
            end = first + SESSIONS_PER_DIRECTORY - 1
            lengths = tracking.stripe_units.member_lengths(first, end, BLOCK)
            listings = list(pool.map(lambda disk, group=group: _members(disk, group), disks))
            known = tracking.sessions.known(first, end)
            given = tracking.library.next_session()
            for disk, listing in zip(disks, listings, strict=True):
                if isinstance(listing, OSError):
                    _unreadable(disk, listing, report)
                    continue
                report.files += len(listing.members)
                _strange(disk, listing.strange, report)
                _compare(disk, lengths.get(disk.number, {}), listing.members, report)
                _strays(disk, listing.members.keys() - known, given, report)
            progress(done / len(groups))


def _groups(disk: _Disk, report: Report) -> set[int]:
    try:
        numbers, strange = inventory.groups(disk.path)
    except OSError as error:
        _unreadable(disk, error, report)
        return set()
    _strange(disk, strange, report)
    return numbers


def _members(disk: _Disk, group: int) -> inventory.Listing | OSError:
    try:
        return inventory.members(disk.path, group)
    except OSError as error:
        return error


def _compare(disk: _Disk, lengths: dict[int, int], members: dict[int, Entry], report: Report) -> None:
    """Compare the files of one directory with the lengths that they have at least."""
    for session, length in lengths.items():
        entry = members.get(session)
        if entry is None:
            path = member_path(disk.path, session)
            report.add("gone", f"{path}: gone, with stripe units of session {session}", _restore(disk))
        elif entry.is_file and entry.size < length:
            path = member_path(disk.path, session)
            problem = f"{path}: {entry.size} bytes are left of {length} of session {session}"
            report.add("short", problem, _restore(disk))
    for session, entry in members.items():
        if entry.is_file and entry.is_private:
            continue
        path = member_path(disk.path, session)
        if not entry.is_file:
            report.add("no file", f"{path}: not a regular file", _restore(disk))
        else:
            problem = f"{path}: not only its owner may read it"
            report.add("mode", problem, "`chmod 600` it", damage=False)


def _strays(disk: _Disk, sessions: Iterable[int], given: int, report: Report) -> None:
    for session in sorted(sessions):
        problem = f"{member_path(disk.path, session)}: the tracking database does not know session {session}"
        if session >= given or _is_whole(disk, session):
            advice = f"{FILE_NAME} is older than the disks; `vtlfs rebuild` takes in what it lacks"
            report.add("newer", problem, advice)
        else:
            advice = "left by a power cut in the session's first moments; nothing in it was acknowledged"
            report.add("stray", problem, advice, damage=False)


def _is_whole(disk: _Disk, session: int) -> bool:
    """Tell whether a member file says how its session ended, and which tape file it left: that was acknowledged."""
    try:
        with opened(disk.path, session) as descriptor:
            found = records.decode(os.pread(descriptor, BLOCK, 0))
    except (OSError, NotAFile):
        return False
    said = headers.ending(found[0]) if found else None
    return said is not None and said.tape_file is not None


def _strange(disk: _Disk, names: Iterable[str], report: Report) -> None:
    for name in names:
        report.add("strange", f"{disk.path / name}: not a member file", "vtlfs did not make it", damage=False)


def _unreadable(disk: _Disk, error: OSError, report: Report) -> None:
    problem = f"disk {disk.number} ({error.filename or disk.path}): {error.strerror}"
    report.add("disk", problem, "see to it that the device is sound")


def _restore(disk: _Disk) -> str:
    return f"restore it from a copy of disk {disk.number}; what lies on it can't be read"
