"""A crowd of idle files in a process of its own: `python idle.py WRITTEN READ WRITERS READERS`.

It opens them, says "open" and waits until its standard input ends; a tenth of the writers have half a stripe unit. Half
of the readers read again now and then. It says how many bytes it wrote when all are closed.
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
    """Do it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with crowd() as files:
        half = writers // 10
        files.write(written, writers - half, half)
        files.read(read, readers)
        print("open", flush=True)
        turn = 0
        while not select.select([sys.stdin], [], [], EVERY_SECONDS)[0]:
            turn += 1
            some = files.readers[turn * SOME % len(files.readers) :][:SOME] if readers else []
            files.again(some, READ)
        files.go_on(MORE)
    print(writers - half + half * (HALF + MORE))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
