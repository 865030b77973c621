"""A program that writes a stream until it can't: `python stream.py PATH SEED SIDE BLOCK`.

Now and then it calls fsync(), and then notes the acknowledged length in the file SIDE, whose first line is the
session. It goes on until a write fails.
"""

import os
import random
import sys

PIECES = 4000


def main(path: str, seed: str, side: str, block: str) -> None:
    """Write until an error."""
    source = random.Random(int(seed))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with open(side, "w", buffering=1) as notes:
        notes.write(f"{os.fstat(descriptor).st_ino}\n")
        done = 0
        for number in range(PIECES):
            piece = source.randbytes(int(block))
            try:
                if os.write(descriptor, piece) != len(piece):
                    raise SystemExit("short write")
                done += len(piece)
                if number % 7 == 6:
                    os.fsync(descriptor)
                    notes.write(f"{done}\n")
            except OSError:
                return
    raise SystemExit("nothing happened")


if __name__ == "__main__":
    main(*sys.argv[1:])
