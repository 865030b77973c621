"""What a rebuild has found on the disks, and which of it can be believed. `tracking.scanned` keeps it.

Used by `rebuild`, in the one thread of the database.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from vtlfs.disks import headers
from vtlfs.disks.contents import Batch
from vtlfs.disks.headers import Ending, Opening, PartOf
from vtlfs.engine.tracking.repositories.rebuild.scanned import FoundSession, Header, Scanned
from vtlfs.model import RetainMode, Retention, Session

MAX_TOLD = 1000  # things that were passed over
MAX_UNSEEN = 100_000  # extents of a session of which nothing is left; more is not believed


@dataclass(slots=True)
class Lost:
    """A tape file of which something can't be read. `session` is None where not even that is known.

    `extents`: of its stream; `missing`: those that are on no disk that is there, and that no parity makes up for.
    """

    medium: str
    tape_file: int
    session: int | None
    bytes: int
    extents: int
    missing: int

    def __str__(self) -> str:
        what = f"{self.medium} {self.tape_file:04d}"
        if self.session is None:
            return f"{what}: nothing of it was found; its {self.bytes} bytes keep their place"
        return f"{what} (session {self.session}): {self.missing} of {self.extents} extents are not there"


@dataclass(slots=True)
class ReplayReport:
    """What a replay has to tell. `recovered` are the sessions whose end nobody knew.

    `unfinished` are sessions of which one header says how they ended and another does not.
    """

    members: int = 0
    replayed: int = 0
    recovered: list[Session] = field(default_factory=list)
    unfinished: list[int] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def tell(self, damaged: Iterable[str] = (), ignored: Iterable[str] = ()) -> None:
        """Add notes, as far as somebody may read them all."""
        self.damaged += damaged
        self.ignored += list(ignored)[: max(0, MAX_TOLD - len(self.ignored))]


class Found:
    """What was found. One thread uses it, that of the database."""

    def __init__(self, scanned: Scanned, report: ReplayReport) -> None:
        """`report` is told what is wrong with it."""
        self._scanned = scanned
        self._report = report
        scanned.make_tables()

    def take_in(self, batch: Batch) -> None:
        """Keep what was found on a disk."""
        disk = batch.disk
        texts = ((session, None if said is None else json.dumps(said)) for session, said in batch.headers)
        self._scanned.add_members(disk, batch.present)
        self._scanned.add_headers(Header(session, disk, text) for session, text in texts)
        self._scanned.add_records(batch.records)
        self._report.members += len(batch.present)
        self._report.tell(batch.damaged, batch.ignored)

    def merge(self) -> None:
        """Find out what the headers of each session agree on, when all disks were taken in."""
        self._scanned.add_sessions(self._agreed(self._scanned.headers()))

    def _agreed(self, found: Iterable[Header]) -> Iterator[FoundSession]:
        for session, group in groupby(found, key=lambda header: header.session):
            texts = {one.disk: one.document for one in group if one.document is not None}
            opening, ending, strangers = headers.agreed((disk, json.loads(text)) for disk, text in texts.items())
            for disk in strangers:
                self._report.tell([f"disk {disk}: session {session}: its header is not right; it is left out"])
                self._scanned.leave_out_member(session, disk)
            if opening is None:
                self._report.tell([f"session {session}: no disk has a header that says whose it is"])
                continue
            good = {disk: text for disk, text in texts.items() if disk not in strangers}
            endings = {disk: headers.ending(json.loads(text)) for disk, text in good.items()}
            if ending is not None and not self._is_likely(session, opening, ending):
                self._report.tell([f"session {session}: its header tells of far more than there is"])
                ending = None
            if (part := part_of(map(headers.opening, map(json.loads, good.values())))) is not None:
                goes_on = any(end is not None and end.goes_on for end in endings.values())
                self._scanned.add_part(session, part, goes_on=goes_on)
            said = None if ending is None else next(good[disk] for disk, end in endings.items() if end == ending)
            if ending is not None and None in endings.values():
                self._report.unfinished.append(session)
            for disk in [disk for disk, end in endings.items() if end is None and "state" in json.loads(good[disk])]:
                self._report.tell([f"disk {disk}: session {session}: what its header says of the end can't be"])
            yield FoundSession(
                *(session, opening.medium, opening.volume, opening.opened_at, opening.drive),
                *(next(iter(good.values())), said),
                None if ending is None else ending.tape_file,
                None if ending is None else ending.released_at,
                *strictest_rule([headers.opening(json.loads(text)) for text in good.values()]),
                None if ending is None else longest_retention(endings.values()),
            )

    def _is_likely(self, session: int, opening: Opening, ending: Ending) -> bool:
        """Tell whether the length in a header is credible: each missing stripe unit up to it would get a row."""
        units = -(-(ending.bytes or 0) // opening.stripe_unit)
        return units <= MAX_UNSEEN or units <= MAX_UNSEEN + 4 * self._scanned.count_extents(session)

    def headless(self) -> list[tuple[int, int, int]]:
        """Return session, disk and stripe unit of member files without a header, where another disk has one."""
        return [(session, disk, opening_of(text).stripe_unit) for session, disk, text in self._scanned.headless()]

    def leave_out_strangers(self) -> None:
        """Leave out sessions whose headers contradict the database, and those whose bytes it has as deleted."""
        self._scanned.leave_out_reclaimed()
        for session in self._scanned.strangers():
            self._report.tell([f"session {session}: the copy of the tracking database says something else of it"])
            self._scanned.leave_out(session)
            if session in self._report.unfinished:  # the database's end is that of another session
                self._report.unfinished.remove(session)


def strictest_rule(found: Iterable[Opening | None]) -> tuple[RetainMode | None, int | None]:
    """Return the strictest rule of retention that the headers of a session tell of. One that was mended has none."""
    rules = [(one.retain_mode, one.retain_seconds) for one in found if one is not None and one.retain_mode is not None]
    return max(rules, key=lambda rule: (rule[0].strictness, rule[1] or 0), default=(None, None))


def part_of(found: Iterable[Opening | None]) -> PartOf | None:
    """Return of which stream the headers of a session say that it is a part: one that was not mended, if there is one.

    A vtlfs that did not know of it has mended some without a word of it.
    """
    parts = [one.part for one in found if one is not None and one.part is not None]
    return min(parts, key=lambda part: part.commits is None, default=None)


def longest_retention(found: Iterable[Ending | None]) -> Retention | None:
    """Return the strictest mode and the last date that the headers of a session tell of."""
    told = [one.retention for one in found if one is not None and one.retention is not None]
    if not told:
        return None
    mode = max((one.mode for one in told), key=lambda one: one.strictness)
    return Retention(mode, max((one.until for one in told if one.until is not None), default=None))


def opening_of(text: str) -> Opening:
    """Return the beginning that a header tells of; one of `found`, which has been checked."""
    found = headers.opening(json.loads(text))
    assert found is not None
    return found


def ending_of(text: str) -> Ending:
    """Return the end that a header tells of; one of `found`."""
    found = headers.ending(json.loads(text))
    assert found is not None
    return found
