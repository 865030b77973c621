"""Operation in fast motion: a pool of media, streams at night, a snapshot every week, and crashes.

`make soak` has a year of it, with 20 media and streams every third night; `make test` has 14 weeks and 7 media.

libfaketime tells the mounts and all commands another time than everybody else; only the wall clock is another. What
the test expects it keeps for itself: which stream went to which volume, and what each snapshot is to show.
"""

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from faked_clock import as_words, faked, require_faketime, set_offset
from mounting import PROGRAM, PROJECT, Mounted, OnDisks, clean_up, require_fuse

from vtlfs import failpoints
from vtlfs.model import KIB

SEED = int(os.environ.get("VTLFS_YEAR", "1"))  # of what is random
DAYS = int(os.environ.get("VTLFS_YEAR_DAYS", "98"))
STEP = int(os.environ.get("VTLFS_YEAR_STEP", "7"))  # days from one night with streams to the next; 1: each night
IS_YEAR = DAYS >= 365
MEDIA = [f"N{number:02d}" for number in range(1, 21 if IS_YEAR else 8)]
RETAIN = 30  # days
KEPT = 8  # snapshots
STREAMS = 3  # a night
CAPACITY = max(110, 260 // STEP) * KIB  # of a medium: the streams of a night or more
RULES = f"""
[media."N*"]
retain = "{RETAIN}d"
[pools.NIGHT]
media = "N*"
reuse = "oldest expired"
"""
GONE = {errno.ENOTCONN, errno.ECONNABORTED}
# Where commands die, and mounts that reclaim in the background; `NAME:2` for what is reached more than once.
ERASING = ["tracking.volume_ended", "tracking.event_added", "transaction.commit", "transaction.committed"]
RECLAIMING = [
    *("tracking.session_reclaimed", "tracking.extents_reclaimed", "member.removed", "member.removed:3"),
    *("tracking.leftovers_removed", "tracking.volume_reclaimed", "transaction.commit:3", "transaction.committed:4"),
]
DELETING = ["tracking.snapshots_removed", "tracking.event_added", "transaction.commit", "transaction.committed"]
TAKING = ["tracking.snapshot_taken", "transaction.committed"]
IMPORTING = [
    *("transfer.unrecorded", "transfer.unrecorded:2", "transfer.recorded", "transfer.recorded:2"),
    *("tracking.session_released", "tracking.session_released:2", "member.finished", "extent.written:3"),
    *("tracking.progress_recorded:2", "transaction.committed:4", "cartridge.kept"),
]
MOVING = ["tracking.pool_moved", "tracking.pool_full", "tracking.part_added:4", "tracking.volume_ended"]  # mounts
LOST, REPLACED = DAYS // 3, DAYS * 2 // 3  # days on which a disk dies, and one that works is replaced


@dataclass(frozen=True)
class Stream:
    """A stream that was acknowledged."""

    seed: int
    size: int
    day: int

    @property
    def data(self) -> bytes:
        """Its bytes."""
        return random.Random(self.seed).randbytes(self.size)


@dataclass
class Expected:
    """What is on the media, and what each snapshot is to show, by barcode."""

    media: dict[str, list[Stream]] = field(default_factory=lambda: {barcode: [] for barcode in MEDIA})
    snapshots: dict[str, dict[str, list[Stream]]] = field(default_factory=dict)

    def is_retained(self, barcode: str, day: int) -> bool:
        """Tell whether a medium can't be erased yet."""
        return any(stream.day + RETAIN > day for stream in self.media[barcode])


class Site(OnDisks):
    """The library, its clock, the clerk who runs commands, and the mount."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, 3, media="OTHER", unit=16 * KIB, parity=1)
        self.add(*MEDIA, capacity=CAPACITY)
        with open(self.path / "library.toml", "a") as file:
            file.write(RULES)
        self.day = 0
        self.clock = root / "clock"
        self.random = random.Random(SEED)
        self.expected = Expected()
        self.mount_now: Mounted | None = None
        self.seed = 0
        self.crashes = 0
        self.import_crashes = 0
        self.move_crashes = 0
        self.imported: tuple[str, list[Stream]] | None = None  # barcode and content of the last import
        self.set_day(1)
        self.faked = as_words(faked(FAKETIME_TIMESTAMP_FILE=str(self.clock), FAKETIME_CACHE_DURATION="1"))
        words = [*self.faked, sys.executable, str(Path(__file__).with_name("clerk.py"))]
        environment = os.environ | {"PYTHONPATH": str(PROJECT)}
        self.clerk = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=PROJECT
        )

    def set_day(self, day: int) -> None:
        """Have it be another day."""
        self.day = day
        set_offset(self.clock, f"+{day}d")
        time.sleep(2.1)  # for two whole seconds at most, libfaketime tells what it has read last

    def run(self, *words: object, status: int = 0, failpoint: str | None = None) -> str:
        """Run a command; return what it printed."""
        found, said = self.ask(*words, failpoint=failpoint)
        assert found == status, f"day {self.day}: {words}: status {found}: {said}"
        return said

    def ask(self, *words: object, failpoint: str | None = None) -> tuple[int, str]:
        """Run a command; return its exit status, and what it printed."""
        assert self.clerk.stdin
        assert self.clerk.stdout
        print(json.dumps({"words": [str(word) for word in words], "failpoint": failpoint}), file=self.clerk.stdin)
        self.clerk.stdin.flush()
        status, said = json.loads(self.clerk.stdout.readline())
        return int(status), str(said)

    def crash(self, points: list[str], *words: object) -> None:
        """Run a command that may die at one of some failpoints, then run it to its end."""
        failpoint = self.random.choice(points)
        status, said = self.ask(*words, failpoint=failpoint)
        assert status in (0, failpoints.STATUS), f"day {self.day}: {words} at {failpoint}: {said}"
        self.crashes += status == failpoints.STATUS

    # --- the mount --------------------------------------------------------------------------------------------------

    @property
    def mounted_now(self) -> Mounted:
        """The mount, which is there by day and by night, unless it has died."""
        if self.mount_now is None:
            self.mount()
        assert self.mount_now is not None
        return self.mount_now

    def mount(self, failpoint: str | None = None) -> None:
        """Mount the library. `failpoint`: where that mount will die, if it gets there."""
        (self.root / "mnt").mkdir(exist_ok=True)
        own = [] if failpoint is None else [f"{failpoints.ENVIRONMENT}={failpoint}"]
        self.is_moving = failpoint in MOVING
        self.serving = [*self.faked, *own, *PROGRAM]
        try:
            self.mount_now = self._start(self.root / "mnt", "", background=False)
        except AssertionError:
            if failpoint is None:
                raise
            self.crashes += 1  # it has got there before it was mounted
            self.mount()

    def unmount(self) -> None:
        """Unmount, if that mount lives."""
        if (mounted := self.mount_now) is None:
            return
        assert mounted.process is not None
        if mounted.process.poll() is None:
            subprocess.run(["umount", mounted.path], check=False)
            mounted.process.wait(60)
        self.bury()

    def bury(self) -> None:
        """Clear away the mount, which has ended or died; want it to have died at a failpoint, or not at all."""
        mounted, self.mount_now = self.mount_now, None
        assert mounted is not None
        assert mounted.process is not None
        status = mounted.process.poll()
        assert status in (0, failpoints.STATUS, -9, None), f"status {status}: {mounted.said()}"
        self.crashes += status in (failpoints.STATUS, -9)
        mounted.has_ended = True
        clean_up(mounted)

    def close(self) -> None:
        """Leave nothing behind."""
        if self.mount_now is not None:
            clean_up(self.mount_now)
        self.clerk.kill()
        self.clerk.wait()
        for pipe in (self.clerk.stdin, self.clerk.stdout):
            if pipe is not None:
                pipe.close()

    # --- a night ----------------------------------------------------------------------------------------------------

    def night(self) -> None:
        """Write some streams to the pool; one that dies with the mount is written again."""
        for _ in range(STREAMS):
            self.seed += 1
            stream = Stream(self.seed, self.random.randrange(8 * KIB, 60 * KIB), self.day)
            for _ in range(4):
                if self.write(stream):
                    break
            else:
                raise AssertionError(f"day {self.day}: no medium takes the stream")

    def write(self, stream: Stream) -> bool:
        """Write a stream to the medium on which the pool is; False: it did not fit there, or the mount has died."""
        mounted = self.mounted_now
        descriptor = None
        number = 0
        try:
            descriptor = os.open(mounted.path / "pools" / "NIGHT", os.O_WRONLY)
            number = os.fstat(descriptor).st_ino
            rest = memoryview(stream.data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
            is_whole = True
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EIO, *GONE}:
                raise
            is_whole = False
            if error.errno in GONE and mounted.process is not None:
                mounted.process.wait(60)  # it is dying
        finally:
            if descriptor is not None:
                with suppress(OSError):
                    os.close(descriptor)
        if mounted.process is not None and mounted.process.poll() is not None:
            self.bury()
            self.move_crashes += self.is_moving
            self.run("recover", self.path)
        if number:
            self.expect(number, stream)
        return is_whole

    def expect(self, number: int, stream: Stream) -> None:
        """Note what a session has left; want none of what it replaces to be retained."""
        with suppress(OSError):
            os.stat(self.mounted_now.path / "pools" / "NIGHT")  # it waits for the release
        (session,) = [one for one in json.loads(self.run("sessions", self.path, "--json")) if one["id"] == number]
        if session["tape_file"] is None:
            return
        barcode, place = session["medium"], session["tape_file"]
        if place == 0 and self.expected.media[barcode]:
            assert not self.expected.is_retained(barcode, self.day), f"day {self.day}: {barcode} was retained"
            self.expected.media[barcode] = []
        known = self.expected.media[barcode]
        assert len(known) == place
        known.append(Stream(stream.seed, session["bytes"], stream.day))

    def try_to_erase(self) -> None:
        """Want a medium under retention not to be erased, whoever asks."""
        retained = [barcode for barcode in MEDIA if self.expected.is_retained(barcode, self.day)]
        if retained:
            barcode = self.random.choice(retained)
            said = self.run("media", "erase", self.path, barcode, "--yes", status=1)
            assert "is retained until" in said or "writes to it" in said, f"day {self.day}: {barcode}: {said!r}"
            with pytest.raises(OSError, match=r"not permitted|No such|not connected"):
                (self.mounted_now.path / "media" / barcode).unlink()

    # --- a week -----------------------------------------------------------------------------------------------------

    def week(self, number: int) -> None:
        """Take a snapshot and delete an old one, erase a medium, reclaim; each may die on its way."""
        name = f"week {number:02d}"
        self.crash([*TAKING, "log.synced"], "snapshot", "take", self.path, "--name", name)
        taken = {one["name"] for one in json.loads(self.run("snapshot", "list", self.path, "--json"))}
        if name not in taken:
            self.run("snapshot", "take", self.path, "--name", name)
        self.expected.snapshots[name] = {barcode: list(streams) for barcode, streams in self.expected.media.items()}
        while len(self.expected.snapshots) > KEPT:
            self.delete_oldest()
        if number % 4 == 0:
            self.erase_expired()
            self.import_one(number // 4)
        self.unmount()
        self.crash(RECLAIMING, "reclaim", self.path)
        self.run("reclaim", self.path)
        self.check_all()

    def delete_oldest(self) -> None:
        """Delete the oldest snapshot, which shows to the end what it was to show."""
        name = next(iter(self.expected.snapshots))
        self.check_snapshot(name)
        self.crash(DELETING, "snapshot", "delete", self.path, name, "--yes")
        if name in {one["name"] for one in json.loads(self.run("snapshot", "list", self.path, "--json"))}:
            self.run("snapshot", "delete", self.path, name, "--yes")
        del self.expected.snapshots[name]

    def erase_expired(self) -> None:
        """Erase a medium whose retention is over."""
        expired = [
            barcode
            for barcode, streams in self.expected.media.items()
            if streams and not self.expected.is_retained(barcode, self.day)
        ]
        if expired:
            barcode = self.random.choice(expired)
            self.crash(ERASING, "media", "erase", self.path, barcode, "--yes")
            self.run("media", "erase", self.path, barcode, "--yes")
            self.expected.media[barcode] = []

    def import_one(self, number: int) -> None:
        """Import a medium that was exported under another barcode; erase and remove the one of the last time."""
        if self.imported is not None:
            why = ("--override", "--reason", "as was agreed", "--yes")
            self.run("media", "erase", self.path, self.imported[0], *why)
            self.run("media", "remove", self.path, self.imported[0], "--yes")
        barcode = self.random.choice([barcode for barcode, streams in self.expected.media.items() if streams])
        out, under = self.root / f"carried{number}", f"X{number:02d}"
        self.run("media", "export", self.path, barcode, "-o", out)
        crashes = self.crashes
        words = ("media", "import", self.path, out / barcode, "--as", under)
        self.crash(IMPORTING, *words)
        self.import_crashes += self.crashes - crashes
        self.run(*words)
        shutil.rmtree(out)
        self.imported = under, list(self.expected.media[barcode])

    def check_all(self) -> None:
        """Want books that are right, every extent right, and all media as they are to be."""
        self.run("check", self.path)
        self.run("verify", self.path)
        for barcode in self.random.sample(MEDIA, min(5, len(MEDIA))):
            self.check_medium(Path(), barcode, self.expected.media[barcode])
        if self.imported is not None:
            self.check_medium(Path(), *self.imported)
        self.check_snapshot(self.random.choice(list(self.expected.snapshots)))

    def check_snapshot(self, name: str) -> None:
        """Want a snapshot to show what was there when it was taken."""
        found = json.loads(self.run("snapshot", "list", self.path, "--json"))
        (number,) = [one["id"] for one in found if one["name"] == name]
        for barcode, streams in self.expected.snapshots[name].items():
            self.check_medium(Path("snapshots") / str(number), barcode, streams)

    def check_medium(self, place: Path, barcode: str, streams: list[Stream]) -> None:
        """Want the tape files of a medium at a place in the mount; if that dies meanwhile, in the next one."""
        try:
            self._check_medium(self.mounted_now.path / place, barcode, streams)
        except OSError as error:
            if error.errno not in GONE:
                raise
            self.unmount()
            self._check_medium(self.mounted_now.path / place, barcode, streams)

    def _check_medium(self, root: Path, barcode: str, streams: list[Stream]) -> None:
        assert (root / "media" / barcode).read_bytes() == b"".join(one.data for one in streams), (self.day, barcode)
        folder = root / "files" / barcode
        assert sorted(path.name for path in folder.iterdir()) == [f"{place:04d}" for place in range(len(streams))]

    def used(self) -> int:
        """Return the bytes that the disks' directories take up."""
        return sum(
            path.stat().st_blocks * 512 for disk in self.disks for path in disk.rglob("*.member") if path.is_file()
        )

    def replace_disk(self, number: int, *, lost: bool) -> None:
        """Replace a disk by an empty one; `lost`: all on it is gone before."""
        self.unmount()
        new = self.root / f"new{number}"
        new.mkdir()
        if lost:
            self.disks[number].rename(self.root / "lost")
        self.run("disk", "replace", self.path, number, new)
        self.disks[number] = new


@pytest.fixture
def site(tmp_path: Path, _no_descriptor_left: None) -> Iterator[Site]:
    """The library and its clock, in memory where there is enough: no power is cut here."""
    require_fuse()
    require_faketime()
    roomy = Path("/dev/shm")
    is_roomy = roomy.is_dir() and shutil.disk_usage(roomy).free > 1 << 30
    with tempfile.TemporaryDirectory(prefix="vtlfs-year-", dir=roomy if is_roomy else tmp_path) as root:
        made = Site(Path(root))
        yield made
        made.close()


@pytest.mark.timeout(7200 if IS_YEAR else 1200)
def test_a_year(site: Site) -> None:
    used: list[int] = []
    for day in range(STEP, DAYS + 1, STEP):
        begins = {period: day // period > (day - STEP) // period for period in (7, 11, 13, LOST, REPLACED)}
        site.set_day(day)
        if begins[13]:
            site.unmount()
            site.mount(site.random.choice(MOVING))  # dies when the pool moves, or is told that its medium is full
        site.night()
        site.try_to_erase()
        if begins[LOST] and day < 2 * LOST:
            site.replace_disk(1, lost=True)
        if begins[REPLACED]:
            site.replace_disk(2, lost=False)
        if begins[11]:
            site.unmount()
            site.mount(site.random.choice(RECLAIMING))  # dies while it reclaims, if there is something to reclaim
        if begins[7]:
            site.week(day // 7)
            used.append(site.used())
            print(f"day {day}: {used[-1]:,} bytes on the disks, {site.crashes} crashes", flush=True)
    volumes = sum(site_volumes(site).values())
    died = f"{site.crashes} crashes, {site.import_crashes} of imports and {site.move_crashes} of moves of the pool"
    print(f"{died}; {volumes} volumes; bytes on the disks by week: {used}")
    assert site.crashes > DAYS // 14
    assert site.import_crashes
    assert site.move_crashes
    assert volumes > len(MEDIA)
    if IS_YEAR:
        # The pool has begun to reuse its media, and the oldest snapshots are deleted: it stays so from there on.
        third, last = used[26:39], used[39:]
        assert max(last) < 1.1 * max(third)
        assert min(last) < 1.1 * min(third)


def site_volumes(site: Site) -> dict[str, int]:
    """Return how many volumes each medium has had."""
    found: list[dict[str, Any]] = json.loads(site.run("media", "list", site.path, "--json"))
    return {one["barcode"]: one["volume"] for one in found}
