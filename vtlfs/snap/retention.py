"""Which snapshots to keep: the rules that people know from backup tools. Pure."""

from collections.abc import Sequence
from datetime import datetime

from vtlfs.model import Snapshot

# How each rule tells one period from another, from a time in UTC.
PERIODS = {
    "hourly": "%Y-%m-%d %H",
    "daily": "%Y-%m-%d",
    "weekly": "%G-%V",
    "monthly": "%Y-%m",
    "yearly": "%Y",
}


def to_keep(snapshots: Sequence[Snapshot], keep: dict[str, int]) -> set[int]:
    """Return the numbers of the snapshots that the rules keep.

    `last`: so many of the newest. `hourly` and the others: of so many of the latest periods that have a snapshot, the
    newest one each. What any rule keeps stays; a snapshot with a name stays always, for somebody named it.

    Which is newer its number tells. Its time only says to which period it belongs, so a snapshot that was taken while
    the clock was wrong takes one place of each rule at most: one period that is not, or the same one again. What it
    would displace for good is bounded by that, also where the clock is wrong by years: as many wrong periods, as many
    of the oldest ones that a rule would have kept, and no more.
    """
    newest_first = sorted(snapshots, key=lambda snapshot: snapshot.id, reverse=True)
    kept = {snapshot.id for snapshot in newest_first if snapshot.name is not None}
    unnamed = [snapshot for snapshot in newest_first if snapshot.name is None]
    kept.update(snapshot.id for snapshot in unnamed[: keep.get("last", 0)])
    for rule, form in PERIODS.items():
        periods: dict[str, int] = {}
        for snapshot in unnamed:
            period = datetime.fromisoformat(snapshot.taken_at).strftime(form)
            if period not in periods and len(periods) == keep.get(rule, 0):
                break
            periods.setdefault(period, snapshot.id)
        kept.update(periods.values())
    return kept


def to_remove(snapshots: Sequence[Snapshot], keep: dict[str, int]) -> list[int]:
    """Return the numbers of the snapshots that no rule keeps, the oldest first; none where there are no rules."""
    if not keep:
        return []
    kept = to_keep(snapshots, keep)
    return sorted(snapshot.id for snapshot in snapshots if snapshot.id not in kept)
