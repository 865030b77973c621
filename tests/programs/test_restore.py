"""`vtlfs restore` beside a mount: real tar and cpio write to media, and files come back while the library is in use."""

import os
import shutil
from pathlib import Path

import pytest
import trees
from mounting import OnDisks, require_fuse, shell

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and mounts need root")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    trees.make(tmp_path / "tree")
    return tmp_path / "tree"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_backups_of_two_days_on_one_medium(tmp_path: Path, tree: Path, out: Path) -> None:
    """Three tape files on a medium: the newest counts, an older one can be told, everything comes back as it was."""
    require_fuse()
    library = OnDisks(tmp_path, 3, media="A00001L9..A00002L9", parity=1)
    with library.mounted() as mounted:
        tape = mounted.medium("A00001L9")
        shell(f"tar --format=posix --xattrs --xattrs-include='*' --acls -S -cf - -C {tree.parent} tree > {tape}")
        monday = trees.read(tree)
        shell(f"cd {tree.parent} && find tree | cpio --quiet -o -H newc > {tape}")
        (tree / "zeros").write_bytes(b"tuesday")
        (tree / "empty").unlink()
        shell(f"tar --format=posix --xattrs --xattrs-include='*' --acls -S -cf - -C {tree.parent} tree | zstd > {tape}")
        tuesday = trees.read(tree)
        library.vtlfs("index", library.path)
        library.vtlfs("restore", library.path, "tree", "-C", out)
        assert trees.read(out / "tree") == tuesday
        assert b"empty" not in tuesday
        shutil.rmtree(out / "tree")
        library.vtlfs("restore", library.path, "tree", "--from", "A00001L9/0", "-C", out)
        assert trees.read(out / "tree") == monday


def test_what_a_program_has_erased_comes_back_out_of_a_snapshot(tmp_path: Path, tree: Path, out: Path) -> None:
    require_fuse()
    library = OnDisks(tmp_path, media="A00001L9")
    with (library.path / "library.toml").open("a") as file:
        file.write('\n[media."*"]\non_truncate = "erase"\n')
    with library.mounted() as mounted:
        tape = mounted.medium("A00001L9")
        shell(f"tar -S --format=posix -cf {tape} -C {tree.parent} tree/sparse")
        library.vtlfs("snapshot", "take", library.path, "--name", "monday")
        wanted = trees.read(tree)[b"sparse"]
        (tree / "sparse").write_text("tuesday")
        shell(f"tar --format=posix -cf {tape} -C {tree.parent} tree/sparse")
        library.vtlfs("index", library.path)
        library.vtlfs("restore", library.path, "tree/sparse", "-C", out)
        assert (out / "tree" / "sparse").read_text() == "tuesday"
        library.vtlfs("restore", library.path, "tree/sparse", "--snapshot", "monday", "--overwrite", "-C", out)
        assert trees.plain(trees.read(out / "tree"))[b"sparse"] == trees.plain({b"": wanted})[b""]


def test_a_file_comes_back_while_a_disk_is_dead(tmp_path: Path, tree: Path, out: Path) -> None:
    require_fuse()
    library = OnDisks(tmp_path, 3, media="A00001L9", parity=1)
    with library.mounted() as mounted:
        shell(f"tar -S --format=posix -cf {mounted.medium('A00001L9')} -C {tree.parent} tree")
    library.vtlfs("index", library.path)
    library.disks[0].rename(tmp_path / "dead")
    library.vtlfs("restore", library.path, "tree/zeros", "tree/sparse", "-C", out)
    restored, wanted = (trees.plain(trees.read(where)) for where in (out / "tree", tree))
    assert restored == {name: wanted[name] for name in (b"zeros", b"sparse")}


def test_a_stream_that_goes_over_two_media(tmp_path: Path, out: Path) -> None:
    """A member that begins on one medium of a pool and ends on the next one comes back whole."""
    require_fuse()
    library = OnDisks(tmp_path, unit=4096)
    library.vtlfs("media", "add", library.path, "P1..P3", "--capacity", "1M")
    with (library.path / "library.toml").open("a") as file:
        file.write('\n[pools.backup]\nmedia = "P*"\nspan = true\n')
    noise = os.urandom(600_000)
    for name in "abc":
        (tmp_path / name).write_bytes(noise + name.encode())
    with library.mounted() as mounted:
        shell(f"tar cf - a b c > {mounted.path}/pools/backup", cwd=tmp_path)
    library.vtlfs("index", library.path)
    library.vtlfs("restore", library.path, "b", "-C", out)
    assert (out / "b").read_bytes() == noise + b"b"
