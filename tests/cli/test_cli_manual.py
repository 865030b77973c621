"""The manual pages are what the help texts say, and man(1) prints them without a warning."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mounting import PROJECT

from vtlfs.cli.main import COMMANDS

PAGES = PROJECT / "vtlfs" / "man"


def test_pages_are_made_of_the_help_texts_of_today(tmp_path: Path) -> None:
    subprocess.run([sys.executable, PROJECT / "scripts" / "man-pages", tmp_path], check=True, cwd=PROJECT)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in PAGES.iterdir()}
    assert made == kept, "run `make man`"


@pytest.mark.parametrize("name", ["vtlfs", *(f"vtlfs-{command}" for command in COMMANDS)])
def test_a_page_is_printed_without_a_warning(name: str) -> None:
    words: list[str | Path] = ["man", "--warnings", "-l", PAGES / f"{name}.1"]
    environment = os.environ | {"LC_ALL": "C.UTF-8", "MANWIDTH": "80"}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""
    for heading in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "SEE ALSO"):
        assert f"\n{heading}\n" in done.stdout, heading


def test_an_example_keeps_its_lines() -> None:
    done = subprocess.run(["man", "-l", PAGES / "vtlfs.1"], capture_output=True, text=True, check=True)
    assert "\n       vtlfs init /srv/vtl --disk /disk1 --disk /disk2\n" in done.stdout
