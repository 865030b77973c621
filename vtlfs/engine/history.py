"""Copy-on-write history of tables: what makes a snapshot of the tracking database cost nothing.

The library counts epochs; taking a snapshot closes the current epoch and opens the next. A versioned table has a column
`since`, the epoch in which the row was last written, kept by triggers. The first change of a row in a new epoch first
copies the row to `TABLE_history` with `until`, the epoch of the change. So a row of the table or its history was there
at the end of epoch E just if `since <= E` and, in the history, `E < until`. Rows that don't change are never copied,
and however many snapshots there are, a row is copied at most once an epoch.
"""

EPOCH = "(SELECT epoch FROM library)"


def versioning_sql(table: str, key: str, columns: list[str]) -> str:
    """Return the SQL that versions the table.

    `key` is the primary key's column, `columns` are all the columns but `since`. Run once, after the table is made.
    """
    names = ", ".join(columns)
    old = ", ".join(f"OLD.{column}" for column in columns)
    save = f"INSERT INTO {table}_history ({names}, since, until) VALUES ({old}, OLD.since, {EPOCH});"
    return f"""
    CREATE TABLE {table}_history AS SELECT {names}, since, 0 AS until FROM {table} WHERE 0;
    CREATE INDEX {table}_history_until ON {table}_history (until, since);
    CREATE INDEX {table}_history_since ON {table}_history (since, until);
    CREATE INDEX {table}_history_key ON {table}_history ({key}, until);
    CREATE INDEX {table}_since ON {table} (since);
    CREATE TRIGGER {table}_inserted AFTER INSERT ON {table} BEGIN
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


def as_of_sql(table: str, columns: list[str], epoch: str = ":epoch") -> str:
    """Return a SELECT of the table's rows as they stood at the end of an epoch: a number, or a parameter's name."""
    names = ", ".join(columns)
    return (
        f"SELECT {names} FROM main.{table} WHERE since <= {epoch} "
        f"UNION ALL SELECT {names} FROM main.{table}_history WHERE since <= {epoch} AND {epoch} < until"
    )
