"""The snapshots that stay, compared with a second implementation of the rules, made in another way."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from vtlfs.config import SNAPSHOT_RULES
from vtlfs.model import Snapshot
from vtlfs.snap.retention import PERIODS, to_keep, to_remove

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
rules = st.dictionaries(st.sampled_from(SNAPSHOT_RULES), st.integers(0, 6))


def snapshot(number: int, at: datetime, name: str | None = None) -> Snapshot:
    return Snapshot(number, name, at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), True, 0, 0, 0, 0, 0)


@st.composite
def rows(draw: st.DrawFn) -> list[Snapshot]:
    """Return snapshots in the order of time, some close together, some years apart, some with a name."""
    minutes = st.integers(1, 90) | st.integers(1, 60 * 24 * 3) | st.integers(1, 60 * 24 * 200)
    at, found = NEW_YEAR, []
    for number, gap in enumerate(draw(st.lists(minutes, max_size=60)), 1):
        at += timedelta(minutes=gap)
        found.append(snapshot(number, at, draw(st.sampled_from([None] * 6 + ["name"]))))
    return found


def period(rule: str, at: datetime) -> object:
    year, week, _ = at.isocalendar()
    return {
        "hourly": (at.date(), at.hour),
        "daily": at.date(),
        "weekly": (year, week),
        "monthly": (at.year, at.month),
        "yearly": at.year,
    }[rule]


def stays(one: Snapshot, unnamed: list[Snapshot], keep: dict[str, int]) -> bool:
    """Tell whether a snapshot is kept, by counting the newer ones."""
    later = [other for other in unnamed if other.id > one.id]
    if one.name is not None or len(later) < keep.get("last", 0):
        return True
    for rule in PERIODS:
        own = period(rule, datetime.fromisoformat(one.taken_at))
        newer = {period(rule, datetime.fromisoformat(other.taken_at)) for other in later}
        if own not in newer and len(newer) < keep.get(rule, 0):
            return True
    return False


@given(rows(), rules)
def test_what_stays_is_what_the_rules_say(found: list[Snapshot], keep: dict[str, int]) -> None:
    unnamed = [one for one in found if one.name is None]
    expected = {one.id for one in found if stays(one, unnamed, keep)}
    assert to_keep(found, keep) == expected
    gone = to_remove(found, keep)
    assert gone == (sorted({one.id for one in found} - expected) if keep else [])


@given(rows(), rules)
def test_thinning_again_removes_nothing(found: list[Snapshot], keep: dict[str, int]) -> None:
    gone = set(to_remove(found, keep))
    assert to_remove([one for one in found if one.id not in gone], keep) == []


@given(rows(), rules.filter(lambda keep: any(keep.values())))
def test_the_newest_always_stays(found: list[Snapshot], keep: dict[str, int]) -> None:
    assert not found or found[-1].id not in to_remove(found, keep)


def test_a_year_of_quarter_hours_is_thinned_to_what_one_expects() -> None:
    keep = {"last": 10, "hourly": 24, "daily": 7, "weekly": 5, "monthly": 12}
    alive: list[Snapshot] = []
    for number in range(1, 30_000):
        alive.append(snapshot(number, NEW_YEAR + timedelta(minutes=15 * number)))
        if number % 50 == 0:
            gone = set(to_remove(alive, keep))
            alive = [one for one in alive if one.id not in gone]
    assert 10 + 20 + 5 + 3 + 8 <= len(alive) <= sum(keep.values()) + 50
    months = {one.taken_at[:7] for one in alive}
    assert months == {f"2026-{month:02d}" for month in range(1, 12)}


# --- a clock that jumps ----------------------------------------------------------------------------------------------


def newest_kept(times: list[datetime], keep: dict[str, int]) -> set[int]:
    """Take a snapshot at each time that the clock showed, prune after each, and return those that are left."""
    alive: list[Snapshot] = []
    for number, at in enumerate(times, 1):
        alive.append(snapshot(number, at))
        gone = set(to_remove(alive, keep))
        alive = [one for one in alive if one.id not in gone]
    return {one.id for one in alive}


GAPS = {"hourly": 1, "daily": 24, "weekly": 7 * 24, "monthly": 30 * 24, "yearly": 365 * 24}  # hours


def excursions(chance: random.Random, gap: timedelta) -> tuple[list[datetime], list[datetime], int]:
    """Return true times, the times that a jumping clock showed instead, and how often it jumped, there and back."""
    at, right, said = datetime(2040, 1, 1, tzinfo=UTC), list[datetime](), list[datetime]()
    jumps = chance.randrange(1, 3)
    for part in range(2 * jumps + 1):
        near = chance.choice([chance.randrange(-20, 0), chance.randrange(-25, 26), chance.uniform(-25, 25)])
        far = chance.uniform(-30, 30)
        offset = chance.choice([near * gap, near * gap, far * timedelta(days=365)]) if part % 2 else timedelta()
        for _ in range(chance.choice([chance.randrange(5, 20), chance.randrange(1, 4)])):
            at += gap * chance.choice([1, 1, 1, 0.3, 0.5, 2])
            right.append(at)
            said.append(at + offset)
    return right, said, jumps


@given(st.integers(0, 1 << 32), st.sampled_from(sorted(GAPS)), st.integers(1, 20), st.integers(0, 5))
@settings(max_examples=300, deadline=None)
def test_a_jump_costs_a_rule_three_places_at_most(seed: int, rule: str, most: int, last: int) -> None:
    """However far the clock jumps and for how long, a rule keeps at most three snapshots fewer than without jumps."""
    right, said, jumps = excursions(random.Random(seed), timedelta(hours=GAPS[rule]))
    keep = {rule: most} | ({"last": last} if last else {})
    lost = newest_kept(right, keep) - newest_kept(said, keep)
    assert len([one for one in lost if said[one - 1] == right[one - 1]]) <= 3 * jumps


@given(rows(), st.lists(st.tuples(st.integers(0, 60), st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)))), rules)
def test_a_snapshot_of_a_wrong_time_costs_each_rule_one_place_at_most(
    found: list[Snapshot], wrong: list[tuple[int, datetime]], keep: dict[str, int]
) -> None:
    mixed: list[Snapshot] = [*found]
    for place, at in wrong:
        mixed.insert(place, snapshot(0, at.replace(tzinfo=UTC)))
    numbered = [replace(one, id=number) for number, one in enumerate(mixed, 1)]
    kept, kept_before = to_keep(numbered, keep), to_keep(found, keep)
    still = {(one.taken_at, one.name) for one in numbered if one.id in kept}
    lost = [one for one in found if one.id in kept_before and (one.taken_at, one.name) not in still]
    assert len(lost) <= len(wrong) * len(keep)


def test_a_machine_that_begins_in_1970_at_each_boot_keeps_its_days() -> None:
    times: list[datetime] = []
    for day in range(60):
        times += [datetime(1970, 1, 1, 0, 1, tzinfo=UTC), NEW_YEAR + timedelta(days=day, hours=9)]
    kept = newest_kept(times, {"daily": 7})
    assert [number for number in sorted(kept) if number % 2 == 0][-6:] == [110, 112, 114, 116, 118, 120]
    assert len(kept) <= 14


def test_a_clock_that_is_set_back_by_a_week_for_a_week_takes_no_days_away() -> None:
    days = [NEW_YEAR + timedelta(days=day) for day in range(21)]
    times = [*days[:14], *days[7:14]]
    kept = newest_kept(times, {"daily": 10})
    assert kept >= set(range(12, 22))
    assert len(kept) <= 20


def test_every_rule_of_the_configuration_is_known() -> None:
    assert ("last", *PERIODS) == SNAPSHOT_RULES
