"""Mounts on demand, as systemd does for x-systemd.automount: with autofs, and mount(8) in the daemon's process group.

    python automount.py MOUNTPOINT PROGRAM…     the program, in another process group, touches the mount point first

Any other process that touches the mount point meanwhile waits until the mount is complete.
"""

import ctypes
import fcntl
import os
import struct
import subprocess
import sys

READY, FAIL = 0x9360, 0x9361  # ioctls, from linux/auto_fs.h
PACKET_BYTES = 304  # struct autofs_v5_packet


def main(mountpoint: str, *program: str) -> int:
    """Return the exit status of the program."""
    os.setsid()
    reading, writing = os.pipe()
    options = f"fd={writing},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"systemd-1", os.fsencode(mountpoint), b"autofs", 0, os.fsencode(options)):
        raise OSError(ctypes.get_errno(), "autofs")
    os.close(writing)
    root = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    looking = subprocess.Popen(program, start_new_session=True)
    _, kind, token = struct.unpack_from("iiI", os.read(reading, PACKET_BYTES))
    assert kind == 5, "somebody looks"
    try:
        status = subprocess.run(["mount", mountpoint], timeout=20, check=False).returncode
    except subprocess.TimeoutExpired:
        status = -1
    fcntl.ioctl(root, FAIL if status else READY, token)
    looked = looking.wait()
    os.close(root)
    return status or looked


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
