"""Holes in files: giving back room in the middle of a file, which Python has no call for."""

import ctypes
import os

_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # from linux/falloc.h


def punch(descriptor: int, start: int, size: int) -> None:
    """Give back the room of so many bytes, which are zeros then. Raises OSError where the file system can't."""
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_int64(start), ctypes.c_int64(size))
    if libc.fallocate(descriptor, _KEEP_SIZE | _PUNCH_HOLE, *arguments):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
