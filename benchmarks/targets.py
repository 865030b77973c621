"""The targets of vtlfs in each case, and the verdicts whether they are met."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from benchmarks.cases import ALONE, MIB, PARITY
from benchmarks.peers import NOTHING, THE_DISKS
from benchmarks.slow_disks import ALL_QUICK
from benchmarks.summary import SUBJECT, Summaries, Summary


@dataclass(frozen=True)
class Verdict:
    """The measurement for a target, which is a multiple of another measurement, and its limit."""

    case: str
    measured: float
    of: str  # what `measured` is a multiple of
    sign: Literal[">=", "<="]
    limit: float
    bound: float | None = None  # the same multiple for the bound, if the target has one that was measured

    @property
    def met(self) -> bool:
        """Tell whether the target is met."""
        return self._holds(self.measured)

    def multiple(self) -> str:
        """Return the measured multiple with two decimals, or with more if two would contradict the verdict."""
        digits = next((digits for digits in range(2, 6) if self._holds(round(self.measured, digits)) == self.met), 6)
        return f"{self.measured:.{digits}f}"

    def _holds(self, measured: float) -> bool:
        return measured >= self.limit if self.sign == ">=" else measured <= self.limit

    def __str__(self) -> str:
        """Return the verdict as one line."""
        met = "met" if self.met else "missed"
        return f"{self.case}: {self.multiple()} x {self.of} ({self.sign} {self.limit}): {met}"


class Target(Protocol):
    """A target."""

    def judge(self, found: Summaries) -> Verdict | None:
        """Return the verdict; None if a measurement that it needs is missing."""


@dataclass(frozen=True)
class Rate:
    """The rate is to be at least a multiple of a peer's rate, also if the case measures seconds."""

    case: str
    peer: str  # how the peer's name begins; of several such peers, the best in this case counts
    least: float
    subject: str = SUBJECT
    bound: str = ""  # the name of the bound, which does only the indispensable work

    def judge(self, found: Summaries) -> Verdict | None:
        """Compare with the best of the peers."""
        ours, best = _pair(found, self.case, self.subject, self.peer)
        if not (ours and best):
            return None
        bound = found[self.case].get(self.bound)
        multiple = None if bound is None else bound.over(best[1])
        return Verdict(self.case, ours.over(best[1]), best[0], ">=", self.least, multiple)


@dataclass(frozen=True)
class Time:
    """The time is to be at most a multiple of a peer's time."""

    case: str
    peer: str  # as in `Rate`
    most: float
    subject: str = SUBJECT

    def judge(self, found: Summaries) -> Verdict | None:
        """Compare with the best of the peers."""
        ours, best = _pair(found, self.case, self.subject, self.peer)
        if not (ours and best):
            return None
        return Verdict(self.case, best[1].over(ours), f"the time of {best[0]}", "<=", self.most)


@dataclass(frozen=True)
class Slowest:
    """The slowest stream is to have at least a share of the mean rate of all streams."""

    case: str
    least: float

    def judge(self, found: Summaries) -> Verdict | None:
        """Judge the streams of vtlfs."""
        ours = found.get(self.case, {}).get(SUBJECT)
        if ours is None or ours.slowest is None:
            return None
        return Verdict(self.case, ours.slowest, "the mean stream, of the slowest", ">=", self.least)


@dataclass(frozen=True)
class Memory:
    """The peak memory of the serving process is to be at most so many MiB."""

    case: str
    most: float

    def judge(self, found: Summaries) -> Verdict | None:
        """Judge the memory of vtlfs."""
        ours = found.get(self.case, {}).get(SUBJECT)
        return Verdict(self.case, ours.memory / MIB, "1 MiB of memory", "<=", self.most) if ours else None


TARGETS: tuple[Target, ...] = (
    Rate("write 10 KiB", "mergerfs", 2.0),
    Rate("write 10 KiB", "plain", 0.8),
    Rate("write 1 MiB", "mergerfs", 1.2, bound=THE_DISKS),
    Rate("write 1 MiB", "plain", 0.9),
    Rate("write 512 B", "mergerfs", 2.0),
    Rate("parity of three disks", PARITY[0], 0.6, subject=PARITY[1]),
    Rate("8 streams 10 KiB", ALONE, 0.9),
    Slowest("8 streams 10 KiB", 0.7),
    Rate("8 streams 1 MiB", ALONE, 0.9),
    Slowest("8 streams 1 MiB", 0.7),
    Rate("read 10 KiB", "mergerfs", 1.0),
    Rate("read 10 KiB", "plain", 0.7),
    Rate("read 1 MiB", "mergerfs", 1.0),
    Rate("read 1 MiB", "plain", 0.7),
    Time("tar of a tree", "plain", 1.1),
    Rate("tar > TAPE", "passthrough_hp direct", 1.5),
    Rate("tar > TAPE", "mergerfs", 1.5),
    Rate("dd 10 KiB > TAPE", "passthrough_hp direct", 1.5),
    Rate("dd 10 KiB > TAPE", "mergerfs", 1.5),
    Rate("short sessions", "plain", 0.5, bound=NOTHING),
    Rate("two slow disks, writing", "plain", 1.9),
    Rate("two slow disks, reading", "plain", 1.9),
    Rate("one slow disk of four", ALL_QUICK, 0.8),
    Memory("32 streams", 300),
)


def judge(found: Summaries, targets: Iterable[Target] = TARGETS) -> list[Verdict]:
    """Return the verdicts on those targets for which there are measurements."""
    return [verdict for target in targets if (verdict := target.judge(found))]


def _pair(found: Summaries, case: str, subject: str, peer: str) -> tuple[Summary | None, tuple[str, Summary] | None]:
    """Return the summary of the subject, and the best of the peers: how to call it, and its summary."""
    peers = found.get(case, {})
    ours = peers.get(subject)
    matching = {name: each for name, each in peers.items() if name.startswith(peer) and name != subject}
    if not matching:
        return ours, None
    any_of_them = next(iter(matching.values()))
    name = max(matching, key=lambda each: matching[each].over(any_of_them))
    called = name if len(matching) == 1 else f"the best {peer} ({name.removeprefix(peer).strip()})"
    return ours, (called, matching[name])
