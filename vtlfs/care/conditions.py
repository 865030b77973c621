"""What is wrong with a library for as long as it lasts, and the incidents that record it. Pure but for `record`.

Incidents of disks are recorded with the fault, and those of sessions by a trigger: they are not looked for here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

from vtlfs.care_rules import NotifyRule
from vtlfs.config import Config
from vtlfs.engine.condition import Condition, Facts
from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import format_size
from vtlfs.report.night import CopyOfCatalogue
from vtlfs.report.words import ago, seconds_between

LIBRARY, SPACE, COPY = "library", "space", "copy"
ENDED = {
    LIBRARY: ("library whole", "the library is whole again"),
    SPACE: ("space back", "enough data fits on the disks again"),
    COPY: ("copy made", "the disks have a new copy of the tracking database"),
}
"""What it is about, and the incident that tells its end: kind and text."""

EASE = 110  # per cent of the level that space has to reach before it is enough again


@dataclass(frozen=True, slots=True)
class Lasting:
    """Something that is wrong. `what` and `advice`: as in the incident that records it."""

    kind: str
    about: str
    what: str
    advice: str


@dataclass(frozen=True, slots=True)
class Space:
    """How much data fits on all disks together, in bytes, and how much still does."""

    total: int
    available: int


def lasting(
    facts: Facts,
    space: Space | None,
    copy: CopyOfCatalogue,
    config: Config,
    rule: NotifyRule,
    known: Sequence[str],
    at: str,
) -> list[Lasting]:
    """Return what is wrong now. `known`: what is known to be wrong already. `at`: the present."""
    found = [_of_library(facts), _of_space(facts, space, rule, is_known=SPACE in known)]
    found.append(_of_copy(facts, copy, config, rule, at))
    return [one for one in found if one is not None]


def _of_library(facts: Facts) -> Lasting | None:
    """Return what is wrong with the library but for the faults of its disks, which are incidents of their own."""
    of_disks = [f"{disk}" for disk in facts.disks]
    others = [one for one in facts.troubles if not any(one.what.startswith(disk) for disk in of_disks)]
    if not others:
        return None
    worst = others[0]  # they are in the order of their weight
    kind = "library failed" if worst.condition is Condition.FAILED else "library degraded"
    return Lasting(kind, LIBRARY, f"the library is {worst.condition}: {worst.what}", worst.advice)


def _of_space(facts: Facts, space: Space | None, rule: NotifyRule, *, is_known: bool) -> Lasting | None:
    if space is None or rule.space is None or not space.total:
        return None
    level = space.total * rule.space // 100 if rule.space_is_share else rule.space
    if space.available >= level * (EASE if is_known else 100) // 100:
        return None
    what = f"{format_size(space.available)} of data still fit on the disks, less than {format_size(level)}"
    library = quote(facts.library)
    return Lasting("space low", SPACE, what, f"vtlfs disk add {library} NEWPATH, or vtlfs reclaim {library}")


def _of_copy(facts: Facts, copy: CopyOfCatalogue, config: Config, rule: NotifyRule, at: str) -> Lasting | None:
    """Return whether the last copy is too old. A clock that jumps tells it too early, or too late."""
    if rule.copy is None or config.copy_every is None or copy.begun_at is None or copy.is_current:
        return None
    allowed = max(rule.copy, 2 * config.copy_every)
    if 0 <= seconds_between(copy.begun_at, at) <= allowed:
        return None
    what = f"the last copy of the tracking database on the disks was begun {ago(copy.begun_at, at)}"
    return Lasting("copy old", COPY, what, f"vtlfs status {quote(facts.library)}; the log of the mount says what fails")


def has_changed(tracking: Tracking, found: Sequence[Lasting]) -> bool:
    """Tell whether `record` would change anything."""
    known = {one.about: one.kind for one in tracking.incidents.lasting() if one.about in ENDED}
    return known != {one.about: one.kind for one in found}


def record(tracking: Tracking, found: Sequence[Lasting], at: str) -> None:
    """Record what has begun and what has ended since the last time. In a transaction."""
    known = {one.about: one.kind for one in tracking.incidents.lasting() if one.about in ENDED}
    now = {one.about: one for one in found}
    for about in known:
        if about not in now:
            kind, what = ENDED[about]
            tracking.incidents.add(kind, about, what, at)
    for about, one in now.items():
        if known.get(about) != one.kind:
            tracking.incidents.add(one.kind, about, one.what, at, advice=one.advice, lasts=True)
