"""A library that is mounted on a server, whose hosts reach it through sshd."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from mounting import OnDisks, require_fuse
from network import SFTP, USER_ID, Ssh, network
from site_of_tests import Site

MEDIA = 60


@pytest.fixture(scope="module", params=["external"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A server with two mounts and an sshd, and the hosts alpha and beta. The parameter is its sftp server."""
    require_fuse()
    assert request.param in SFTP
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vtlfs-hosts-", dir="/tmp")))
        os.chmod(root, 0o755)  # ordinary users have to come through
        library = OnDisks(root, media=f"H01..H{MEDIA}")
        library.add("SMALL", capacity=2_000_000)
        hosts = stack.enter_context(network())
        mounted = stack.enter_context(library.mounted())
        private = f"uid={USER_ID},gid={USER_ID},mode=0600,allow_other"
        own = stack.enter_context(library.mounted(private, at=root / "own"))
        ssh = Ssh(root, hosts, request.param)
        stack.enter_context(ssh.serve())
        yield Site(library, mounted, own, ssh, iter(f"H{number:02d}" for number in range(1, MEDIA + 1)))
