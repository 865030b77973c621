"""Measure the member index: how fast tape files are indexed, and how long `vtlfs find` takes among many members.

    python -m benchmarks.members [--directory /var/tmp] [--small 1000000] [--large-mib 4096] [--rows 10000000]

makes a library in a temporary directory, and writes to it by a real mount: a tar of so many small members, one of
members of 64 MiB, and the first one compressed with zstd. Each is indexed by `vtlfs index`. Then the index is filled
with so many members by the function that indexing uses, in streams of a million of which each second one repeats the
paths of the one before, and `vtlfs find` is asked for patterns of several kinds.
"""

import argparse
import os
import resource
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.measuring import MB, drop_caches
from benchmarks.peers import VTLFS
from vtlfs.engine.library import Library
from vtlfs.members.database import FILE_NAME, MemberIndex
from vtlfs.members.filling import FoundArchive, FoundMember, StreamFiller, add_pending
from vtlfs.members.values import Kind, StreamState
from vtlfs.model import MIB

LARGE = 64 * MIB
A_STREAM = 1_000_000
BATCH = 4000
WORDS = "report invoice photo backup index config module kernel library header driver session archive holiday".split()
ENDINGS = "txt odt pdf jpg conf py c h so log".split()
PATTERNS = (
    "name-4711357",
    "/etc/module/config.9/",
    "*invoice-1234567*",
    "*-77777.conf",
    "no-such-name",
    "/home/*/kernel.7/*.pdf",
)


def main() -> None:
    """Parse the command line, measure, and print what was found."""
    parser = argparse.ArgumentParser(prog="benchmarks.members", description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where to work")
    parser.add_argument("--small", type=int, default=1_000_000, help="small members of a tar")
    parser.add_argument("--large-mib", type=int, default=4096, help="size of the tar of large members")
    parser.add_argument("--rows", type=int, default=10_000_000, help="members among which to find")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vtlfs-members.", dir=arguments.directory) as temporary:
        library = make(Path(temporary))
        if arguments.small:
            small(library, arguments.small)
        if arguments.large_mib:
            large(library, arguments.large_mib * MIB)
        if arguments.rows:
            rows(library, arguments.rows)


def make(root: Path) -> Library:
    """Make a library with a medium, and mount it."""
    disks = [root / f"disk{number}" for number in range(3)]
    for path in (*disks, root / "mnt"):
        path.mkdir()
    path = root / "library"
    options = [word for disk in disks for word in ("--disk", disk)]
    subprocess.run([VTLFS, "init", path, *options], check=True, capture_output=True)
    with open(path / "library.toml", "a") as file:
        file.write("\n[index]\nbackground = false\n")
    subprocess.run([VTLFS, "media", "add", path, "B1"], check=True, capture_output=True)
    return Library.open(path)


def small(library: Library, count: int) -> None:
    """Index a tar of small members, as it is and compressed."""
    plain = library.path.parent / "small.tar"
    with open(plain, "wb") as file:
        for number in range(count):
            header = tarfile.TarInfo(path_of(number))
            header.size = 100
            file.write(header.tobuf(tarfile.GNU_FORMAT) + bytes([number % 251]) * 100 + bytes(412))
        file.write(bytes(10240))
    for name, command in (("tar", "cat"), ("tar.zst", "zstd -q -c")):
        size = write(library, f"{command} {plain}")
        seconds, processors, memory = index(library)
        print(
            f"{count:,} small members, {name}, {size / MB:.0f} MB: {seconds:.1f} s, of processors {processors:.1f} s,"
            f" {count / seconds:,.0f} members/s, {size / MB / seconds:.0f} MB/s, {memory / MIB:.0f} MiB;",
            f"index {index_size(library)}",
            flush=True,
        )
    plain.unlink()


def large(library: Library, size: int) -> None:
    """Index a tar of large members."""
    plain = library.path.parent / "large.tar"
    piece = os.urandom(MIB)
    with open(plain, "wb") as file:
        for number in range(size // LARGE):
            header = tarfile.TarInfo(f"large/{number}")
            header.size = LARGE
            file.write(header.tobuf(tarfile.GNU_FORMAT))
            for _ in range(LARGE // MIB):
                file.write(piece)
        file.write(bytes(10240))
    length = write(library, f"cat {plain}")
    plain.unlink()
    seconds, processors, memory = index(library)
    rate = f"of processors {processors:.2f} s, {length / MB / seconds:,.0f} MB/s"
    print(f"members of 64 MiB, {length / MB:.0f} MB: {seconds:.2f} s, {rate}, {memory / MIB:.0f} MiB", flush=True)


def write(library: Library, command: str) -> int:
    """Write the output of a command to a tape file; return its length."""
    mountpoint = library.path.parent / "mnt"
    subprocess.run([VTLFS, "mount", library.path, mountpoint], check=True)
    before = os.stat(mountpoint / "media" / "B1").st_size
    subprocess.run(f"{command} > {mountpoint}/media/B1", shell=True, check=True)
    size = os.stat(mountpoint / "media" / "B1").st_size - before
    subprocess.run([VTLFS, "umount", mountpoint], check=True)
    return size


def index(library: Library) -> tuple[float, float, int]:
    """Index what is not; return the seconds, those of processors, and the most memory that a process took so far."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([VTLFS, "index", library.path], check=True, capture_output=True)
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    processors = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, processors, after.ru_maxrss * 1024


def index_size(library: Library) -> str:
    """Return the size of the index in words."""
    with closing(MemberIndex.open(library.path, library.config.uuid)) as opened:
        count = opened.count_members()
    size = (library.path / FILE_NAME).stat().st_size
    return f"{size / MIB:.0f} MiB for {count:,} members, {size / count:.0f} bytes each"


def path_of(number: int) -> str:
    """Return a path that looks like one of a backup."""
    word, other = WORDS[number % len(WORDS)], WORDS[number // 7 % len(WORDS)]
    top = ("home/alice", "etc", "usr/share", "var/lib")[number // 20_000 % 4]
    return f"{top}/{word}/{other}.{number // 200}/{word}-{number}.{ENDINGS[number % len(ENDINGS)]}"


def rows(library: Library, count: int) -> None:
    """Fill the index anew, as if one tape file had all the members, and find among them."""
    write(library, f"head -c {A_STREAM + 1} /dev/zero")
    with closing(library.tracking(read_only=True)) as tracking:
        ordinal = tracking.library.last_ordinal()
        ((_, session),) = tracking.tape_files.since_ordinal(ordinal, 1)
    with closing(MemberIndex.make(library.path, library.config.uuid, anew=True)) as opened:
        started, used = time.monotonic(), time.process_time()
        add_pending(opened, {}, ordinal, session)
        filler = StreamFiller(opened, session)
        filler.begin_archive(FoundArchive(0, "tar", "none"))
        for stream in range(count // A_STREAM):
            for members in members_of(stream):
                filler.add(members)
        filler.end(StreamState.INDEXED, A_STREAM + 1, None)
        seconds, processor = time.monotonic() - started, time.process_time() - used
    print(f"{count:,} rows: {seconds:.0f} s, of a processor {processor:.0f} s; index {index_size(library)}", flush=True)
    for pattern in PATTERNS:
        drop_caches()
        cold = find(library, pattern)
        warm = min(find(library, pattern) for _ in range(3))
        times = f"{cold[0]:.2f} s cold, {warm[0]:.2f} s warm"
        print(f"find {pattern}: {times}, {cold[1]} lines, {cold[2] / MIB:.0f} MiB", flush=True)


def find(library: Library, pattern: str) -> tuple[float, int, int]:
    """Run `vtlfs find`; return the seconds, the lines that it printed, and its most memory in bytes."""
    started = time.monotonic()
    done = subprocess.Popen([VTLFS, "find", library.path, pattern], stdout=subprocess.PIPE)
    assert done.stdout is not None
    lines = len(done.stdout.readlines())
    _, status, used = os.wait4(done.pid, 0)
    assert status == 0
    return time.monotonic() - started, lines, used.ru_maxrss * 1024


def members_of(stream: int) -> Iterator[list[FoundMember]]:
    """Yield the members of a stream in batches."""
    for start in range(0, A_STREAM, BATCH):
        yield [
            FoundMember(
                path_of(stream // 2 * A_STREAM + number), Kind.FILE, 100, 1_700_000_000, None, number, number + 1
            )
            for number in range(start, min(start + BATCH, A_STREAM))
        ]


if __name__ == "__main__":
    main()
