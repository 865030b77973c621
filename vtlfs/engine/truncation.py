"""What it means for a medium with `on_truncate = "erase"` that a program begins it anew: its volume ends.

Only the one session that writes to the medium may do so, and only as far as retention allows.
"""

import logging
from dataclasses import dataclass

from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import Actor, Medium, Opener, Volume
from vtlfs.rules import MediaRule

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Current:
    """The medium of a write session and its current volume. `erased`: the transaction has ended a volume of it."""

    medium: Medium
    volume: Volume
    erased: bool = False


def begin_anew(tracking: Tracking, barcode: str, session: int, opener: Opener, by: str, at: str) -> bool:
    """End the volume that an open session writes to, unless it is empty; tell whether it has ended.

    To be called in a transaction. An event tells by whom, and `by` what call. Raises MediumBusy where another session
    writes to the medium, and Retained; the caller must not commit then.
    """
    tracking.volumes.check_idle(barcode, but=session)
    if not tracking.media.get(barcode).tape_files:
        return False
    was = tracking.volumes.end_current(barcode, at, by_session=session)
    tracking.events.add(
        *("erased", Actor(opener.uid, opener.host, opener.program), at),
        medium=barcode,
        volume=was.volume,
        tape_files=was.tape_files,
        bytes=was.bytes,
        session=session,
        by=by,
    )
    log.info("session %d: %s erases volume %d of medium %s (%s)", session, opener.program, was.volume, barcode, by)
    return True


def current(tracking: Tracking, barcode: str, rule: MediaRule, *, erased: bool) -> Current:
    """Have the rule hold for what a session is about to write; return where it writes. To be called in a transaction.

    `erased`: the transaction has ended a volume of the medium.
    """
    tracking.volumes.begin_retention(barcode, rule)
    medium = tracking.media.get(barcode)
    return Current(medium, tracking.volumes.get(barcode, medium.volume), erased)
