"""docs/tracking.md against a real database: the page has every table and column, and every query in it runs."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from vtlfs.engine.tracking.database import FILE_NAME, create
from vtlfs.model import DiskRecord

DOCUMENT = (Path(__file__).parents[2] / "docs" / "tracking.md").read_text()
QUERIES = re.findall(r"```sql\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    disks = [DiskRecord(number, f"uuid-{number}", f"/disk{number}", "t") for number in range(2)]
    create(tmp_path, "uuid", disks, 4, "t")
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    yield connection
    connection.close()


def section(table: str) -> str:
    found = re.search(rf"^### {table}\n(.*?)(?=^##)", DOCUMENT, re.DOTALL | re.MULTILINE)
    assert found is not None, f"{table} is not documented"
    return found[1]


def test_every_table_and_column_is_documented(database: sqlite3.Connection) -> None:
    names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
    assert len(names) > 10
    for name in names:
        if name.endswith("_history"):
            assert f"`{name}`" in DOCUMENT
            continue
        text = section(name)
        for column in database.execute(f"PRAGMA table_info({name})") if name != "_sqlite_migrations" else []:
            assert re.search(rf"^\|[^|]*`{column[1]}`", text, re.MULTILINE), f"{name}.{column[1]} is not documented"


def test_no_column_is_documented_that_does_not_exist(database: sqlite3.Connection) -> None:
    for name, text in re.findall(r"^### (\w+)\n(.*?)(?=^##)", DOCUMENT, re.DOTALL | re.MULTILINE):
        columns = {row[1] for row in database.execute(f"PRAGMA table_info({name})")}
        assert columns, f"there is no {name}"
        for cell in re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE):
            assert set(re.findall(r"`(\w+)`", cell)) <= columns


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_every_query_runs(database: sqlite3.Connection, query: str) -> None:
    database.execute(
        query.replace("…", "*" if "UNION" not in query else "id"), {"epoch": 1} if ":epoch" in query else {}
    )
