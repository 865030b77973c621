"""`vtlfs fstab`: its line and its remarks. The tests in tests/mount use the line with mount(8) and systemd."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from unmounted import Refused, Run, Shelf

from vtlfs.cli.commands.fstab import has_line

Line = Callable[..., tuple[list[str], str]]


@pytest.fixture
def line(run: Run, shelf: Shelf) -> Line:
    """Return a function that calls `vtlfs fstab`, and returns the six fields of the line and the remarks."""

    def call(*arguments: object) -> tuple[list[str], str]:
        result = run("fstab", shelf.path, *arguments)
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("\n") == 1
        fields = result.stdout.split()
        assert len(fields) == 6
        return fields, result.stderr

    return call


def test_line_has_the_usual_options(line: Line, shelf: Shelf, tmp_path: Path) -> None:
    mount: list[str | Path] = ["findmnt", "-no", "TARGET", "--target", tmp_path]
    place = subprocess.run(mount, capture_output=True, text=True, check=True).stdout.strip()
    wanted = [] if place == "/" else [f"x-systemd.requires-mounts-for={place}"]
    fields, _ = line(tmp_path / "vtl")
    assert fields == [shelf.path, str(tmp_path / "vtl"), "vtlfs", ",".join(["nofail", "_netdev", *wanted]), "0", "0"]


def test_given_options_come_first_and_once(line: Line, tmp_path: Path) -> None:
    fields, _ = line(tmp_path, "-o", "host=alpha,_netdev", "-o", "allow_other,user")
    assert fields[3].startswith("host=alpha,_netdev,allow_other,user,nofail")
    assert fields[3].count("_netdev") == 1


def test_paths_are_absolute_and_real_and_escaped(run: Run, shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "link").symlink_to("a b")
    (tmp_path / "library.link").symlink_to("library")
    result = run("fstab", "library.link/", "link/c\td\\e", cwd=tmp_path)
    root = str(tmp_path)
    assert result.stdout.split()[:2] == [f"{root}/library", f"{root}/a\\040b/c\\011d\\134e"]


def test_what_is_still_to_be_done_is_said_beside_the_line(line: Line, tmp_path: Path) -> None:
    _, said = line(tmp_path / "my vtl")
    assert f"vtlfs: there is no {tmp_path}/my vtl yet: run `mkdir -p '{tmp_path}/my vtl'`\n" in said
    (tmp_path / "my vtl").mkdir()
    _, said = line(tmp_path / "my vtl")
    assert "mkdir" not in said
    assert ("run `vtlfs install` as root" in said) != os.path.exists("/sbin/mount.vtlfs")


@pytest.mark.parametrize("options", ["speed=high", "remount", "host=a b", "io=fast"])
def test_wrong_options_are_refused(refused: Refused, shelf: Shelf, options: str) -> None:
    assert options.partition("=")[0] in refused(2, "fstab", shelf.path, "/mnt", "-o", options)


def test_with_parity_no_disk_is_required(run: Run, tmp_path: Path) -> None:
    """Each disk on a file system of its own."""
    disks = [tmp_path / f"disk{number}" for number in range(3)]
    try:
        for disk in disks:
            disk.mkdir()
            if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True, check=False).returncode:
                pytest.skip("file systems of its own want the right to mount")
        for parity, option in ((0, "requires-mounts-for"), (1, "after"), (2, "after")):
            library = tmp_path / f"library{parity}"
            words = [word for disk in disks for word in ("--disk", disk / str(parity))]
            for disk in disks:
                (disk / str(parity)).mkdir()
            assert run("init", library, *words, "--parity", parity).returncode == 0
            options = run("fstab", library, "/mnt").stdout.split()[3].split(",")
            assert [word for word in options if "disk" in word] == [f"x-systemd.{option}={disk}" for disk in disks]
        shutil.rmtree(disks[1] / "1")
        said = run("fstab", tmp_path / "library1", "/mnt").stderr
        assert f"vtlfs: disk 1 ({disks[1]}/1) is missing: the line may lack its mount" in said
    finally:
        for disk in filter(os.path.ismount, disks):
            subprocess.run(["umount", disk], check=True)


def test_library_without_a_disk_is_refused(refused: Refused, shelf: Shelf, tmp_path: Path) -> None:
    """The mount of such a disk is unknown."""
    shelf.disks[1].rename(tmp_path / "elsewhere")
    assert "no such directory" in refused(1, "fstab", shelf.path, "/mnt")


def test_a_table_has_a_line_for_a_library_or_not(tmp_path: Path) -> None:
    library = tmp_path / "my library"
    escaped = str(library).replace(" ", "\\040")
    assert has_line(f"# disks\n/dev/sda / ext4\n{escaped} /mnt/vtl vtlfs nofail 0 0\n", library)
    assert not has_line(f"#{escaped} /mnt/vtl vtlfs\n{escaped} /mnt/vtl ext4\n{escaped}\n\n", library)
