"""What vtlfs is to reach in which case, and whether it has."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from benchmarks.cases import ALONE, MIB, PARITY
from benchmarks.peers import NOTHING, THE_DISKS
from benchmarks.slow_disks import ALL_QUICK
from benchmarks.summary import SUBJECT, Summaries, Summary


@dataclass(frozen=True)
class Verdict:
    """What was measured of a target: a multiple of something, and its limit."""

    case: str
    measured: float
    of: str  # what `measured` is a multiple of
    sign: Literal[">=", "<="]
    limit: float
    bound: float | None = None  # the multiple of the same that a bound has, where there is one

    @property
    def met(self) -> bool:
        """Tell whether the target is met."""
        return self._holds(self.measured)

    def multiple(self) -> str:
        """Return the measured multiple with two decimals, or with more where these would contradict the verdict."""
        digits = next((digits for digits in range(2, 6) if self._holds(round(self.measured, digits)) == self.met), 6)
        return f"{self.measured:.{digits}f}"

    def _holds(self, measured: float) -> bool:
        return measured >= self.limit if self.sign == ">=" else measured <= self.limit

    def __str__(self) -> str:
        """Say it in one line."""
        met = "met" if self.met else "missed"
        return f"{self.case}: {self.multiple()} x {self.of} ({self.sign} {self.limit}): {met}"


class Target(Protocol):
    """Something to reach."""

    def judge(self, found: Summaries) -> Verdict | None:
        """Return the verdict, None where what it needs was not measured."""


@dataclass(frozen=True)
class Rate:
    """The rate is to be a multiple of a peer's, also where the case measures seconds."""

    case: str
    peer: str  # how its name begins; where several do so, the best in this case counts
    least: float
    subject: str = SUBJECT
    bound: str = ""  # the peer that does nothing but what nobody can do without

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
    """The time is to be no more than a multiple of a peer's."""

    case: str
    peer: str  # as above
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
    """The slowest stream is to have a share of the mean of all."""

    case: str
    least: float

    def judge(self, found: Summaries) -> Verdict | None:
        """Look at the streams of vtlfs."""
        ours = found.get(self.case, {}).get(SUBJECT)
        if ours is None or ours.slowest is None:
            return None
        return Verdict(self.case, ours.slowest, "the mean stream, of the slowest", ">=", self.least)


@dataclass(frozen=True)
class Memory:
    """The serving process is to have had no more than so many MiB at any moment."""

    case: str
    most: float

    def judge(self, found: Summaries) -> Verdict | None:
        """Look at vtlfs."""
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
    """Return what was measured of the subject, and of the best of the peers with what to call it."""
    peers = found.get(case, {})
    ours = peers.get(subject)
    matching = {name: each for name, each in peers.items() if name.startswith(peer) and name != subject}
    if not matching:
        return ours, None
    any_of_them = next(iter(matching.values()))
    name = max(matching, key=lambda each: matching[each].over(any_of_them))
    called = name if len(matching) == 1 else f"the best {peer} ({name.removeprefix(peer).strip()})"
    return ours, (called, matching[name])
