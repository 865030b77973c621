"""The token bucket that limits the speed of reading, with a clock that the test sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtlfs.engine.jobs.rate_limit import BURST_SECONDS, RateLimit


class Clock:
    """A clock whose seconds pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_without_a_limit_nobody_waits() -> None:
    rate_limit = RateLimit(None, Clock())
    assert [rate_limit.take(1 << 40) for _ in range(3)] == [0.0, 0.0, 0.0]


def test_each_waits_for_what_was_taken_before() -> None:
    rate_limit = RateLimit(100, Clock())
    assert [rate_limit.take(50), rate_limit.take(200), rate_limit.take(1)] == [0.0, 0.5, 2.5]


def test_a_pause_is_not_caught_up() -> None:
    clock = Clock()
    rate_limit = RateLimit(100, clock)
    rate_limit.take(100)
    clock.now += 3600
    assert rate_limit.take(100) == 0.0
    assert rate_limit.take(100) == pytest.approx(1.0 - BURST_SECONDS)


@given(
    st.integers(1, 10**9),
    st.lists(st.tuples(st.integers(1, 10**7), st.floats(0, 10)), min_size=1, max_size=50),
)
def test_never_faster_than_the_limit(rate: int, takes: list[tuple[int, float]]) -> None:
    clock = Clock()
    rate_limit = RateLimit(rate, clock)
    begun, taken = clock.now, 0
    for size, pause in takes:
        clock.now += pause
        clock.now += rate_limit.take(size)
        assert taken <= rate * (clock.now - begun + BURST_SECONDS) * 1.000001 + 1
        taken += size
