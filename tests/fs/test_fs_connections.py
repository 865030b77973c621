"""The address at the other end of a process's connection."""

import os
import socket
import subprocess
import sys

import pytest

from vtlfs.fs.connections import decode_address, remote_address

CONNECTED = "import socket, sys; one = socket.create_connection((sys.argv[1], int(sys.argv[2]))); print(); input()"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_other_end_of_the_connection(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        words = [sys.executable, "-I", "-c", CONNECTED, address, str(server.getsockname()[1])]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        accepted, _ = server.accept()
        with accepted:
            assert process.stdout is not None
            process.stdout.readline()
            assert remote_address(process.pid) == address
            process.communicate(b"\n", timeout=60)


def test_process_that_listens_has_no_other_end() -> None:
    listen = "import socket; one = socket.create_server(('127.0.0.1', 0)); print(); input()"
    words = [sys.executable, "-I", "-c", listen]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert remote_address(process.pid) is None
    process.communicate(b"\n", timeout=60)


def test_process_that_is_gone() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(OSError):
        remote_address(process.pid)


@pytest.mark.skipif(sys.byteorder != "little", reason="the texts are of a little-endian machine")
@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0B0200C0", "192.0.2.11"),
        ("0100007F", "127.0.0.1"),
        ("0000000000000000FFFF00000B0200C0", "192.0.2.11"),
        ("B80D0120000000000000000007000000", "2001:db8::7"),
        ("00000000000000000000000001000000", "::1"),
    ],
)
def test_addresses_as_proc_has_them(text: str, address: str) -> None:
    assert decode_address(text) == address


def test_descriptors_may_come_and_go_meanwhile() -> None:
    remote_address(os.getpid())
