"""`vtlfs index` and `vtlfs restore` by a user who isn't root, and by root in that user's library."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from pwd import getpwnam

import pytest
import trees
from unmounted import PROGRAM, PROJECT, Run, Shelf

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
USER = "daemon"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the user's, on a path that the user may go."""
    path = Path(tempfile.mkdtemp(dir="/var/tmp"))
    shutil.chown(path, USER, USER)
    yield path
    shutil.rmtree(path)


def as_user(*words: object, umask: int = 0o022) -> "subprocess.CompletedProcess[str]":
    """Run a program as the user."""
    number = getpwnam(USER)
    return subprocess.run(
        [str(word) for word in words],
        user=number.pw_uid,
        group=number.pw_gid,
        extra_groups=[],
        umask=umask,
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=False,
    )


def owners(root: Path) -> set[tuple[int, int]]:
    """Return to whom everything in a directory belongs."""
    return {(path.lstat().st_uid, path.lstat().st_gid) for path in (root, *root.rglob("*"))}


def give(root: Path) -> None:
    """Make everything in a directory the user's."""
    for path in (root, *root.rglob("*")):
        shutil.chown(path, USER, USER)


def can_run() -> bool:
    """Tell whether the user may run the interpreter and the modules that run this test."""
    return as_user(*PROGRAM, "--version").returncode == 0


@pytest.mark.parametrize(
    ("umask", "options"),
    [(0o022, ""), (0o077, ""), (0o022, "-S --xattrs --xattrs-include=* --acls")],  # with --acls, tar forgets the umask
)
def test_a_user_gets_what_gnu_tar_would_give(place: Path, tmp_path: Path, umask: int, options: str) -> None:
    """Owner, modes, times, holes, attributes and ACLs are those that tar gives to the user without further options."""
    if not can_run():
        pytest.skip("another user may not run this interpreter")
    trees.make(tmp_path / "tree")
    archive = place / "archive.tar"
    subprocess.run(
        ["tar", "--format=posix", *options.split(), "-cf", archive, "-C", tmp_path / "tree", "."], check=True
    )
    Shelf(place).write("A00001L9", archive.read_bytes())
    for name in ("out", "wanted"):
        (place / name).mkdir()
    give(place)
    assert as_user(*PROGRAM, "index", place / "library").returncode == 0
    extracting = [word.replace("=*", "=user.*") for word in options.split() if word != "-S"]
    theirs = as_user("tar", *extracting, "-xf", archive, "-C", place / "wanted", umask=umask)
    ours = as_user(
        *(*PROGRAM, "restore", place / "library", "/", "--from", "A00001L9/0", "-C", place / "out"), umask=umask
    )
    assert theirs.returncode == 2  # the devices
    assert "null: " in theirs.stderr
    said = [line for line in ours.stderr.splitlines() if not line.startswith(("vtlfs: from ", "vtlfs: restored "))]
    assert ours.returncode == 1
    assert sorted(line.split(": ")[1] for line in said) == ["./loop", "./null"]
    assert trees.read(place / "out") == trees.read(place / "wanted")
    assert owners(place / "out") == {(getpwnam(USER).pw_uid, getpwnam(USER).pw_gid)}


def test_a_user_gets_nothing_where_the_user_may_not_write(place: Path) -> None:
    if not can_run():
        pytest.skip("another user may not run this interpreter")
    (place / "file").write_text("mine")
    subprocess.run(["tar", "-cf", place / "archive.tar", "-C", place, "file"], check=True)
    Shelf(place).write("A00001L9", (place / "archive.tar").read_bytes())
    give(place)
    (place / "out").mkdir(mode=0o755)
    assert as_user(*PROGRAM, "index", place / "library").returncode == 0
    done = as_user(*PROGRAM, "restore", place / "library", "file", "-C", place / "out")
    assert done.returncode == 1
    assert "file: Can't create it: Permission denied" in done.stderr
    assert list((place / "out").iterdir()) == []


def test_what_root_makes_in_a_users_library_is_the_users(place: Path, run: Run) -> None:
    """As `vtlfs index` by cron: the user's own mounts and commands go on with it."""
    Shelf(place).write("A00001L9", b"no archive")
    shutil.rmtree(place / "library" / "mounts", ignore_errors=True)
    (place / "out").mkdir()
    give(place)
    for words in (("index",), ("find",), ("verify",), ("snapshot", "take"), ("restore",)):
        more = ["x"] if words[0] == "find" else ["x", "-C", place / "out"] if words[0] == "restore" else []
        run(*words, place / "library", *more)
        assert (place / "library" / "members.db").exists()
        assert owners(place / "library") == owners(place), words
