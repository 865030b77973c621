"""Privacy: nobody but the owner can read the files of a library, nor those on its disks."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from mounting import SECONDS, OnDisks

from vtlfs.logs import FILE as LOG

AS_SOMEBODY = """
import os, sys
from vtlfs.cli.main import main
if os.getuid() == 0:  # not when the program has started itself again
    os.setgroups([]); os.setgid(4001); os.setuid(4001)
sys.exit(main())
"""


def everything_in(directory: Path) -> Iterator[Path]:
    """Yield a directory and everything in it."""
    yield directory
    for path in directory.rglob("*"):
        if not path.is_symlink():
            yield path


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
def test_files_of_library_and_disks_are_their_owners_only(library: OnDisks, tmp_path: Path, mask: int) -> None:
    """This holds for any umask of those who make, mount and use the library, also while it is in use."""
    made, disks = tmp_path / "made", [tmp_path / "one", tmp_path / "two"]
    old = os.umask(mask)
    try:
        for directory in (made, *disks):
            directory.mkdir(mode=0o777)
        library.vtlfs("init", made, "--disk", disks[0], "--disk", disks[1], "--drives", 4)
        library.path, library.disks = made, disks
        library.vtlfs("media", "add", made, "A1", "B1")
        library.vtlfs("load", made, 0, "A1")
        with library.mounted(background=True) as mounted:
            mounted.medium("A1").write_bytes(bytes(3 << 20))
            library.vtlfs("snapshot", "take", made)
            with open(mounted.medium("A1"), "wb", buffering=0) as held:
                held.write(b"data")
                library.vtlfs("status", made)
                library.vtlfs("snapshot", "export", made, 1, tmp_path / "export.db")
                in_use = [path for root in (made, *disks) for path in everything_in(root)]
                check_private(in_use)
            mounted.kill()
            subprocess.run(["umount", "-l", mounted.path], check=True)
        library.vtlfs("recover", made)
        library.vtlfs("sessions", made)
        afterwards = [path for root in (made, *disks) for path in everything_in(root)]
        check_private([*afterwards, tmp_path / "export.db"])
    finally:
        os.umask(old)
    names = {path.name for path in in_use}
    assert {"library.toml", "tracking.db", "tracking.db-wal", "tracking.db-shm", LOG, "mounts", "sessions"} <= names
    assert {"1.lock", "vtlfs-disk.json"} <= names
    assert any(name.endswith(".member") for name in names)


def check_private(paths: Sequence[Path]) -> None:
    """Assert that directories have the mode 0700, and files 0600."""
    modes = {path: path.stat().st_mode for path in paths}
    wanted = {path: 0o700 if stat.S_ISDIR(mode) else 0o600 for path, mode in modes.items()}
    assert {path: oct(stat.S_IMODE(mode)) for path, mode in modes.items()} == {
        path: oct(mode) for path, mode in wanted.items()
    }


@pytest.mark.parametrize(
    ("opened", "says"),
    [
        ([], "library.toml: Permission denied; only the owner of a library can use it"),
        (["library.toml"], "tracking.db: unable to open database file; only the library's owner can use it"),
        (["library.toml", "tracking.db"], "attempt to write a readonly database; only the library's owner can use it"),
    ],
)
def test_command_of_a_user_who_may_not_use_the_library_says_so_in_one_line(
    open_library: OnDisks, opened: list[str], says: str
) -> None:
    """So it does if the mode of the library, or of a part of it, lets others in."""
    library = open_library.path
    if opened:
        library.chmod(0o755)
    for name in opened:
        (library / name).chmod(0o644)
    reading: list[list[str | Path]] = [["sessions", library], ["files", library, "T1"], ["snapshot", "list", library]]
    commands: list[list[str | Path]] = [
        ["status", library],
        ["media", "add", library, "A1"],
        ["mount", library, open_library.root],
        *([] if opened else reading),
    ]
    for words in commands:
        done = subprocess.run(
            [sys.executable, "-c", AS_SOMEBODY, *words],
            capture_output=True, text=True, check=False, timeout=SECONDS,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1
        assert says in done.stderr
