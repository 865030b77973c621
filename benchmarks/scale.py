"""Measure how the length of its history affects a library: the same work on libraries of several sizes, really mounted.

    python -m benchmarks.scale [--directory /var/tmp/scale] [--sizes 1000,1000000] [--rounds 5] [--output scale.json]

A size is a number of sessions; a library has a hundredth as many media, and as many snapshots. An empty library is
measured in any case, because one target is a ratio to its times. Libraries stay in the directory and are used again:
each run adds some sessions, to a medium of its own, and some snapshots.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil

from benchmarks import scale_report
from benchmarks.large_library import make
from benchmarks.peers import VTLFS, run
from vtlfs.disks.local.copies import path_of
from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import utc_now

SCRATCH = "SCALE0L9"  # the medium to which a run writes
SHARE = 100  # sessions for each medium, and for each snapshot
OPENS = 100  # in a round
STATS = 1000
WARM_UP = 20
BLOCK = bytes(10_240)
IDLE_SECONDS = 1.0  # from when the mount is usable until its memory is measured
COPY_SECONDS = 600.0  # the longest wait for a copy of the tracking database
POLL_SECONDS = 0.02

Samples = dict[str, list[float]]


def main() -> None:
    """Parse the command line, measure, and print what was found."""
    parser = argparse.ArgumentParser(prog="benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp/scale"), help="where the libraries are kept")
    parser.add_argument("--sizes", default="1000,10000,100000,1000000", help="numbers of sessions, separated by commas")
    parser.add_argument("--rounds", type=int, default=5, help="how often each measurement is repeated")
    parser.add_argument("--output", type=Path, default=Path("scale.json"), help="the JSON file for all samples")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the curves to this file")
    arguments = parser.parse_args()
    sizes = sorted({0, *(int(word) for word in arguments.sizes.split(","))})
    results: dict[int, Samples] = {}
    for size in sizes:
        results[size] = measure(library_of(arguments.directory, size), arguments.directory / "mnt", arguments.rounds)
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    print(scale_report.table(results))
    print("\n".join(scale_report.verdicts(results)))
    if arguments.plot:
        scale_report.plot(results, arguments.plot)


def library_of(directory: Path, size: int) -> Path:
    """Return the library with `size` sessions; make it if the directory has none."""
    library = directory / str(size) / "library"
    if not (library / "tracking.db").exists():
        print(f"making a library of {size} sessions", flush=True)
        make(directory / str(size), max(1, size // SHARE), size, size // SHARE)
    return library


def measure(library: Path, mountpoint: Path, rounds: int) -> Samples:
    """Measure one library."""
    mountpoint.mkdir(exist_ok=True)
    samples: Samples = defaultdict(list)
    barcode = prepare(library)
    for number in range(rounds + 1):
        mount_and_unmount(library, mountpoint, samples, " (first)" if number == 0 else "")
    make_copy_due(library)
    with mounted(library, mountpoint) as server:
        path = mountpoint / "drives/0" / SCRATCH
        time.sleep(IDLE_SECONDS)
        samples["memory idle"].append(server.memory_info().rss)
        while_copying(library, path, samples)
        samples["memory after the copy"].append(server.memory_info().rss)
        for _ in range(rounds):
            write_some(path, samples, "")
            read_some(path, samples)
            list_drive(path.parent, samples)
            wait_beside_listing(path, samples)
        samples["memory after ls"].append(server.memory_info().rss)
        commands(library, barcode, rounds, samples)
    for name, values in sorted(samples.items()):
        print(f"{library.parent.name:>8} {name:32} {statistics.median(values):14.6f}", flush=True)
    return dict(samples)


@contextmanager
def mounted(library: Path, mountpoint: Path) -> Iterator[psutil.Process]:
    """Mount the library; yield the process that serves the mount."""
    run(VTLFS, "mount", library, mountpoint)
    try:
        yield psutil.Process(json.loads(run(VTLFS, "status", library, "--json"))["mounts"][-1]["pid"])
    finally:
        run(VTLFS, "umount", mountpoint)


def timed(samples: Samples, name: str, work: Callable[[], object]) -> None:
    """Do the work, and add the seconds that it takes to the samples of this name."""
    started = time.perf_counter()
    work()
    samples[name].append(time.perf_counter() - started)


def mount_and_unmount(library: Path, mountpoint: Path, samples: Samples, remark: str) -> None:
    """Time a mount and an unmount with a session in between; without a remark, also an unmount without a session."""
    timed(samples, f"mount{remark}", lambda: run(VTLFS, "mount", library, mountpoint))
    write_one(mountpoint / "drives/0" / SCRATCH)
    timed(samples, f"umount{remark}", lambda: run(VTLFS, "umount", mountpoint))
    if not remark:
        run(VTLFS, "mount", library, mountpoint)
        timed(samples, "umount, nothing changed", lambda: run(VTLFS, "umount", mountpoint))


def write_one(path: Path) -> tuple[float, float]:
    """Write one block to a medium; return the seconds of open() and the first write(), and of close()."""
    begun = time.perf_counter()
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, BLOCK)
    written = time.perf_counter()
    os.close(descriptor)
    return written - begun, time.perf_counter() - written


def write_some(path: Path, samples: Samples, remark: str) -> None:
    """Time open(), write() and close(), many times."""
    for _ in range(WARM_UP):
        write_one(path)
    for _ in range(OPENS):
        opened, closed = write_one(path)
        samples[f"open and first write{remark}"].append(opened)
        samples[f"close{remark}"].append(closed)


def read_some(path: Path, samples: Samples) -> None:
    """Time opening the medium and reading its first byte, and stat() of it, many times."""
    for number in range(WARM_UP + OPENS):
        begun = time.perf_counter()
        descriptor = os.open(path, os.O_RDONLY)
        os.read(descriptor, 1)
        if number >= WARM_UP:
            samples["open and first read"].append(time.perf_counter() - begun)
        os.close(descriptor)
    for _ in range(STATS):
        timed(samples, "stat", path.stat)


def list_drive(drive: Path, samples: Samples) -> None:
    """Time `ls` of a drive: of names alone, and with attributes."""
    entries = len(os.listdir(drive))
    for name, option in (("ls -f", "-f"), ("ls -l", "-l")):
        timed(samples, name, lambda option=option: run("ls", option, drive))  # type: ignore[misc]
        samples[f"{name}, per entry"].append(samples[name][-1] / entries)


def wait_beside_listing(path: Path, samples: Samples) -> None:
    """Time stat() of a medium again and again while `ls` lists its drive; add the longest."""
    waits: Samples = {"stat": []}
    with subprocess.Popen(["ls", "-f", path.parent], stdout=subprocess.DEVNULL) as listing:
        while listing.poll() is None:
            timed(waits, "stat", path.stat)
    if listing.returncode:
        raise RuntimeError(f"ls of {path.parent} failed")
    samples["stat beside ls -f, longest"].append(max(waits["stat"]))


def while_copying(library: Path, path: Path, samples: Samples) -> None:
    """Wait until the mount copies the tracking database; time writes meanwhile, and the copying itself."""
    deadline = time.monotonic() + COPY_SECONDS
    with closing(Library.open(library).tracking(read_only=True)) as tracking:
        while not (claimed := _claimed(tracking)):
            _pause(library, deadline)
    begun = time.monotonic()
    copies = [path_of(disk, claimed) for disk in library.parent.glob("disk*")]
    while not all(copy.exists() for copy in copies):
        opened, closed = write_one(path)
        samples["open and first write, copying"].append(opened)
        samples["close, copying"].append(closed)
        _pause(library, deadline)
    samples["copying"].append(time.monotonic() - begun)


def _claimed(tracking: Tracking) -> int:
    """Return the number of the copy that was begun last; 0 if none was begun since `make_copy_due`."""
    return int(tracking.sql.one("SELECT iif(begun_at IS NULL, 0, number) FROM copy")[0])


def _pause(library: Path, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise RuntimeError(f"{library}: no copy of the database in {COPY_SECONDS:.0f} s")
    time.sleep(POLL_SECONDS)


def prepare(library: Path) -> str:
    """Make sure that the medium SCRATCH exists; return the barcode of a medium with a history, if there is one."""
    with closing(Library.open(library).tracking()) as tracking:
        known = [medium.barcode for medium in tracking.media.all()]
        if SCRATCH not in known:
            with tracking.transaction():
                tracking.media.add([SCRATCH], None, utc_now())
    return next((barcode for barcode in known if barcode != SCRATCH), SCRATCH)


def make_copy_due(library: Path) -> None:
    """Make a copy of the tracking database due, as in a library that was never mounted."""
    with closing(Library.open(library).tracking()) as tracking, tracking.transaction():
        tracking.sql.execute("UPDATE copy SET begun_at = NULL, again_at = NULL, state = NULL")


def commands(library: Path, barcode: str, rounds: int, samples: Samples) -> None:
    """Time commands of vtlfs, in turn, while the library is mounted."""
    with closing(Library.open(library).tracking(read_only=True)) as tracking:
        middle = max(1, tracking.library.epoch() // 2)
    commands = {
        "vtlfs --version": ["--version"],
        "status": ["status", library],
        "sessions --medium": ["sessions", library, "--medium", barcode],
        "snapshot take": ["snapshot", "take", library],
        "snapshot list": ["snapshot", "list", library],
        "snapshot show": ["snapshot", "show", library, str(middle)],
        "snapshot diff": ["snapshot", "diff", library, str(middle), str(middle + 1)],
    }
    run(VTLFS, "snapshot", "take", library)
    run(VTLFS, "snapshot", "take", library)
    for _ in range(rounds):
        for name, words in commands.items():
            timed(samples, name, lambda words=words: run(VTLFS, *words))  # type: ignore[misc]


if __name__ == "__main__":
    main()
