"""What lies in tape files, the search for files, and restoring, in the terminal UI."""

import io
import os
import stat
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from driver import Driver, drive
from example_library import ExampleLibrary, at, tar_archive
from mounting import PROJECT

from vtlfs.snap import store
from vtlfs.tui.screens.contents import ContentsScreen


def tree() -> bytes:
    """Return an archive as `tar cf - .` makes it, with a file in a directory of its own, twice, and hostile names."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, mode in (("./", 0o755), ("./etc/", 0o711)):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.mtime = tarfile.DIRTYPE, mode, 1_000_000_000
            tar.addfile(member)
        for name, data in (("./etc/fstab", b"old"), ("./etc/fstab", b"newer"), ("./\x1b[31mred", b"red")):
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(data), 0o640, 1_000_000_000
            tar.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("./etc/mtab")
        link.type, link.linkname, link.mtime = tarfile.SYMTYPE, "/proc/mounts", 1_000_000_000
        tar.addfile(link)
    return file.getvalue()


@pytest.fixture
def indexed(example: ExampleLibrary) -> ExampleLibrary:
    """The example library with one more tape file, indexed."""
    example.write(at(6, 1), at(6, 2), "A00003L9", tree(), host="beta")
    subprocess.run([sys.executable, "-m", "vtlfs", "index", example.path], cwd=PROJECT, check=True, capture_output=True)
    return example


async def open_tree(d: Driver) -> None:
    """Go to the newest session's tape file, and look into it."""
    await d.press("enter")
    await d.sees("17 sessions; by opening")
    await d.go("c", screen="ContentsScreen")
    await d.sees("etc/")


def test_a_tape_file_opens_as_a_tree(indexed: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await open_tree(d)
        assert d.rows == ["d etc/ - 2001-09-09 01:46Z", "- \\x1b[31mred 3 B 2001-09-09 01:46Z"]
        await d.picture("contents", indexed.root)
        await d.press("enter")
        await d.sees("fstab")
        assert d.rows == ["- fstab 5 B 2001-09-09 01:46Z", "l mtab -> /proc/mounts 0 B 2001-09-09 01:46Z"]
        await d.press("enter")
        await d.until(lambda: d.screen == "DetailsScreen", "details")
        await d.picture("member", indexed.root)
        await d.back("ContentsScreen")
        await d.press("left")
        await d.sees("etc/")
        await d.press("left")
        await d.back("StateScreen")

    drive(indexed.path, story)


def test_what_can_not_be_looked_into_says_why(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.press("enter")
        await d.sees("16 sessions; by opening")
        await d.press("end", "c")
        await d.sees("it can't be looked into")
        assert "nothing is indexed yet; `vtlfs index`" in d.notifications

    drive(example.path, story)


def test_a_medium_is_no_archive(indexed: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.press("enter")
        await d.sees("17 sessions; by opening")
        await d.tab("2")
        await d.press("c")
        await d.until(lambda: "a medium has several tape files" in d.notifications, "advice")
        await d.press("enter")
        await d.sees("RELEASED")
        await d.press("c")
        await d.until(lambda: isinstance(d.app.screen, ContentsScreen), "the contents of a tape file")

    drive(indexed.path, story)


def test_a_file_is_found_and_restored(indexed: ExampleLibrary, tmp_path: Path) -> None:
    async def story(d: Driver) -> None:
        await d.press("slash")
        await d.until(lambda: d.screen == "SearchScreen" and d.app.screen.focused, "the search")
        await d.enter("fstab")
        await d.sees("2 archive members")
        await d.picture("found", indexed.root)
        await d.press("r")
        await d.until(lambda: d.screen == "RestoreDialog" and d.app.screen.focused, "the dialog")
        await d.enter(str(tmp_path / "nowhere"))
        await d.sees("no such directory")
        await d.enter(str(indexed.path))
        await d.sees("is inside the library")
        await d.enter(str(tmp_path))
        await d.sees("restored 1 file")
        await d.enter(str(tmp_path))
        await d.sees("exists already")
        await d.back("SearchScreen")
        await d.press("enter")
        await d.until(lambda: d.screen == "ContentsScreen" and len(d.rows) == 2, "the directory of what was found")

    drive(indexed.path, story)
    assert (tmp_path / "etc" / "fstab").read_bytes() == b"old"  # the version under the cursor
    assert stat.S_IMODE((tmp_path / "etc" / "fstab").stat().st_mode) == (0o640 if os.geteuid() == 0 else 0o640 & ~0o022)


def test_a_directory_is_restored_from_the_tree(indexed: ExampleLibrary, tmp_path: Path) -> None:
    async def story(d: Driver) -> None:
        await open_tree(d)
        await d.press("r")
        await d.until(lambda: d.screen == "RestoreDialog" and d.app.screen.focused, "the dialog")
        await d.enter(str(tmp_path))
        await d.sees("restored 2 files, 1 directory")

    drive(indexed.path, story)
    assert (tmp_path / "etc" / "fstab").read_bytes() == b"newer"
    assert os.readlink(tmp_path / "etc" / "mtab") == "/proc/mounts"
    assert stat.S_IMODE((tmp_path / "etc").stat().st_mode) == 0o711


def test_files_of_erased_volumes_are_found_and_restored(indexed: ExampleLibrary, tmp_path: Path) -> None:
    with closing(indexed.library.tracking()) as tracking, tracking.transaction():
        store.take(tracking, at(6, 3))
        tracking.volumes.end_current("A00003L9", at(6, 4))

    async def story(d: Driver) -> None:
        await d.press("slash")
        await d.until(lambda: d.screen == "SearchScreen" and d.app.screen.focused, "the search")
        await d.enter("*tab")
        await d.sees("3 archive members")
        await d.press("down", "r")
        await d.until(lambda: d.screen == "RestoreDialog" and d.app.screen.focused, "the dialog")
        await d.enter(str(tmp_path))
        await d.sees("restored 1 file")

    drive(indexed.path, story)
    assert (tmp_path / "etc" / "fstab").read_bytes() == b"newer"


def test_the_search_tells_of_tape_files_without_an_index(indexed: ExampleLibrary) -> None:
    indexed.write(at(6, 5), at(6, 6), "A00003L9", tar_archive(("new", b"new")))

    async def story(d: Driver) -> None:
        await d.press("slash")
        await d.until(lambda: d.screen == "SearchScreen" and d.app.screen.focused, "the search")
        await d.enter("fstab")
        await d.sees("2 archive members; 1 tape file not indexed yet")

    drive(indexed.path, story)
