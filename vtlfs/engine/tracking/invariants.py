"""The invariants of the tracking database, as rules: each is a query that finds the rows that break it.

`vtlfs check` runs all rules, a mount those of QUICK. Each rule is one statement, which sees one state of the database
while others write. No rule says that one time is before another, since clocks jump. Times are compared with copies of
themselves only.
"""

from collections.abc import Iterator

from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.rules.extents import EXTENTS, spread
from vtlfs.engine.tracking.rules.library import COUNTED, LIBRARY
from vtlfs.engine.tracking.rules.media import MEDIA, ORDER
from vtlfs.engine.tracking.rules.past import PAST, history
from vtlfs.engine.tracking.rules.rule import Rule
from vtlfs.engine.tracking.rules.sessions import SESSIONS
from vtlfs.engine.tracking.rules.volumes import VOLUMES
from vtlfs.engine.tracking.schema.tables import VERSIONED

MOST = 1000  # rows that one rule reports

SOUND = Rule(
    "SQLite finds it damaged: {0}",
    "SELECT replace(quick_check, char(10), ' ') FROM pragma_quick_check WHERE quick_check <> 'ok'",
)
"""The rule that is checked first: no other rule can be relied on in a damaged database."""

QUICK = (SOUND, COUNTED, *MEDIA)
"""The rules that a mount checks before it serves; they take less than a second with a hundred thousand sessions.

They find pages of different moments: a database has such pages if its write-ahead log was lost while SQLite folded it
in.
"""


def rules(tracking: Tracking) -> list[Rule]:
    """Return all rules but SOUND, the slowest first."""
    disks = [int(row[0]) for row in tracking.sql.execute("SELECT number FROM disk ORDER BY number")]
    histories = [rule for table, (key, _) in VERSIONED.items() for rule in history(table, key)]
    return [spread(disks), *EXTENTS, *LIBRARY, *MEDIA, *VOLUMES, *ORDER, *SESSIONS, *PAST, *histories]


def broken(tracking: Tracking, rule: Rule) -> Iterator[str]:
    """Yield a text for each row that breaks the rule, at most MOST. Raises TrackingError."""
    for row in tracking.sql.execute(f"{rule.sql} LIMIT {MOST}"):
        yield rule.problem.format(*row)
