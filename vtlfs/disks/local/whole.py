"""Syncing a whole file system with one call, which Python has none for. Called by the threads of a disk."""

import ctypes
import os

FUSE = 0x65735546  # the type of file systems whose server never hears of a syncfs


def can_be_synced(descriptor: int) -> bool:
    """Tell whether syncing the file system of an open file makes it durable. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = (ctypes.c_long * 64)()  # struct statfs, which begins with the type
    if libc.fstatfs(descriptor, found):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return found[0] != FUSE


def sync(descriptor: int) -> None:
    """Make durable all that is on the file system of an open file (syncfs).

    Raises OSError for any write to the device that has failed since the file was opened, whatever it was for: so that
    the errors of some files are reported, one of them has to be open from before the others are written (Linux 5.8).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(descriptor):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
