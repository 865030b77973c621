"""Making a library and opening one. An error leaves everything as it was."""

import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from vtlfs import config as configuration
from vtlfs.disks.local import label as labels
from vtlfs.disks.local.label import Label
from vtlfs.disks.missing import MissingDisk
from vtlfs.engine.library import Library, create
from vtlfs.errors import LibraryError, UsageError, VtlfsError
from vtlfs.model import MIB, DiskRecord

AT = "2026-01-31T09:30:00.000000Z"


def make(path: Path, disks: list[Path], *, drives: int = 4, stripe_unit: int = MIB) -> Library:
    return create(path, disks, drives=drives, stripe_unit=stripe_unit, at=AT)


def everything(root: Path) -> dict[str, object]:
    """Return everything under a directory: names, modes and contents."""
    found: dict[str, object] = {}
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(directory, name)
            content = path.read_bytes() if stat.S_ISREG(path.lstat().st_mode) else None
            found[str(path)] = (path.lstat().st_mode, content)
    return found


def test_a_library_that_was_made_can_be_opened(tmp_path: Path, two_disks: list[Path]) -> None:
    made = make(tmp_path / "library", two_disks, drives=7, stripe_unit=8192)
    library = Library.open(tmp_path / "library")
    assert library == made
    assert (library.config.drives, library.config.stripe_unit) == (7, 8192)
    assert [disk.path for disk in library.disks()] == [str(disk) for disk in two_disks]
    tracking = library.tracking()
    assert tracking.library.uuid() == library.config.uuid
    assert [drive.number for drive in tracking.drives.all()] == list(range(7))
    assert tracking.media.all() == []
    assert tracking.library.epoch() == 1
    assert [(disk.number, disk.path, disk.added_at) for disk in tracking.disks.all()] == [
        (0, str(two_disks[0]), AT),
        (1, str(two_disks[1]), AT),
    ]
    for record, disk in zip(tracking.disks.all(), two_disks, strict=True):
        assert labels.read(disk) == Label(library.config.uuid, record.uuid, record.number, AT)
    tracking.close()


def test_a_library_is_its_owners_only(tmp_path: Path, two_disks: list[Path]) -> None:
    make(tmp_path / "library", two_disks)
    for path in (tmp_path / "library", *(tmp_path / "library").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_disk_with_nothing_else_on_it_becomes_its_owners_only(tmp_path: Path, two_disks: list[Path]) -> None:
    for disk in two_disks:
        disk.chmod(0o755)
    (two_disks[0] / "lost+found").mkdir()
    (two_disks[1] / "photographs").mkdir()
    with pytest.raises(LibraryError):
        create(tmp_path / "none" / "library", two_disks, drives=1, stripe_unit=MIB, at=AT)
    assert [stat.S_IMODE(disk.stat().st_mode) for disk in two_disks] == [0o755, 0o755]
    make(tmp_path / "library", two_disks)
    assert [stat.S_IMODE(disk.stat().st_mode) for disk in two_disks] == [0o700, 0o755]
    assert all(stat.S_IMODE((disk / labels.FILE_NAME).stat().st_mode) == 0o600 for disk in two_disks)


def test_an_empty_directory_will_do_also_with_lost_and_found(tmp_path: Path, two_disks: list[Path]) -> None:
    (tmp_path / "library" / "lost+found").mkdir(parents=True)
    make(tmp_path / "library", two_disks)
    Library.open(tmp_path / "library").tracking().close()


def test_what_lies_on_a_disk_is_left_alone(tmp_path: Path, two_disks: list[Path]) -> None:
    (two_disks[0] / "photos").mkdir()
    (two_disks[0] / "photos" / "1.jpg").write_bytes(b"precious")
    make(tmp_path / "library", two_disks)
    assert (two_disks[0] / "photos" / "1.jpg").read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["with space", 'quo"te', "back\\slash", "new\nline", "ünï", "#", "%s"])
def test_odd_names_are_no_problem(tmp_path: Path, name: str) -> None:
    disks = [tmp_path / f"{name}{number}" for number in range(2)]
    for disk in disks:
        disk.mkdir()
    make(tmp_path / name, disks)
    assert [disk.path for disk in Library.open(tmp_path / name).disks()] == [str(disk) for disk in disks]


def test_relative_paths_are_kept_absolute(
    tmp_path: Path, two_disks: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("library"), [Path("disk0"), Path("disk1")])
    library = Library.open(Path("library"))
    monkeypatch.chdir("/")
    assert library.path == tmp_path / "library"
    assert [disk.path for disk in library.disks()] == [str(disk) for disk in two_disks]


def test_a_disk_that_was_named_by_a_link_is_kept_by_its_own_name(tmp_path: Path, two_disks: list[Path]) -> None:
    (tmp_path / "link").symlink_to(two_disks[1])
    library = make(tmp_path / "library", [two_disks[0], tmp_path / "link"])
    assert list(library.config.disks) == two_disks


# --- bad input --------------------------------------------------------------------------------------------------------


def refused(root: Path, library: Path, disks: list[Path], match: str, *, drives: int = 4, unit: int = MIB) -> None:
    """Assert that making the library is refused in one line, changes nothing and leaves no descriptor open."""
    before, descriptors = everything(root), len(os.listdir("/proc/self/fd"))
    with pytest.raises(VtlfsError, match=match) as caught:
        make(library, disks, drives=drives, stripe_unit=unit)
    assert "\n" not in str(caught.value)
    assert everything(root) == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_disks_are_refused(tmp_path: Path, two_disks: list[Path], count: int) -> None:
    refused(tmp_path, tmp_path / "library", two_disks[:count], "two or more disks")


def test_the_same_disk_twice_is_refused_also_by_other_names(tmp_path: Path, two_disks: list[Path]) -> None:
    (tmp_path / "link").symlink_to(two_disks[0])
    for other in (two_disks[0], tmp_path / "link", two_disks[1] / ".." / "disk0", Path(f"{two_disks[0]}/")):
        refused(tmp_path, tmp_path / "library", [*two_disks, other], "the same as")


def test_a_disk_that_is_missing_or_a_file_is_refused(tmp_path: Path, two_disks: list[Path]) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    refused(tmp_path, tmp_path / "library", [*two_disks, tmp_path / "none"], "no such directory")
    refused(tmp_path, tmp_path / "library", [*two_disks, tmp_path / "file"], "not a directory")
    refused(tmp_path, tmp_path / "library", [*two_disks, tmp_path / "dangling"], "no such directory")
    refused(tmp_path, tmp_path / "library", [*two_disks, tmp_path / ("x" * 300)], "disk .*: ")
    refused(tmp_path, tmp_path / "library", [*two_disks, tmp_path / "file" / "disk"], "disk .*: ")


def test_a_disk_of_another_library_is_refused(tmp_path: Path, two_disks: list[Path]) -> None:
    (tmp_path / "disk2").mkdir()
    make(tmp_path / "first", two_disks)
    refused(tmp_path, tmp_path / "second", [tmp_path / "disk2", two_disks[0]], "belongs to another library")


def test_a_disk_with_a_label_that_cannot_be_read_is_refused(tmp_path: Path, two_disks: list[Path]) -> None:
    (two_disks[1] / labels.FILE_NAME).write_text("{")
    refused(tmp_path, tmp_path / "library", two_disks, "not the label of a disk")


def test_a_full_disk_is_refused(
    tmp_path: Path, two_disks: list[Path], small_disk: Path, fill: Callable[[Path], Path]
) -> None:
    fill(small_disk)
    refused(tmp_path, tmp_path / "library", [*two_disks, small_disk], "No space left")


def test_a_library_on_a_full_file_system_is_refused(
    tmp_path: Path, two_disks: list[Path], small_disk: Path, fill: Callable[[Path], Path]
) -> None:
    (small_disk / "library").mkdir(mode=0o755)
    fill(small_disk)
    for disk in two_disks:
        disk.chmod(0o755)
    for size in (0, 4, 16, 64, 96):  # so that it gets further each time
        os.truncate(small_disk / "filler", (1 << 20) - size * 1024)
        with pytest.raises(VtlfsError, match=r"full|No space left|disk I/O error"):
            make(small_disk / "library", two_disks)
        assert os.listdir(small_disk / "library") == []
        assert stat.S_IMODE((small_disk / "library").stat().st_mode) == 0o755
        assert all(os.listdir(disk) == [] for disk in two_disks)
        assert all(stat.S_IMODE(disk.stat().st_mode) == 0o755 for disk in two_disks)


def test_a_library_that_exists_is_refused(tmp_path: Path, two_disks: list[Path]) -> None:
    others = [tmp_path / "disk2", tmp_path / "disk3"]
    for disk in others:
        disk.mkdir()
    make(tmp_path / "library", two_disks)
    refused(tmp_path, tmp_path / "library", others, "there is a library here already")
    (tmp_path / "library" / "library.toml").unlink()
    refused(tmp_path, tmp_path / "library", others, "there is a library here already")


def test_a_place_that_will_not_do_is_refused(tmp_path: Path, two_disks: list[Path]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    refused(tmp_path, tmp_path / "full", two_disks, "not empty")
    refused(tmp_path, tmp_path / "full" / "something", two_disks, "not a directory")
    refused(tmp_path, tmp_path / "full" / "something" / "library", two_disks, "not a directory")
    refused(tmp_path, tmp_path / "none" / "library", two_disks, "not a directory")
    refused(tmp_path, tmp_path / "dangling", two_disks, "not a directory")
    refused(tmp_path, tmp_path / ("x" * 300), two_disks, "File name too long")
    refused(tmp_path, two_disks[0] / "sessions" / "library", two_disks, "not a directory")


@pytest.mark.parametrize("which", ["library", "disk"])
def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path, two_disks: list[Path], which: str) -> None:
    """library.toml and the tracking database are UTF-8; such a disk could not be named in them."""
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    if which == "disk":
        odd.mkdir()
        refused(tmp_path, tmp_path / "library", [*two_disks, odd], "not UTF-8")
    else:
        assert Library.open(make(odd, two_disks).path).path == odd


@pytest.mark.parametrize("drives", [0, -1, 1001])
def test_a_number_of_drives_that_will_not_do_is_refused(tmp_path: Path, two_disks: list[Path], drives: int) -> None:
    refused(tmp_path, tmp_path / "library", two_disks, "drives won't do", drives=drives)


@pytest.mark.parametrize("unit", [0, -4096, 4095, 6000, 128 * MIB])
def test_a_stripe_unit_that_will_not_do_is_refused(tmp_path: Path, two_disks: list[Path], unit: int) -> None:
    refused(tmp_path, tmp_path / "library", two_disks, "stripe unit of", unit=unit)


def test_usage_errors_and_others_have_their_exit_status(tmp_path: Path, two_disks: list[Path]) -> None:
    with pytest.raises(UsageError) as usage:
        make(tmp_path / "library", two_disks[:1])
    with pytest.raises(LibraryError) as other:
        make(tmp_path / "none" / "library", two_disks)
    assert (usage.value.exit_status, other.value.exit_status) == (2, 1)


# --- opening ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path, two_disks: list[Path]) -> Library:
    return make(tmp_path / "library", two_disks)


def with_disks(library: Library, *disks: Path) -> Library:
    config = configuration.Config(library.config.uuid, disks)
    (library.path / configuration.FILE_NAME).write_text(configuration.render(config))
    return Library.open(library.path)


def test_disks_are_found_by_their_labels_in_any_order(library: Library, two_disks: list[Path]) -> None:
    changed = with_disks(library, two_disks[1], two_disks[0])
    assert [(disk.number, disk.path) for disk in changed.disks()] == [(0, str(two_disks[0])), (1, str(two_disks[1]))]


def test_a_disk_that_has_moved_is_found(library: Library, two_disks: list[Path]) -> None:
    moved = two_disks[0].rename(two_disks[0].with_name("elsewhere"))
    assert with_disks(library, moved, two_disks[1]).disks()[0].path == str(moved)


def test_a_disk_that_is_missing_is_named(library: Library, two_disks: list[Path], tmp_path: Path) -> None:
    two_disks[1].rename(tmp_path / "away")
    with pytest.raises(LibraryError, match=f"{two_disks[1]}: no such directory"):
        library.disks()
    two_disks[1].mkdir()
    with pytest.raises(LibraryError, match=f"{two_disks[1]}: not labelled; is the right device mounted"):
        library.disks()


def test_a_disk_that_is_not_writable_counts_as_missing_but_is_read(
    tmp_path: Path, two_disks: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = create(tmp_path / "mirror", two_disks, drives=1, stripe_unit=MIB, parity=1, at=AT)
    right = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != two_disks[1] and right(path, mode))
    assert not any(isinstance(disk, MissingDisk) for disk in library.disks())
    two_disks[0].rename(tmp_path / "away")
    with pytest.raises(LibraryError, match="no such directory"):
        library.disks()


def test_a_foreign_disk_is_named(library: Library, two_disks: list[Path], tmp_path: Path) -> None:
    others = [tmp_path / "disk2", tmp_path / "disk3"]
    for disk in others:
        disk.mkdir()
    make(tmp_path / "other", others)
    two_disks[1].rename(tmp_path / "away")
    with pytest.raises(LibraryError, match=f"{others[1]}: belongs to another library"):
        with_disks(library, two_disks[0], others[1]).disks()


def test_the_same_disk_twice_is_named(library: Library, two_disks: list[Path], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(two_disks[0])
    two_disks[1].rename(tmp_path / "away")
    with pytest.raises(LibraryError, match=f"{tmp_path / 'link'}: is disk 0, and so is {two_disks[0]}"):
        with_disks(library, two_disks[0], tmp_path / "link").disks()


def test_a_disk_that_library_toml_has_lost_is_named(library: Library, two_disks: list[Path], tmp_path: Path) -> None:
    (tmp_path / "disk2").mkdir()
    labels.write(tmp_path / "disk2", Label(library.config.uuid, "u", 2, AT))
    two_disks[1].rename(tmp_path / "away")
    with pytest.raises(LibraryError, match="leads to disk 1"):
        with_disks(library, two_disks[0], tmp_path / "disk2").disks()


@pytest.fixture
def lost(tmp_path: Path, two_disks: list[Path]) -> Library:
    """A library of three disks, of which library.toml has two."""
    third = tmp_path / "disk2"
    third.mkdir()
    library = make(tmp_path / "library", [*two_disks, third])
    changed = with_disks(library, *two_disks)
    with closing(changed.tracking()) as tracking:
        known: list[DiskRecord] = tracking.disks.all()
    assert len(known) == 3
    return changed


def test_a_disk_that_library_toml_has_lost_is_found_where_it_was_last(lost: Library, tmp_path: Path) -> None:
    assert [disk.path for disk in lost.disks()] == [str(tmp_path / f"disk{number}") for number in range(3)]
    assert [disk.path for disk in lost.disks_to_read()] == [str(tmp_path / f"disk{number}") for number in range(3)]


def test_a_library_with_fewer_disks_than_it_was_made_with_is_refused(lost: Library, tmp_path: Path) -> None:
    (tmp_path / "disk2").rename(tmp_path / "away")
    changed = lost
    with pytest.raises(LibraryError, match="disk 2"):
        changed.disks()


def test_another_librarys_database_is_refused(library: Library, tmp_path: Path) -> None:
    others = [tmp_path / "disk2", tmp_path / "disk3"]
    for disk in others:
        disk.mkdir()
    other = make(tmp_path / "other", others)
    os.replace(other.path / "tracking.db", library.path / "tracking.db")
    with pytest.raises(LibraryError, match=r"library.toml says .*tracking.db says"):
        library.tracking()


def test_a_database_that_is_missing_damaged_empty_or_foreign_is_refused_and_left_alone(library: Library) -> None:
    path = library.path / "tracking.db"
    path.unlink()
    with pytest.raises(LibraryError, match=r"missing.*vtlfs rebuild"):
        library.tracking()
    assert not path.exists()
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE songs (title TEXT)")
    foreign.commit()
    foreign.close()
    for content in (b"this is no database" * 100, b"", path.read_bytes()):
        path.write_bytes(content)
        for read_only in (False, True):
            with pytest.raises(LibraryError, match=r"tracking\.db: "):
                library.tracking(read_only=read_only)
            assert path.read_bytes() == content


def test_a_disk_that_is_missing_and_retiring_is_not_missed(tmp_path: Path) -> None:
    """Without parity, the extents of the disk are lost; the library can be mounted nevertheless."""
    paths = [tmp_path / f"disk{number}" for number in range(3)]
    for path in paths:
        path.mkdir()
    library = make(tmp_path / "library", paths)
    paths[2].rename(tmp_path / "away")
    with pytest.raises(LibraryError, match="no such directory"):
        library.disks()
    with closing(library.tracking()) as tracking, tracking.transaction():
        tracking.disks.begin_retiring(2, AT)
    assert [isinstance(disk, MissingDisk) for disk in library.disks()] == [False, False, True]
