"""SQL stands only in the catalogue (`vtlfs/engine/tracking/`), in `vtlfs/snap/`, and in the member index's own modules.

All other code asks a repository. The test searches the code for SQL and for calls that run it; an import contract keeps
`sqlite3` itself within the catalogue.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import vtlfs

PRODUCT = Path(vtlfs.__file__).parent
ROOMS = ("engine/tracking/", "snap/")
INDEX = {f"members/{name}.py" for name in ("database", "filling", "finding", "tables")}  # a database of its own

SQL = re.compile(
    r"\bSELECT\b|\bINSERT\b|\bUPDATE \w+ SET\b|\bDELETE FROM\b|\bPRAGMA\b|\bATTACH\b"
    r"|\bCREATE (TEMP )?(TABLE|VIEW|INDEX)|\bALTER TABLE\b|\bDROP (TABLE|VIEW|INDEX|TRIGGER)\b|\bBEGIN\b|\bCOMMIT\b"
    r"|\bWHERE\b|\bORDER BY\b|\bJOIN\b"
)
RUNS = {"execute", "executemany", "executescript", "execute_many", "sql"}
PRIVATE = {"Statements", "Repository", "Connection"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield each module of the product, parsed. Nobody keeps them all: each fork of a test process would copy them."""
    for path in sorted(PRODUCT.rglob("*.py")):
        yield str(path.relative_to(PRODUCT)), ast.parse(path.read_text())


def docstrings(tree: ast.AST) -> set[ast.AST]:
    """Return the expressions that are docstrings: of modules, classes and functions, and below attributes."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def sql_in(tree: ast.AST) -> Iterator[str]:
    """Yield each piece of SQL in a module, and each attribute and import that runs it, with its line."""
    spoken = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in spoken:
            if SQL.search(node.value):
                yield f"line {node.lineno}: {node.value!r}"
        elif isinstance(node, ast.Attribute) and node.attr in RUNS:
            yield f"line {node.lineno}: .{node.attr}"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vtlfs.engine.tracking"):
            yield from (f"line {node.lineno}: {name.name}" for name in node.names if name.name in PRIVATE)


def is_in_room(module: str) -> bool:
    """Tell whether SQL may stand in a module."""
    return module.startswith(ROOMS) or module in INDEX


def test_sql_stands_in_the_catalogue_in_snapshots_and_in_the_member_index_alone() -> None:
    found = {module: list(sql_in(tree)) for module, tree in modules() if not is_in_room(module)}
    assert {module: pieces for module, pieces in found.items() if pieces} == {}


def test_every_repository_has_sql_to_find() -> None:
    has_sql = {name: any(sql_in(tree)) for name, tree in modules() if name.startswith("engine/tracking/repositories/")}
    empty = [name for name, has in has_sql.items() if not has and not name.endswith("__init__.py")]
    assert len(has_sql) > 10
    assert empty == []


@pytest.mark.parametrize(
    "code",
    [
        'ask("SELECT 1")',
        'ask(f"SELECT {columns} FROM session")',
        'rest = f" ORDER BY {column}"',
        'start("BEGIN")',
        "tracking.sql.one(text)",
        "connection.execute(text)",
        "from vtlfs.engine.tracking.statements import Statements",
    ],
)
def test_sql_is_found(code: str) -> None:
    assert list(sql_in(ast.parse(code)))


def test_a_docstring_and_a_message_are_no_sql() -> None:
    code = '"""SELECT is SQL."""\nraise UsageError("update the library, and begin anew")'
    assert list(sql_in(ast.parse(code))) == []
