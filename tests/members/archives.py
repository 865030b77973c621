"""Archives made by real programs of a tree with all kinds of files, and what is to be found in them."""

import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from mounting import random_bytes

from vtlfs.members import archive, inputs
from vtlfs.members.archive import Found, Remark
from vtlfs.members.filling import FoundArchive, FoundMember

NOT_UTF8 = b"caf\xe9 \xff\n"
LONG = "long" * 60

inputs.prepare()


def make_tree(root: Path) -> Path:
    """Make a directory with files of all kinds that an unprivileged user can have, and odd names."""
    tree = root / "tree"
    (tree / "sub" / "deeper").mkdir(parents=True)
    (tree / "empty").mkdir()
    (tree / "small").write_text("small\n")
    (tree / "none").write_bytes(b"")
    (tree / "big").write_bytes(random_bytes(1, 3_000_001))
    (tree / "sub" / "deeper" / "café").write_text("UTF-8")
    (tree / "sub" / LONG).write_text("a name that no old header holds")
    with open(os.fsencode(tree / "sub") + b"/" + NOT_UTF8, "wb") as file:
        file.write(b"latin")
    with open(tree / "sparse", "wb") as file:
        file.seek(5_000_000)
        file.write(b"behind a hole")
    (tree / "link").symlink_to("sub/deeper")
    os.link(tree / "small", tree / "hard")
    os.mkfifo(tree / "fifo")
    return tree


MAKERS: dict[str, Callable[[Path, Path], None]] = {}


def _maker(name: str, script: str) -> None:
    def make(tree: Path, target: Path) -> None:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-ec", script, "make", tree.name, target],
            cwd=tree.parent,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    MAKERS[name] = make


for name in ("gnu", "oldgnu", "pax", "ustar", "v7"):
    skip = {"v7": " --exclude=long* --exclude=fifo", "ustar": " --exclude=long*"}.get(name, "")
    _maker(name, f'tar --format={name}{skip} -cf "$2" "$1"')
for name in ("gnu", "pax"):
    _maker(f"{name} sparse", f'tar --format={name} -cSf "$2" "$1"')
_maker("pax xattrs", 'tar --format=pax --xattrs -cf "$2" "$1"')
_maker("bsdtar", 'bsdtar -cf "$2" "$1"')
for name in ("newc", "odc", "crc"):
    _maker(name, f'find "$1" -print0 | cpio --quiet -0 -o -H {name} > "$2"')
for command in ("gzip", "zstd", "xz", "bzip2", "lz4"):
    _maker(f"tar.{command}", f'tar -cf - "$1" | {command} -c > "$2"')
_maker("cpio.gz", 'find "$1" -print0 | cpio --quiet -0 -o -H newc | gzip > "$2"')


class FileSource:
    """A file as what a worker is handed; `handed`: how many bytes were."""

    def __init__(self, path: Path) -> None:
        self.size = path.stat().st_size
        self.handed = 0
        self._path = path

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the file."""
        with open(self._path, "rb") as file:
            file.seek(offset)
            data = file.read(size)
        self.handed += len(data)
        return data


def walk(path: Path) -> list[Found]:
    """Return everything that is found in a file."""
    return list(archive.walk(FileSource(path)))


def members(found: list[Found]) -> list[FoundMember]:
    """Return the members of what was found."""
    return [one for one in found if isinstance(one, FoundMember)]


def begun(found: list[Found]) -> list[FoundArchive]:
    """Return the archives of what was found."""
    return [one for one in found if isinstance(one, FoundArchive)]


def remarks(found: list[Found]) -> list[Remark]:
    """Return what could not be read."""
    return [one for one in found if isinstance(one, Remark)]


def header(name: str | bytes, size: int = 0, **fields: object) -> bytes:
    """Return a tar header of a file, of 512 bytes."""
    info = tarfile.TarInfo(os.fsdecode(name))
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
