"""What has become of media that were exported, imported or copied; and the event of it."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from signal import Signals
from typing import Protocol

import trio

from vtlfs.engine.library import Library
from vtlfs.engine.stopping import until_stopped
from vtlfs.errors import LibraryError, TrackingError, first_of
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


def run(work: Callable[[], Awaitable[None]]) -> Signals | None:
    """Do the work in a trio run, until it is done or a signal stops it; return that signal. Raises its first error."""
    try:
        return trio.run(until_stopped, work)
    except BaseExceptionGroup as group:
        raise first_of(group) from None


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
