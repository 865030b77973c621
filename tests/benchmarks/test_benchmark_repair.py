"""The benchmark of repair: a small library, with a disk that lives and with one that is dead."""

import subprocess
import sys
from pathlib import Path

import pytest
from mounting import PROJECT, SECONDS, require_fuse


@pytest.mark.parametrize("options", [[], ["--dead"]])
def test_a_disk_is_replaced_and_compared_with_cat(tmp_path: Path, options: list[str]) -> None:
    require_fuse()
    words = ["--directory", str(tmp_path), "--sessions", "20", "--mib", "4", *options]
    program = [sys.executable, "-m", "benchmarks.repair", *words]
    done = subprocess.run(program, capture_output=True, text=True, cwd=PROJECT, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert "disk 0, dead: " in done.stdout if options else "disk 0, alive: " in done.stdout
    assert "x cat (>= 0.5)" in done.stdout
    assert "disk 0 is empty and has retired" in done.stdout
    assert list(tmp_path.iterdir()) == []
