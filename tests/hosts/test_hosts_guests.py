"""A mount for one host, and guests that can use one drive of it: in a chroot, and in a container."""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from mounting import SECONDS, Mounted, OnDisks, random_bytes, require_fuse, shell, wait_until

USER, OTHER = 4711, 4712
AS = "setpriv --reuid={0} --regid={0} --clear-groups --no-new-privs"

# A guest's root: programs that cannot be changed, and one drive. Runs in a mount table of its own, which goes with it.
BUILD = """set -e
mount -t tmpfs -o mode=755 guest {root}
cd {root}
mkdir usr tape proc dev
for folder in bin lib lib64; do ln -s usr/$folder $folder; done
mount -o bind,ro /usr usr
touch dev/null && mount --bind /dev/null dev/null
mount -o {how} {drive} tape
"""
PIVOT = "mount -t proc proc proc; mkdir old; pivot_root . old; cd /; umount -l old; rmdir old; exec "
ENTER = {
    "chroot": f"exec chroot --userspec={USER}:{USER} . ",
    "container": f"{PIVOT} {AS.format(USER)} ",
    "rootless": PIVOT,
}
APART = "--mount --pid --fork --kill-child --net --uts --ipc"
UNSHARE = {
    "chroot": "unshare --mount",
    "container": f"unshare {APART}",
    "rootless": f"{AS.format(USER)} unshare --user --map-root-user {APART}",  # the user is root in there
}
KINDS = pytest.mark.parametrize("kind", list(UNSHARE))


class Beta:
    """A mount of the host beta, which one user alone may use, and the guests in it."""

    def __init__(self, library: OnDisks, mounted: Mounted) -> None:
        self.library = library
        self.mounted = mounted
        self.root = library.root / "guest"
        self.root.mkdir()

    def start(self, kind: str, script: str, *, drive: int = 0, how: str = "bind") -> subprocess.Popen[bytes]:
        """Start a script in a guest that has a drive under /tape."""
        build = BUILD.format(root=self.root, drive=self.mounted.path / "drives" / str(drive), how=how)
        enter = f"{ENTER[kind]} /bin/sh -c {shlex.quote(script)}"
        words = [*UNSHARE[kind].split(), "sh", "-c", build + enter]
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def run(self, kind: str, script: str, *, how: str = "bind") -> str:
        """Run a script in a guest; return what it printed."""
        said, _ = self.start(kind, script, how=how).communicate(timeout=SECONDS)
        return said.decode()

    def open_sessions(self) -> list[int]:
        """Return the open sessions."""
        return sorted(map(int, os.listdir(self.mounted.path / "sessions")))


@pytest.fixture
def beta(_no_descriptor_left: None) -> Iterator[Beta]:
    """A mount for the host beta."""
    require_fuse()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vtlfs-hosts-", dir="/tmp")))
        os.chmod(root, 0o755)
        library = OnDisks(root)
        yield Beta(
            library, stack.enter_context(library.mounted(f"host=beta,uid={USER},gid={USER},mode=0600,allow_other"))
        )


def test_mount_of_a_host_is_for_its_user_alone(beta: Beta) -> None:
    drive, medium = beta.mounted.drive(0, "T1"), beta.mounted.medium("T1")
    shell(f"{AS.format(USER)} sh -c 'echo mine > {drive}; cat {medium}'")
    before = wait_until(
        lambda: len(rows := beta.library.listed()) == 2 and {row["state"] for row in rows} == {"released"} and rows,
        "the row of the reader, which does not wait for it",
    )
    assert [(one["host"], one["uid"], one["access"]) for one in before] == [
        ("beta", USER, "write"),
        ("beta", USER, "read"),
    ]
    for script in (f"echo x > {drive}", f"echo x >> {medium}", f"dd of={drive} < /dev/null", f"cat {medium}"):
        done = subprocess.run(
            [*AS.format(OTHER).split(), "sh", "-c", script], capture_output=True, text=True, check=False
        )
        assert done.returncode != 0
        assert "Permission denied" in done.stderr
    assert beta.library.listed() == before


@KINDS
def test_guest_uses_its_drive(beta: Beta, kind: str) -> None:
    beta.library.vtlfs("load", beta.library.path, 0, "T2")
    assert beta.run(kind, "echo one > /tape/T1; echo two >> /tape/loaded; cat /tape/T1 /tape/T2") == "one\ntwo\n"
    assert beta.mounted.file("T1", 0).read_bytes() == b"one\n"
    assert beta.mounted.file("T2", 0).read_bytes() == b"two\n"
    sessions = beta.library.listed("--host", "beta")
    assert {(one["drive"], one["uid"]) for one in sessions if one["access"] == "write"} == {(0, USER)}
    assert {one["medium"] for one in sessions} == {"T1", "T2"}


@KINDS
def test_guest_reaches_nothing_else(beta: Beta, kind: str) -> None:
    beta.mounted.drive(1, "T1").write_bytes(b"secret")
    beta.library.vtlfs("load", beta.library.path, 1, "T3")
    assert beta.run(kind, "ls -A /tape").split() == [f"T{number}" for number in range(1, 10)]
    assert "usr" in beta.run(kind, "ls -A /tape/.. /tape/../..").split()
    for path in ("/tape/../1/T1", "/tape/../../media", f"{beta.mounted.path}/media/T1", "/tape/../../files/T1/0000"):
        said = beta.run(kind, f"cat {path}; ls {path}; echo x >> {path}")
        assert said.count("No such file") == 2, said
    for command in ("ln -s ../1 /tape/out", "ln /tape/T1 /tape/T0", "mv /tape/T1 /tape/T0", "mkdir /tape/x"):
        assert "not permitted" in beta.run(kind, command)
    writing = [one for one in beta.library.listed() if one["access"] == "write"]
    assert [(one["drive"], one["medium"]) for one in writing] == [(1, "T1")]


def test_processes_of_a_container_see_no_others(beta: Beta) -> None:
    said = beta.run("container", "cd /proc && for one in [0-9]*; do cat $one/root/usr/../tape/../etc/hostname; done")
    assert said
    assert all("No such file" in line or "Permission denied" in line for line in said.splitlines()), said


@KINDS
def test_two_guests_write_to_one_drive_and_one_medium_at_once(beta: Beta, kind: str) -> None:
    streams = [random_bytes(number, 2_500_000) for number in range(2)]
    guests = [beta.start(kind, "exec cat > /tape/T1") for _ in streams]
    for guest, data in zip(guests, streams, strict=True):
        assert guest.stdin is not None
        guest.stdin.write(data[:100_000])
        guest.stdin.flush()
    numbers = wait_until(lambda: len(found := beta.open_sessions()) == 2 and found, "both guests")
    for number in numbers:
        assert beta.mounted.session(number)["drive"] == 0
    for guest, data in zip(guests, streams, strict=True):
        assert guest.communicate(data[100_000:], timeout=SECONDS)[0] == b""
        assert guest.returncode == 0
    assert sorted(beta.mounted.file("T1", number).read_bytes() for number in range(2)) == sorted(streams)
    assert beta.mounted.medium("T1").stat().st_size == 5_000_000


def test_process_of_a_container_has_the_number_that_the_machine_gives_it(beta: Beta) -> None:
    guest = beta.start("container", "echo $$ >&2; exec cat > /tape/T1")
    (number,) = wait_until(beta.open_sessions, "the guest")
    pid = beta.mounted.session(number)["pid"]
    fields = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert fields["NSpid"].split() == [str(pid), "1"]
    assert guest.communicate(timeout=SECONDS)[0] == b"1\n"


def test_guest_with_a_read_only_drive_reads(beta: Beta) -> None:
    beta.mounted.medium("T1").write_bytes(b"data")
    said = beta.run("container", "cat /tape/T1; echo x > /tape/T1", how="bind,ro")
    assert said.startswith("data")
    assert "Read-only file system" in said
    wait_until(
        lambda: [one["access"] for one in beta.library.listed()] == ["write", "read"],
        "the row of the reader, which does not wait for it",
    )
