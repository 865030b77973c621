"""What has become of media that were exported, imported or copied; and the event of it."""

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from vtlfs.engine.library import Library
from vtlfs.errors import LibraryError, TrackingError
from vtlfs.model import Actor, utc_now

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Moved:
    """A medium that was moved as a whole. `new_files`, `new_bytes`: what was not there before."""

    barcode: str
    target: str
    tape_files: int
    bytes: int
    new_files: int
    new_bytes: int


class Progress(Protocol):
    """Is told how the work goes."""

    def expect(self, size: int) -> None:
        """There are so many bytes more to be moved."""

    def advance(self, size: int) -> None:
        """So many bytes are done."""


@dataclass(frozen=True, slots=True)
class EventToRecord:
    """An event of a medium."""

    what: str
    barcode: str
    volume: int
    details: dict[str, object]


def record(library: Library, actor: Actor, events: Sequence[EventToRecord]) -> None:
    """Record events. A library that can only be read has none, which is logged."""
    if not events:
        return
    try:
        with closing(library.tracking()) as tracking, tracking.transaction():
            for event in events:
                where = {"medium": event.barcode, "volume": event.volume}
                tracking.events.add(event.what, actor, utc_now(), **where, **event.details)  # type: ignore[arg-type]
    except (LibraryError, TrackingError) as error:
        log.warning("what was done is not recorded as an event: %s", error)
