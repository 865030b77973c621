"""Retention: which snapshots to keep, by the rules that people know from backup tools. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from vtlfs.model import Snapshot

# The name of the period of a time in UTC, by rule.
PERIODS = {
    "hourly": "%Y-%m-%d %H",
    "daily": "%Y-%m-%d",
    "weekly": "%G-%V",
    "monthly": "%Y-%m",
    "yearly": "%Y",
}


def to_keep(snapshots: Sequence[Snapshot], keep: dict[str, int]) -> set[int]:
    """Return the numbers of the snapshots that the rules keep.

    `last` N keeps the N newest snapshots. `hourly` N and the others keep the newest snapshot of each of the N latest
    periods that have one. A snapshot that any rule keeps stays; a snapshot with a name always stays.

    Numbers tell which of two snapshots is newer; times only tell their periods. Since a clock may jump, periods are
    counted in two ways, and a snapshot that either way keeps stays. The first way goes by the names of periods: a
    machine that begins in 1970 at each boot has that year only once. The second way begins anew wherever a newer
    snapshot has an earlier time: a clock that was set back for days does not merge two periods. So a jump and its
    correction cost each rule three places at most, however far and long the clock was wrong, and one snapshot with a
    wrong time costs each rule one place at most.
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
    """Return the newest snapshot of each of the latest periods, at most `most`.

    `anew`: a period before a clock was set back differs from one after it, even if both have the same name.
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
