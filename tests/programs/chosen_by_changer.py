"""What daemons need to use the changer of a library as their own users: a program, and a mount that lets them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mounting import PROJECT, Mounted, OnDisks

LEFT_OUT = shutil.ignore_patterns(
    "numpy*", "matplotlib*", "mypy*", "pip*", "pillow*", "PIL", "fontTools", "__pycache__"
)


def program(root: Path, user: str, *words: str) -> Path:
    """Return an executable that runs vtlfs with these words and its own, and that a user may run."""
    file = root / f"vtlfs-{'-'.join(words)}"
    _write(file, sys.executable, [PROJECT], words)
    if _runs(file, user):
        return file
    copy = root / "site"  # the interpreter, or its packages, are where only root may read
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    shutil.copytree(packages, copy, ignore=LEFT_OUT)
    shutil.copytree(PROJECT / "vtlfs", copy / "vtlfs", dirs_exist_ok=True)
    _write(file, f"/usr/bin/python3.{sys.version_info.minor}", [copy], words)
    assert _runs(file, user), f"{user} can't run {file}"
    return file


def _write(file: Path, python: str, paths: list[Path], words: tuple[str, ...]) -> None:
    where = ":".join(map(str, paths))
    file.write_text(f'#!/bin/sh\ncd /\nPYTHONPATH={where} exec {python} -m vtlfs {" ".join(words)} "$@"\n')
    file.chmod(0o755)


def _runs(file: Path, user: str) -> bool:
    words = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", str(file), "--help"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@contextmanager
def changing(library: OnDisks, user: str, rule: str) -> Iterator[Mounted]:
    """Mount a library for the block so that a user may use its media and its changer, and may not open the library."""
    with open(library.path / "library.toml", "a") as file:
        file.write(f'\n[permissions.changer]\ngroup = "{user}"\nmode = "0660"\n\n{rule}\n')
    assert os.stat(library.path / "tracking.db").st_mode & 0o077 == 0
    with library.mounted(f"allow_other,gid={user}") as mounted:
        yield mounted
