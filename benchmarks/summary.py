"""Summaries of the runs of a case: medians, ranges, and ratios in which more is always better."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.cases import Case
from benchmarks.measuring import GB, MB, Sample, median

SUBJECT = "vtlfs"  # the peer that the others are compared with

Results = dict[Case, dict[str, list[Sample]]]  # samples by case and by the peer's name, in the order of measuring


@dataclass(frozen=True)
class Summary:
    """The runs of one case with one peer."""

    unit: str  # of the next three: "MB/s" of 10^6 bytes, where more is better, or "s", where less is
    median: float
    least: float
    most: float
    machine_cpu: float  # median of the whole machine's processor seconds per GB of 10^9 bytes
    server_cpu: float  # the same of the serving process; 0 if the kernel serves
    memory: int  # peak memory of the serving process over all runs, in bytes; 0 if the kernel serves
    slowest: float | None  # rate of the slowest stream over the mean of the streams; None with a single stream

    def over(self, other: "Summary") -> float:
        """Return how many times as fast as the other this one is."""
        return other.median / self.median if self.unit == "s" else self.median / other.median


Summaries = Mapping[str, Mapping[str, Summary]]  # by the names of case and peer


def summarize(results: Results) -> Summaries:
    """Sum up all cases and peers that have samples."""
    summaries = {
        case.name: {peer: summary(case, samples) for peer, samples in peers.items() if samples}
        for case, peers in results.items()
    }
    return {case: peers for case, peers in summaries.items() if peers}


def summary(case: Case, samples: list[Sample]) -> Summary:
    """Sum up the runs of one case with one peer. There must be at least one run."""
    figures = [figure(case, sample) for sample in samples]
    shares = [min(sample.rates) * len(sample.rates) / sum(sample.rates) for sample in samples if sample.rates]
    return Summary(
        case.unit,
        median(figures),
        min(figures),
        max(figures),
        median([per_gb(sample.machine_cpu, sample) for sample in samples]),
        median([per_gb(sample.server_cpu, sample) for sample in samples]),
        max(sample.memory for sample in samples),
        median(shares) if shares else None,
    )


def figure(case: Case, sample: Sample) -> float:
    """Return the figure of one run, in the unit of the case."""
    return sample.seconds if case.unit == "s" else sample.rate / MB


def per_gb(seconds: float, sample: Sample) -> float:
    """Return the seconds per GB, for seconds that the whole run took."""
    return seconds / (sample.bytes / GB)
