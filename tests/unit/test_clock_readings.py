"""The product compares wall-clock times only in listed places, each with a reason why a jump of the clock does no harm.

docs/architecture.md, "Order without clocks", has the rule. Every place has a comment; argue there for a new place
before you add it to a list here.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import vtlfs

PRODUCT = Path(vtlfs.__file__).parent

IN_SQL = re.compile(r"\b\w+_at\s*(?:<(?!>)|>|BETWEEN)|\b(?:min|max)\(\w*_at\b|ORDER BY[^()]*\w_at\b", re.IGNORECASE)

SQL_THAT_ORDERS_TIMES = {
    "engine/tracking/repositories/copies.py",  # when the next copy is due
    "engine/tracking/repositories/periods.py",  # what happened last night: for people
    "engine/tracking/repositories/lacks.py",  # since when stripes are degraded: for people
    "engine/tracking/repositories/reclaiming.py",  # how fast the disks fill: for people
    "engine/tracking/repositories/sessions.py",  # `vtlfs sessions --since`: for people
    "snap/browse.py",  # for people
}
COMPARISONS = {
    ("care/conditions.py", "begun_at"),  # how old a copy is: people are told too early, or too late
    ("care/pace.py", "_free_at"),  # a monotonic clock
    ("engine/backup/copies.py", "begun_at"),
    ("engine/backup/copies.py", "again_at"),
    ("engine/roster/roster.py", "began_at"),  # for how long an empty disk waits for mounts to take note
    ("engine/roster/roster.py", "until_at"),
    ("snap/retention.py", "taken_at"),
    ("snap/retention.py", "newer_at"),
    ("engine/rebuild/lives.py", "_at"),  # a time on the disks that is far ahead of this clock is told
    ("engine/repair/job.py", "fault_at"),  # for how long a disk has been away
    ("engine/tasks/heap.py", "trimmed_at"),  # a monotonic clock
    ("engine/memory.py", "_let_in_at"),  # a monotonic clock
    ("engine/writing/recording.py", "_announced_at"),  # this and the following are times of a monotonic clock
    ("disks/pool.py", "_tried_at"),
    ("members/finding.py", "released_at"),  # `vtlfs find --since`: for people
}
READINGS_BUT_THAT_OF_MODEL = {
    "fs/attributes.py",  # times that stat() shows
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield each module of the product, parsed. Nobody keeps them all: each fork of a test process would copy them."""
    for path in sorted(PRODUCT.rglob("*.py")):
        yield str(path.relative_to(PRODUCT)), ast.parse(path.read_text())


def names(node: ast.AST) -> Iterator[str]:
    """Yield the names in an expression."""
    for one in ast.walk(node):
        if isinstance(one, ast.Name):
            yield one.id
        elif isinstance(one, ast.Attribute):
            yield one.attr


def test_no_statement_orders_times_but_those_that_are_known() -> None:
    found = {
        module
        for module, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and IN_SQL.search(node.value)
    }
    assert found == SQL_THAT_ORDERS_TIMES


def test_no_expression_compares_times_but_those_that_are_known() -> None:
    ordering = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
    found = {
        (module, name)
        for module, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and any(isinstance(operator, ordering) for operator in node.ops)
        for name in names(node)
        if name.endswith("_at")
    }
    assert found == COMPARISONS


def test_the_wall_clock_is_read_in_one_place_but_for_what_stat_shows() -> None:
    """So a test can make the clock jump."""
    clocks = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("time", "localtime")}
    found = {
        module
        for module, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in clocks
    }
    assert found == {"model.py"} | READINGS_BUT_THAT_OF_MODEL
