"""`vtlfs mount` and `vtlfs umount`, as far as they go without a mount."""

from pathlib import Path

import pytest

from vtlfs import daemon
from vtlfs.cli.main import main


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], ("", False)),
        (["-o", "host=alpha", "-f", "-o", "io=direct,ro"], ("host=alpha,io=direct,ro", True)),
        (["--foreground"], ("", True)),
    ],
)
def test_options_reach_the_daemon(monkeypatch, words, wanted):
    seen = []
    monkeypatch.setattr(daemon, "mount", lambda *arguments: seen.append(arguments))
    assert main(["mount", "library", "here", *words]) == 0
    assert seen == [(Path("library"), Path("here"), *wanted)]


@pytest.mark.parametrize("option", ["colour=red", "io=fast", "sync=perhaps", "host=a b", "mode=x"])
def test_wrong_mount_option(refused, shelf, tmp_path, option):
    (tmp_path / "here").mkdir()
    assert option.partition("=")[0] in refused(2, "mount", shelf.path, tmp_path / "here", "-o", option)


def test_mount_of_no_library(refused, tmp_path):
    (tmp_path / "here").mkdir()
    assert "no vtlfs library here" in refused(1, "mount", tmp_path / "nothing", tmp_path / "here")


def test_mount_without_a_disk(refused, shelf, tmp_path):
    (tmp_path / "here").mkdir()
    shelf.disks[1].rename(tmp_path / "elsewhere")
    assert "no such directory" in refused(1, "mount", shelf.path, tmp_path / "here")


def test_umount_of_what_is_not_mounted(refused, tmp_path):
    assert "no vtlfs is mounted here" in refused(1, "umount", tmp_path)
