"""Hosts that mount the server's mount with sshfs."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from mounting import SECONDS, Tape, wait_until
from network import ADDRESSES
from site_of_tests import Site

OPTIONS = "dir_cache=no,attr_timeout=0,entry_timeout=0"

pytestmark = pytest.mark.parametrize("site", ["external", "internal"], indirect=True)


@contextmanager
def attached(site: Site, host: str) -> Iterator[Path]:
    """Mount the server's mount on a host for the block, with sshfs."""
    path = site.root / f"sshfs-{host}"
    path.mkdir(exist_ok=True)
    words = f"sshfs -f -F {site.ssh.root}/ssh_config -o {OPTIONS} vtl:{site.mounted.path} {path}"
    process = site.ssh.popen(host, f"exec {words}", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: process.poll() is not None or os.path.ismount(path), "sshfs")
        assert process.poll() is None
        yield path
    finally:
        subprocess.run(["umount", path], check=False, capture_output=True, timeout=SECONDS)
        subprocess.run(["umount", "-l", path], check=False, capture_output=True, timeout=SECONDS)
        process.terminate()
        process.communicate(timeout=SECONDS)


@pytest.fixture
def hosts(site: Site) -> Iterator[dict[str, Path]]:
    """The hosts' mount points of the server's mount."""
    with ExitStack() as stack:
        yield {host: stack.enter_context(attached(site, host)) for host in ADDRESSES}


def at(site: Site, tape: Tape) -> str:
    """Return the path of a medium through drive 0, on the host HOST."""
    return f"{site.root}/sshfs-HOST/drives/0/{tape.barcode}"


@pytest.mark.parametrize("command", ["cat > {}", "cat >> {}", "dd bs=10k of={}", "dd bs=1M of={} conv=notrunc,fsync"])
def test_two_hosts_stream_to_one_drive_and_one_medium_at_once(site: Site, hosts: dict[str, Path], command: str) -> None:
    tape = site.tape()
    tape.path.write_bytes(b"")
    site.check(tape, site.together(tape, f"SEND | {command.format(at(site, tape))}"))


def test_programs_write_and_read_what_they_have_written(site: Site, hosts: dict[str, Path]) -> None:
    tape, tree = site.tape(), site.tree()
    gate = '--checkpoint=1 --checkpoint-action=exec="$WAIT"'
    sessions = site.together(tape, f"tar cf {at(site, tape)} {gate} -C {tree} HOST")
    assert sorted(one["host"] for one in sessions) == sorted(ADDRESSES.values())
    for path in hosts.values():
        subprocess.run(["tar", "dif", path / "drives/0" / tape.barcode, "-C", tree], check=True, timeout=SECONDS)
        assert (path / "media" / tape.barcode).read_bytes() == tape.path.read_bytes()
    for path in hosts.values():
        shutil.copyfile(tree / "alpha" / "1", path / "media" / tape.barcode)
    site.wait_for_releases()
    assert tape.streams()[2:] == [(tree / "alpha" / "1").read_bytes()] * 2


def test_stream_after_a_stream_is_appended_whatever_the_flags(site: Site, hosts: dict[str, Path]) -> None:
    tape = site.tape()
    for path in hosts.values():
        medium = path / "drives" / "0" / tape.barcode
        for flags in (os.O_TRUNC, os.O_APPEND, 0):
            descriptor = os.open(medium, os.O_WRONLY | flags)
            os.write(descriptor, b"one ")
            os.write(descriptor, b"two")
            os.close(descriptor)
            os.stat(medium)
    site.wait_for_releases()
    assert tape.streams() == [b"one two"] * 6


def test_full_medium_is_an_error_at_the_host(site: Site, hosts: dict[str, Path]) -> None:
    for path in hosts.values():
        medium = path / "media" / "SMALL"
        before = medium.stat().st_size
        data = b"x" * 3_000_000
        done = subprocess.run(["dd", f"of={medium}", "bs=64k"], input=data, capture_output=True, check=False)
        assert done.returncode == 1
        assert b"Input/output error" in done.stderr
        site.wait_for_releases()
        assert before <= site.mounted.medium("SMALL").stat().st_size <= 2_000_000


def test_what_seeks_back_is_an_error_at_the_host(site: Site, hosts: dict[str, Path]) -> None:
    tape = site.tape()
    medium = hosts["alpha"] / "media" / tape.barcode
    descriptor = os.open(medium, os.O_WRONLY | os.O_TRUNC)
    os.write(descriptor, b"x" * 3_000_000)
    os.pwrite(descriptor, b"y", 5)
    with pytest.raises(OSError):
        os.fsync(descriptor)
    os.close(descriptor)
    site.wait_for_releases()
    assert tape.streams() == [b"x" * 3_000_000]


def test_sftp_and_scp_put_a_stream_too(site: Site) -> None:
    tape = site.tape()
    data = site.stream("alpha")
    site.ssh.run("alpha", f"echo put {site.root}/alpha.data {tape.path} | sftp -F {site.ssh.root}/ssh_config -b - vtl")
    site.ssh.run("alpha", f"scp -F {site.ssh.root}/ssh_config {site.root}/alpha.data vtl:{tape.path}")
    assert tape.streams() == [data] * 2
    site.ssh.run("beta", f"scp -F {site.ssh.root}/ssh_config vtl:{tape.path} {site.root}/got")
    assert (site.root / "got").read_bytes() == data * 2
    assert [one["host"] for one in site.written(tape)] == [ADDRESSES["alpha"]] * 2
