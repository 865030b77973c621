"""`vtlfs mount` and `vtlfs umount`: what can be tested without a mount."""

from pathlib import Path

import pytest
from unmounted import Refused, Shelf

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
def test_options_reach_the_daemon(monkeypatch: pytest.MonkeyPatch, words: list[str], wanted: tuple[str, bool]) -> None:
    seen = []
    monkeypatch.setattr(daemon, "mount", lambda *arguments: seen.append(arguments))
    assert main(["mount", "library", "here", *words]) == 0
    assert seen == [(Path("library"), Path("here"), *wanted)]


@pytest.mark.parametrize("option", ["colour=red", "io=fast", "sync=perhaps", "host=a b", "mode=x"])
def test_wrong_mount_option(refused: Refused, shelf: Shelf, tmp_path: Path, option: str) -> None:
    (tmp_path / "here").mkdir()
    assert option.partition("=")[0] in refused(2, "mount", shelf.path, tmp_path / "here", "-o", option)


def test_mount_of_no_library(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    assert "no vtlfs library here" in refused(1, "mount", tmp_path / "nothing", tmp_path / "here")


def test_mount_without_a_disk(refused: Refused, shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    shelf.disks[1].rename(tmp_path / "elsewhere")
    assert "no such directory" in refused(1, "mount", shelf.path, tmp_path / "here")


def test_umount_of_what_is_not_mounted(refused: Refused, tmp_path: Path) -> None:
    assert "no vtlfs is mounted here" in refused(1, "umount", tmp_path)
