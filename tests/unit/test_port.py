"""The catalogue port: code in a mount's trio loop reads only through it, and SQLite answers without a task switch."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import vtlfs
from vtlfs.engine.tracking.database import Tracking, create
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.errors import NoSuchMedium

PRODUCT = Path(vtlfs.__file__).parent
LOOP = (
    "daemon.py",
    "fs/*.py",
    "snap/schedule.py",
    "engine/tasks/degraded.py",
    "engine/engine.py",
    "engine/tasks/health.py",
    "engine/tasks/heap.py",
    "engine/identifiers.py",
    "engine/jobs/background.py",
    "engine/tasks/publishing.py",
    "engine/memory.py",
    "engine/reading/loads.py",
    "engine/reading/reader.py",
    "engine/reading/session.py",
    "engine/writing/*.py",
    "engine/backup/copying.py",
)  # modules whose code runs in the trio loop
MODULES = sorted(path for pattern in LOOP for path in PRODUCT.glob(pattern))
OPENS = {"library", "_library"}  # `library.tracking()` opens a connection, for a thread


@pytest.fixture
def tracking(tmp_path: Path) -> Iterator[Tracking]:
    """A tracking database with the medium T1."""
    create(tmp_path, "0" * 32, [], 1, "2026-01-01T00:00:00.000000Z")
    opened = Tracking(tmp_path)
    with opened.transaction():
        opened.media.add(["T1"], None, "2026-01-01T00:00:00.000000Z")
    yield opened
    opened.close()


def test_a_read_ends_at_its_first_step(tracking: Tracking) -> None:
    reading = Catalogue(tracking).read(lambda tracking: tracking.media.get("T1").barcode)
    with pytest.raises(StopIteration) as ended:
        reading.send(None)  # what the scheduler does; a coroutine that yields would wait here
    assert ended.value.value == "T1"


def test_an_error_of_a_read_comes_at_its_first_step(tracking: Tracking) -> None:
    reading = Catalogue(tracking).read(lambda tracking: tracking.media.get("T9"))
    with pytest.raises(NoSuchMedium):
        reading.send(None)


def holds(tree: ast.AST) -> Iterator[str]:
    """Yield each place where a module takes a `Tracking` from an object, instead of getting it in a query."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in {"tracking", "_tracking"}:
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if owner not in OPENS:
                yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PRODUCT)))
def test_code_in_the_loop_has_no_tracking(module: Path) -> None:
    assert list(holds(ast.parse(module.read_text()))) == []


def test_every_pattern_names_modules() -> None:
    assert [pattern for pattern in LOOP if not list(PRODUCT.glob(pattern))] == []


@pytest.mark.parametrize("code", ["self._tracking.media.all()", "engine.catalogue.tracking", "context.tracking = 1"])
def test_a_tracking_that_is_held_is_found(code: str) -> None:
    assert list(holds(ast.parse(code)))


def test_a_query_and_a_connection_of_a_thread_are_allowed() -> None:
    code = "catalogue.read(lambda tracking: tracking.media.all())\nself._library.tracking(read_only=True)"
    assert list(holds(ast.parse(code))) == []
