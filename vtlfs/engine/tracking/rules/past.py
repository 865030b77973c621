"""Rules for snapshots, and for the histories of rows by which they know the past."""

from vtlfs.engine.tracking.rules.rule import Rule

PAST = (
    Rule(
        "snapshot {0}: it is not before the epoch {1}",
        "SELECT id, epoch FROM snapshot, library WHERE id >= epoch",
    ),
    Rule(
        "snapshot {0}: it counts less than the one before it, or more than there is",
        "SELECT id FROM (SELECT *, lag(sessions) OVER past AS s FROM snapshot"
        " WINDOW past AS (ORDER BY id)) AS then_, library WHERE s > then_.sessions"
        " OR open_sessions > then_.sessions OR then_.sessions > library.sessions",
    ),
    Rule(
        "snapshot {0}: it counts {1} tape files with {2} bytes; of its time are {3} with {4}",
        "SELECT * FROM (SELECT id, tape_files, bytes, sum(n) OVER past AS files, sum(b) OVER past AS size FROM"
        " (SELECT id, tape_files, bytes, 0 AS n, 0 AS b, 1 AS kind FROM snapshot UNION ALL"
        " SELECT epoch, NULL, NULL, count(*), sum(bytes), 0 FROM tape_file GROUP BY epoch)"
        " WINDOW past AS (ORDER BY id, kind)) WHERE tape_files <> files OR bytes <> size",
    ),
    Rule(
        "tape file {1} of {0}: it came in epoch {2}, which is yet to come",
        "SELECT medium, number, tape_file.epoch FROM tape_file, library WHERE tape_file.epoch > library.epoch",
    ),
)


def history(table: str, key: str) -> tuple[Rule, ...]:
    """Return the rules for a table with a history."""
    return (
        Rule(
            f"{table} {{0}}: it has been so since epoch {{1}}, which is yet to come",
            f"SELECT {key}, since FROM {table}, library WHERE coalesce(since > epoch, 1)",
        ),
        Rule(
            f"{table} {{0}}: its history from epoch {{1}} to {{2}} overlaps with what was before",
            f"SELECT {key}, since, until FROM (SELECT {key}, since, until, lag(until) OVER past AS earlier"
            f" FROM {table}_history WINDOW past AS (PARTITION BY {key} ORDER BY until))"
            " WHERE since >= until OR earlier > since",
        ),
        Rule(
            f"{table} {{0}}: its history ends with epoch {{1}}, after epoch {{2}}, in which it got its values",
            f"SELECT {table}.{key}, until, since FROM (SELECT {key} AS k, max(until) AS until FROM {table}_history"
            f" GROUP BY {key}) JOIN {table} ON {key} = k WHERE since < until",
        ),
    )
