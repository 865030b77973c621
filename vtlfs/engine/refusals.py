"""Refusals: what retention, a legal hold or a write-protect tab has kept somebody from doing to a medium.

The transaction that is refused is rolled back, so a refusal is recorded in one of its own: as an event, which says who
wanted what, and as an incident, of which people are told.
"""

from collections.abc import Iterator

from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import NoSuchMedium, Refused, Retained, VtlfsError
from vtlfs.model import Actor

EVENT = "refused"
KIND, ABOUT = "retention refused", "retention"  # of the incident


def retained_in(error: VtlfsError) -> Iterator[Retained]:
    """Yield the refusals by retention that an error has."""
    if isinstance(error, Retained):
        yield error
    elif isinstance(error, Refused):
        for one in error.errors:
            yield from retained_in(one)


def record(tracking: Tracking, error: VtlfsError, actor: Actor, at: str) -> None:
    """Record the refusals by retention that an error has; in a transaction.

    The same user's of the same volume is recorded once a day: a program that tries all the time fills no database.
    """
    for one in retained_in(error):
        try:
            volume = tracking.media.get(one.barcode).volume
        except NoSuchMedium:
            continue
        if tracking.events.has(EVENT, one.barcode, volume, actor, at[:10]):
            continue
        tracking.events.add(EVENT, actor, at, medium=one.barcode, volume=volume, reason=one.why)
        what = f"{actor.program} of user {actor.uid} on {actor.host} was refused: {one}"
        tracking.incidents.add(KIND, ABOUT, what, at)
