"""The choice of a pool's next medium, over rows; and the barcodes by which a pool grows."""

from dataclasses import replace

import pytest

from vtlfs.engine.media.pools import Choice, Why, following, next_barcode, standing, stays, why_ended
from vtlfs.engine.tracking.repositories.pools import Candidate, Pool
from vtlfs.model import Medium, MediumState, RetainMode, Retention
from vtlfs.rules import PoolRule, Reuse

TIME = "2026-01-01T00:00:00.000000Z"
BEFORE, NOW, LATER = (f"2026-06-0{day}T00:00:00.000000Z" for day in (1, 2, 3))
NEVER = PoolRule("N*")
REUSE = PoolRule("N*", Reuse.OLDEST_EXPIRED)
NOWHERE = Pool("P", None, False, "")
OVER = Retention(RetainMode.GOVERNANCE, BEFORE)


def medium(number: int, *, size: int = 0, volume: int = 1, capacity: int | None = 1000) -> Medium:
    return Medium(number, f"N{number}", capacity, size, int(size > 0), 0, TIME, None, volume, TIME)


def new(number: int) -> Candidate:
    return Candidate(medium(number), None, False, False, 1, None)


def erased(number: int, begun: int = 1) -> Candidate:
    return Candidate(medium(number, volume=2), None, False, False, begun, None)


def written(number: int, last: int = 1, retention: Retention | None = OVER) -> Candidate:
    return Candidate(medium(number, size=1000), retention, False, False, 1, last)


def chosen(rule: PoolRule, *media: Candidate, pool: Pool = NOWHERE) -> Choice | None:
    return following(rule, pool, media, NOW, {one.barcode for one in media})


def test_new_media_come_before_erased_ones_and_these_before_expired_ones() -> None:
    everything = [written(1), erased(2), new(4), new(3)]
    assert chosen(REUSE, *everything) == Choice("N3", Why.NEW)
    assert chosen(REUSE, *everything[:2]) == Choice("N2", Why.ERASED)
    assert chosen(REUSE, *everything[:1]) == Choice("N1", Why.EXPIRED)
    assert chosen(NEVER, *everything[:1]) is None


def test_medium_that_is_empty_for_longest_is_first_of_the_erased_ones() -> None:
    assert chosen(REUSE, erased(1, 9), erased(2, 7), erased(3, 8)) == Choice("N2", Why.ERASED)


def test_medium_that_was_written_longest_ago_is_reused_by_no_clock() -> None:
    young = Retention(RetainMode.GOVERNANCE, "2020-01-01T00:00:00.000000Z")
    assert chosen(REUSE, written(1, 12, young), written(2, 10), written(3, 11)) == Choice("N2", Why.EXPIRED)


@pytest.mark.parametrize(
    ("retention", "says"),
    [
        (None, "no retention"),
        (Retention(RetainMode.GOVERNANCE, LATER), f"until {LATER}"),
        (Retention(RetainMode.COMPLIANCE, LATER), "compliance"),
        (Retention(RetainMode.WORM, None), "for ever"),
    ],
)
def test_medium_without_a_retention_or_before_its_end_is_never_reused(retention: Retention | None, says: str) -> None:
    one = written(1, retention=retention)
    assert chosen(REUSE, one) is None
    assert says in str(standing(REUSE, one, NOW))


def test_retention_that_ends_now_is_over() -> None:
    assert standing(REUSE, written(1, retention=Retention(RetainMode.COMPLIANCE, NOW)), NOW) is Why.EXPIRED


def test_what_forbids_a_medium() -> None:
    one = new(1)
    forbidden = [
        replace(one, medium=replace(one.medium, state=MediumState.RETIRED)),
        replace(one, medium=replace(one.medium, protected=True)),
        replace(one, medium=replace(one.medium, capacity=0)),
        replace(one, is_written_to=True),
        replace(written(1), is_held=True),
        replace(written(1), is_written_to=True),
    ]
    for candidate in forbidden:
        assert not isinstance(standing(REUSE, candidate, NOW), Why)
        assert chosen(REUSE, candidate) is None
    assert standing(REUSE, replace(one, is_held=True), NOW) is Why.NEW, "a hold forbids to erase, not to write"


def test_pool_stays_while_its_medium_has_room() -> None:
    on, one = Pool("P", "N1", False, TIME), medium(1, size=999)
    assert stays(NEVER, on, one)
    assert stays(NEVER, on, replace(one, capacity=None))
    assert not stays(NEVER, replace(on, is_full=True), one)
    assert not stays(NEVER, on, replace(one, reserved=1))
    assert not stays(NEVER, on, replace(one, protected=True))
    assert not stays(NEVER, on, replace(one, state=MediumState.RETIRED))
    assert not stays(PoolRule("M*"), on, one), "its pattern is another one by now"
    assert not stays(NEVER, on, None)


def test_current_medium_comes_again_only_after_all_others() -> None:
    on = Pool("P", "N1", True, TIME)
    assert chosen(REUSE, written(1, 1), written(2, 2), pool=on) == Choice("N2", Why.EXPIRED)
    assert chosen(REUSE, written(1, 1), pool=on) == Choice("N1", Why.EXPIRED)


def test_pool_grows_only_when_nothing_else_is_left() -> None:
    grows = replace(REUSE, grow=True)
    assert chosen(grows, written(1), new(2)) == Choice("N2", Why.NEW)
    assert chosen(grows, written(1)) == Choice("N1", Why.EXPIRED)
    assert chosen(replace(NEVER, grow=True), written(1)) == Choice("N2", Why.GROWN)


@pytest.mark.parametrize(
    ("pattern", "taken", "following"),
    [
        ("NIGHT*", [], "NIGHT0001"),
        ("NIGHT*", ["NIGHT07", "OTHER99"], "NIGHT08"),
        ("NIGHT*", ["NIGHT9", "NIGHT10"], "NIGHT11"),
        ("NIGHT*", ["NIGHT99"], "NIGHT100"),
        ("A?????L9", [], "A00001L9"),
        ("A*L9", ["A00009L9"], "A00010L9"),
        ("A*", ["A00001L9"], "A00002L9"),
        ("A??", ["A98"], "A99"),
        ("A??", ["A98", "A99"], None),
        ("A??*", [], "A0001"),
        ("ONE", [], "ONE"),
        ("ONE", ["ONE"], None),
        ("load*", ["loaded"], None),
        ("A[0-3]", ["A2"], "A3"),
        ("A[0-3]", ["A3"], None),
        ("A" * 30 + "*", [], None),
    ],
)
def test_next_barcode(pattern: str, taken: list[str], following: str | None) -> None:
    assert next_barcode(pattern, taken) == following


def test_error_at_the_end_says_why_and_what_to_do() -> None:
    until = written(1, retention=Retention(RetainMode.GOVERNANCE, LATER))
    assert why_ended(REUSE, [until], NOW).startswith("none of its 1 media (N*) can be written to, and the first")
    assert LATER in why_ended(REUSE, [until], NOW)
    assert "it reuses none" in why_ended(NEVER, [written(1)], NOW)
    assert "no medium is N*" in why_ended(NEVER, [], NOW)
    assert "vtlfs media add" in why_ended(NEVER, [], NOW)
