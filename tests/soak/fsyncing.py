"""A program that writes its input to a file with fsync() now and then: `python fsyncing.py PATH`.

It prints the lengths that fsync() acknowledged, a line for each.
"""

import os
import sys

PIECES = (4097, 100, 65536, 1 << 20, 30_001)  # sizes of its writes
EVERY = 5  # of which one fsync() comes


def main(path: str) -> None:
    """Copy until the end of the input."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    done = number = 0
    while piece := sys.stdin.buffer.read(PIECES[number % len(PIECES)]):
        if os.write(descriptor, piece) != len(piece):
            raise SystemExit("short write")
        done += len(piece)
        number += 1
        if number % EVERY == 0:
            os.fsync(descriptor)
            print(done, flush=True)
    os.close(descriptor)
    print(done, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
