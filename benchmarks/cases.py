"""The cases: each writes to a mounted peer, or reads from it, and measures how long that takes.

Each case is one function; each call of it is one run.
"""

import random
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import short_streams
from benchmarks.measuring import Sample, drop_caches, measured, together, write_out
from benchmarks.peers import NOTHING, PASSTHROUGH, PROMISING, THE_DISKS, Mounted, Peer, Place, run, vtlfs
from benchmarks.programs import read_whole, side_by_side, writing
from benchmarks.slow_disks import ALL_QUICK, one_of_four, two_slow, why_not

MIB = 1 << 20
SMALL, LARGE, TINY = 10 << 10, MIB, 512  # sizes of single writes and reads; the first is GNU tar's
FEW_STREAMS, STREAMS, MANY_STREAMS = 3, 8, 32
PEERS = ("plain", "mergerfs", "bindfs", "btrfs", "vtlfs")
FEW_PEERS = ("plain", "mergerfs", "vtlfs")
ALONE = "vtlfs, one stream"
PARITY = tuple(f"vtlfs, parity {parity}" for parity in (0, 1, 2))


@dataclass(frozen=True)
class Sizes:
    """How many bytes, files and sessions the cases write."""

    stream: int = 1000 * MIB
    tiny_stream: int = 200 * MIB
    of_many: int = 250 * MIB  # of each stream, where several run at the same time
    slow_stream: int = 200 * MIB  # to slow disks
    files: int = 50_000
    sessions: int = 2000

    @classmethod
    def in_proportion(cls, mib: int) -> "Sizes":
        """Return the sizes for a single stream of `mib` MiB; none is so small that its case no longer makes sense."""

        def sized(full: int, least: int) -> int:
            return max(least, full * mib * MIB // cls.stream)

        def in_mib(full: int) -> int:
            return sized(full, 4 * MIB) // MIB * MIB

        return cls(
            in_mib(cls.stream),
            in_mib(cls.tiny_stream),
            in_mib(cls.of_many),
            in_mib(cls.slow_stream),
            sized(cls.files, 100),  # at least as many as make_tree() puts into one directory
            sized(cls.sessions, 10),
        )


@dataclass(frozen=True)
class Case:
    """One case. `run` measures one peer once.

    `only`: how the names of the peers begin that the case is run with. `more`: further peers, for this case only.
    `why_not`: returns why this machine can't run the case; None if it can.
    """

    name: str
    run: Callable[[Place, Peer, Sizes], Sample]
    unit: str = "MB/s"
    only: tuple[str, ...] = PEERS
    more: tuple[Peer, ...] = ()
    why_not: Callable[[], str | None] = lambda: None

    def chosen(self, peers: Sequence[Peer]) -> list[Peer]:
        """Return the peers that the case is run with: its own, and some of `peers`."""
        return [*self.more, *(peer for peer in peers if peer.name.startswith(self.only))]


def write_stream(place: Place, peer: Peer, sizes: Sizes, block: int, *, known: bool = True) -> Sample:
    """Let dd write one stream, which ends with fsync(). `known`: under the name dd, which vtlfs knows."""
    size = sizes.tiny_stream if block == TINY else sizes.stream
    program = "dd" if known else unknown_program(place)

    def work(mounted: Mounted) -> tuple[int, tuple[float, ...]]:
        if mounted.parts:
            part = size // mounted.parts // block * block
            parts = range(mounted.parts)
            together([writing(mounted.write(number), block, part, "oflag=direct") for number in parts])
            return mounted.parts * part, ()
        together([writing(mounted.write(0), block, size, program=program)])
        return size // block * block, ()

    return _once(place, peer, work, sizes)


def write_streams(place: Place, peer: Peer, sizes: Sizes, block: int) -> Sample:
    """Let several dd write at the same time; to vtlfs, all to one medium through one drive. To ALONE, one dd writes."""

    def work(mounted: Mounted) -> tuple[int, tuple[float, ...]]:
        streams, size = (1, sizes.stream) if peer.name == ALONE else (STREAMS, sizes.of_many)
        size = size // block * block
        return side_by_side([writing(mounted.write(number), block, size) for number in range(streams)], size)

    return _once(place, peer, work, sizes)


def write_many(place: Place, peer: Peer, sizes: Sizes) -> Sample:
    """Let many dd write at the same time, half of them in small blocks, to measure the memory."""

    def work(mounted: Mounted) -> tuple[int, tuple[float, ...]]:
        size = sizes.of_many // 4 // LARGE * LARGE
        blocks = [LARGE, SMALL] * (MANY_STREAMS // 2)
        return side_by_side([writing(mounted.write(number), block, size) for number, block in enumerate(blocks)], size)

    return _once(place, peer, work, sizes)


def write_with_parity(place: Place, peer: Peer, sizes: Sizes) -> Sample:
    """Let dd write one stream to three disks, which ends with fsync(), to measure the cost of parity."""
    three = Place(place.root, tuple(place.root / f"of_three{number}" for number in range(3)))
    try:
        return write_stream(three, peer, sizes, LARGE)
    finally:
        three.empty()


def read_stream(place: Place, peer: Peer, sizes: Sizes, block: int) -> Sample:
    """Let dd read a stream back, with nothing of the stream in the page cache."""

    def work(mounted: Mounted) -> tuple[int, tuple[float, ...]]:
        return read_whole(mounted.read(0), block, sizes.stream), ()

    place.empty()
    peer.make(place)
    with peer.mount(place) as mounted:
        together([writing(mounted.write(0), LARGE, sizes.stream)])
    write_out()
    drop_caches()
    with peer.mount(place) as mounted:
        return measured(partial(work, mounted), mounted.pid)


def write_tree(place: Place, peer: Peer, sizes: Sizes, *, piped: bool = False) -> Sample:
    """Let tar archive a tree of small files, in blocks of 10 KiB. `piped`: into a file that the shell has opened."""
    tree = make_tree(place.root.parent / "tree", sizes.files)
    run("sh", "-c", f'tar cf - -C "{tree}" . | cat >/dev/null')  # so that the page cache has the tree, for every peer
    archive = f'tar cf - -C "{tree}" . > ' if piped else f'tar -C "{tree}" . -cf '
    return _once(place, peer, partial(_made_durable, peer, archive), sizes)


def write_piped(place: Place, peer: Peer, sizes: Sizes) -> Sample:
    """Let a program write small blocks into a file that the shell has opened."""
    zeros = f"dd if=/dev/zero bs={SMALL} count={sizes.stream // SMALL} status=none > "
    return _once(place, peer, partial(_made_durable, peer, zeros), sizes)


def _made_durable(peer: Peer, command: str, mounted: Mounted) -> tuple[int, tuple[float, ...]]:
    """Let a shell run a command, which ends before the path to write to. With vtlfs close() makes it durable."""
    path = mounted.write(0)
    together([["sh", "-c", f'{command}"{path}"' + ("" if peer.name.startswith("vtlfs") else f' && sync "{path}"')]])
    return mounted.read(0).stat().st_size, ()


def write_sessions(place: Place, peer: Peer, sizes: Sizes) -> Sample:
    """Let a program write many short streams, one after the other, each ended by fsync() and close()."""

    def work(mounted: Mounted) -> tuple[int, tuple[float, ...]]:
        fresh = peer.name.startswith(("vtlfs", "bound"))  # with these, each open() of the same name begins a new stream
        paths = f"{mounted.write(0)}" if fresh else f"{mounted.write(0)}.%d"
        together([[sys.executable, "-m", "benchmarks.short_streams", paths, str(sizes.sessions)]])
        return sizes.sessions * short_streams.BYTES, ()

    return _once(place, peer, work, sizes)


def make_tree(tree: Path, files: int) -> Path:
    """Return a tree of so many files, of 9 KiB in the median and 20 KiB in the mean; make the tree if it is missing."""
    done = tree / f"{files}"
    if not done.exists():
        source = random.Random(1)
        block = source.randbytes(MIB)
        for number in range(files):
            if number % 100 == 0:
                directory = done.with_suffix(".tmp") / f"{number // 1000:03d}" / f"{number // 100 % 10}"
                directory.mkdir(parents=True)
            size = min(MIB, int(source.lognormvariate(9.1, 1.25)))
            (directory / f"file{number:06d}.dat").write_bytes(block[:size])
        done.with_suffix(".tmp").rename(done)
    return done


def _two_slow(place: Place, peer: Peer, sizes: Sizes, *, reading: bool) -> Sample:
    return two_slow(place, peer, sizes.slow_stream, reading=reading)


def _one_of_four(place: Place, peer: Peer, sizes: Sizes) -> Sample:
    return one_of_four(place, peer, sizes.stream, FEW_STREAMS)


CASES = (
    Case("write 10 KiB", partial(write_stream, block=SMALL)),
    Case("write 1 MiB", partial(write_stream, block=LARGE), only=(*PEERS, THE_DISKS)),
    Case("write 512 B", partial(write_stream, block=TINY)),
    Case("10 KiB, unknown program", partial(write_stream, block=SMALL, known=False), only=FEW_PEERS),
    Case(
        "parity of three disks",
        write_with_parity,
        only=(),
        more=tuple(vtlfs(name, "--parity", name[-1]) for name in PARITY),
    ),
    Case("8 streams 10 KiB", partial(write_streams, block=SMALL), only=FEW_PEERS, more=(vtlfs(ALONE),)),
    Case("8 streams 1 MiB", partial(write_streams, block=LARGE), only=FEW_PEERS, more=(vtlfs(ALONE),)),
    Case("read 10 KiB", partial(read_stream, block=SMALL)),
    Case("read 1 MiB", partial(read_stream, block=LARGE)),
    Case("tar of a tree", write_tree, unit="s", only=FEW_PEERS),
    Case("tar > TAPE", partial(write_tree, piped=True), unit="s", only=(*FEW_PEERS, PASSTHROUGH)),
    Case("dd 10 KiB > TAPE", write_piped, only=(*FEW_PEERS, PASSTHROUGH)),
    Case("short sessions", write_sessions, unit="s", only=("plain", "mergerfs", PROMISING, NOTHING, "vtlfs")),
    Case("two slow disks, writing", partial(_two_slow, reading=False), only=("plain", "vtlfs"), why_not=why_not),
    Case("two slow disks, reading", partial(_two_slow, reading=True), only=("plain", "vtlfs"), why_not=why_not),
    Case("one slow disk of four", _one_of_four, only=("vtlfs",), more=(vtlfs(ALL_QUICK),), why_not=why_not),
    Case("32 streams", write_many, only=("plain", "vtlfs")),
)


def _once(place: Place, peer: Peer, work: Callable[[Mounted], tuple[int, tuple[float, ...]]], sizes: Sizes) -> Sample:
    """Measure a peer over empty directories, after writing a plain file.

    A virtual machine has to ask its host for memory that has been unused for a while, which takes time. The plain file
    takes that memory first, so that it does not matter which peer was measured before.
    """
    place.empty()
    peer.make(place)
    write_out()
    with peer.mount(place) as mounted:
        warm_up(place, sizes.stream)
        return measured(partial(work, mounted), mounted.pid)


def warm_up(place: Place, size: int) -> None:
    """Write a file to the first disk's file system, and remove it."""
    path = place.root / "warm-up"
    try:
        together([writing(path, LARGE, size)])
    finally:
        path.unlink(missing_ok=True)
    write_out()


def unknown_program(place: Place) -> str:
    """Return a copy of dd under another name: vtlfs knows programs that write small blocks by their names."""
    path = place.root / "unknown"
    if not path.exists():
        shutil.copy(run("sh", "-c", "command -v dd").strip(), path)
    return str(path)
