"""The record of a verification: what is to be verified, in which order, how far it has come, and what it has found.

The catalogue keeps these records (`tracking.verifications`), so that an interrupted verification can be resumed. A
verification holds a lock on the library's directory, so that a library has one at a time.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

from vtlfs.engine.scrub.defects import Severity
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.verifications import Hurt, LeftOut, Position, Scope, VerificationRow
from vtlfs.errors import NothingToResume, TrackingError
from vtlfs.model import Extent, Session, TapeFile, utc_now
from vtlfs.sizes import Sizes

NAMED = 5  # of the sessions that were left out, so many are named; all are counted

_COUNTED = (Severity.DAMAGED, Severity.UNREADABLE, Severity.METADATA)  # as `VerificationRow` counts them

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Verification:
    """One run of `vtlfs verify`.

    `id`: None if the tracking database could not take the record. `media`: barcodes; None: all. `last`: the ordinal of
    the last tape file to be verified (no time, because a clock may jump). `moves`: the catalogue's count of moves of
    extents, when the verification began. `progress`: by disk, the position of the last extent that was verified there.
    `unfinished`: (disk, session) of headers that are to be examined again. `bytes`: verified bytes of tape files, so
    without parity. `defects`: how many extents, headers and disks have a defect; `replaceable`: how many of these cost
    no data, because their stripes can replace them; `mended`: how many are mended.

    Not recorded yet: `hurt`, the lost bytes by session, and `noted`, the stripes with damage by session. Known at the
    end: `left_out`, how many streams were not verified, and the first of them.
    """

    id: int | None
    started_at: str
    ended_at: str | None
    media: list[str] | None
    last: int
    moves: int
    progress: dict[int, Position] = field(default_factory=dict)
    unfinished: list[tuple[int, int]] = field(default_factory=list)
    bytes: int = 0
    defects: dict[Severity, int] = field(default_factory=lambda: dict.fromkeys(Severity, 0))
    replaceable: int = 0
    mended: int = 0
    hurt: Counter[int] = field(default_factory=Counter, compare=False)
    noted: dict[int, set[int]] = field(default_factory=dict, compare=False)
    left_out: tuple[int, list[LeftOut]] | None = field(default=None, compare=False)

    @property
    def scope(self) -> Scope:
        """Which tape files are verified."""
        return Scope(self.last, None if self.media is None else tuple(self.media), self.moves)

    @property
    def left(self) -> int:
        """How many defects are not mended yet."""
        return sum(self.defects.values()) - self.mended

    @property
    def in_words(self) -> str:
        """What it has found, in a clause."""
        found = [f"{number:,} {severity}" for severity, number in self.defects.items() if number]
        return ", ".join(found) or "all was as it should be"

    def note(self, session: int, stripe: int) -> None:
        """Note that a stripe of a session, or (`HEADERS`) its headers, are damaged; `save` records that."""
        self.noted.setdefault(session, set()).add(stripe)

    def as_json(self) -> dict[str, object]:
        """Return the summary of the verification as a JSON object."""
        document: dict[str, object] = {
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "complete": self.ended_at is not None,
            "media": self.media,
            "bytes": self.bytes,
            **{str(severity): number for severity, number in self.defects.items()},
            "replaceable": self.replaceable,
            "mended": self.mended,
        }
        if self.left_out is not None:
            count, first = self.left_out
            document["left_out"] = {"count": count, "sessions": [asdict(one) for one in first]}
        return document


def begin(tracking: Tracking, media: Sequence[str], at: str) -> Verification:
    """Record a new verification of these media, or of all if none is named. Raises NoSuchMedium."""
    for barcode in media:
        tracking.media.get(barcode)
    scope = tracking.verifications.scope(media)
    begun = Verification(None, at, None, _list(scope.media), scope.last, scope.moves)
    try:
        with tracking.transaction(durable=False):
            begun.id = tracking.verifications.add(at, scope)
    except TrackingError as error:
        log.warning("this verification can't be resumed if it is interrupted: %s", error)
    return begun


def resume(tracking: Tracking) -> Verification:
    """Return the last verification, which was interrupted. Raises NothingToResume if it has ended."""
    row = tracking.verifications.last()
    if row is None or row.ended_at is not None:
        raise NothingToResume
    return of_row(row)


def last_of_all(tracking: Tracking) -> Verification | None:
    """Return the last verification of all media that has ended."""
    row = tracking.verifications.last_of_all()
    return None if row is None else of_row(row)


def save(tracking: Tracking, verification: Verification) -> None:
    """Record the progress of a verification, and its findings since the last `save`. Raises TrackingError."""
    with tracking.transaction(durable=verification.ended_at is not None):
        for session, stripes in verification.noted.items():
            tracking.lacks.note_damaged(session, stripes, utc_now())
        if verification.id is not None:
            tracking.verifications.save(_row(verification, verification.id), utc_now())
            tracking.verifications.add_hurt(verification.id, verification.hurt)
    verification.noted.clear()
    if verification.id is not None:
        verification.hurt.clear()


def _row(verification: Verification, number: int) -> VerificationRow:
    return VerificationRow(
        *(number, verification.started_at, verification.ended_at, verification.scope),
        *(verification.progress, verification.unfinished, verification.bytes),
        *(*(verification.defects[severity] for severity in _COUNTED), verification.replaceable, verification.mended),
    )


def hurt(tracking: Tracking, verification: Verification) -> Iterator[Hurt]:
    """Return the tape files that have lost bytes, by medium and number; by session, if the record has no `id`."""
    if verification.id is not None:
        return tracking.verifications.hurt(verification.id)
    found = ((tracking.sessions.get(session), size) for session, size in sorted(verification.hurt.items()))
    return (Hurt(one.medium, one.tape_file or 0, one.id, size, one.bytes) for one, size in found)


def extent(tracking: Tracking, verification: Verification) -> tuple[int, int, int]:
    """Return how many media with tape files, tape files and bytes are to be verified."""
    return tracking.verifications.extent(verification.scope)


def unlisted(tracking: Tracking, verification: Verification) -> list[tuple[str, int, int]]:
    """Return (barcode, length, length of its tape files) of each medium where the two lengths differ, in bytes."""
    return tracking.verifications.unlisted(verification.scope)


def left_out(tracking: Tracking, verification: Verification) -> tuple[int, list[LeftOut]]:
    """Return how many streams are not verified, because they are open or were released later, and the first NAMED."""
    return tracking.verifications.left_out(verification.scope, NAMED)


def tape_files(
    tracking: Tracking, verification: Verification, session: int, at_once: int
) -> Iterator[tuple[TapeFile, Session]]:
    """Yield the tape files to be verified, by session, from `session` on. One query looks up `at_once` of them."""
    return tracking.verifications.tape_files(verification.scope, session, at_once)


def extents(
    tracking: Tracking, disk: int, session: int, after: int, most: int, sizes: Sizes
) -> Iterator[tuple[int, tuple[Extent, ...]]]:
    """Yield a session's extents on a disk, data and parity, in groups: (turn of the group's last extent, extents).

    The turn of a data extent is its offset, that of parity the offset at which its stripe begins: the order of writing.
    The first group follows the turn `after`. A group has at most `most` stored bytes, unless a single turn has more.
    """
    group: list[Extent] = []
    size = 0
    last = after
    following: int | None = after
    while following is not None:
        found, following = tracking.extents.on_disk(disk, session, following, sizes.extents_at_once)
        for turn, one in found:
            if group and turn > last and (size + one.stored > most or len(group) >= sizes.extents_a_part):
                yield last, tuple(group)
                group, size = [], 0
            group.append(one)
            size, last = size + one.stored, turn
    if group:
        yield last, tuple(group)


def of_row(row: VerificationRow) -> Verification:
    """Return the verification of a row."""
    counts = (row.damaged, row.unreadable, row.metadata)
    return Verification(
        *(row.id, row.started_at, row.ended_at, _list(row.scope.media), row.scope.last, row.scope.moves),
        *(row.progress, row.unfinished, row.bytes, dict(zip(_COUNTED, counts, strict=True))),
        *(row.replaceable, row.mended),
    )


def _list(media: tuple[str, ...] | None) -> list[str] | None:
    return None if media is None else list(media)
