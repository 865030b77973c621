"""The peers: vtlfs, and the file systems that it is compared with.

Each peer is mounted anew for every run, over the same two directories.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

VTLFS = str(Path(sys.executable).with_name("vtlfs"))
TAPE = "TAPE"
IMAGE_BYTES = 8 << 30  # of the sparse file behind a loop device
PROJECT = Path(__file__).parents[1]
POLL_SECONDS = 0.02
MOUNT_SECONDS = 20.0
WRITERS_A_DISK = 2
THE_DISKS, PROMISING, NOTHING = "bound: the disks", "bound: pyfuse3", "bound: nothing done"

# mergerfs without the page cache, with direct I/O as well, and with the kernel's writeback cache. The best one counts.
MERGERFS_MODES = {
    "off": "cache.files=off",
    "direct": "cache.files=off,direct_io=true",
    "writeback": "cache.files=auto-full,cache.writeback=true",
}
PASSTHROUGH = "passthrough_hp"
PASSTHROUGH_MODES: dict[str, tuple[str, ...]] = {"cached": (), "direct": ("--direct-io",)}


def run(*words: str | os.PathLike[str]) -> str:
    """Run a command that must succeed; return what it prints. Ctrl-C does not reach the command's process group."""
    done = subprocess.run(list(words), check=False, capture_output=True, text=True, process_group=0)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


@dataclass(frozen=True)
class Place:
    """The directories of a benchmark: `disks`, and one to mount on."""

    root: Path
    disks: tuple[Path, ...]

    @property
    def mountpoint(self) -> Path:
        """Return the directory to mount on."""
        return self.root / "mnt"

    def empty(self) -> None:
        """Remove the files of the last run, and make the directories for the next run."""
        for disk in self.disks:
            for entry in disk.iterdir() if disk.is_dir() else ():
                if entry.name != "lost+found":
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            disk.mkdir(exist_ok=True)
        shutil.rmtree(self.root / "library", ignore_errors=True)
        self.mountpoint.mkdir(exist_ok=True)


@dataclass(frozen=True)
class Mounted:
    """A mounted peer. `write(n)` is the path to which stream n is written, `read(n)` that from which it is read."""

    write: Callable[[int], Path]
    read: Callable[[int], Path]
    pid: int | None = None  # of the process that serves the mount; None if the kernel does
    parts: int = 0  # write a single stream as so many files at the same time, past the page cache; 0: as one file


@dataclass(frozen=True)
class Peer:
    """One file system under test. `make(place)` creates it over the place's disks; `mount(place)` mounts it."""

    name: str
    make: Callable[[Place], None]
    mount: Callable[[Place], AbstractContextManager[Mounted]]


def plain() -> Peer:
    """Return the peer that is the first disk's directory itself."""

    @contextmanager
    def mount(place: Place) -> Iterator[Mounted]:
        yield _files(place.disks[0])

    return Peer("plain directory", lambda place: None, mount)


def mergerfs(mode: str) -> Peer:
    """Return mergerfs over all directories, in one of its cache modes."""

    @contextmanager
    def mount(place: Place) -> Iterator[Mounted]:
        run("mergerfs", "-o", f"category.create=mfs,{MERGERFS_MODES[mode]}", _branches(place), place.mountpoint)
        with _unmounting(place.mountpoint):
            yield _files(place.mountpoint, _pid("mergerfs"))

    return Peer(f"mergerfs {mode}", lambda place: None, mount)


def bindfs() -> Peer:
    """Return bindfs over the first directory."""

    @contextmanager
    def mount(place: Place) -> Iterator[Mounted]:
        run("bindfs", place.disks[0], place.mountpoint)
        with _unmounting(place.mountpoint):
            yield _files(place.mountpoint, _pid("bindfs"))

    return Peer("bindfs", lambda place: None, mount)


def passthrough(mode: str) -> Peer:
    """Return libfuse's C++ passthrough over the first directory, in one of its modes.

    It is an example in libfuse's source, which Debian does not build: see docs/measurements.md.
    """

    @contextmanager
    def mount(place: Place) -> Iterator[Mounted]:
        run(PASSTHROUGH, *PASSTHROUGH_MODES[mode], place.disks[0], place.mountpoint)
        with _unmounting(place.mountpoint):
            yield _files(place.mountpoint, _pid(PASSTHROUGH))

    return Peer(f"{PASSTHROUGH} {mode}", lambda place: None, mount)


def btrfs() -> Peer:
    """Return the kernel's btrfs with RAID 0 over a loop device in each directory."""

    def make(place: Place) -> None:
        for image in _images(place):
            with image.open("wb") as file:
                file.truncate(IMAGE_BYTES)
        with ExitStack() as stack:
            run("mkfs.btrfs", "-q", "-f", "-d", "raid0", "-m", "raid0", *_loops(stack, place))

    @contextmanager
    def mount(place: Place) -> Iterator[Mounted]:
        with ExitStack() as stack:
            loops = _loops(stack, place)
            options = ",".join(f"device={loop}" for loop in loops)
            run("mount", "-t", "btrfs", "-o", options, loops[0], place.mountpoint)
            stack.enter_context(_unmounting(place.mountpoint))
            yield _files(place.mountpoint)

    return Peer("btrfs RAID 0", make, mount)


def disks() -> Peer:
    """Return the bound that is the disks' directories, written by several programs at once past the page cache."""

    @contextmanager
    def mount(place: Place) -> Iterator[Mounted]:
        paths = [disk / f"part{number}" for number in range(WRITERS_A_DISK) for disk in place.disks]
        yield Mounted(lambda number: paths[number], lambda number: paths[number], parts=len(paths))

    return Peer(THE_DISKS, lambda place: None, mount)


def least(name: str, *options: str) -> Peer:
    """Return the bound that is the minimal file system in pyfuse3; see `benchmarks.least`."""

    @contextmanager
    def mount(place: Place) -> Iterator[Mounted]:
        words = [sys.executable, "-m", "benchmarks.least", str(place.mountpoint), str(place.disks[0]), *options]
        with subprocess.Popen(words, process_group=0, cwd=PROJECT) as serving:
            try:
                _wait_for(place.mountpoint, serving)
                with _unmounting(place.mountpoint):
                    yield _files(place.mountpoint, serving.pid)
            finally:
                serving.terminate()  # no effect after an unmount, which ends the process

    return Peer(name, lambda place: None, mount)


def _wait_for(mountpoint: Path, serving: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + MOUNT_SECONDS
    while not mountpoint.is_mount():
        if serving.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{mountpoint}: nothing is mounted; status {serving.returncode}")
        time.sleep(POLL_SECONDS)


def vtlfs(name: str = "vtlfs", *options: str) -> Peer:
    """Return vtlfs with its defaults; `options` are those of `vtlfs init`."""

    def make(place: Place) -> None:
        disks = (word for disk in place.disks for word in ("--disk", str(disk)))
        run(VTLFS, "init", place.root / "library", *disks, *options)
        run(VTLFS, "media", "add", place.root / "library", TAPE)

    @contextmanager
    def mount(place: Place) -> Iterator[Mounted]:
        run(VTLFS, "mount", place.root / "library", place.mountpoint)
        try:
            tape, files = place.mountpoint / "drives/0" / TAPE, place.mountpoint / "files" / TAPE
            pid = json.loads(run(VTLFS, "status", place.root / "library", "--json"))["mounts"][0]["pid"]
            yield Mounted(lambda _: tape, lambda number: files / f"{number:04d}", pid)
        finally:
            run(VTLFS, "umount", place.mountpoint)

    return Peer(name, make, mount)


def available(directory: Path) -> list[Peer]:
    """Return the peers and bounds that this machine and directory allow, vtlfs last; print which are left out."""
    peers = [plain()]
    peers += [mergerfs(mode) for mode in MERGERFS_MODES] if _has("mergerfs") else []
    peers += [passthrough(mode) for mode in PASSTHROUGH_MODES] if _has(PASSTHROUGH) else []
    peers += [bindfs()] if _has("bindfs") else []
    knows_btrfs = "btrfs" in Path("/proc/filesystems").read_text().split()
    peers += [btrfs()] if knows_btrfs and _has("mkfs.btrfs") else []
    peers += [disks()] if _takes_direct(directory) else []
    return [*peers, least(PROMISING), least(NOTHING, "--nothing"), vtlfs()]


@contextmanager
def loop_device(image: Path) -> Iterator[str]:
    """Attach a file to a loop device, past the page cache; yield the device."""
    device = run("losetup", "--direct-io=on", "--find", "--show", image).strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


def _has(program: str) -> bool:
    if shutil.which(program):
        return True
    print(f"{program} is not installed, and is left out", file=sys.stderr)
    return False


def _takes_direct(directory: Path) -> bool:
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
        try:
            os.close(os.open(Path(temporary, "file"), os.O_WRONLY | os.O_CREAT | os.O_DIRECT, 0o600))
        except OSError as error:
            print(f"{directory} takes no O_DIRECT, {THE_DISKS!r} is left out: {error.strerror}", file=sys.stderr)
            return False
    return True


def _files(directory: Path, pid: int | None = None) -> Mounted:
    return Mounted(lambda number: directory / f"stream{number}", lambda number: directory / f"stream{number}", pid)


def _branches(place: Place) -> str:
    return ":".join(map(str, place.disks))


def _images(place: Place) -> list[Path]:
    return [disk / "image" for disk in place.disks]


def _loops(stack: ExitStack, place: Place) -> list[str]:
    return [stack.enter_context(loop_device(image)) for image in _images(place)]


@contextmanager
def _unmounting(mountpoint: Path) -> Iterator[None]:
    try:
        yield
    finally:
        run("umount", mountpoint)


def _pid(name: str) -> int:
    """Return the newest process of this name, which serves the mount just made."""
    return int(run("pgrep", "--newest", "--exact", name).split()[0])


def names(peers: Sequence[Peer]) -> list[str]:
    """Return the names of the peers."""
    return [peer.name for peer in peers]
