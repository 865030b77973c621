"""Copy-on-write history of tables: what makes a snapshot of the tracking database cost nothing.

The library counts epochs; taking a snapshot closes the current epoch and opens the next. A versioned table has a column
`since`, the epoch in which the row was last written, kept by triggers. The first change of a row in a new epoch first
copies the row to `TABLE_history` with `until`, the epoch of the change. So a row of the table or its history was there
at the end of epoch E just if `since <= E` and, in the history, `E < until`. Rows that don't change are never copied,
and however many snapshots there are, a row is copied at most once an epoch.

To find the rows of then among all of the past, the index `TABLE_history_span` sorts them by the number of digits of
`until - since`: a row that was there at E and whose span has D digits ends after E and before E + 10^D. So what is
looked at is near E for the rows that change often, and few for those that change seldom.
"""

from collections.abc import Sequence

EPOCH = "(SELECT epoch FROM library)"
_SPANS = ", ".join(f"({digits}, {10**digits})" for digits in range(1, 11))  # more epochs than there can be


def versioning_sql(table: str, key: str, columns: list[str]) -> str:
    """Return the SQL that versions the table.

    `key` is the primary key's column, `columns` are all the columns but `since`. Run once, after the table is made.
    """
    return f"""
    CREATE TABLE {table}_history AS SELECT {", ".join(columns)}, since, 0 AS until FROM {table} WHERE 0;
    CREATE INDEX {table}_history_until ON {table}_history (until, since);
    CREATE INDEX {table}_history_span ON {table}_history (length(until - since), until);
    CREATE INDEX {table}_since ON {table} (since);
    {_triggers_sql(table, key, columns)}"""


def widening_sql(table: str, key: str, columns: list[str], added: str, kind: str) -> str:
    """Return the SQL that adds a column, which need not have a value, to a versioned table and to its history.

    `columns` are those that it had but `since`; `kind` is the type of the one that is `added`, and what is said of it.
    """
    dropped = "\n".join(f"DROP TRIGGER {table}_{end};" for end in ("inserted", "changes", "changed", "deletes"))
    return f"""{dropped}
    ALTER TABLE {table} ADD COLUMN {added} {kind};
    ALTER TABLE {table}_history ADD COLUMN {added} {kind};
    {_triggers_sql(table, key, [*columns, added])}"""


def _triggers_sql(table: str, key: str, columns: list[str]) -> str:
    names = ", ".join(columns)
    old = ", ".join(f"OLD.{column}" for column in columns)
    save = f"INSERT INTO {table}_history ({names}, since, until) VALUES ({old}, OLD.since, {EPOCH});"
    return f"""CREATE TRIGGER {table}_inserted AFTER INSERT ON {table} BEGIN
        UPDATE {table} SET since = {EPOCH} WHERE {key} = NEW.{key};
    END;
    CREATE TRIGGER {table}_changes BEFORE UPDATE OF {names} ON {table} WHEN OLD.since < {EPOCH} BEGIN
        {save}
    END;
    CREATE TRIGGER {table}_changed AFTER UPDATE OF {names} ON {table} WHEN OLD.since < {EPOCH} BEGIN
        UPDATE {table} SET since = {EPOCH} WHERE {key} = NEW.{key};
    END;
    CREATE TRIGGER {table}_deletes BEFORE DELETE ON {table} WHEN OLD.since < {EPOCH} BEGIN
        {save}
    END;
    """


def as_of_sql(table: str, columns: Sequence[str], epoch: int, *, among: str = "1") -> str:
    """Return a SELECT of the table's rows as they stood at the end of an epoch.

    `among`: a condition that every row of then fulfils, by which an index of the table can skip rows that came later.
    """
    names = ", ".join(columns)  # the + keeps SQLite from the index of `since`, which finds too much
    return f"""
    SELECT {names} FROM main.{table} WHERE +since <= {epoch} AND {among}
    UNION ALL {_past_sql(table, names, epoch)}
    """


def begun_sql(table: str, columns: Sequence[str], epoch: int, after: int) -> str:
    """Return a SELECT of the rows as they stood at the end of `epoch` that did not stand so at the end of `after`."""
    names = ", ".join(columns)
    return f"""
    SELECT {names} FROM main.{table} WHERE since > {after} AND since <= {epoch}
    UNION ALL {_past_sql(table, names, epoch)} AND since > {after}
    """


def ended_sql(table: str, columns: Sequence[str], epoch: int, by: int) -> str:
    """Return a SELECT of the rows as they stood at the end of `epoch` that no longer stood so at the end of `by`."""
    return f"{_past_sql(table, ', '.join(columns), epoch)} AND until <= {by}"


def _past_sql(table: str, names: str, epoch: int) -> str:
    """Return a SELECT of those rows of the history that were true at the end of an epoch."""
    return f"""
    SELECT {names} FROM (SELECT column1 AS digits, column2 AS most FROM (VALUES {_SPANS}))
    CROSS JOIN main.{table}_history
    WHERE length(until - since) = digits AND until > {epoch} AND until < {epoch} + most AND since <= {epoch}
    """
