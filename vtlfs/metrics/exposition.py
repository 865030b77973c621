"""Values as Prometheus reads them, by prometheus_client."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from vtlfs.histogram import BOUNDS
from vtlfs.metrics.values import Durations, Kind, Metric, Value, Values, printable

Look = Callable[[], Iterable[Values]]
_BUCKETS = (*map(str, BOUNDS), "+Inf")


class ValuesCollector(Collector):
    """Gives a registry the values that `look` returns, at each scrape."""

    def __init__(self, look: Look) -> None:
        self._look = look

    def collect(self) -> Iterator[Family]:
        """Yield the metrics. Raises what `look` raises."""
        for found in self._look():
            for metric, values in found.by_metric.items():
                yield _family(metric, values, printable(found.library))


def registry(look: Look) -> CollectorRegistry:
    """Return a registry of its own that has nothing but these values."""
    found = CollectorRegistry(support_collectors_without_names=True)
    found.register(ValuesCollector(look))
    return found


def text(look: Look) -> bytes:
    """Return the values in the text format of Prometheus."""
    return generate_latest(registry(look))


def _family(metric: Metric, values: dict[tuple[str, ...], Value], library: str) -> Family:
    labels = ("library", *metric.labels)
    if metric.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=labels)
        for names, value in values.items():
            assert isinstance(value, Durations)
            histogram.add_metric((library, *names), _buckets(value), value.sum)
        return histogram
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family: CounterMetricFamily | GaugeMetricFamily = kind(metric.name, metric.help, labels=labels)
    for names, value in values.items():
        assert not isinstance(value, Durations)
        family.add_metric((library, *names), value)
    return family


def _buckets(value: Durations) -> list[tuple[str, float]]:
    """Return the durations up to each bound, which Prometheus wants in place of those between two bounds."""
    found, sum_so_far = [], 0
    for bound, count in zip(_BUCKETS, value.counts, strict=True):
        sum_so_far += count
        found.append((bound, float(sum_so_far)))
    return found
