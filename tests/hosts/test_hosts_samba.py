"""Hosts that reach the mount through Samba's smbd, whose sessions are those of the mount's host."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mounting import SECONDS, Mounted, OnDisks, Tape, random_bytes, require_fuse, wait_until
from network import ADDRESSES, SERVER, Network, daemon, finish, network, run

ACCOUNT, PASSWORD = "backup", "tape"  # an account that every Debian has
SIZE = 40_000_000  # of a stream: several requests of SMB, in the works at the same time
CONFIGURATION = """[global]
server role = standalone server
disable netbios = yes
smb ports = 445
interfaces = {server}
bind interfaces only = yes
passdb backend = tdbsam
load printers = no
disable spoolss = yes
{more}
[vtl]
path = {mount}
valid users = {account}
read only = no
"""


@dataclass
class Share:
    """A library whose mount is a share."""

    root: Path
    library: OnDisks
    mounted: Mounted
    hosts: Network
    barcodes: Iterator[str]

    def tape(self) -> Tape:
        """Return a medium that no test has used."""
        return Tape(self.library, self.mounted, next(self.barcodes), "auto")

    def start(self, host: str, commands: str) -> subprocess.Popen[bytes]:
        """Start smbclient on a host."""
        words = ["smbclient", "-s", self.root / "smb.conf", "-U", f"{ACCOUNT}%{PASSWORD}", f"//{SERVER}/vtl"]
        return subprocess.Popen(
            [*self.hosts.inside(host), *map(str, words), "-c", commands],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.root,
        )  # fmt: skip

    def run(self, host: str, commands: str, *, status: int = 0) -> bytes:
        """Run smbclient on a host."""
        return finish(self.start(host, commands), commands, status=status)

    def written(self, tape: Tape) -> list[dict[str, Any]]:
        """Return the sessions that wrote to the tape, by their number."""
        found = self.library.listed("--medium", tape.barcode)
        return [one for one in found if one["access"] == "write"]


@pytest.fixture(scope="module")
def share() -> Iterator[Share]:
    """A server with a mount for Samba, and the hosts alpha and beta."""
    require_fuse()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vtlfs-hosts-", dir="/tmp")))
        os.chmod(root, 0o755)
        library = OnDisks(root, media="H01..H20")
        library.add("SMALL", capacity=2_000_000)
        options = f"host=office,uid={ACCOUNT},gid={ACCOUNT},mode=0600,allow_other"
        mounted = stack.enter_context(library.mounted(options))
        hosts = stack.enter_context(network())
        state = root / "samba"
        kinds = ("private dir", "lock directory", "state directory", "cache directory", "pid directory", "ncalrpc dir")
        more = "\n".join(f"{kind} = {state}" for kind in kinds)
        state.mkdir()
        text = CONFIGURATION.format(server=SERVER, mount=mounted.path, account=ACCOUNT, more=more)
        (root / "smb.conf").write_text(text)
        run("smbpasswd", "-c", root / "smb.conf", "-s", "-a", ACCOUNT, input=f"{PASSWORD}\n{PASSWORD}\n")
        words = ["smbd", "--foreground", "--no-process-group", "--debug-stdout", "-s", root / "smb.conf"]
        stack.enter_context(daemon(words, root / "smbd.log", hosts, 445))
        yield Share(root, library, mounted, hosts, (f"H{number:02d}" for number in range(1, 21)))


def test_two_hosts_stream_to_one_drive_and_one_medium_at_once(share: Share) -> None:
    """Each host sends from a pipe, so that neither can end before both have begun."""
    tape = share.tape()
    streams = [random_bytes(number, SIZE) for number in range(2)]
    pipes = [share.root / f"{host}.pipe" for host in ADDRESSES]
    started = []
    for host, pipe in zip(ADDRESSES, pipes, strict=True):
        os.mkfifo(pipe)
        started.append(share.start(host, f"cd drives/0; put {pipe} {tape.barcode}"))
    with ExitStack() as stack:
        files = [stack.enter_context(open(pipe, "wb")) for pipe in pipes]
        for file, data in zip(files, streams, strict=True):
            file.write(data[:1000])
        wait_until(lambda: len(os.listdir(share.mounted.path / "sessions")) == len(files), "both hosts")
        for file, data in zip(files, streams, strict=True):
            file.write(data[1000:])
            file.close()
    for process in started:
        finish(process, "smbclient")
    assert sorted(tape.streams()) == sorted(streams)
    assert [(one["host"], one["drive"], one["state"]) for one in share.written(tape)] == [("office", 0, "released")] * 2


def test_stream_after_a_stream_is_appended_and_read_by_the_other_host(share: Share) -> None:
    tape = share.tape()
    first, second = random_bytes(1, SIZE), random_bytes(2, 12_345)
    (share.root / "first").write_bytes(first)
    (share.root / "second").write_bytes(second)
    share.run("alpha", f"cd drives/0; put first {tape.barcode}; put second {tape.barcode}")
    share.run("beta", f"cd media; get {tape.barcode} got; cd ../files/{tape.barcode}; get 0001 got.1")
    assert (share.root / "got").read_bytes() == first + second
    assert (share.root / "got.1").read_bytes() == second
    assert tape.streams() == [first, second]


def test_full_medium_is_an_error_at_the_host(share: Share) -> None:
    (share.root / "large").write_bytes(random_bytes(3, 3_000_000))
    assert b"NT_STATUS_DISK_FULL" in share.run("alpha", "cd media; put large SMALL", status=1)
    known = share.library.listed("--medium", "SMALL")[-1]
    assert (known["state"], known["error"]) == ("released", "ENOSPC")


def test_nothing_is_deleted_renamed_or_made(share: Share) -> None:
    tape = share.tape()
    tape.path.write_bytes(b"data")
    (share.root / "first").touch()
    for command in (f"rm {tape.barcode}", f"rename {tape.barcode} X", "mkdir X", "put first X"):
        said, _ = share.start("alpha", f"cd media; {command}").communicate(timeout=SECONDS)
        assert b"NT_STATUS_" in said  # its status is 0 for most of these
    assert tape.streams() == [b"data"]
