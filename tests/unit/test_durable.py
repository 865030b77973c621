"""Small files that are either old or new after a power cut, never a mixture."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtlfs.durable import sync_directory, write_file


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=100_000), min_size=1, max_size=3))
def test_the_last_content_written_is_read(tmp_path: Path, contents: list[bytes]) -> None:
    for content in contents:
        write_file(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
        assert os.listdir(tmp_path) == ["file"]


def test_the_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"x")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_exclusive_leaves_a_file_that_exists_alone(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"first", exclusive=True)
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "file", b"second", exclusive=True)
    assert (tmp_path / "file").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["file"]


def test_a_write_that_does_not_fit_leaves_the_old_file_and_nothing_else(small_disk: Path) -> None:
    write_file(small_disk / "file", b"old")
    with pytest.raises(OSError, match="No space left"):
        write_file(small_disk / "file", bytes(2 << 20))
    assert (small_disk / "file").read_bytes() == b"old"
    assert os.listdir(small_disk) == ["file"]


def test_a_symbolic_link_where_the_temporary_file_goes_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / f".file.{os.getpid()}.tmp").symlink_to(victim)
    write_file(tmp_path / "file", b"x")
    assert victim.read_bytes() == b"precious"
    assert sorted(os.listdir(tmp_path)) == ["file", "victim"]


def test_a_hard_link_where_the_temporary_file_goes_is_not_written_to(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / f".file.{os.getpid()}.tmp").hardlink_to(victim)
    write_file(tmp_path / "file", b"x")
    assert victim.read_bytes() == b"precious"


def test_a_symbolic_link_in_the_place_of_the_file_is_replaced(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "file").symlink_to(victim)
    write_file(tmp_path / "file", b"x")
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "file").is_symlink()


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    write_file(tmp_path / "file", b"x")
    sync_directory(tmp_path)
    with pytest.raises(NotADirectoryError):
        sync_directory(tmp_path / "file")
    assert len(os.listdir("/proc/self/fd")) == before
