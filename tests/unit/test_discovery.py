"""Discovery: disks are found by their labels, and a path without a disk gets a reason."""

import os
from pathlib import Path

import pytest

from vtlfs.disks.discovery import NoDisk, check_new, discover, disk_at, label_new, unlabel
from vtlfs.disks.local import label as labels
from vtlfs.disks.local.label import Label
from vtlfs.errors import UsageError
from vtlfs.model import DiskRecord

OURS, OTHER = "our library", "another library"


def labelled(root: Path, name: str, library: str, number: int) -> Path:
    path = root / name
    path.mkdir()
    labels.write(path, Label(library, f"the disk {name}", number, "t"))
    return path


def why(path: Path, library: str | None = OURS) -> str:
    """Return the reason why there is no disk at the path."""
    with pytest.raises(NoDisk) as none:
        disk_at(path, library)
    assert none.value.path == path
    assert str(none.value) == f"disk {path}: {none.value.why}"
    return none.value.why


def test_disks_are_found_by_their_labels_whatever_their_order(tmp_path: Path) -> None:
    one, zero = labelled(tmp_path, "a", OURS, 1), labelled(tmp_path, "b", OURS, 0)
    found = discover([one, zero], OURS)
    assert {number: place.path for number, place in found.places.items()} == {1: one, 0: zero}
    assert found.lost == []
    assert [(number, disk.number, disk.path) for number, disk in found.disks().items()] == [
        (0, 0, str(zero)),
        (1, 1, str(one)),
    ]


def test_it_is_told_why_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "bare").mkdir()
    labelled(tmp_path, "broken", OURS, 0)
    (tmp_path / "broken" / labels.FILE_NAME).write_text("{")
    assert why(tmp_path / "nowhere") == "no such directory"
    assert why(tmp_path / "file") == "not a directory"
    assert why(tmp_path / "bare") == "not labelled; is the right device mounted there?"
    assert why(tmp_path / "broken") == "vtlfs-disk.json: not the label of a disk"
    assert why(labelled(tmp_path, "other", OTHER, 0)) == "belongs to another library (another library)"
    assert disk_at(tmp_path / "other", None).library == OTHER


def test_disk_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    first, second = labelled(tmp_path, "a", OURS, 0), labelled(tmp_path, "b", OURS, 0)
    found = discover([first, second, tmp_path / "none"], OURS)
    assert [place.path for place in found.places.values()] == [first]
    assert [lost.why for lost in found.lost] == [f"is disk 0, and so is {first}", "no such directory"]
    assert [lost.label is not None for lost in found.lost] == [True, False]


def test_library_that_nobody_names_is_that_of_the_first_disk(tmp_path: Path) -> None:
    paths = [labelled(tmp_path, "a", OTHER, 0), labelled(tmp_path, "b", OURS, 1), labelled(tmp_path, "c", OTHER, 1)]
    found = discover(paths, None)
    assert found.library == OTHER
    assert [place.path for place in found.places.values()] == [paths[0], paths[2]]
    assert [lost.path for lost in found.lost] == [paths[1]]


def test_disk_that_is_to_be_written_must_be_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = labelled(tmp_path, "a", OURS, 0)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write to all directories
    assert discover([path], OURS).lost == []
    assert [lost.why for lost in discover([path], OURS, writable=True).lost] == ["not writable"]


def test_new_disks_are_labelled_and_unlabelled(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.mkdir(mode=0o755)
    (paths[1] / "something").touch()
    assert check_new(paths) == paths
    closed: dict[Path, int] = {}
    for number, path in enumerate(paths):
        label_new(DiskRecord(number, f"disk {number}", str(path), "t"), OURS, closed)
    assert closed == {paths[0]: 0o755}
    assert (paths[0].stat().st_mode & 0o777, paths[1].stat().st_mode & 0o777) == (0o700, 0o755)
    assert len(discover(paths, OURS).places) == 2
    with pytest.raises(NoDisk, match="belongs to another library"):
        check_new(paths)
    unlabel(paths, OTHER)
    assert len(discover(paths, OURS).places) == 2
    unlabel(paths, OURS)
    assert check_new(paths) == paths


def test_library_wants_two_different_disks(tmp_path: Path) -> None:
    for paths in ([tmp_path], [tmp_path, tmp_path]):
        with pytest.raises(UsageError):
            check_new(paths)
