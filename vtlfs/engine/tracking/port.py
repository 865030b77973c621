"""The catalogue as the trio loop of a mount reads it: each read is awaited.

Code in the loop has no `Tracking`. It hands a query to `Catalogue.read`, as it hands a change to `GroupCommitter.call`.
Commands, the terminal UI and the changes themselves use the repositories directly: they may block.

**What stays together.** SQLite answers before `read` returns to the scheduler, so no other task runs meanwhile. A
database server would answer later. So code in the loop is written for a wait at each `read`:

- Rows that must be of one state are read by one query.
- State of the loop (open sessions, loaded extents, counters) is read after the wait, or read again.
- A decision that depends on rows is taken again by the change, in its transaction.
- Steps that must begin in the order of requests, such as a release, begin before the first `read`.

A second set of verbs that repeats each method of the repositories as a coroutine was rejected: it would have to be kept
in step with them, and could not join two reads into one step.
"""

from collections.abc import Callable
from typing import TypeVar

from vtlfs.engine.tracking.database import Tracking

T = TypeVar("T")


class Catalogue:
    """Reads the tracking database in the trio loop, without a thread and without a task switch."""

    __slots__ = ("tracking",)

    def __init__(self, tracking: Tracking) -> None:
        """`tracking`: a connection for reading, which only this object uses in the loop."""
        self.tracking = tracking

    async def read(self, query: Callable[[Tracking], T]) -> T:
        """Return what the query returns. Raises what it raises.

        The query only reads, does not keep its `Tracking`, and uses no state of the loop that may change during a wait.
        """
        return query(self.tracking)
