"""Which snapshots to keep: the rules that people know from backup tools. Pure."""

from collections.abc import Iterable, Sequence
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

    Which is newer its number tells; its time only says to which period it belongs. Where a clock has jumped, periods
    are counted in two ways, and what either keeps stays. Once by their names: a machine that begins in 1970 at each
    boot has that year but once. And once anew from each point on where a newer snapshot has the earlier time: a clock
    that was set back for days makes no period out of two. So a jump, there and back, costs each rule three places at
    most, by however many years and for however long, and a snapshot of a wrong time costs each rule one at most.
    """
    newest_first = sorted(snapshots, key=lambda snapshot: snapshot.id, reverse=True)
    kept = {snapshot.id for snapshot in newest_first if snapshot.name is not None}
    unnamed = [snapshot for snapshot in newest_first if snapshot.name is None]
    kept.update(snapshot.id for snapshot in unnamed[: keep.get("last", 0)])
    for rule, form in PERIODS.items():
        for anew in (False, True):
            kept.update(_newest_of_each(unnamed, form, keep.get(rule, 0), anew=anew))
    return kept


def _newest_of_each(newest_first: Sequence[Snapshot], form: str, most: int, *, anew: bool) -> Iterable[int]:
    """Return the newest snapshot of each of the latest periods, of `most` of them at most.

    `anew`: periods from before a clock was set back are others than those after it, whatever they are called.
    """
    periods: dict[tuple[int, str], int] = {}
    jumps, newer_at = 0, "9"
    for snapshot in newest_first:
        jumps += anew and snapshot.taken_at > newer_at
        newer_at = snapshot.taken_at
        period = jumps, datetime.fromisoformat(snapshot.taken_at).strftime(form)
        if period not in periods and len(periods) == most:
            break
        periods.setdefault(period, snapshot.id)
    return periods.values()


def to_remove(snapshots: Sequence[Snapshot], keep: dict[str, int]) -> list[int]:
    """Return the numbers of the snapshots that no rule keeps, the oldest first; none where there are no rules."""
    if not keep:
        return []
    kept = to_keep(snapshots, keep)
    return sorted(snapshot.id for snapshot in snapshots if snapshot.id not in kept)
