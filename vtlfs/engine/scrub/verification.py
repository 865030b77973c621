"""The record of a verification: what is to be verified, in which order, how far it came, and what it found.

The catalogue keeps them (`tracking.verifications`), so that an interrupted verification can go on. Who verifies holds a
lock on the library's directory, so that there is one at a time.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

from vtlfs.engine.scrub.defects import Severity
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.extents import turn
from vtlfs.engine.tracking.repositories.verifications import LeftOut, Position, Scope, VerificationRow
from vtlfs.errors import TrackingError, UsageError
from vtlfs.model import Extent, Session, TapeFile
from vtlfs.sizes import Sizes

NAMED = 5  # sessions that were left out are named, the others counted

_COUNTED = (Severity.DAMAGED, Severity.UNREADABLE, Severity.METADATA)  # as `VerificationRow` counts them

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Verification:
    """One run of `vtlfs verify`. `media` of None: all. `progress`: by disk, the last that was verified of it.

    What is verified are the tape files with ordinals up to `last`: a clock may jump between their release and now.
    `unfinished` are headers, by disk and session, that are to be looked at again. `bytes` are those of tape files:
    parity does not count. `defects` counts extents, headers and disks; `replaceable` those extents among them that cost
    nothing yet, for their stripes can replace them. `left_out`: at the end, how many streams were not verified, and the
    first of them. `id` of None: the tracking database could not take it.
    """

    id: int | None
    started_at: str
    ended_at: str | None
    media: list[str] | None
    last: int
    progress: dict[int, Position] = field(default_factory=dict)
    unfinished: list[tuple[int, int]] = field(default_factory=list)
    bytes: int = 0
    defects: dict[Severity, int] = field(default_factory=lambda: dict.fromkeys(Severity, 0))
    replaceable: int = 0
    left_out: tuple[int, list[LeftOut]] | None = field(default=None, compare=False)

    @property
    def scope(self) -> Scope:
        """Which tape files are verified."""
        return Scope(self.last, None if self.media is None else tuple(self.media))

    def as_json(self) -> dict[str, object]:
        """Return what there is to say in the end as a JSON object."""
        document: dict[str, object] = {
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "complete": self.ended_at is not None,
            "media": self.media,
            "bytes": self.bytes,
            **{str(severity): number for severity, number in self.defects.items()},
            "replaceable": self.replaceable,
        }
        if self.left_out is not None:
            count, first = self.left_out
            document["left_out"] = {"count": count, "sessions": [asdict(one) for one in first]}
        return document


def begin(tracking: Tracking, media: Sequence[str], at: str) -> Verification:
    """Start a verification of some media, or of all if none is named. Raises NoSuchMedium."""
    for barcode in media:
        tracking.media.get(barcode)
    scope = tracking.verifications.scope(media)
    begun = Verification(None, at, None, _list(scope.media), scope.last)
    try:
        with tracking.transaction(durable=False):
            begun.id = tracking.verifications.add(at, scope)
    except TrackingError as error:
        log.warning("this verification can't be resumed if it is interrupted: %s", error)
    return begun


def resume(tracking: Tracking) -> Verification:
    """Return the last verification, to go on with it. Raises UsageError where it has come to its end."""
    row = tracking.verifications.last()
    if row is None or row.ended_at is not None:
        raise UsageError("no verification was interrupted; leave --resume out to begin one")
    return _verification(row)


def last_of_all(tracking: Tracking) -> Verification | None:
    """Return the last verification of all media that has come to its end."""
    row = tracking.verifications.last_of_all()
    return None if row is None else _verification(row)


def save(tracking: Tracking, verification: Verification) -> None:
    """Record how far a verification has come. Raises TrackingError."""
    if verification.id is None:
        return
    row = VerificationRow(
        *(verification.id, verification.started_at, verification.ended_at, verification.scope),
        *(verification.progress, verification.unfinished, verification.bytes),
        *(*(verification.defects[severity] for severity in _COUNTED), verification.replaceable),
    )
    with tracking.transaction(durable=verification.ended_at is not None):
        tracking.verifications.save(row)


def extent(tracking: Tracking, verification: Verification) -> tuple[int, int, int]:
    """Return how many media with tape files, tape files and bytes are to be verified."""
    return tracking.verifications.extent(verification.scope)


def unlisted(tracking: Tracking, verification: Verification) -> list[tuple[str, int, int]]:
    """Return the media whose length is not that of their tape files, the length, and that of the tape files."""
    return tracking.verifications.unlisted(verification.scope)


def left_out(tracking: Tracking, verification: Verification) -> tuple[int, list[LeftOut]]:
    """Return how many streams are not verified, and the first of them: those that are open, or came too late."""
    return tracking.verifications.left_out(verification.scope, NAMED)


def tape_files(
    tracking: Tracking, verification: Verification, session: int, at_once: int
) -> Iterator[tuple[TapeFile, Session]]:
    """Return what is to be verified in the order of the sessions, from this one on, looked up `at_once` at a time."""
    return tracking.verifications.tape_files(verification.scope, session, at_once)


def extents(
    tracking: Tracking, disk: int, session: int, after: int, most: int, sizes: Sizes
) -> Iterator[tuple[Extent, ...]]:
    """Yield a session's extents on a disk behind a turn, data and parity, in groups that lie one behind the other.

    A group has at most `most` stored bytes, or is one extent.
    """
    group: list[Extent] = []
    size = 0
    while found := tracking.extents.on_disk(disk, session, after, sizes.extents_at_once):
        for one in found:
            if group and (size + one.stored > most or len(group) == sizes.extents_a_part):
                yield tuple(group)
                group, size = [], 0
            group.append(one)
            size += one.stored
        after = turn(found[-1])
        if len(found) < sizes.extents_at_once:
            break
    if group:
        yield tuple(group)


def _verification(row: VerificationRow) -> Verification:
    counts = (row.damaged, row.unreadable, row.metadata)
    return Verification(
        *(row.id, row.started_at, row.ended_at, _list(row.scope.media), row.scope.last),
        *(row.progress, row.unfinished, row.bytes, dict(zip(_COUNTED, counts, strict=True)), row.replaceable),
    )


def _list(media: tuple[str, ...] | None) -> list[str] | None:
    return None if media is None else list(media)
