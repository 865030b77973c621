"""Metrics and their values, without prometheus_client. Pure."""

from dataclasses import dataclass, field
from enum import StrEnum

from vtlfs.histogram import Histogram


class Kind(StrEnum):
    """How a metric is to be read. A counter only grows while its mount lives."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: its name for Prometheus, its labels besides `library`, and a sentence on what it says."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


@dataclass(frozen=True, slots=True)
class Durations:
    """The value of a histogram: durations by bound, as `Histogram` has them, and their sum in seconds."""

    counts: tuple[int, ...]
    sum: float


Value = float | Durations


@dataclass(slots=True)
class Values:
    """Values by metric and labels. `library`: the path of the library, which is a label of them all."""

    library: str
    by_metric: dict[Metric, dict[tuple[str, ...], Value]] = field(default_factory=dict)

    def add(self, metric: Metric, value: float | Histogram, *labels: object) -> None:
        """Add a value, with those of the metric's labels."""
        copied = Durations(tuple(value.counts), value.sum) if isinstance(value, Histogram) else float(value)
        self.by_metric.setdefault(metric, {})[tuple(map(printable, labels))] = copied

    def declare(self, *metrics: Metric) -> None:
        """Have metrics appear that may have no value yet."""
        for metric in metrics:
            self.by_metric.setdefault(metric, {})


def printable(value: object) -> str:
    """Return a label's value as text in UTF-8: names of files may be any bytes."""
    return str(value).encode("utf-8", "backslashreplace").decode()
