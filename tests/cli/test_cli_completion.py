"""Words that shells complete: the scripts of `vtlfs install` in real shells, and what they are told."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from mounting import PROJECT, OnDisks

PROGRAM = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m vtlfs "$@"\n'


@pytest.fixture
def library(tmp_path: Path) -> OnDisks:
    made = OnDisks(tmp_path, media="A1..A3")
    made.add("B9")
    made.vtlfs("snapshot", "take", made.path, "--name", "before")
    return made


@pytest.fixture
def environment(library: OnDisks, tmp_path: Path) -> dict[str, str]:
    """A program `vtlfs` on the path, and what `vtlfs install` has written for shells."""
    library.vtlfs("install", "--root", tmp_path, "--prefix", "/usr")
    program = tmp_path / "bin" / "vtlfs"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    program.chmod(0o755)
    known = tmp_path / "libraries"
    known.write_text("")
    return os.environ | {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
        "VTLFS_LIBRARIES": str(known),
        "XDG_DATA_HOME": str(tmp_path / "share"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }


def completed(tmp_path: Path, environment: dict[str, str], words: str) -> list[str]:
    """Return what bash completes the last word to, by the script that is installed."""
    script = tmp_path / "usr/share/bash-completion/completions/vtlfs"
    count = len(words.split(" ")) - 1
    lines = f"""
source {shlex.quote(str(script))}
COMP_WORDS=({words} {'""' if words.endswith(" ") else ""}) COMP_CWORD={count}
compopt() {{ :; }}
_vtlfs_completion vtlfs
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("vtlfs snap", ["snapshot"]),
        ("vtlfs media er", ["erase"]),
        ("vtlfs media erase LIBRARY A", ["A1", "A2", "A3"]),
        ("vtlfs files LIBRARY ", ["A1", "A2", "A3", "B9"]),
        ("vtlfs extract LIBRARY A1 --snapshot ", ["latest", "before", "1"]),
        ("vtlfs mount LIBRARY /mnt -o allow_other,ho", ["allow_other,host="]),
        ("vtlfs files /no/library A", [""]),
    ],
)
def test_bash(library: OnDisks, tmp_path: Path, environment: dict[str, str], words: str, found: list[str]) -> None:
    assert completed(tmp_path, environment, words.replace("LIBRARY", str(library.path))) == found


def test_default_library_is_completed_and_so_are_its_media(
    library: OnDisks, tmp_path: Path, environment: dict[str, str]
) -> None:
    assert completed(tmp_path, environment | {"VTLFS_LIBRARY": str(library.path)}, "vtlfs files B") == ["B9"]
    (tmp_path / "libraries").write_text(f"{library.path}\n")
    assert completed(tmp_path, environment, f"vtlfs status {library.path.parent}/lib") == [str(library.path)]


def test_fish(library: OnDisks, tmp_path: Path, environment: dict[str, str]) -> None:
    script = tmp_path / "usr/share/fish/vendor_completions.d/vtlfs.fish"
    words = f"vtlfs media erase {library.path} A"
    lines = f"source {shlex.quote(str(script))}; complete --do-complete {shlex.quote(words)}"
    done = subprocess.run(["fish", "--no-config", "-c", lines], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["A1", "A2", "A3"], done.stderr


def test_zsh(library: OnDisks, tmp_path: Path, environment: dict[str, str]) -> None:
    """zsh completes only at a terminal: its function is called with `compadd` in the place of the builtin one."""
    script = tmp_path / "usr/share/zsh/site-functions/_vtlfs"
    lines = f"""
compadd() {{ print -l -- $completions }}
compdef() {{ : }}
_path_files() {{ : }}
source {shlex.quote(str(script))}
words=(vtlfs media erase {shlex.quote(str(library.path))} A) CURRENT=5
_vtlfs_completion
"""
    done = subprocess.run(["zsh", "-f", "-c", lines], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["A1", "A2", "A3"], done.stderr
