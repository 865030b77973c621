"""`vtlfs install` and `vtlfs uninstall`, in another root directory. tests/mount tests the scripts with mount(8)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from unmounted import Done, Refused

SCRIPTS = ["mount.fuse.vtlfs", "mount.vtlfs", "umount.fuse.vtlfs"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "it's a root"


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "sbin").iterdir())


def test_scripts_are_written_and_removed(done: Done, root: Path) -> None:
    said = done("install", "--root", root)
    assert said.count("wrote ") == 3
    assert said.endswith(f"below {root}/usr/local: {len(files(root))} of {len(files(root))} files written\n")
    assert names(root) == SCRIPTS
    for name in SCRIPTS:
        script = root / "sbin" / name
        assert script.stat().st_mode & 0o7777 == 0o755
        assert f"python={sys.executable}\n" in script.read_text()
        subprocess.run(["sh", "-n", script], check=True)
    assert done("uninstall", "--root", root).count("removed ") == 4
    assert files(root) == []
    assert done("uninstall", "--root", root).startswith("nothing to remove")


def all_but_access(path: Path) -> dict[str, object]:
    """Return the result of stat() without the time of the last access."""
    known = path.stat()
    return {name: getattr(known, name) for name in dir(known) if name.startswith("st_") and "atime" not in name}


def test_installing_again_changes_nothing_but_what_is_old(done: Done, root: Path) -> None:
    done("install", "--root", root, umask=0o077)
    script = root / "sbin/mount.vtlfs"
    before = all_but_access(script)
    said = done("install", "--root", root)
    assert said.count("already there: ") == 3
    assert said.endswith("all files were there already\n")
    assert all_but_access(script) == before
    text = script.read_text()
    script.write_text(text.replace(sys.executable, "/gone/python"))
    script.with_name("mount.fuse.vtlfs").chmod(0o600)
    assert done("install", "--root", root).count("wrote ") == 2
    assert script.read_text() == text
    assert script.with_name("mount.fuse.vtlfs").stat().st_mode & 0o777 == 0o755


def test_a_page_of_an_older_version_is_removed_too(done: Done, root: Path) -> None:
    done("install", "--root", root)
    pages = root / "usr/local/share/man/man1"
    (pages / "vtlfs-old.1").write_text((pages / "vtlfs.1").read_text())
    (pages / "vtlfs-mine.1").write_text(".TH MINE\n")
    done("uninstall", "--root", root)
    assert files(root) == ["usr/local/share/man/man1/vtlfs-mine.1"]


def test_package_has_its_own_places_and_python(done: Done, root: Path) -> None:
    done("install", "--root", root, "--prefix", "/usr", "--python", "/usr/lib/vtlfs/bin/python")
    unit = (root / "usr/lib/systemd/system/vtlfs@.service").read_text()
    assert 'ExecStart="/usr/lib/vtlfs/bin/python" -I -X utf8 -m vtlfs mount -o ${OPTIONS} ' in unit
    assert "python=/usr/lib/vtlfs/bin/python\n" in (root / "sbin/mount.vtlfs").read_text()
    assert not (root / "usr/local").exists()


@pytest.mark.parametrize("command", ["install", "uninstall"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_file_of_somebody_else_is_left_alone(refused: Refused, done: Done, root: Path, name: str, command: str) -> None:
    done("install", "--root", root)
    (root / "sbin" / name).write_text("#!/bin/sh\necho mine\n")
    assert f"{name}: `vtlfs install` has not written this" in refused(2, command, "--root", root)


@pytest.mark.parametrize("target", ["mount.fuse.vtlfs", "/nowhere"])
def test_symbolic_link_is_left_alone(refused: Refused, done: Done, root: Path, target: str) -> None:
    done("install", "--root", root)
    (root / "sbin/mount.vtlfs").unlink()
    (root / "sbin/mount.vtlfs").symlink_to(target)
    assert "has not written this" in refused(2, "install", "--root", root)


def test_without_the_right_to_write_nothing_is_written(refused: Refused, root: Path) -> None:
    (root / "sbin").mkdir(parents=True)
    (root / "sbin").chmod(0o555)
    line = refused(1, "install", "--root", root, rights=False)
    assert line == f"{root}/sbin: Permission denied; run `vtlfs install` as root"


def test_vtlfs_that_is_not_installed_itself_is_refused(tmp_path: Path, root: Path) -> None:
    """Python finds it only in the current directory or through PYTHONPATH, which the scripts don't have."""
    python = tmp_path / "venv/bin/python"
    subprocess.run([os.path.realpath(sys.executable), "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    packages = [path for path in sys.path if path.endswith("-packages")]
    project = Path(__file__).resolve().parents[2]
    result = subprocess.run(
        [python, "-m", "vtlfs", "install", "--root", root], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(project), *packages])}, cwd=tmp_path,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"vtlfs: {python} does not find vtlfs by itself; `pip install` vtlfs there first\n"
    assert not root.exists()


def test_script_says_that_its_interpreter_is_gone(done: Done, root: Path) -> None:
    done("install", "--root", root)
    script = root / "sbin/mount.vtlfs"
    script.write_text(script.read_text().replace(sys.executable, "/gone/python"))
    result = subprocess.run([script, "a", "b"], capture_output=True, text=True, env={}, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("mount.vtlfs: /gone/python or its vtlfs is gone")
