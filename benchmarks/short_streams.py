"""The program that writes many short streams, each ended by fsync() and close().

python -m benchmarks.short_streams PATH COUNT    a %d in PATH becomes the number of the stream
"""

import os
import sys

BYTES = 64 << 10


def main() -> None:
    """Write COUNT streams."""
    path, count = sys.argv[1], int(sys.argv[2])
    data = os.urandom(BYTES)
    for number in range(count):
        name = path % number if "%d" in path else path
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        if os.write(descriptor, data) != BYTES:
            raise SystemExit("a short write")
        os.fsync(descriptor)
        os.close(descriptor)


if __name__ == "__main__":
    main()
