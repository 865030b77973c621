"""The remote address of a process's network connection, read from /proc. Used by `fs/openers.py`; may block."""

import ipaddress
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LISTEN = "0A"  # TCP_LISTEN of the kernel's include/net/tcp_states.h


def remote_address(pid: int) -> str | None:
    """Return the address at the other end of the process's first TCP connection; None without one.

    The first is the one with the lowest descriptor: a daemon accepts its client's connection before it opens others for
    the client. Reads the network namespace of that process. Raises OSError if the process can't be inspected.
    """
    peers = dict(_connections(pid))
    for descriptor in sorted(map(int, os.listdir(f"/proc/{pid}/fd"))):
        with suppress(FileNotFoundError):  # closed meanwhile
            target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
            if peer := peers.get(target.removeprefix("socket:[").rstrip("]")):
                return peer
    return None


def _connections(pid: int) -> Iterator[tuple[str, str]]:
    """Yield the inode and the remote address of each TCP connection in the process's network namespace."""
    for table in ("tcp", "tcp6"):
        file = Path(f"/proc/{pid}/net/{table}")
        for line in file.read_text().splitlines()[1:] if file.exists() else []:
            fields = line.split()
            if fields[3] != LISTEN:
                yield fields[9], decode_address(fields[2].partition(":")[0])


def decode_address(text: str) -> str:
    """Read an address as /proc/net/tcp and tcp6 have it: words of 32 bits in the machine's order, in hexadecimal."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
