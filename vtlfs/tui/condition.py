"""The condition of the library as lines for a banner: what is degraded, since when, how much, and the repair.

Goes by what mounts have recorded; worker threads call it, and it may block.
"""

from dataclasses import dataclass

from vtlfs.engine.condition import Condition, examine
from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.tui import format as fmt

MOST = 3  # troubles that are shown


@dataclass(frozen=True, slots=True)
class ConditionLines:
    """Lines that are printable, and the condition of which they tell. No lines where all is fine."""

    condition: Condition
    lines: tuple[str, ...]


FINE = ConditionLines(Condition.FINE, ())


def load(tracking: Tracking, library: Library) -> ConditionLines:
    """Return the lines of a library as it is now."""
    dead = [mount.mountpoint for mount in tracking.mounts.live() if not library.leases.is_alive(mount.id)]
    facts = examine(library, tracking, dead=dead)
    lines = [f"{trouble.condition}: {trouble.what}" for trouble in facts.troubles[:MOST]]
    if len(facts.troubles) > MOST:
        lines.append(f"and {len(facts.troubles) - MOST} more: `vtlfs status` tells of them")
    if facts.is_repairing and facts.repair is not None:
        job = facts.repair
        size = f"{fmt.size(job.done)} of {fmt.size(job.total)}"
        lines.append(f"repair: {fmt.bar(job.done, job.total)}  {size}, by {job.by}, since {fmt.time(job.begun_at)}")
    return ConditionLines(facts.condition, tuple(fmt.printable(line) for line in lines))
