"""Pools: which medium a stream goes to that names only a pool.

A pool stays on its medium while that has room. The next medium is the first that there is of these:

1. a medium that was never written, in the order of adding;
2. an erased medium: the one that is empty for longest;
3. if the pool may reuse media, one whose retention is over: the one that was written longest ago, which is erased;
4. if the pool may grow, a new barcode.

The choice is a pure function over rows. It is made in the transaction that records the session, so mounts that choose
at the same time come to the same medium, and no medium is passed over.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.pools import Candidate, Pool
from vtlfs.errors import PoolEnded, UsageError
from vtlfs.model import Actor, Medium, MediumState, check_barcode
from vtlfs.rules import PoolRule, Reuse

FIRST = 1  # the number of a medium's first volume, and of the first barcode of a pool that grows
DIGITS = 4  # of the number that stands for a * in the first barcode


class Why(StrEnum):
    """Why a pool takes a medium, for people."""

    CURRENT = "it has room"
    NEW = "it was never written"
    ERASED = "it was erased"
    EXPIRED = "its retention is over"
    GROWN = "the pool adds it"


_ORDER = (Why.NEW, Why.ERASED, Why.EXPIRED)


@dataclass(frozen=True, slots=True)
class Choice:
    """The medium that a pool takes, and why."""

    barcode: str
    why: Why


@dataclass(frozen=True, slots=True)
class Turn:
    """Where a pool is, and where the next stream goes. `medium`: the current one; `choice`: None at the pool's end."""

    pool: Pool
    medium: Medium | None
    choice: Choice | None


# --- the choice: pure -------------------------------------------------------------------------------------------------


def stays(rule: PoolRule, pool: Pool, medium: Medium | None) -> bool:
    """Tell whether a pool stays on its medium for the next stream."""
    if medium is None or pool.is_full or medium.left == 0:
        return False
    return medium.is_writable and fnmatchcase(medium.barcode, rule.media)


def standing(rule: PoolRule, one: Candidate, now: str) -> Why | str:
    """Return why a pool may take a medium as its next one, or what forbids it, in words. `now`: see `Volumes.now`."""
    medium = one.medium
    if medium.state is not MediumState.IN_USE:
        return "it is out of use"
    if medium.protected:
        return "it is write-protected"
    if one.is_written_to:
        return "a session writes to it"
    if medium.capacity == 0:
        return "its capacity is 0"
    if not medium.bytes:
        return Why.NEW if medium.volume == FIRST else Why.ERASED
    if rule.reuse is Reuse.NEVER:
        return "it is written"
    if one.is_held:
        return "it is under legal hold"
    if one.retention is None:
        return "it is written, and has no retention that could be over"
    if one.retention.until is None or one.retention.until > now:
        return f"it is retained {one.retention}"
    return Why.EXPIRED


def following(
    rule: PoolRule, pool: Pool, media: Iterable[Candidate], now: str, taken: Collection[str]
) -> Choice | None:
    """Return the medium that comes after the current one; None at the pool's end. `taken`: all barcodes there are."""
    ready = []
    for one in media:
        why = standing(rule, one, now)
        if isinstance(why, Why):
            age = {Why.NEW: 0, Why.ERASED: one.begun}.get(why, one.last or 0)
            ready.append((_ORDER.index(why), one.barcode == pool.medium, age, one.medium.id, Choice(one.barcode, why)))
    if ready:
        return min(ready)[-1]
    barcode = next_barcode(rule.media, taken) if rule.grow else None
    return None if barcode is None else Choice(barcode, Why.GROWN)


def next_barcode(pattern: str, taken: Collection[str]) -> str | None:
    """Return the next barcode of a pattern that nobody has taken; None where there is none.

    It goes on from the highest one in its longest number. The first of all has 0001 for the first *, and 1 for ????.
    """
    known = [barcode for barcode in taken if fnmatchcase(barcode, pattern)]
    last = max(known, key=_numbered) if known else None
    barcode = _first(pattern) if last is None else _after(last)
    while barcode is not None and barcode in taken:
        barcode = _after(barcode)
    try:
        return None if barcode is None or not fnmatchcase(barcode, pattern) else check_barcode(barcode)
    except UsageError:
        return None


def _numbered(barcode: str) -> tuple[int, str]:
    number = _number_in(barcode)
    return (-1 if number is None else int(number[0]), barcode)


def _number_in(barcode: str) -> re.Match[str] | None:
    """Return the longest number in a barcode, the last of the longest."""
    return max(re.finditer(r"[0-9]+", barcode), key=lambda found: (len(found[0]), found.start()), default=None)


def _after(barcode: str) -> str | None:
    number = _number_in(barcode)
    if number is None:
        return None
    return f"{barcode[: number.start()]}{int(number[0]) + 1:0{len(number[0])}d}{barcode[number.end() :]}"


def _first(pattern: str) -> str | None:
    """Return the first barcode of a pattern: only * and ? stand for a number, and only the first run of them."""
    run = re.search(r"[*?]+", pattern)
    if run is None:
        return pattern
    width = len(run[0]) if "*" not in run[0] else max(DIGITS, run[0].count("?"))
    return f"{pattern[: run.start()]}{FIRST:0{width}d}{re.sub(r'[*]', '', pattern[run.end() :])}"


def why_ended(rule: PoolRule, media: list[Candidate], now: str) -> str:
    """Return what a pool at its end lacks, and what to do, in words."""
    reasons = [str(standing(rule, one, now)) for one in media]
    dates = [one.retention.until for one in media if one.retention and one.retention.until]
    said = f"none of its {len(media)} media ({rule.media}) can be written to" if media else f"no medium is {rule.media}"
    if rule.reuse is Reuse.OLDEST_EXPIRED and dates:
        said += f", and the first whose retention ends is retained until {min(dates)}"
    elif "it is written" in reasons:
        said += ", and it reuses none"
    more = "no further barcode is like its pattern" if rule.grow else "let it grow = true"
    return f"{said}; add media with `vtlfs media add`, or erase some ({more})"


# --- in the tracking database -----------------------------------------------------------------------------------------


def look(tracking: Tracking, name: str, rule: PoolRule, at: str) -> Turn:
    """Return where a pool is, and to which medium its next stream goes."""
    pool, medium = tracking.pools.get(name), tracking.pools.medium(name)
    if medium is not None and stays(rule, pool, medium):
        return Turn(pool, medium, Choice(medium.barcode, Why.CURRENT))
    return Turn(pool, medium, coming(tracking, pool, rule, at))


def coming(tracking: Tracking, pool: Pool, rule: PoolRule, at: str) -> Choice | None:
    """Return the medium that comes after the current one; None at the pool's end."""
    media = tracking.pools.candidates(rule.media)
    taken = set(tracking.media.barcodes()) if rule.grow else set()
    return following(rule, pool, media, tracking.volumes.now(at), taken)


def take(tracking: Tracking, name: str, rule: PoolRule, choice: Choice, actor: Actor, at: str) -> None:
    """Have a pool on the medium that `look` has chosen in the same transaction."""
    barcode = choice.barcode
    if choice.why is Why.EXPIRED:
        ended = tracking.volumes.end_current(barcode, at)
        reason = f"pool {name} reuses its oldest medium whose retention is over"
        tracking.events.add(
            *("erased", actor, at), medium=barcode, volume=ended.volume, reason=reason, pool=name, bytes=ended.bytes
        )
    elif choice.why is Why.GROWN:
        tracking.media.add([barcode], rule.capacity, at)
        reason = f"pool {name} has grown"
        tracking.events.add("added", actor, at, medium=barcode, reason=reason, pool=name, capacity=rule.capacity)
    if choice.why is not Why.CURRENT:
        tracking.pools.move(name, barcode, at)


def ended(tracking: Tracking, name: str, rule: PoolRule, at: str) -> PoolEnded:
    """Return the error of a pool at its end."""
    media = tracking.pools.candidates(rule.media)
    return PoolEnded(name, why_ended(rule, media, tracking.volumes.now(at)))


@dataclass(frozen=True, slots=True)
class PoolState:
    """A pool as `vtlfs status` and `vtlfs media list --pool` show it.

    `coming`: the medium after the current one; `end`: what is the matter at the pool's end. `roles`: of each of its
    media what it is to the pool, in words.
    """

    name: str
    rule: PoolRule
    medium: Medium | None
    is_full: bool
    changed_at: str
    coming: Choice | None
    end: str | None
    roles: dict[str, str]

    def as_json(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return {
            "name": self.name,
            "media": self.rule.media,
            "media_count": len(self.roles),
            "medium": None if self.medium is None else self.medium.barcode,
            "is_full": self.is_full,
            "left": None if self.medium is None else self.medium.left,
            "changed_at": self.changed_at or None,
            "next": None if self.coming is None else self.coming.barcode,
            "next_why": None if self.coming is None else str(self.coming.why),
            "end": self.end,
        }


def state_of(tracking: Tracking, name: str, rule: PoolRule, at: str) -> PoolState:
    """Return how a pool is."""
    pool, medium = tracking.pools.get(name), tracking.pools.medium(name)
    media, now = tracking.pools.candidates(rule.media), tracking.volumes.now(at)
    is_staying = stays(rule, pool, medium)
    others = [one for one in media if not (is_staying and one.barcode == pool.medium)]
    choice = following(rule, pool, others, now, set(tracking.media.barcodes()))
    end = None if is_staying or choice is not None else why_ended(rule, media, now)
    roles = {one.barcode: _role(rule, one, now, pool, choice, is_staying=is_staying) for one in media}
    is_full = medium is not None and (pool.is_full or medium.left == 0)
    return PoolState(name, rule, medium, is_full, pool.changed_at, choice, end, roles)


def _role(rule: PoolRule, one: Candidate, now: str, pool: Pool, choice: Choice | None, *, is_staying: bool) -> str:
    why = standing(rule, one, now)
    if one.barcode == pool.medium and is_staying:
        return "current"
    if choice is not None and one.barcode == choice.barcode:
        return f"next: {choice.why}"
    if one.barcode == pool.medium:
        return f"current, and full: {why}" if pool.is_full or one.medium.left == 0 else f"current: {why}"
    return f"later: {why}" if isinstance(why, Why) else str(why)
