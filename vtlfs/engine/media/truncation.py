"""Erasing a medium with `on_truncate = "erase"` when a program begins it anew, as by truncating it: its volume ends.

Only the one session that writes to the medium may do so, and only as far as retention allows.
"""

import logging
from dataclasses import dataclass

from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.volumes import under_rule
from vtlfs.errors import NotPermitted
from vtlfs.model import Actor, Medium, Opener, Volume
from vtlfs.rules import MediaRule, OnTruncate

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Current:
    """The medium of a write session and its current volume, as it is retained once the session has written to it.

    `erased`: the transaction has ended a volume of it.
    """

    medium: Medium
    volume: Volume
    erased: bool = False


@dataclass(frozen=True, slots=True)
class Anew:
    """A call that means that a medium begins anew. `rule`: what the medium's rule says to that; `by`: which call."""

    by: str
    rule: OnTruncate = OnTruncate.ERASE


def begin_anew(tracking: Tracking, barcode: str, session: int, opener: Opener, anew: Anew, at: str) -> bool:
    """End the volume that an open session writes to, unless it is empty; tell whether it has ended.

    To be called in a transaction. An event tells by whom, and by what call. Raises MediumBusy where another session
    writes to the medium, Retained, and NotPermitted where the rule lets nobody erase it; the caller must not commit
    then.
    """
    tracking.volumes.check_idle(barcode, but=session)
    if not tracking.media.get(barcode).tape_files:
        return False
    if anew.rule is not OnTruncate.ERASE:
        log.info(
            'refusing %s to overwrite medium %s; to let programs begin it anew, set on_truncate = "erase" for it in'
            " library.toml",
            *(opener.program, barcode),
        )
        raise NotPermitted("overwriting a medium")
    was = tracking.volumes.end_current(barcode, at, by_session=session)
    tracking.events.add(
        *("erased", Actor(opener.uid, opener.host, opener.program), at),
        medium=barcode,
        volume=was.volume,
        tape_files=was.tape_files,
        bytes=was.bytes,
        session=session,
        by=anew.by,
    )
    log.info("session %d: %s erases volume %d of medium %s (%s)", session, opener.program, was.volume, barcode, anew.by)
    return True


def current(tracking: Tracking, barcode: str, rule: MediaRule, *, erased: bool) -> Current:
    """Return where a session writes. To be called in a transaction. `rule`: that of the medium.

    Nothing is recorded of the rule: retention begins with the first bytes, and a session may write none. `erased`: the
    transaction has ended a volume of the medium.
    """
    medium = tracking.media.get(barcode)
    return Current(medium, under_rule(tracking.volumes.get(barcode, medium.volume), rule), erased)
