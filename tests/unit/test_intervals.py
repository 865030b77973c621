"""The arithmetic of striping."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from vtlfs.engine.layout.intervals import IntervalSet, cut

intervals = st.tuples(st.integers(0, 120), st.integers(1, 40)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(offset=st.integers(0, 10**15), size=st.integers(0, 5000), stripe_unit=st.integers(1, 999))
def test_cut_covers_every_byte_once_and_in_order(offset: int, size: int, stripe_unit: int) -> None:
    at = offset
    for piece in cut(offset, size, stripe_unit):
        assert piece.unit * stripe_unit + piece.start == at
        assert piece.source == at - offset
        assert piece.size > 0
        assert piece.start + piece.size <= stripe_unit
        at += piece.size
    assert at == offset + size


@given(offset=st.integers(0, 10**9), units=st.integers(1, 20), stripe_unit=st.integers(1, 999))
def test_cut_makes_no_more_pieces_than_units_are_touched(offset: int, units: int, stripe_unit: int) -> None:
    pieces = list(cut(offset, units * stripe_unit, stripe_unit))
    assert len({piece.unit for piece in pieces}) == len(pieces) == units + bool(offset % stripe_unit)


def test_cut_of_nothing_is_nothing() -> None:
    assert list(cut(4096, 0, 4096)) == []


def covered(coverage: IntervalSet, model: set[int]) -> None:
    prefix = next(byte for byte in range(len(model) + 1) if byte not in model)
    assert coverage.prefix == prefix
    assert coverage.end == max(model, default=-1) + 1


@given(st.lists(intervals, max_size=40))
def test_coverage_is_a_set_of_bytes_however_they_come(additions: list[tuple[int, int]]) -> None:
    coverage, model = IntervalSet(), set[int]()
    covered(coverage, model)
    for start, end in additions:
        coverage.add(start, end)
        model |= set(range(start, end))
        covered(coverage, model)


@given(st.lists(intervals, max_size=20), intervals)
def test_coverage_knows_whether_any_of_a_range_has_come(
    additions: list[tuple[int, int]], asked: tuple[int, int]
) -> None:
    coverage = IntervalSet()
    for start, end in additions:
        coverage.add(start, end)
    come = {byte for start, end in additions for byte in range(start, end)}
    assert coverage.overlaps(*asked) == bool(come & set(range(*asked)))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_pages_out_of_order_and_repeated_make_a_whole_unit(sizes: list[int], random: Random) -> None:
    """The kernel's writeback sends a page half full, and later the same page fuller, in any order."""
    ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    starts = [0, *ends[:-1]]
    pages = list(zip(starts, ends, strict=True))
    pages += [(start, start + (end - start + 1) // 2) for start, end in pages]
    random.shuffle(pages)
    coverage = IntervalSet()
    for start, end in pages:
        coverage.add(start, end)
    assert coverage.prefix == coverage.end == ends[-1]


@given(st.lists(intervals, max_size=30))
def test_coverage_does_not_depend_on_the_order(additions: list[tuple[int, int]]) -> None:
    forwards, backwards = IntervalSet(), IntervalSet()
    for start, end in additions:
        forwards.add(start, end)
    for start, end in reversed(additions):
        backwards.add(start, end)
    assert (forwards.prefix, forwards.end) == (backwards.prefix, backwards.end)
    assert forwards._starts == backwards._starts
    assert forwards._ends == backwards._ends
