"""An edit of the list of disks in library.toml changes nothing else of the file, however the file is formatted."""

import errno
import os
import stat
import tomllib
from pathlib import Path

import pytest

from vtlfs import config as configuration
from vtlfs.config import ConfigError
from vtlfs.config_edit import change_disks

PLAIN = """\
# The night's backups.

[library]
uuid = "u"  # never to be changed
disks = ["/a", "sub/b", '/c']  # where they are
drives = 4

[stripe]
parity = 0
"""
ODD = {
    "dotted": 'library.uuid = "u"\nlibrary.disks = ["/a", "sub/b", "/c"] # x\n',
    "inline": 'library = { uuid = "u", disks = ["/a","sub/b","/c"] } # x\n',
    "quoted": '["library"]\n"uuid" = "u"\n"disks" = ["/a", "sub/b", "/c"] # x\n',
    "lines": '[library]\nuuid="u"\ndisks = [\n  "/a",  # left\n  "sub/b",\n  "/c", # x\n]\n',
    "no comma": '[library]\nuuid="u"\ndisks = [\n  "/a",\n  "sub/b",\n  "/c" # y\n # x\n]\n',
    "odd commas": '[library]\nuuid="u"\ndisks = [\n  "/a", "sub/b"\n  , "/c" # y\n  # x\n]',
    "CRLF": '[library]\r\nuuid = "u"\r\ndisks = ["/a",\r\n "sub/b",\r\n "/c"]\r\n# x\r\n',
    "late": '[stripe]\nparity = 1\n[io]\nlow_space = 1\n[library]\ndisks = ["/a", "sub/b", "/c"]\nuuid = "u"\n# x\n',
}


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / configuration.FILE_NAME
    file.write_bytes(text.encode())
    return file


def disks(library: Path) -> list[str]:
    return [str(disk) for disk in configuration.load(library).disks]


def test_only_the_list_changes(tmp_path: Path) -> None:
    file = written(tmp_path, PLAIN)
    change_disks(tmp_path, add=[Path("/new one")])
    assert file.read_text() == PLAIN.replace("'/c'", "'/c', \"/new one\"")
    change_disks(tmp_path, remove=[Path("/new one"), Path("/a")])
    assert file.read_text() == PLAIN.replace('"/a", ', "")


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_however_the_file_is_written_its_comments_survive(tmp_path: Path, text: str) -> None:
    file = written(tmp_path, text)
    rest = tomllib.loads(text)
    del rest["library"]["disks"]
    for add, remove in ((["/n", '/ü"\\'], []), ([], ["/a"]), (["/m"], ["/c"]), ([], ["/m", "/n"])):
        before = set(disks(tmp_path))
        change_disks(tmp_path, add=[Path(path) for path in add], remove=[Path(path) for path in remove])
        assert set(disks(tmp_path)) == before.union(add).difference(remove)
        said = tomllib.loads(file.read_bytes().decode())
        assert "sub/b" in said["library"].pop("disks")
        assert said == rest
        if "/c" in disks(tmp_path):
            assert "# x" in file.read_text()


def test_a_relative_path_is_known_by_where_it_leads(tmp_path: Path) -> None:
    file = written(tmp_path, PLAIN)
    change_disks(tmp_path, add=[tmp_path / "sub/b"])
    assert file.read_text() == PLAIN
    change_disks(tmp_path, remove=[tmp_path / "sub/b"])
    assert disks(tmp_path) == ["/a", "/c"]


def test_what_is_there_already_or_is_not_is_left_alone(tmp_path: Path) -> None:
    file = written(tmp_path, PLAIN)
    before = file.stat()
    change_disks(tmp_path, add=[Path("/a")], remove=[Path("/nowhere")])
    after = file.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )


def test_mode_owner_and_a_link_to_the_file_stay(tmp_path: Path) -> None:
    real = tmp_path / "etc.toml"
    real.write_text(PLAIN)
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 12, 34)
    (tmp_path / configuration.FILE_NAME).symlink_to("etc.toml")
    before = real.stat()
    change_disks(tmp_path, add=[Path("/new")])
    after = real.stat()
    assert (tmp_path / configuration.FILE_NAME).is_symlink()
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (0o640, before.st_uid, before.st_gid)
    assert "/new" in disks(tmp_path)


def test_a_file_that_can_not_be_written_is_as_it_was_and_what_to_do_by_hand_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, PLAIN)

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(ConfigError, match=r"remove /a in its `disks` by hand \(No space left"):
        change_disks(tmp_path, remove=[Path("/a")])
    assert file.read_text() == PLAIN
    assert list(tmp_path.iterdir()) == [file]
