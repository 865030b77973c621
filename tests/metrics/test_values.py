"""Counters, histograms and the text that Prometheus reads."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families
from scraping import check_by_promtool

from vtlfs.engine.traffic import OTHER_HOSTS, Traffic, TrafficTable
from vtlfs.histogram import BOUNDS, Histogram
from vtlfs.metrics import library, mount
from vtlfs.metrics.exposition import text
from vtlfs.metrics.values import Kind, Metric, Values
from vtlfs.model import HOST, Access, State

METRICS = (*mount.METRICS, *library.METRICS)


def read(found: Values) -> list[tuple[str, dict[str, str], float]]:
    """Return the samples that a reader of the text finds."""
    families = text_string_to_metric_families(text(lambda: [found]).decode())
    return [(one.name, one.labels, one.value) for family in families for one in family.samples]


def test_durations_count_under_every_bound_that_they_do_not_exceed() -> None:
    histogram = Histogram()
    for seconds in (0.0, BOUNDS[0], 0.002, BOUNDS[-1], 31.0, 31.0):
        histogram.observe(seconds)
    found = Values("/srv/vtl")
    found.add(Metric("a_seconds", Kind.HISTOGRAM, ("disk",), "A."), histogram, 0)
    samples = read(found)
    buckets = {float(labels["le"]): value for name, labels, value in samples if name == "a_seconds_bucket"}
    assert sorted(buckets) == [*BOUNDS, float("inf")]
    assert (buckets[BOUNDS[0]], buckets[0.001], buckets[0.003], buckets[BOUNDS[-1]]) == (2, 2, 3, 4)
    assert buckets[float("inf")] == 6
    sums = {name: value for name, _, value in samples if "bucket" not in name}
    assert sums["a_seconds_count"] == 6
    assert sums["a_seconds_sum"] == pytest.approx(0.0 + BOUNDS[0] + 0.002 + BOUNDS[-1] + 62)


@pytest.mark.parametrize("strange", ['a"b', "back\\slash", "new\nline", "\udcff", "ü\N{SNOWMAN}", 'x"} 1\nup 0', ""])
def test_strange_labels_are_read_back(strange: str) -> None:
    found = Values(strange)
    found.add(Metric("a", Kind.GAUGE, ("host",), "A."), 7, strange)
    as_text = strange.replace("\udcff", "\\udcff")
    assert read(found) == [("a", {"library": as_text, "host": as_text}, 7.0)]


def test_number_of_hosts_is_bounded() -> None:
    table = TrafficTable(most_hosts=2)
    for host in ("a", "b", "c", "a", "d"):
        table.open(host, 0, Access.WRITE).bytes += 1
    table.open("a", 1, Access.READ)
    opened = {key: traffic.opened for key, traffic in table.rows.items()}
    assert opened == {
        ("a", 0, Access.WRITE): 2,
        ("b", 0, Access.WRITE): 1,
        (OTHER_HOSTS, 0, Access.WRITE): 2,
        ("a", 1, Access.READ): 1,
    }
    assert not HOST.fullmatch(OTHER_HOSTS)


def test_sessions_end_with_a_state_and_an_error() -> None:
    traffic = Traffic(opened=4)
    traffic.end(State.RELEASED, None)
    traffic.end(State.RELEASED, "ENOSPC")
    traffic.end(State.FAILED, "EIO")
    assert traffic.open == 1
    assert traffic.ended == {State.RELEASED: 2, State.FAILED: 1}
    assert traffic.errors == {"ENOSPC": 1, "EIO": 1}


@pytest.mark.parametrize("metric", METRICS, ids=[metric.name for metric in METRICS])
def test_names_are_as_prometheus_wants_them(metric: Metric) -> None:
    assert re.fullmatch(r"vtlfs_(mount|library)(_[a-z]+)+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert metric.name.endswith("_duration_seconds") == (metric.kind is Kind.HISTOGRAM)
    assert metric.help.endswith(".")
    assert "library" not in metric.labels


def test_every_metric_has_a_name_of_its_own_and_passes_promtool() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    found = Values("/srv/vtl")
    for metric in METRICS:
        labels = [f"some {label}" for label in metric.labels]
        found.add(metric, Histogram() if metric.kind is Kind.HISTOGRAM else 1, *labels)
    written = text(lambda: [found]).decode()
    assert all(f"# TYPE {metric.name} {metric.kind}\n" in written for metric in METRICS)
    check_by_promtool(written)
