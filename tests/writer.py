"""A program that writes streams: `python writer.py PATH SEED SIZE BLOCK [FLAGS]`, one JSON line for each.

It waits for the end of its standard input, opens, writes, and prints the result of fstat(). It imports little, so that
two dozen can start at the same time.
"""

import json
import os
import random
import sys

FLAGS = {"truncate": os.O_TRUNC, "append": os.O_APPEND, "neither": 0}


def main(path: str, seed: int, size: int, block: int, flags: str = "truncate") -> None:
    """Write one stream."""
    data = random.Random(seed).randbytes(size)
    sys.stdin.buffer.read()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | FLAGS[flags])
    number = os.fstat(descriptor).st_ino
    for start in range(0, size, block):
        piece = data[start : start + block]
        if os.write(descriptor, piece) != len(piece):
            raise SystemExit("short write")
    if os.fstat(descriptor).st_ino != number:
        raise SystemExit("the inode number has changed")
    os.close(descriptor)
    if os.stat(path).st_size < size:
        raise SystemExit("the stream is not there")
    print(json.dumps({"session": number, "seed": seed, "size": size}))


if __name__ == "__main__":
    seed, size, block = map(int, sys.argv[2:5])
    main(sys.argv[1], seed, size, block, *sys.argv[5:])
