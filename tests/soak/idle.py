"""A crowd of idle files in a process of its own: `python idle.py WRITTEN READ WRITERS READERS`.

It opens as many files as it can until its standard input ends, and keeps them open until then. A tenth of the writers
have written half a stripe unit; some readers read again now and then. It prints how many files were open, and how many
bytes it wrote.
"""

import resource
import select
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from crowd import HALF, READ, crowd

MORE = 5000
EVERY_SECONDS = 1.0
SOME = 50


def main(written: Path, read: Path, writers: int, readers: int) -> None:
    """Open the files, wait for the end of the input, and print the result."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with crowd() as files:
        for step in range(max(writers, readers) // SOME):
            if step * SOME < writers:
                files.write(written, SOME - SOME // 10, SOME // 10)
            if step * SOME < readers:
                files.read(read, SOME)
            if is_over(0):
                break
        turn = 0
        while not is_over(EVERY_SECONDS):
            turn += 1
            files.again(files.readers[turn * SOME % len(files.readers) :][:SOME], READ)
        files.go_on(MORE)
        small, half, reading = len(files.small), len(files.half), len(files.readers)
    print(small + half + reading, small + half * (HALF + MORE))


def is_over(seconds: float) -> bool:
    """Wait up to `seconds`; tell whether the standard input has ended."""
    return bool(select.select([sys.stdin], [], [], seconds)[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
