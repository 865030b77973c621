"""Real file systems that are shut down under a mount, as by a power cut: acknowledged bytes are kept."""

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from devices import KINDS, Device, devices_of
from mounting import SECONDS, Mounted, OnDisks, shell, wait_until

from vtlfs.engine import recover
from vtlfs.engine.library import Library
from vtlfs.engine.tracking.repositories.sessions import SessionFilter

MIB = 1 << 20
STREAM = Path(__file__).parents[1] / "crash" / "stream.py"
BLOCKS = (10240, 65536, 300_001)


@pytest.fixture(params=KINDS)
def devices(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Device]]:
    """Three file systems, one for the library and two for its disks."""
    with devices_of(str(request.param), tmp_path, ["library", "left", "right"]) as made:
        yield made


@dataclass
class Writer:
    """A stream that runs through the mount, and its acknowledged lengths."""

    process: subprocess.Popen[bytes]
    notes: Path
    seed: int
    block: int

    def read(self) -> list[int]:
        """Return the session, followed by the acknowledged lengths."""
        lines = self.notes.read_text().splitlines(keepends=True) if self.notes.exists() else []
        return [int(line) for line in lines if line.endswith("\n")]

    def sent(self, size: int) -> bytes:
        """Return the first bytes of the stream."""
        source = random.Random(self.seed)
        return b"".join(source.randbytes(self.block) for _ in range(-(-size // self.block)))[:size]


def start_writers(mounted: Mounted, notes: Path) -> list[Writer]:
    """Start streams; return when fsync() has acknowledged a few lengths of each."""
    writers = []
    for seed, block in enumerate(BLOCKS):
        side = notes / f"notes{seed}"
        words = [sys.executable, "-I", "-S", STREAM, mounted.medium(f"T{1 + seed % 2}"), seed, side, block]
        writers.append(Writer(subprocess.Popen([str(word) for word in words]), side, seed, block))
    wait_until(lambda: all(len(writer.read()) > 4 for writer in writers), "acknowledged writes")
    return writers


@pytest.mark.parametrize("flush", [False, True], ids=["nothing more", "journal flushed"])
def test_acknowledged_streams_survive_a_power_cut(devices: list[Device], tmp_path: Path, flush: bool) -> None:
    """Under a running mount, all file systems are shut down: that of the library first, or those of the disks.

    ext4 and xfs let an fsync() succeed now and then while they are shut down; the mount has to find that out.
    """
    library = OnDisks(tmp_path, [device.path for device in devices[1:]])
    assert library.path == devices[0].path
    archive = tmp_path / "archive"
    mountpoint = tmp_path / "mnt"
    with library.mounted(at=mountpoint, checked=False) as mounted:
        whole = random.Random(7).randbytes(3 * MIB + 5)
        archive.write_bytes(whole)
        shell(f"dd if={archive} of={mounted.medium('T3')} bs=10k status=none")  # acknowledged by close()
        shell(f"tar -C {tmp_path} -cf {mounted.medium('T4')} archive && tar -df {mounted.medium('T4')} -C {tmp_path}")
        writers = start_writers(mounted, tmp_path)
        for device in devices[::-1] if flush else devices:
            device.cut_power(flush=flush)
        mounted.kill()
        for writer in writers:
            assert writer.process.wait(SECONDS) == 0
        library.vtlfs("umount", mountpoint)
        mounted.log.write_text("")  # whatever it said of the disks that had failed
    for device in devices:
        device.mount_again()
    library.vtlfs("recover", library.path)
    assert recover.recover(Library.open(library.path)) == []
    library.check()
    assert library.extract("T3") == whole
    (tmp_path / "T4").write_bytes(library.extract("T4"))
    shell(f"tar -df {tmp_path}/T4 -C {tmp_path}")
    check_streams(library, writers)
    with library.mounted(at=mountpoint) as mounted:
        mounted.medium("T1").write_bytes(b"after")
        assert mounted.medium("T1").read_bytes().endswith(b"after")
        assert mounted.medium("T3").read_bytes() == whole


def check_streams(library: OnDisks, writers: list[Writer]) -> None:
    """Assert that of every stream a correct beginning is there, with all bytes that were ever acknowledged."""
    with closing(Library.open(library.path).tracking(read_only=True)) as tracking:
        known = {session.id: session for session in tracking.sessions.find(SessionFilter())}
    for writer in writers:
        number, *acknowledged = writer.read()
        session = known[number]
        assert session.state != "open"
        assert session.bytes >= max(acknowledged)
        assert session.tape_file is not None
        content = library.extract(session.medium, session.tape_file)
        assert content == writer.sent(session.bytes)
