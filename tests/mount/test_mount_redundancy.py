"""Disks that die for good, as many as there is parity: streams run on, and everything can be read."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from devices import devices_of
from mounting import SECONDS, Mounted, OnDisks, random_bytes, shell, wait_until

from vtlfs.model import KIB, MIB

BLOCKS = {"T1": "10k", "T2": "64k", "T3": "1M"}  # the medium of each dd; tar writes to T4
SIZE = 12 * MIB
FILES = 60


@dataclass
class Streams:
    """Three dd and a tar, each in the middle of its stream."""

    root: Path
    processes: list[subprocess.Popen[bytes]]
    data: list[bytes]
    sent: int = 0
    stops: int = 0

    def go_on(self, size: int) -> None:
        """Feed each dd so many bytes more, and let tar go on to its next stop."""
        for process, data in zip(self.processes, self.data, strict=False):
            assert process.stdin is not None
            process.stdin.write(data[self.sent : self.sent + size])
            process.stdin.flush()
        self.sent += size
        (self.root / f"go{self.stops}").touch()
        self.stops += 1

    def reach(self, stop: int) -> None:
        """Wait until tar stands at a stop."""
        wait_until(lambda: (self.root / f"stop{stop}").exists(), "tar in the middle of its stream")

    def end(self) -> None:
        """End all programs; assert that their exit status is 0."""
        for process in self.processes:
            if process.stdin is not None:
                process.stdin.close()
        assert [process.wait(SECONDS) for process in self.processes] == [0] * len(self.processes)


@contextmanager
def streams(mounted: Mounted, root: Path) -> Iterator[Streams]:
    """Begin the streams. tar stops twice, behind a third of its files each time, until a file tells it to go on."""
    tree = root / "tree"
    tree.mkdir()
    for number in range(FILES):
        (tree / f"file{number:02d}").write_bytes(random_bytes(100 + number, 150 * KIB + number))
    stop = root / "stop"
    stop.write_text(
        f"n=$(ls {root} | grep -c '^stop[0-9]'); [ $n -lt 2 ] || exit 0; touch {root}/stop$n\n"
        f"until [ -e {root}/go$((n + 1)) ]; do sleep 0.02; done\n"
    )
    every = FILES * 150 * KIB // 10240 // 3
    checkpoint = [f"--checkpoint={every}", f"--checkpoint-action=exec=sh {stop}"]
    words: list[list[object]] = [
        ["dd", f"of={mounted.medium(barcode)}", f"bs={block}", "iflag=fullblock", "status=none"]
        for barcode, block in BLOCKS.items()
    ]
    words.append(["tar", *checkpoint, "-cf", mounted.medium("T4"), "-C", root, "tree"])
    begun = [subprocess.Popen([str(word) for word in line], stdin=subprocess.PIPE) for line in words[:-1]]
    begun.append(subprocess.Popen([str(word) for word in words[-1]], stdin=subprocess.DEVNULL))
    try:
        yield Streams(root, begun, [random_bytes(number, SIZE + number) for number in range(len(BLOCKS))])
    finally:
        for process in begun:
            process.kill()
            process.wait()


def check_whole(library: OnDisks, read: Callable[[str], bytes], wanted: Sequence[bytes]) -> None:
    """Assert that every stream is as it was sent. `read`: returns the bytes of a medium."""
    for barcode, data in zip([*BLOCKS, "T9"], wanted, strict=True):
        assert read(barcode) == data
    archive = library.root / "archive"
    archive.write_bytes(read("T4"))
    shell(f"tar -df {archive} -C {library.root}")


@pytest.mark.parametrize(
    ("kind", "disks", "parity", "while_mounted"),
    [("ext4", 3, 1, False), ("xfs", 3, 1, True), ("ext4", 4, 2, False), ("xfs", 4, 2, False)],
)
def test_streams_run_on_and_are_read_while_disks_are_dead_and_after_they_were_replaced(
    tmp_path: Path, kind: str, disks: int, parity: int, while_mounted: bool
) -> None:
    """The file systems of as many disks as there is parity are shut down in the middle of the streams, one by one.

    Then new disks take their places, and others are taken away instead.
    """
    before = random_bytes(9, 7 * MIB + 9)
    with devices_of(kind, tmp_path, [f"disk{number}" for number in range(disks)]) as devices:
        dying = devices[:parity]
        library = OnDisks(tmp_path, [device.path for device in devices], parity=parity)
        names = [f"disk {number} " for number in range(parity)]

        def replace() -> None:
            for number, device in enumerate(dying):
                device.make_anew()
                library.vtlfs("disk", "replace", library.path, number, device.path)

        with library.mounted(expects=names, checked=False) as mounted, streams(mounted, tmp_path) as running:
            mounted.medium("T9").write_bytes(before)
            for stop in range(2):
                running.go_on(SIZE // 3)
                running.reach(stop)
                if stop < parity:
                    dying[stop].cut_power(flush=False)
            running.go_on(SIZE)
            running.end()
            wanted = [*running.data, before]
            check_whole(library, lambda barcode: mounted.medium(barcode).read_bytes(), wanted)
        wait_until(
            lambda: {session["state"] for session in library.listed()} == {"released"}, "the rows of readers, too"
        )
        for device in dying:
            device.umount()
        with library.mounted(expects=names, checked=False) as mounted:
            check_whole(library, lambda barcode: mounted.medium(barcode).read_bytes(), wanted)
            if while_mounted:
                replace()
                check_whole(library, lambda barcode: mounted.medium(barcode).read_bytes(), wanted)
        if not while_mounted:
            replace()
        library.check()
        library.vtlfs("verify", library.path)
        for device in devices[-parity:]:
            device.umount()
        check_whole(library, library.extract, wanted)
