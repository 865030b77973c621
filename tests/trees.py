"""A tree of files with everything an archive may keep of it, and all of that as a value to compare."""

import hashlib
import os
import stat
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

LATIN = b"caf\xe9"  # a name that is not UTF-8
SPARSE = 10 << 20


@dataclass(frozen=True)
class Node:
    """What a file is. `times`: its mtime in ns; `data`: where it has data, and a hash; `links`: its names."""

    mode: int
    owner: tuple[int, int]
    mtime: int
    device: int
    target: bytes
    data: tuple[tuple[int, int], ...]
    content: str
    xattrs: tuple[tuple[str, bytes], ...]
    links: tuple[bytes, ...]


Tree = dict[bytes, Node]


def make(root: Path) -> None:
    """Make a tree with every kind of file. Needs to be root."""
    root.mkdir()
    (root / "file").write_bytes(b"hello\n" * 1000)
    os.setxattr(root / "file", "user.colour", b"blue\0green")
    os.setxattr(root / "file", "trusted.secret", b"1")
    subprocess.run(["setfacl", "-m", "u:4001:rwx,u:daemon:r", root / "file"], check=True)
    os.link(root / "file", root / "another name")
    (root / "link").symlink_to("file")
    (root / "dangling").symlink_to("/nowhere/../at all")
    os.mkfifo(root / "pipe")
    os.mknod(root / "null", stat.S_IFCHR | 0o622, os.makedev(1, 3))
    os.mknod(root / "loop", stat.S_IFBLK | 0o640, os.makedev(7, 9))
    with (root / "sparse").open("wb") as file:
        file.seek(409600)
        file.write(os.urandom(12288))
        file.truncate(SPARSE)
    (root / "zeros").write_bytes(bytes(1 << 20))
    (root / "empty").touch()
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "sub" / "deep" / "é").write_text("unicode")
    (root / os.fsdecode(LATIN)).write_text("latin")
    (root / ("n" * 90)).write_text("long")
    (root / "suid").write_bytes(b"#!/bin/sh\n")
    os.chown(root / "file", 77, 88)
    os.chown(root / "link", 78, 89, follow_symlinks=False)
    os.chown(root / "sub", 4001, 4002)
    os.chmod(root / "suid", 0o6755)
    os.chmod(root / "sub" / "deep", 0o1511)
    subprocess.run(["setfacl", "-d", "-m", "u:4001:rwx", root / "sub"], check=True)
    for number, path in enumerate([*sorted(root.rglob("*"), reverse=True), root]):
        ns = (981173106 + number) * 10**9 + 123456789
        os.utime(path, ns=(ns, ns), follow_symlinks=False)


def read(root: Path) -> Tree:
    """Return everything that there is under a directory, itself left out."""
    top = os.fsencode(root)
    paths = sorted(os.path.join(where, name) for where, dirs, files in os.walk(top) for name in (*dirs, *files))
    inodes: dict[int, list[bytes]] = {}
    for path in paths:
        inodes.setdefault(os.lstat(path).st_ino, []).append(os.path.relpath(path, top))
    return {os.path.relpath(path, top): _node(path, inodes) for path in paths}


def plain(tree: Tree, *, seconds: bool = False, dense: bool = False) -> Tree:
    """Return a tree as a format keeps it that has no extended attributes, and perhaps whole seconds and no holes."""
    return {name: _plain(node, seconds, dense) for name, node in tree.items()}


def _plain(node: Node, seconds: bool, dense: bool) -> Node:
    mtime = node.mtime // 10**9 if seconds else node.mtime
    return replace(node, xattrs=(), mtime=mtime, data=() if dense else node.data)


def _node(path: bytes, inodes: dict[int, list[bytes]]) -> Node:
    status = os.lstat(path)
    is_file = stat.S_ISREG(status.st_mode)
    names = os.listxattr(path, follow_symlinks=False)
    return Node(
        status.st_mode,
        (status.st_uid, status.st_gid),
        status.st_mtime_ns,
        status.st_rdev,
        os.readlink(path) if stat.S_ISLNK(status.st_mode) else b"",
        tuple(segments(path)) if is_file else (),
        hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest() if is_file else "",
        tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names)),
        tuple(inodes[status.st_ino]) if is_file else (),
    )


def segments(path: bytes) -> list[tuple[int, int]]:
    """Return where a file has data: offsets."""
    found: list[tuple[int, int]] = []
    end = 0
    with open(path, "rb") as file:
        while True:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:
                return found
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            found.append((start, end))
