"""Plans of a repair, for a stripe in any condition, with any disks left."""

from collections import Counter
from collections.abc import Collection

from hypothesis import given
from hypothesis import strategies as st

from vtlfs.disks.headers import Ending, Opening
from vtlfs.engine.layout.dealer import Candidate
from vtlfs.engine.repair.plan import Chooser, Plan, Trouble, plan
from vtlfs.engine.repair.stripes import Condition, Ended, Piece, Stripe
from vtlfs.model import NO_CODEC, NOWHERE, Access, Extent, Opener, Session, State

AT = "2026-01-31T09:30:00.000000Z"
UNIT = 4096
OPENING = Opening("T1", 0, Opener("alpha", 1, 0, 0, "tar"), AT, UNIT)
ENDING = Ending(State.RELEASED, None, AT, 0, 0, UNIT)


def session(parity: int) -> Ended:
    who = (1, 1, "alpha", 1, 0, 0, "tar", Access.WRITE, 0, "T1", State.RELEASED, None, AT, AT)
    known = Session(*who, UNIT, 1, 0, UNIT, tuple(range(8)), 0, parity)
    return Ended(known, OPENING, ENDING, last_stripe=7)


def stripe_of(data: int, parity: int, wanted: int, conditions: dict[int, Condition], had: set[int]) -> Stripe:
    """Return a stripe whose extents lie on disks 0, 1, 2, …; `had`: the disks from which bytes were read already."""
    rows = [Extent(1, 7, place, place * UNIT, UNIT, NO_CODEC, place, 4096, UNIT, b"") for place in range(data)]
    rows += [Extent(1, 7, row, None, 0, NO_CODEC, data + row, 4096, UNIT, b"") for row in range(parity)]
    pieces = [Piece(row, conditions.get(row.disk, Condition.GOOD), b"x" if row.disk in had else None) for row in rows]
    return Stripe(session(wanted), pieces[:data], pieces[data:])


def made(stripe: Stripe, candidates: list[int], leaving: Collection[int] = (), left: int | None = None) -> Plan:
    able = [Candidate(number, number, 1 << 30) for number in candidates]
    devices = {number: number for number in range(9)}
    left = len(candidates) if left is None else left
    return plan(stripe, able, devices, leaving, Chooser(), are_full=False, left=left)


def lying(stripe: Stripe, found: Plan) -> list[Extent]:
    """Return the extents of the stripe after a plan was carried out."""
    return [piece.row for piece in stripe.pieces if piece.row not in found.old] + [one.row for one in found.new]


@given(
    data=st.integers(1, 4),
    parity=st.integers(0, 2),
    lacking=st.integers(0, 2),
    conditions=st.dictionaries(st.integers(0, 5), st.sampled_from(Condition)),
    had=st.sets(st.integers(0, 5)),
    more=st.sets(st.integers(6, 8)),
    leaving=st.sets(st.integers(0, 5)),
)
def test_a_plan_keeps_the_rules_of_stripes(
    data: int,
    parity: int,
    lacking: int,
    conditions: dict[int, Condition],
    had: set[int],
    more: set[int],
    leaving: set[int],
) -> None:
    wanted = min(2, parity + lacking)
    conditions |= dict.fromkeys(leaving, Condition.AWAY)
    stripe = stripe_of(data, parity, wanted, conditions, had)
    away = {number for number, condition in conditions.items() if condition is Condition.AWAY}
    candidates = sorted(({*range(data + parity)} - away) | more)
    found = made(stripe, candidates, leaving)
    assert all(one.row.disk in candidates and one.row.position == NOWHERE for one in found.new)
    after = lying(stripe, found)
    assert sorted(row.offset for row in after if row.offset is not None) == [place * UNIT for place in range(data)]
    for (_, _), count in Counter((row.stripe, row.disk) for row in after).items():
        assert count == 1, "no disk has two extents of a stripe"
    for number in {row.stripe for row in after}:
        rows = [row for row in after if row.stripe == number]
        assert sorted(row.place for row in rows if not row.is_parity) == [*range(sum(not r.is_parity for r in rows))]
        assert len({row.place for row in rows if row.is_parity}) == sum(row.is_parity for row in rows) <= wanted
    if found.trouble is None:
        assert not away.intersection(row.disk for row in after), "all that is away was moved"
        for number in {row.stripe for row in after}:
            assert sum(row.is_parity for row in after if row.stripe == number) == wanted
    if not stripe.can_compute:
        assert all(not one.row.is_parity or one.row.disk is not None for one in found.new)


def test_a_lost_extent_goes_to_the_disk_that_has_nothing_of_the_stripe() -> None:
    found = made(stripe_of(2, 1, 1, {1: Condition.AWAY}, set()), [0, 2, 6])
    [one] = found.new
    assert (one.row.disk, one.row.place, one.row.stripe) == (6, 1, 7)
    assert found.trouble is None


def test_with_too_few_disks_the_stripe_is_dealt_anew_as_mirrors() -> None:
    found = made(stripe_of(2, 1, 1, {1: Condition.AWAY}, set()), [0, 2])
    assert found.is_redealt
    assert len(found.old) == 3
    assert len({one.row.stripe for one in found.new}) == 2
    assert min(one.row.stripe for one in found.new) > 7, "numbers are behind all of the session's"
    assert {one.row.disk for one in found.new} == {0, 2}
    assert found.trouble is None
    assert all(lacks == 0 for lacks, _ in found.lacking.values())


def test_a_stripe_stays_as_it_is_where_nothing_gets_better() -> None:
    found = made(stripe_of(1, 1, 1, {1: Condition.AWAY}, set()), [0])
    assert not found.does_something
    assert found.trouble is Trouble.NEEDS_DISK


def test_parity_on_a_dead_disk_that_leaves_is_forgotten_where_it_has_no_place() -> None:
    stripe = stripe_of(1, 2, 2, {2: Condition.AWAY}, set())
    found = made(stripe, [0, 1], {2}, left=3)
    assert [row.disk for row in found.old] == [2]
    assert found.new == []
    assert found.lacking == {7: (1, UNIT)}
    stripe.parity[1].data = b"x"  # the disk works
    assert not made(stripe, [0, 1], {2}, left=3).does_something, "another disk may work again"
    assert made(stripe, [0, 1], {2}, left=2) == found, "there is no other disk"


def test_a_damaged_extent_is_written_again_where_it_was() -> None:
    [one] = made(stripe_of(2, 1, 1, {0: Condition.DAMAGED}, set()), [0, 1, 2, 6]).new
    assert (one.row.disk, one.row.place) == (0, 0)


def test_extents_go_to_disks_in_proportion_to_their_free_space() -> None:
    chooser = Chooser()
    disks = [Candidate(0, 0, 300), Candidate(1, 1, 100)]
    chosen = Counter(chooser.choose(disks, (), ()).number for _ in range(400))
    assert chosen == {0: 300, 1: 100}


def test_another_device_comes_first_and_the_disks_beside_last() -> None:
    chooser = Chooser()
    disks = [Candidate(0, 5, 1 << 40), Candidate(1, 6, 100), Candidate(2, 7, 100)]
    assert chooser.choose(disks, {5}, {1}).number == 2


def test_a_torn_stripe_gets_no_parity_but_is_dealt_anew() -> None:
    stripe = stripe_of(3, 0, 1, {}, set())
    del stripe.data[1]  # a rebuild has found the extent in another stripe
    assert made(stripe, [0]).new == []
    found = made(stripe, [0, 1, 2, 3])
    assert found.old == [piece.row for piece in stripe.data]
    assert [one.row.stripe for one in found.new if one.row.stripe <= stripe.number] == []
    assert all([one.place for one in new.members] == [*range(len(new.members))] for new in found.new)
    assert all(parity == 0 for parity, _ in found.lacking.values())
