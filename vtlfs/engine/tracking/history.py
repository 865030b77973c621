"""Copy-on-write history of tables, which makes a snapshot of the tracking database cost one row.

The library counts epochs; taking a snapshot closes the current epoch and opens the next. A versioned table has a column
`since`, the epoch in which the row was last written, kept by triggers. The first change of a row in a new epoch first
copies the row to `TABLE_history` with `until`, the epoch of the change. So a row of the table or its history was valid
at the end of epoch E if and only if `since <= E` and, in the history, `E < until`. Rows that don't change are never
copied, and a row is copied at most once in an epoch, however many snapshots there are.

The index `TABLE_history_span` finds the rows that were valid at E among all rows of the history. It sorts them by the
number of digits of `until - since`: a row that was valid at E, and whose span has D digits, ends after E and before
E + 10^D. So a query reads only rows near E among those that change often; those that change seldom are few.
"""

from collections.abc import Sequence

EPOCH = "(SELECT epoch FROM library)"
_SPANS = ", ".join(f"({digits}, {10**digits})" for digits in range(1, 11))  # up to ten digits: no library has more


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
    """Return the SQL that adds a column, which may be NULL, to a versioned table and to its history.

    `columns`: all columns before the change, without `since`; `kind`: the type and constraints of the column `added`.
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

    `among`: a condition that all these rows fulfil, so that an index of the table can skip rows that came later.
    """
    names = ", ".join(columns)  # the + keeps SQLite from using the index of `since`, which would find too many rows
    return f"""
    SELECT {names} FROM main.{table} WHERE +since <= {epoch} AND {among}
    UNION ALL {_past_sql(table, names, epoch)}
    """


def begun_sql(table: str, columns: Sequence[str], epoch: int, after: int) -> str:
    """Return a SELECT of the rows at the end of `epoch` that were missing, or had other values, at that of `after`."""
    names = ", ".join(columns)
    return f"""
    SELECT {names} FROM main.{table} WHERE since > {after} AND since <= {epoch}
    UNION ALL {_past_sql(table, names, epoch)} AND since > {after}
    """


def ended_sql(table: str, columns: Sequence[str], epoch: int, by: int) -> str:
    """Return a SELECT of the rows at the end of `epoch` that were gone, or had other values, at the end of `by`."""
    return f"{_past_sql(table, ', '.join(columns), epoch)} AND until <= {by}"


def _past_sql(table: str, names: str, epoch: int) -> str:
    """Return a SELECT of the rows of the history that were valid at the end of an epoch."""
    return f"""
    SELECT {names} FROM (SELECT column1 AS digits, column2 AS most FROM (VALUES {_SPANS}))
    CROSS JOIN main.{table}_history
    WHERE length(until - since) = digits AND until > {epoch} AND until < {epoch} + most AND since <= {epoch}
    """
