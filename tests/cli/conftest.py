"""Fixtures that run the real program on real directories, and check its output and what it must not change."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loaded
import pytest
from unmounted import PROGRAM, PROJECT, WITHOUT_RIGHTS, Done, Refused, Run, Shelf


def tree(root: Path) -> dict[str, str]:
    """Return everything under a directory: names, kinds, rights, contents."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = ""
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(root))] = f"{status.st_mode:o} {content}"
    return found


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
def run() -> Run:
    """Return a function that runs vtlfs, as a rule without its start (`loaded`).

    `rights=False`: file modes bind the program, even if root runs the tests. `started`: the program itself is started.
    """

    def call(
        *arguments: object, rights: bool = True, started: bool = False, **more: Any
    ) -> subprocess.CompletedProcess[Any]:
        words = [word if isinstance(word, bytes) else str(word) for word in arguments]
        if rights and not started:
            return loaded.run(words, **more)
        prefix = [] if rights or os.geteuid() else WITHOUT_RIGHTS
        options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 60, "cwd": PROJECT}
        return subprocess.run([*prefix, *PROGRAM, *words], check=False, **options | more)

    return call


@pytest.fixture
def done(run: Run) -> Done:
    """Return a function that runs vtlfs, asserts success without any error output, and returns the output."""

    def call(*arguments: object, **more: object) -> str:
        result = run(*arguments, **more)
        assert (result.returncode, result.stderr) == (0, "")
        return str(result.stdout)

    return call


@pytest.fixture
def refused(run: Run, tmp_path: Path) -> Refused:
    """Return a function that runs vtlfs, asserts one line of error and no change of any file, and returns the line."""

    def call(status: int, *arguments: object, **more: object) -> str:
        before = tree(tmp_path)
        result = run(*arguments, **more)
        assert result.returncode == status, result.stderr
        assert not result.stdout
        assert result.stderr.startswith("vtlfs: ")
        assert result.stderr.count("\n") == 1
        assert result.stderr.endswith("\n")
        assert tree(tmp_path) == before
        return str(result.stderr).removeprefix("vtlfs: ").removesuffix("\n")

    return call


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system without a free block."""
    where = tmp_path / "full"
    where.mkdir()
    command: list[str | Path] = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", where]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a full file system wants the right to mount a tmpfs")
    try:
        (where / "filler").write_bytes(bytes(65536))
        yield where
    finally:
        subprocess.run(["umount", where], check=True)
