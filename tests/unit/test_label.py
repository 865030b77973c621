"""The label of a disk."""

import json
import os
from pathlib import Path
from typing import Any

import format_reader
import pytest

from vtlfs.disks.local import label as labels
from vtlfs.disks.local.label import FILE_NAME, Label
from vtlfs.errors import LibraryError

LABEL = Label("library-uuid", "disk-uuid", 1, "2026-01-31T09:30:00.000000Z")
GOOD: dict[str, Any] = {"format": 2, "library": "l", "disk": "d", "number": 0, "created_at": "t"}


def test_a_label_that_was_written_is_read(tmp_path: Path) -> None:
    labels.write(tmp_path, LABEL)
    assert labels.read(tmp_path) == LABEL


def test_the_label_is_as_documented(tmp_path: Path) -> None:
    labels.write(tmp_path, LABEL)
    assert format_reader.label(tmp_path) == {
        "format": 2,
        "library": "library-uuid",
        "disk": "disk-uuid",
        "number": 1,
        "created_at": "2026-01-31T09:30:00.000000Z",
    }


def test_an_unlabelled_disk_has_none(tmp_path: Path) -> None:
    assert labels.read(tmp_path) is None


def test_a_labelled_disk_is_not_labelled_again(tmp_path: Path) -> None:
    labels.write(tmp_path, LABEL)
    with pytest.raises(FileExistsError):
        labels.write(tmp_path, Label("other", "other", 0, ""))
    assert labels.read(tmp_path) == LABEL


def test_a_label_is_taken_off_and_only_it(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    labels.write(tmp_path, LABEL)
    labels.remove(tmp_path)
    labels.remove(tmp_path)
    assert os.listdir(tmp_path) == ["other"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b"null",
        b"\xff",
        b"\0" * 100,
        json.dumps(GOOD | {"number": "0"}).encode(),
        json.dumps(GOOD | {"number": True}).encode(),
        json.dumps(GOOD | {"number": -1}).encode(),
        json.dumps(GOOD | {"library": None}).encode(),
        json.dumps({key: value for key, value in GOOD.items() if key != "disk"}).encode(),
    ],
)
def test_what_is_no_label_is_an_error_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(LibraryError, match="not the label of a disk") as caught:
        labels.read(tmp_path)
    assert str(tmp_path / FILE_NAME) in str(caught.value)


def test_a_label_of_format_1_names_the_version_that_reads_it(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps(GOOD | {"format": 1}))
    with pytest.raises(LibraryError) as refused:
        labels.read(tmp_path)
    assert str(refused.value) == f"{tmp_path / FILE_NAME}: format 1, which this vtlfs does not read; vtlfs 0.1 does"


@pytest.mark.parametrize("version", [0, 3, "2", None])
def test_a_label_of_another_format_says_which(tmp_path: Path, version: object) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps(GOOD | {"format": version}))
    with pytest.raises(LibraryError, match=f"format {version!r}"):
        labels.read(tmp_path)


def test_keys_of_later_versions_are_ignored(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps(GOOD | {"colour": "blue"}))
    assert labels.read(tmp_path) == Label("l", "d", 0, "t")


def test_a_directory_in_the_place_of_the_label_is_an_error(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(LibraryError, match="directory"):
        labels.read(tmp_path)
