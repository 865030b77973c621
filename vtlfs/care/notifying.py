"""Telling people of incidents: a round of looking and telling, for a mount and for `vtlfs notify`. In a trio loop.

The incidents and how far they were told are in the catalogue. It is recorded after the telling: so a process that dies
in between tells again, with the same number; nothing is left out.
"""

import logging
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from vtlfs.care import message, ways
from vtlfs.care.due import Due, due
from vtlfs.care.message import GROUPS, Message
from vtlfs.care_rules import NotifyRule
from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.incidents import Untold
from vtlfs.errors import first_of
from vtlfs.failpoints import reached

LEASE = "notify"

Do = Callable[[Callable[[Tracking], Any]], Awaitable[Any]]

log = logging.getLogger(__name__)


class Notifier:
    """See the module."""

    def __init__(self, library: Library, rule: NotifyRule, read: Do, change: Do, clock: Callable[[], str]) -> None:
        """`read` and `change` ask and change the catalogue; `clock` tells the time."""
        self._library = library
        self._rule = rule
        self._read = read
        self._change = change
        self._clock = clock
        self.told = 0  # messages
        self.failed = 0

    async def begin(self) -> None:
        """Have people be told of what comes from now on, by each way that is new. Raises VtlfsError."""
        new: list[str] = await self._read(self._new_ways)
        for way in new:
            await self._change(partial(_begin, way=way))

    async def tell(self) -> None:
        """Tell all that is due, by all ways at once. Raises VtlfsError where the catalogue can't be had."""
        try:
            async with trio.open_nursery() as nursery:
                for way in ways.of(self._rule):
                    nursery.start_soon(self._tell_by, way)
        except BaseExceptionGroup as group:
            raise first_of(group) from None

    async def messages(self, way: str) -> list[tuple[Due, Message]]:
        """Return the messages that are due by a way. Raises VtlfsError."""
        return list(await self._read(partial(self._due, way=way)))

    def _new_ways(self, tracking: Tracking) -> list[str]:
        return [way for way in ways.of(self._rule) if not tracking.incidents.is_told_by(way)]

    def _due(self, tracking: Tracking, way: str) -> list[tuple[Due, Message]]:
        incidents = tracking.incidents
        known = (incidents.untold(way), incidents.lasting(), incidents.tellings(way))
        where = (str(self._library.path), self._library.config.uuid, socket.gethostname())
        return [
            (one, message.make(tracking, *where, one.untold, is_reminder=one.is_reminder))
            for one in due(*known, self._rule, self._clock())
        ]

    async def _tell_by(self, way: str) -> None:
        for one, told in await self.messages(way):
            if GROUPS.get(told.kind, "") in self._rule.kinds:
                try:
                    await ways.tell(way, self._rule, self._library.path, told)
                except ways.NotTold as error:
                    self.failed += 1
                    log.warning("telling by %s failed, and is tried again: %s (%s)", way, error, told.what)
                    at = self._clock()
                    await self._change(partial(_note_untold, way=way, about=told.about, error=str(error), at=at))
                    continue
                self.told += 1
                log.info("told by %s: %s", way, told.what)
            reached("care.told")
            await self._change(partial(_note_told, way=way, untold=one.untold, at=self._clock()))


def _begin(tracking: Tracking, *, way: str) -> None:
    tracking.incidents.begin_telling(way)


def _note_told(tracking: Tracking, *, way: str, untold: Untold, at: str) -> None:
    tracking.incidents.note_told(way, untold.about, untold.last, at)


def _note_untold(tracking: Tracking, *, way: str, about: str, error: str, at: str) -> None:
    tracking.incidents.note_untold(way, about, error, at)
