"""Hostile names, openers and environments at a mount: the right errno, and the mount goes on."""

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mounting import Mounted, OnDisks, require_fuse

NAMES = (
    b"a\nb", b"\x1b[2J", b"'", b'"', b"\\", b"'; DROP TABLE session; --", b"\xff\xfe", b"\xed\xa0\x80", b"A" * 255,
    b"T1 ", b" T1", b"t1", b"...", b"-rf", b"0" * 200, b"00", b"+1", b"1e3", b"\xc2\xb2", b"\xd9\xa3", b"9" * 255,
    b"loaded\n", b"18446744073709551616", b"%s%n", b"*", b"T1\x01",
)  # fmt: skip
DIRECTORIES = ("", "drives", "drives/0", "media", "files", "files/T1", "sessions", "snapshots", "snapshots/1",
               "snapshots/1/media", "snapshots/1/files", "snapshots/1/files/T1")  # fmt: skip
CREATING: dict[str, Callable[[bytes, bytes], object]] = {
    "mkdir": lambda new, old: os.mkdir(new),
    "mknod": lambda new, old: os.mknod(new, 0o010600),
    "symlink": lambda new, old: os.symlink(b"/etc/passwd", new),
    "link": lambda new, old: os.link(old, new),
    "rename": lambda new, old: os.rename(old, new),
    "create": lambda new, old: os.close(os.open(new, os.O_CREAT | os.O_WRONLY, 0o600)),
}
LOOKING: dict[str, Callable[[bytes], object]] = {
    "stat": os.lstat,
    "open": lambda name: os.close(os.open(name, os.O_RDONLY)),
    "unlink": os.unlink,
    "rmdir": os.rmdir,
    "chmod": lambda name: os.chmod(name, 0o777),
    "truncate": lambda name: os.truncate(name, 0),
    "readlink": os.readlink,
    "listxattr": lambda name: os.listxattr(name),
    "setxattr": lambda name: os.setxattr(name, b"user.\xff\n", b"x"),
}


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OnDisks, Mounted]]:
    """A mounted library with a tape file and a snapshot."""
    require_fuse()
    library = OnDisks(tmp_path_factory.mktemp("names"))
    with library.mounted("log=debug") as mount:
        mount.medium("T1").write_bytes(b"x" * 10)
        library.vtlfs("snapshot", "take", library.path)
        yield library, mount


def outcome(act: Callable[..., object], *words: bytes) -> int:
    """Return the errno of a call; 0 without an error."""
    try:
        act(*words)
    except OSError as error:
        return error.errno or -1
    return 0


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_hostile_names_are_not_there_and_cannot_be_made(mounted: tuple[OnDisks, Mounted], directory: str) -> None:
    where = os.fsencode(mounted[1].path / directory)
    before = os.listdir(where)
    old = os.fsencode(mounted[1].medium("T1"))
    for name in NAMES:
        path = where + b"/" + name
        for what, look in LOOKING.items():
            assert outcome(look, path) == errno.ENOENT, (what, name)
        for what, make in CREATING.items():
            assert outcome(make, path, old) in (errno.EPERM, errno.ENOENT, errno.EXDEV), (what, name)
    assert outcome(os.lstat, where + b"/" + b"A" * 255) == errno.ENOENT
    for length in (256, 300, 1024, 2000):
        path = where + b"/" + b"A" * length
        assert {outcome(look, path) for look in LOOKING.values()} == {errno.ENAMETOOLONG}
        assert {outcome(make, path, old) for make in CREATING.values()} == {errno.ENAMETOOLONG}
    assert os.listdir(where) == before
    assert mounted[1].medium("T1").read_bytes() == b"x" * 10


def test_no_path_leads_out_of_a_drive(mounted: tuple[OnDisks, Mounted]) -> None:
    top = mounted[1].path
    assert (top / "drives/0/../../media/T1").read_bytes() == b"x" * 10  # the kernel's own `..`
    assert outcome(os.lstat, os.fsencode(top) + b"/drives/0/..%2f..%2fetc") == errno.ENOENT


ENVIRONMENTS = (
    {b"SSH_CONNECTION": b"fe80::1%\x1b[2J\nx 1 2 3"},
    {b"SSH_CONNECTION": b"\xff\xfe 1 2 3"},
    {b"SSH_CONNECTION": b"1.2.3.4\n1 2 3 4"},
    {b"SSH_CONNECTION": b"x" * 65536},
    {b"X": b"y" * 65536, b"SSH_CONNECTION": b"'; DROP TABLE session; -- 1 2 3"},
)


def test_openers_with_hostile_names_and_environments(mounted: tuple[OnDisks, Mounted], tmp_path: Path) -> None:
    library, mount = mounted
    programs = [os.fsencode(tmp_path) + b"/" + name for name in (b"a\n\x1b[2J\xff", b"\xc2\x9b2J) S 1", b"'\"\\;--")]
    dd = shutil.which("dd")
    assert dd is not None
    for program in programs:
        shutil.copy(os.fsencode(dd), program)
        for environment in ENVIRONMENTS:
            words = [program, b"if=/dev/zero", b"bs=10", b"count=1", b"of=" + os.fsencode(mount.medium("T2"))]
            subprocess.run(words, env=environment, check=True, capture_output=True, timeout=60)
    machine = os.uname().nodename
    found = library.listed("--medium", "T2")
    assert len(found) == len(programs) * len(ENVIRONMENTS)
    assert {session["host"] for session in found} == {machine}
    shown = library.vtlfs("sessions", library.path) + library.vtlfs("files", library.path, "T2") + mount.said()
    assert all(line.isprintable() for line in shown.split("\n"))
    for session in found:
        assert json.loads((mount.path / "sessions" / str(session["id"])).read_text())["program"] == session["program"]
