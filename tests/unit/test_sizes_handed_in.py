"""No test changes a constant of the product: tests hand in `Timing` and `Sizes`."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def names_of_product(tree: ast.AST) -> set[str]:
    """Return the names under which a test knows modules and classes of the product."""
    found = {"vtlfs"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "vtlfs":
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.asname for alias in node.names if alias.asname and alias.name.startswith("vtlfs.")}
    return found


def changed(source: str) -> Iterator[str]:
    """Yield the constants of the product that a test sets, by `setattr`, `patch` or an assignment."""
    tree = ast.parse(source)
    product = names_of_product(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Call(args=[ast.Constant(str(path)), *_]) if path.startswith("vtlfs.") and is_constant(path):
                yield path
            case ast.Call(func=function, args=[owner, ast.Constant(str(name)), *_]) if sets(function):
                if is_constant(name) and root(owner) in product:
                    yield f"{ast.unparse(owner)}.{name}"
            case ast.Assign(targets=targets):
                yield from (ast.unparse(one) for one in targets if is_set(one, product))
            case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
                yield from (ast.unparse(one) for one in [target] if is_set(one, product))


def sets(function: ast.expr) -> bool:
    return ast.unparse(function).rpartition(".")[2] in {"setattr", "object"}


def is_set(target: ast.expr, product: set[str]) -> bool:
    return isinstance(target, ast.Attribute) and is_constant(target.attr) and root(target) in product


def is_constant(path: str) -> bool:
    return path.rpartition(".")[2].isupper()


def root(owner: ast.expr) -> str:
    """Return the first name of `a.b.c`."""
    while isinstance(owner, ast.Attribute):
        owner = owner.value
    return owner.id if isinstance(owner, ast.Name) else ""


def test_no_test_changes_a_constant_of_the_product() -> None:
    files = sorted(TESTS.rglob("*.py"))
    assert Path(__file__).resolve() in files
    assert [f"{file.name}: {name}" for file in files for name in changed(file.read_text())] == []


def test_every_way_of_changing_one_is_found() -> None:
    source = """
from vtlfs.fs import tree as t
import vtlfs.engine.memory
import os
monkeypatch.setattr(t, "PAGE", 1)
monkeypatch.setattr("vtlfs" ".fs.tree.PAGE", 1)
patch.object(vtlfs.engine.memory, "PAGE", 1)
setattr(t, "PAGE", 1)
t.PAGE = 1
t.PAGE += 1
vtlfs.engine.memory.PAGE: int = 1
os.O_DIRECT = 0
monkeypatch.setattr(os, "O_DIRECT", 0)
monkeypatch.setattr(t, "look", None)
t.page = 1
PAGE = 1
"""
    assert len(list(changed(source))) == 7
