"""The report of `benchmarks.scale`: which targets are met."""

import pytest

from benchmarks import scale_report

SIZES = [0, 1000, 10_000, 1_000_000]


@pytest.fixture
def results() -> dict[int, dict[str, list[float]]]:
    """Measurements that meet every target."""
    flat = {
        "mount": 0.5,
        "open and first write": 0.001,
        "ls -l, per entry": 20e-6,
        "status": 0.15,
        "sessions --medium": 0.15,
        "snapshot take": 0.15,
        "memory idle": 40 * 2**20,
    }
    return {size: {name: [value, value, 100 * value] for name, value in flat.items()} for size in SIZES}


def unmet(results: dict[int, dict[str, list[float]]]) -> list[str]:
    return [line for line in scale_report.verdicts(results) if line.startswith("NOT MET")]


def test_medians_that_meet_every_target_are_said_to(results: dict[int, dict[str, list[float]]]) -> None:
    assert unmet(results) == []
    assert len(scale_report.verdicts(results)) == 7


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("mount", 2.1, "mounting"),
        ("open and first write", 0.0016, "open and first byte"),
        ("ls -l, per entry", 40e-6, "linear"),
        ("status", 0.3, "status"),
        ("memory idle", 91 * 2**20, "memory"),
    ],
)
def test_target_that_the_largest_library_misses_is_said_to_be(
    results: dict[int, dict[str, list[float]]], name: str, value: float, said: str
) -> None:
    results[SIZES[-1]][name] = [value]
    (line,) = unmet(results)
    assert said in line


def test_table_has_a_line_for_each_measurement_and_the_ratio_of_those_with_sessions(
    results: dict[int, dict[str, list[float]]],
) -> None:
    results[1000]["mount"], results[1_000_000]["mount"] = [0.25], [0.5]
    del results[0]["status"]
    lines = scale_report.table(results).splitlines()
    assert len(lines) == 1 + len(results[1000])
    assert lines[1].split()[-5:] == ["500.0", "250.0", "500.0", "500.0", "2.00"]
    assert "-" in next(line for line in lines if line.startswith("status")).split()
