"""Slow disks: loop devices whose rate a cgroup limits, whichever process causes the I/O. Needs cgroup v1's blkio.

The limits are set on the root group, because the kernel threads that write dirty pages out belong to that group.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.measuring import Sample, drop_caches, measured, write_out
from benchmarks.peers import Peer, Place, loop_device, run
from benchmarks.programs import read_whole, side_by_side, writing

BLKIO = Path("/sys/fs/cgroup/blkio")
MIB = 1 << 20
IMAGE_BYTES = 4 << 30
ALL_QUICK = "vtlfs, no slow disk"
SLOW, VERY_SLOW = 40 * 10**6, 10 * 10**6  # bytes a second


def why_not() -> str | None:
    """Return why this machine can't slow disks down; None if it can."""
    if (BLKIO / "blkio.throttle.write_bps_device").exists():
        return None
    return "slowing disks down needs cgroup v1's blkio, which this machine does not have"


@contextmanager
def disks(place: Place, rates: Sequence[int | None]) -> Iterator[Place]:
    """Yield a place with an ext4 on a loop device for each rate. Rates are bytes a second; None: no limit."""
    place.empty()
    with ExitStack() as stack:
        mounted = []
        for number, rate in enumerate(rates):
            image, directory = place.root / f"slow{number}.image", place.root / f"slow{number}"
            stack.callback(image.unlink)
            with image.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, IMAGE_BYTES)
            directory.mkdir()
            stack.callback(directory.rmdir)
            device = stack.enter_context(loop_device(image))
            run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", device)
            run("mount", device, directory)
            stack.callback(run, "umount", directory)
            mounted.append(directory)
            if rate is not None:
                stack.enter_context(_limited(device, rate))
        yield Place(place.root, tuple(mounted))


@contextmanager
def _limited(device: str, rate: int) -> Iterator[None]:
    number = os.stat(device).st_rdev
    name = f"{os.major(number)}:{os.minor(number)}"
    files = [BLKIO / f"blkio.throttle.{what}_bps_device" for what in ("read", "write")]
    try:
        for file in files:
            file.write_text(f"{name} {rate}\n")
        yield
    finally:
        for file in files:
            file.write_text(f"{name} 0\n")


def two_slow(place: Place, peer: Peer, size: int, *, reading: bool) -> Sample:
    """Write or read one stream: vtlfs over two slow disks, or a directory on one of them."""
    with disks(place, (SLOW, SLOW)) as slow:
        peer.make(slow)
        with peer.mount(slow) as mounted:
            written = measured(lambda: side_by_side([writing(mounted.write(0), MIB, size)], size), mounted.pid)
        if not reading:
            return written
        write_out()
        drop_caches()
        with peer.mount(slow) as mounted:
            return measured(lambda: (read_whole(mounted.read(0), MIB, size), ()), mounted.pid)


def one_of_four(place: Place, peer: Peer, size: int, streams: int) -> Sample:
    """Write several streams at the same time over four disks. One disk is slow, except for the peer ALL_QUICK."""
    with disks(place, (None, None if peer.name == ALL_QUICK else VERY_SLOW, None, None)) as slow:
        peer.make(slow)
        write_out()
        with peer.mount(slow) as mounted:
            commands = [writing(mounted.write(number), MIB, size) for number in range(streams)]
            return measured(lambda: side_by_side(commands, size), mounted.pid)
