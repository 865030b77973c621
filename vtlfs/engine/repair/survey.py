"""Finds the stripes that lack something, session by session, in bounded memory.

Used in the trio loop. Each query of the tracking database is short, because a mount serves streams in the same loop.
"""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import groupby

import trio

from vtlfs.engine.lease import Leases
from vtlfs.engine.member_headers import header_of
from vtlfs.engine.repair.stripes import Condition, Ended, Piece, Stripe
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.engine.tracking.repositories.lacks import HEADERS, Lack
from vtlfs.model import MAX_MEMBERS, NOWHERE, Extent, Session, TapeFile
from vtlfs.sizes import Sizes

Chunk = tuple[list[Extent], list[Extent]]  # data extents by offset, and the parity of their stripes


class Survey:
    """Goes through the sessions of a library that may lack something.

    `out`: disks whose extents count as lost, or are to be moved. `postponed`: sessions that the survey passed over,
    because a live mount may still be finishing their headers.
    """

    def __init__(self, catalogue: Catalogue, leases: Leases, out: Collection[int], sizes: Sizes) -> None:
        self._catalogue = catalogue
        self._sizes = sizes
        self._leases = leases
        self._out = frozenset(out)
        self.postponed: set[int] = set()

    async def all(self, last: int) -> AsyncGenerator[Stripe | Ended, None]:
        """Yield what `of` yields, for all sessions whose tape files have ordinals up to `last`."""
        end = await self._catalogue.read(lambda tracking: tracking.library.next_session())
        for first in range(0, end, self._sizes.survey_sessions):
            found = await self._catalogue.read(
                lambda tracking, first=first: tracking.session_disks.to_repair(  # type: ignore[misc]
                    first, first + self._sizes.survey_sessions, self._out, last
                )
            )
            async with aclosing(self._of(await self._unchanging(found), {})) as stripes:
                async for one in stripes:
                    yield one
            await trio.lowlevel.checkpoint()

    async def of(self, sessions: Mapping[int, Collection[int] | None]) -> AsyncGenerator[Stripe | Ended, None]:
        """Yield the stripes of these sessions that lack something. `sessions`: stripe numbers by session; None: all.

        A session itself is yielded after its stripes if headers of its member files are known to be damaged.
        """
        wanted = sorted(sessions)
        for start in range(0, len(wanted), self._sizes.survey_sessions):
            some = wanted[start : start + self._sizes.survey_sessions]
            found = await self._catalogue.read(
                lambda tracking, some=some: tracking.session_disks.with_tape_files(some)  # type: ignore[misc]
            )
            async with aclosing(self._of(await self._unchanging(found), sessions)) as stripes:
                async for one in stripes:
                    yield one

    async def _unchanging(self, found: Sequence[tuple[Session, TapeFile, int]]) -> list[Ended]:
        """Return the sessions whose member files no mount changes any more; the others are postponed."""
        numbers = [session.id for session, _, _ in found]
        parts = await self._catalogue.read(lambda tracking: tracking.pools.parts_of(numbers))
        gone_on = await self._catalogue.read(lambda tracking: tracking.pools.gone_on(numbers))
        finished: dict[int, float] = {}
        unchanging = []
        for session, file, ordinal in found:
            if session.mount not in finished:
                is_alive = self._leases.is_alive(session.mount)
                finished[session.mount] = self._leases.closed_up_to(session.mount) if is_alive else float("inf")
            if ordinal > finished[session.mount]:
                self.postponed.add(session.id)
                continue
            opening, ending = header_of(file, session, parts.get(session.id))
            ending = replace(ending, requests=session.requests, goes_on=session.id in gone_on)
            unchanging.append(Ended(session, opening, ending))
        return unchanging

    async def _of(
        self, sessions: Sequence[Ended], only: Mapping[int, Collection[int] | None]
    ) -> AsyncGenerator[Stripe | Ended, None]:
        for start in range(0, len(sessions), self._sizes.survey_small_sessions):
            group = sessions[start : start + self._sizes.survey_small_sessions]
            small = [
                ended
                for ended in group
                if ended.session.bytes <= self._sizes.survey_small_units * ended.session.stripe_unit
            ]
            rows = await self._rows_of(small)
            lacks = await self._lacks_of_all([*rows])
            for ended in group:
                known = rows.get(ended.number)
                chunks = self._chunks(ended, only) if known is None else _one(known)
                async with aclosing(chunks):
                    async for chunk in chunks:
                        some = lacks[ended.number] if known else await self._lacks_of(ended, chunk[0])
                        for stripe in self._stripes(ended, *chunk, some):
                            if stripe.lacks and _is_wanted(stripe, only):
                                yield stripe
                if HEADERS in (lacks[ended.number] if known else await self._lacks_of(ended, ())):
                    yield ended

    async def _lacks_of_all(self, sessions: list[int]) -> dict[int, dict[int, Lack]]:
        """Return the lacks of small sessions, by session and stripe."""
        noted = await self._catalogue.read(lambda tracking: tracking.lacks.of_all(sessions))
        return {session: {lack.stripe: lack for lack in noted if lack.session == session} for session in sessions}

    async def _lacks_of(self, ended: Ended, rows: Sequence[Extent]) -> dict[int, Lack]:
        """Return the lacks of the stripes that these rows of a session belong to, and that of its headers."""
        stripes = [HEADERS, *{row.stripe for row in rows}]
        noted = await self._catalogue.read(lambda tracking: tracking.lacks.of_stripes(ended.number, stripes))
        return {lack.stripe: lack for lack in noted}

    async def _rows_of(self, small: Sequence[Ended]) -> dict[int, Chunk]:
        """Return the extents of small sessions, data and parity; nothing if there are too many for one query."""
        numbers = [ended.number for ended in small]
        rows = await self._catalogue.read(lambda tracking: tracking.extents.of_all(numbers, self._sizes.survey_rows))
        if len(rows) == self._sizes.survey_rows:
            return {}
        parity: dict[int, list[Extent]] = {}
        for row in await self._parity_of(rows):
            parity.setdefault(row.session, []).append(row)
        data = groupby(rows, key=lambda row: row.session)
        return {number: (list(group), parity.get(number, [])) for number, group in data}

    async def _parity_of(self, rows: Sequence[Extent]) -> list[Extent]:
        return await self._catalogue.read(lambda tracking: tracking.extents.parity_of(rows))

    async def _chunks(self, ended: Ended, only: Mapping[int, Collection[int] | None]) -> AsyncGenerator[Chunk, None]:
        """Yield the extents of a session in runs of whole stripes.

        If the session has extents on disks that are out, these are all of its stripes; otherwise those in `only`, or
        if that names none, those that are known to lack something.
        """
        session = ended.session
        if not self._out.intersection(session.disks):
            wanted = only.get(session.id)
            search = self._search(session, None if wanted is None else [*wanted])
            async with aclosing(search):
                async for found in search:
                    yield found, await self._parity_of(found)
            return
        offset = 0
        while offset < session.bytes:
            rows = await self._catalogue.read(
                lambda tracking, offset=offset: tracking.extents.of(session.id, offset, self._sizes.survey_rows)  # type: ignore[misc]
            )
            if not rows:
                return
            is_last = len(rows) < self._sizes.survey_rows
            while not is_last and len(rows) > 1 and rows[-1].stripe == rows[-2].stripe:
                rows.pop()
            if not is_last:
                rows.pop()
            if not rows:  # a stripe of too many rows: they contradict each other, and `vtlfs check` reports that
                return
            yield rows, await self._parity_of(rows)
            offset = rows[-1].end
            await trio.lowlevel.checkpoint()

    async def _search(self, session: Session, stripes: list[int] | None) -> AsyncGenerator[list[Extent], None]:
        """Yield the data extents of these stripes of a session. `stripes` of None: those known to lack something."""
        window, reach = self._sizes.survey_window * session.stripe_unit, MAX_MEMBERS * session.stripe_unit
        seen: set[int] = set()
        for begin in range(0, session.bytes, window):
            end = begin + window + reach  # every stripe that begins in the window ends before this
            rows = await self._catalogue.read(
                lambda tracking, begin=begin, end=end: tracking.extents.of_stripes(session.id, stripes, begin, end)  # type: ignore[misc]
            )
            first: dict[int, int] = {}
            for row in rows:
                first.setdefault(row.stripe, row.offset or 0)
            begun = {stripe for stripe, offset in first.items() if offset < begin + window} - seen
            seen |= begun
            if found := [row for row in rows if row.stripe in begun]:
                yield found
            await trio.lowlevel.checkpoint()

    def _stripes(
        self, ended: Ended, rows: Sequence[Extent], parity_rows: Sequence[Extent], lacks: Mapping[int, Lack]
    ) -> list[Stripe]:
        """Return the stripes of these data extents, with what is known about each."""
        parity: dict[int, list[Piece]] = {}
        for row in parity_rows:
            parity.setdefault(row.stripe, []).append(self._piece(row))
        groups = [list(group) for _, group in groupby(rows, key=lambda row: row.stripe)]
        found = []
        for place, group in enumerate(groups):
            lack = lacks.get(group[0].stripe)
            around = [groups[beside][0].disk for beside in (place - 1, place + 1) if 0 <= beside < len(groups)]
            pieces = [self._piece(row) for row in sorted(group, key=lambda row: row.place)]
            stripe = Stripe(ended, pieces, parity.get(group[0].stripe, []), beside=frozenset(around))
            if lack is not None:
                stripe.is_noted, stripe.is_damaged = True, bool(lack.damaged)
                stripe.weight = lack.bytes
            stripe.weight += sum(piece.row.stored for piece in stripe.pieces if piece.row.disk in self._out)
            found.append(stripe)
        return found

    def _piece(self, row: Extent) -> Piece:
        is_away = row.disk in self._out or row.position == NOWHERE
        return Piece(row, Condition.AWAY if is_away else Condition.GOOD)


def _is_wanted(stripe: Stripe, only: Mapping[int, Collection[int] | None]) -> bool:
    if stripe.ended.number not in only:
        return not only
    wanted = only[stripe.ended.number]
    return stripe.is_noted if wanted is None else stripe.number in wanted


async def _one(chunk: Chunk) -> AsyncGenerator[Chunk, None]:
    yield chunk
