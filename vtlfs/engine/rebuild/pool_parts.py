"""Streams of pools in a rebuild, when all tape files are on their media: parts become one stream again.

Each header says at which offset of the stream its session begins, and whether another part follows. So a missing part
is noticed. The parts of such a stream stay tape files of their own, because no reader should see a hole, or take a
beginning for the whole.
"""

from collections.abc import Sequence

from vtlfs.engine.rebuild.found import ReplayReport
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.rebuild.rejoined import FoundPart


def rejoin(tracking: Tracking, report: ReplayReport) -> None:
    """Record the streams of pools that the database does not know, and where the pools are."""
    rejoined = tracking.rejoined
    for stream in rejoined.join():
        parts = rejoined.parts(stream)
        is_begun = bool(tracking.sessions.known(stream, stream))
        if is_chain(stream, parts, begins_there=is_begun):
            rejoined.number(parts)
        else:
            rejoined.take_apart(stream)
            report.tell(ignored=[f"stream {stream} of a pool lacks a part; what is left are tape files of their own"])


def is_chain(stream: int, parts: Sequence[FoundPart], *, begins_there: bool) -> bool:
    """Tell whether each part begins where the one before it ends, and none follows the last one. Pure.

    `begins_there`: the session `stream` is known, so that it must be the first one; else it wrote nothing.
    """
    length = 0
    for before, part in zip([None, *parts], parts, strict=False):
        if before is None and (part.session < stream or (begins_there and part.session != stream)):
            return False
        if before is not None and (before.pool != part.pool or before.session >= part.session):
            return False
        if part.start is not None and part.start != length:
            return False
        length += part.bytes
    return not (parts and parts[-1].goes_on)
