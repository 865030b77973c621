"""The library of a command that names none, and mount points in the place of a library."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from mounting import OnDisks
from unmounted import PROGRAM, PROJECT, Done, Refused, Run, Shelf

from vtlfs.cli import default_library

VTLFS = shlex.join([sys.executable, "-m", "vtlfs"])
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has mount namespaces, and lists libraries")


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch, shelf: Shelf) -> Shelf:
    """A library that VTLFS_LIBRARY names."""
    monkeypatch.setenv("VTLFS_LIBRARY", shelf.path)
    return shelf


def started(*words: object, cwd: Path = PROJECT) -> "subprocess.CompletedProcess[str]":
    """Run the program itself, with the environment of this process."""
    command = [*PROGRAM, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd, check=False)


def test_library_is_the_one_that_the_environment_names(named: Shelf) -> None:
    assert json.loads(started("status", "--json").stdout)["library"] == named.path


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["media", "list"], "A00002L9"),
        (["media", "list", "*1L9"], "A00001L9"),
        (["media", "move", "A00001L9", "4"], "A00001L9"),
        (["load", "0", "A00001L9"], "drive 0: A00001L9 loaded"),
        (["files", "A00001L9"], "no tape files on A00001L9"),
        (["extract", "A00001L9", "-o", "-"], ""),
        (["verify"], "all is as it should be"),
        (["verify", "A00001L9", "A00002L9"], "0 B in 0 tape files"),
        (["snapshot", "take", "--name", "x"], "snapshot 1 (x)"),
        (["changer", "slots"], "\n"),
        (["mtx", "inquiry"], "Medium Changer"),
        (["events", "A00001L9"], ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_words_of_a_command_need_no_library_before_them(named: Shelf, words: list[str], wanted: str) -> None:
    result = started(*words)
    assert (result.returncode, result.stderr) == (0, "")
    assert wanted in result.stdout


@pytest.mark.parametrize(
    ("status", "words", "wanted"),
    [
        (1, ["verify", "./A00001L9"], "A00001L9: no vtlfs library here"),  # a slash: never a barcode
        (1, ["files", "lib", "A00001L9"], "lib: no vtlfs library here"),  # as many words as there can be
        (2, ["files", "/lib"], "missing argument 'BARCODE'"),
        (2, ["media", "move", "A00001L9"], "missing argument 'SLOT'"),
        (2, ["mount"], "missing argument 'MOUNTPOINT'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_word_that_can_only_be_a_library_is_none_of_the_default(
    named: Shelf, status: int, words: list[str], wanted: str
) -> None:
    result = started(*words)
    assert result.returncode == status, result.stderr
    assert wanted in result.stderr


def test_library_in_the_current_directory_goes_before_a_barcode(named: Shelf, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Shelf(other)
    result = started("verify", "library", "A00001L9", cwd=other)
    assert (result.returncode, result.stderr) == (0, "")
    result = started("verify", "library", cwd=tmp_path / "disk0")  # no library here of this name
    assert "no medium 'library' in this library" in result.stderr


def test_disk_that_is_added_is_never_taken_for_the_library_nor_the_other_way_round(named: Shelf) -> None:
    assert "missing argument 'PATH'" in started("disk", "add", named.path).stderr
    new = named.root / "new"
    new.mkdir()
    assert started("disk", "add", new).stdout.startswith(f"disk 2: {new}")


def test_environment_that_leads_nowhere_is_told(refused: Refused) -> None:
    assert refused(2, "status") == (
        "which library? VTLFS_LIBRARY is /nonexistent, where there is none; name LIBRARY, or set VTLFS_LIBRARY"
    )


# --- mounts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", "media/T1", "sessions/", "no/such/file"])
def test_mount_point_or_a_path_in_the_mount_stands_for_the_library(library: OnDisks, place: str) -> None:
    with library.mounted() as mount:
        found = json.loads(library.vtlfs("status", mount.path / place, "--json"))
        assert found["library"] == str(library.path)
        assert library.vtlfs("files", mount.path / place, "T1") == "no tape files on T1\n"
        assert "T1" in library.vtlfs("media", "list", mount.path / place, "T1")


def test_link_to_a_mount_point_stands_for_the_library(library: OnDisks) -> None:
    with library.mounted() as mount:
        link = library.root / "link"
        link.symlink_to(mount.path)
        assert json.loads(library.vtlfs("status", link, "--json"))["library"] == str(library.path)
        assert library.vtlfs("changer", link / "media", "slots")


ALONE = """
set -e
awk '$0 ~ / - fuse.vtlfs / { print $5 }' /proc/self/mountinfo | tac | while read -r one; do umount -l "$one"; done
unset VTLFS_LIBRARY
cd /
"""


def alone(script: str) -> "subprocess.CompletedProcess[str]":
    """Run a shell script in a mount namespace of its own, in which no library is mounted."""
    words = ["unshare", "--mount", "--propagation", "private", "bash", "-c", ALONE + script]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, env=environment)


@needs_root
def test_library_is_the_only_one_that_is_mounted(library: OnDisks, tmp_path: Path) -> None:
    point, again = tmp_path / "point", tmp_path / "again"
    point.mkdir()
    again.mkdir()
    result = alone(
        f"{VTLFS} mount {library.path} {point}\n"
        f"{VTLFS} mount {again}\n"  # the same library again
        f"{VTLFS} status --json\n"
        f"{VTLFS} umount {again}\n{VTLFS} umount {point}\n"
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["library"] == str(library.path)


@needs_root
def test_several_mounted_libraries_are_named_and_none_is_taken(library: OnDisks, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    other = OnDisks(tmp_path / "more")
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    result = alone(
        f"{VTLFS} mount {library.path} {first}\n{VTLFS} mount {other.path} {second}\n"
        f"{VTLFS} media erase T1 --yes || status=$?\n"
        f"{VTLFS} umount {first}\n{VTLFS} umount {second}\nexit $status\n"
    )
    assert result.returncode == 2
    said = f"which library? 2 are mounted: {library.path}, {other.path}; name LIBRARY, or set VTLFS_LIBRARY"
    assert result.stderr == f"vtlfs: {said}\n"


# --- the machine's list -----------------------------------------------------------------------------------------------


@needs_root
def test_init_lists_a_library_once_and_one_that_is_gone_does_not_count(tmp_path: Path) -> None:
    listed = tmp_path / "etc" / "libraries"
    for disk in range(4):
        (tmp_path / f"disk{disk}").mkdir()

    def init(name: str, first: int) -> str:
        disks = " ".join(f"--disk {tmp_path}/disk{number}" for number in (first, first + 1))
        return f"{VTLFS} init {tmp_path}/{name} {disks} > /dev/null\n"

    environment = f"export VTLFS_LIBRARIES={listed}\n"
    result = alone(f"{environment}{VTLFS} status || true\n{init('one', 0)}{VTLFS} status --json\n")
    assert f"none is mounted, and none is in {listed}" in result.stderr
    assert json.loads(result.stdout)["library"] == f"{tmp_path}/one"
    result = alone(f"{environment}{init('two', 2)}{VTLFS} status\n")
    assert result.returncode == 2
    assert f"2 are in {listed}: {tmp_path}/one, {tmp_path}/two" in result.stderr
    assert listed.read_text() == f"{tmp_path}/one\n{tmp_path}/two\n"
    assert listed.stat().st_mode & 0o777 == 0o644
    result = alone(f"{environment}rm -r {tmp_path}/one\n{VTLFS} status --json\n")
    assert json.loads(result.stdout)["library"] == f"{tmp_path}/two"


@needs_root
def test_list_keeps_what_people_have_written_into_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shelf: Shelf
) -> None:
    listed = tmp_path / "libraries"
    listed.write_text("# ours\n/gone")  # without an end of the line
    monkeypatch.setenv("VTLFS_LIBRARIES", str(listed))
    default_library.remember(shelf.library.path)
    default_library.remember(shelf.library.path / ".." / "library")
    assert listed.read_text() == f"# ours\n/gone\n{shelf.path}\n"


@needs_root
def test_library_is_made_where_the_list_can_not_be_written(run: Run, done: Done, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    disks = [tmp_path / "a", tmp_path / "b"]
    for disk in disks:
        disk.mkdir()
    words = ["init", tmp_path / "lib", "--disk", disks[0], "--disk", disks[1]]
    environment = os.environ | {"VTLFS_LIBRARIES": str(tmp_path / "file" / "libraries")}
    result = run(*words, started=True, env=environment)
    assert result.returncode == 0
    assert f"note: {tmp_path}/file/libraries: File exists; " in result.stdout.replace("Not a directory", "File exists")
    assert "disk" in done("status", tmp_path / "lib")
