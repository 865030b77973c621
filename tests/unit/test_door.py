"""One door for stored bytes: only `engine/reading/stored.py` asks a disk for them, or computes lost ones."""

import ast
from pathlib import Path

import pytest

import vtlfs
from vtlfs.disks.base import Disk
from vtlfs.engine.layout import erasure

PRODUCT = Path(vtlfs.__file__).parent
DOOR = PRODUCT / "engine" / "reading" / "stored.py"
VERBS = {"Disk": {"read_stored", "examine"}, "erasure": {"reconstruct"}}
INSIDE = [path for path in PRODUCT.rglob("*.py") if path.is_relative_to(PRODUCT / "disks")]
NAMESAKES = {
    "stored",
    "disk_jobs",
    "condition",
    "looking",
}  # modules with an `examine`: the door, who uses it, and another thing
OUTSIDE = sorted({*PRODUCT.rglob("*.py")} - {*INSIDE, DOOR})


def asked(source: str) -> list[str]:
    """Return the verbs of the door that a module uses as an attribute, other than by way of the door."""
    verbs = set.union(*VERBS.values())
    return [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and node.attr in verbs and ast.unparse(node.value) not in NAMESAKES
    ]


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(PRODUCT)))
def test_no_other_module_asks_a_disk_for_stored_bytes(path: Path) -> None:
    assert asked(path.read_text()) == []


def test_the_door_uses_each_verb_and_the_verbs_are_there() -> None:
    used = asked(DOOR.read_text())
    assert {line.rpartition(".")[2] for line in used} == set.union(*VERBS.values())
    assert all(hasattr(Disk, verb) for verb in VERBS["Disk"])
    assert all(hasattr(erasure, verb) for verb in VERBS["erasure"])


@pytest.mark.parametrize("line", ["disk.read_stored(row)", "self._disks[1].examine(part)", "run(disk.disk.examine)"])
def test_an_offence_is_found(line: str) -> None:
    assert len(asked(line)) == 1
