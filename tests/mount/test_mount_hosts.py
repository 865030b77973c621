"""The host of a session: that of the mount option, of the opener's ssh connection, or the machine."""

import os
import socket
import subprocess
import time
from pathlib import Path

import psutil
from mounting import OnDisks, shell, wait_until

from vtlfs.fs.openers import ssh_client

SSH = "SSH_CONNECTION='192.0.2.7 1 192.0.2.1 22'"


def host_of_last(library: OnDisks) -> str:
    """Return the host of the last session."""
    return str(library.listed()[-1]["host"])


def own_host() -> str:
    """Return the host that a process of this test works for, which may itself run under ssh."""
    return ssh_client(psutil.Process()) or socket.gethostname()


def test_host_is_what_the_mount_was_told(library: OnDisks) -> None:
    with library.mounted("host=alpha-1.example") as mounted:
        shell(f"{SSH} sh -c 'echo x > {mounted.medium('T1')}'")
        assert host_of_last(library) == "alpha-1.example"


def test_host_is_the_ssh_client_of_the_opener_or_an_ancestor(library: OnDisks) -> None:
    with library.mounted() as mounted:
        tape = mounted.medium("T1")
        shell(f"{SSH} dd if=/dev/zero of={tape} bs=1 count=1")
        assert host_of_last(library) == "192.0.2.7"
        shell(f"""{SSH} sh -c 'sh -c "echo x > {tape}"'""")
        assert host_of_last(library) == "192.0.2.7"
        shell(f"""{SSH} sh -c 'env -i /bin/sh -c "echo x > {tape}; true"; true'""")
        assert host_of_last(library) == "192.0.2.7"
        shell(f"SSH_CONNECTION='2001:db8::7 1 2001:db8::1 22' cp /etc/hostname {tape}")
        assert host_of_last(library) == "2001:db8::7"
        shell(f"{SSH} sh -c 'cat {tape} > /dev/null'")
        wait_until(
            lambda: library.listed()[-1]["access"] == "read", "the row of the reader, which does not wait for it"
        )
        assert host_of_last(library) == "192.0.2.7"


def test_nearest_ssh_connection_counts(library: OnDisks) -> None:
    with library.mounted() as mounted:
        inner = f"SSH_CONNECTION='198.51.100.9 1 192.0.2.1 22' dd if=/dev/zero of={mounted.medium('T1')} count=1"
        shell(f"""{SSH} sh -c "{inner}; true" """)
        assert host_of_last(library) == "198.51.100.9"


def test_host_is_the_machine_otherwise(library: OnDisks) -> None:
    with library.mounted() as mounted:
        mounted.medium("T1").write_bytes(b"x")
        assert host_of_last(library) == own_host()
        shell(f"SSH_CONNECTION='nonsense 1 2 3' dd if=/dev/zero of={mounted.medium('T1')} count=1")
        assert host_of_last(library) == own_host()
        shell(f"SSH_CONNECTION= dd if=/dev/zero of={mounted.medium('T1')} count=1")
        assert host_of_last(library) == own_host()


def test_program_of_a_session_is_that_of_the_opener(library: OnDisks) -> None:
    with library.mounted() as mounted:
        tape = mounted.medium("T1")
        for script in (f"tar cf {tape} /etc/hostname", f"dd if=/etc/hostname of={tape}", f"sh -c 'echo x > {tape}'"):
            shell(script)
    assert [one["program"] for one in library.listed()] == ["tar", "dd", "sh"]
    assert all(one["pid"] > 1 for one in library.listed())


def test_two_mounts_of_one_library_have_hosts_of_their_own(library: OnDisks, tmp_path: Path) -> None:
    with library.mounted("host=alpha") as alpha, library.mounted("host=beta", at=tmp_path / "beta") as beta:
        shell(f"echo a > {alpha.medium('T1')}; echo b > {beta.medium('T1')}; echo c > {alpha.medium('T2')}")
        assert [one["host"] for one in library.listed()] == ["alpha", "beta", "alpha"] or [
            one["host"] for one in sorted(library.listed(), key=lambda one: one["opened_at"])
        ] == ["alpha", "beta", "alpha"]
        assert {one["medium"] for one in library.listed("--host", "alpha")} == {"T1", "T2"}


def test_mount_with_the_same_host_name_is_allowed(library: OnDisks, tmp_path: Path) -> None:
    with library.mounted("host=alpha") as one, library.mounted("host=alpha", at=tmp_path / "two") as two:
        assert "alpha" in library.vtlfs("status", library.path)
        shell(f"echo a > {one.medium('T1')} & echo b > {two.medium('T1')} & wait")
        streams = {one.file("T1", number).read_bytes() for number in range(2)}
        assert streams == {b"a\n", b"b\n"}


def test_opener_that_is_gone_is_no_obstacle(library: OnDisks) -> None:
    """The process that opens may be killed during its open()."""
    with library.mounted() as mounted:
        for number in range(20):
            process = subprocess.Popen(["sh", "-c", f"echo x > {mounted.medium('T1')}"])
            time.sleep(0.0005 * number)
            process.kill()
            process.wait()
        mounted.medium("T1").stat()
        wait_until(lambda: not os.listdir(mounted.path / "sessions"), "the release of all sessions")
        assert set(mounted.medium("T1").read_bytes()) <= set(b"x\n")
