"""When people are to be told of incidents, and when again. Pure: the present is an argument.

Times are those of the wall clock, as they outlive a mount. If that jumps, a message comes too early, or later by at
most the time that it was to wait.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vtlfs.care.message import GROUPS
from vtlfs.care_rules import NotifyRule
from vtlfs.engine.tracking.repositories.incidents import Incident, Telling, Untold
from vtlfs.report.words import is_within

FIRST_SECONDS = 10.0  # after which it is tried again; then twice as long each time
LONGEST_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Due:
    """A message that is due. `is_reminder`: people were told already of what lasts."""

    untold: Untold
    is_reminder: bool = False


def due(
    untold: Iterable[Untold],
    lasting: Iterable[Incident],
    tellings: Mapping[str, Telling],
    rule: NotifyRule,
    at: str,
) -> list[Due]:
    """Return the messages that are due now, in the order of their incidents; reminders last."""
    found = [Due(one) for one in untold if _may_tell(tellings.get(one.about), rule, at)]
    new = {one.untold.about for one in found}
    for incident in lasting:
        known = tellings.get(incident.about)
        if rule.remind is None or known is None or known.told_at is None or incident.about in new:
            continue
        is_wanted = GROUPS.get(incident.kind, "") in rule.kinds and incident.number <= known.told
        if is_wanted and not is_within(known.told_at, at, rule.remind) and not _waits(known, at):
            found.append(Due(Untold(incident.about, incident.number, incident.number, 1), is_reminder=True))
    return found


def _may_tell(known: Telling | None, rule: NotifyRule, at: str) -> bool:
    if known is None:
        return True
    if _waits(known, at):
        return False
    return known.told_at is None or not is_within(known.told_at, at, rule.gather)


def _waits(known: Telling, at: str) -> bool:
    """Tell whether telling has failed so shortly ago that it is not tried again yet."""
    seconds = min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(known.tries - 1, 20))
    return known.tried_at is not None and is_within(known.tried_at, at, seconds)
