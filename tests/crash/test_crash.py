"""The serving process dies while streams run: bytes that fsync() acknowledged are kept, and no wrong byte appears."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from mounting import SECONDS, Mounted, OnDisks, wait_until

from vtlfs import failpoints

STREAM = Path(__file__).with_name("stream.py")
BLOCKS = [4095, 10240, 65536, 300_001]


@dataclass
class Writer:
    """A process that writes a stream, and what it noted."""

    process: subprocess.Popen[bytes]
    side: Path
    seed: int
    block: int

    def notes(self) -> list[int]:
        """Return the session, and the acknowledged lengths."""
        if not self.side.exists():
            return []
        return [int(line) for line in self.side.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def sent(self, size: int) -> bytes:
        """Return the first bytes of the stream."""
        source = random.Random(self.seed)
        return b"".join(source.randbytes(self.block) for _ in range(-(-size // self.block)))[:size]


def launch_writers(mounted: Mounted, notes: Path) -> list[Writer]:
    """Start four streams to two media."""
    writers = []
    for seed, block in enumerate(BLOCKS):
        side = notes / f"side{seed}-{mounted.pid}"
        path = mounted.medium(f"T{1 + seed % 2}")
        words = [sys.executable, "-I", "-S", STREAM, path, seed, side, block]
        writers.append(Writer(subprocess.Popen([str(word) for word in words]), side, seed, block))
    return writers


def start_writers(mounted: Mounted, notes: Path) -> list[Writer]:
    """Start four streams to two media; return when fsync() has acknowledged two lengths of each."""
    writers = launch_writers(mounted, notes)
    wait_until(lambda: all(len(writer.notes()) > 3 for writer in writers), "acknowledged writes")
    return writers


def end(writers: list[Writer]) -> None:
    """Wait until the writers have ended with an error."""
    for writer in writers:
        assert writer.process.wait(SECONDS) == 0


def check_kept(library: OnDisks, writers: list[Writer], state: str = "recovered") -> None:
    """Assert that of every stream a correct prefix is there, with all acknowledged bytes."""
    for writer in writers:
        number, *acknowledged = writer.notes()
        known = library.session(number)
        assert known.state == state
        assert known.released_at is not None
        assert known.tape_file is not None
        assert known.bytes >= max(acknowledged, default=0)
        content = library.extract(known.medium, known.tape_file)
        assert len(content) == known.bytes
        assert content == writer.sent(len(content))


def listings(library: OnDisks) -> str:
    """Return all listings of sessions and tape files."""
    told = [library.vtlfs("sessions", library.path, "--json")]
    return "".join(told + [library.vtlfs("files", library.path, f"T{number}", "--json") for number in (1, 2)])


@pytest.mark.parametrize("io", ["direct", "cached", "auto"])
def test_recover_keeps_what_was_acknowledged(library: OnDisks, tmp_path: Path, io: str) -> None:
    with library.mounted(f"io={io}") as mounted:
        mounted.medium("T1").write_bytes(b"before")
        writers = start_writers(mounted, tmp_path)
        mounted.kill()
        end(writers)
        assert all(library.session(writer.notes()[0]).state == "open" for writer in writers)
        library.vtlfs("umount", mounted.path)
    recovered = json.loads(library.vtlfs("recover", library.path, "--json"))
    assert {one["id"] for one in recovered} >= {writer.notes()[0] for writer in writers}
    assert {one["state"] for one in recovered} == {"recovered"}
    check_kept(library, writers)
    assert library.extract("T1", 0) == b"before"
    after = listings(library)
    assert library.vtlfs("recover", library.path).startswith("nothing to recover")
    assert listings(library) == after
    with library.mounted(f"io={io}") as mounted:
        for barcode in ("T1", "T2"):
            assert mounted.medium(barcode).read_bytes() == library.extract(barcode)
        mounted.medium("T1").write_bytes(b"after")
        assert mounted.medium("T1").read_bytes().endswith(b"after")
    check_kept(library, writers)


def test_next_mount_recovers_the_dead_one(library: OnDisks, tmp_path: Path) -> None:
    with library.mounted() as mounted:
        writers = start_writers(mounted, tmp_path)
        mounted.kill()
        end(writers)
        library.vtlfs("umount", mounted.path)
    with library.mounted(expects=["died; 4 of its sessions were ended"]) as mounted:
        assert os.listdir(mounted.path / "sessions") == []
        check_kept(library, writers)
        for writer in writers:
            known = library.session(writer.notes()[0])
            content = mounted.file(known.medium, known.tape_file or 0).read_bytes()
            assert content == writer.sent(known.bytes)
    assert library.vtlfs("recover", library.path).startswith("nothing to recover")


def test_other_live_mount_recovers_the_dead_one(library: OnDisks, tmp_path: Path) -> None:
    expects = ["died; 4 of its sessions were ended"]
    with library.mounted("host=beta", at=tmp_path / "beta", expects=expects) as beta:
        with library.mounted("host=alpha") as alpha:
            writers = start_writers(alpha, tmp_path)
            survivor = os.open(beta.medium("T1"), os.O_WRONLY | os.O_TRUNC)
            os.write(survivor, b"written before, ")
            alpha.kill()
            end(writers)
            library.vtlfs("umount", alpha.path)
        numbers = [writer.notes()[0] for writer in writers]
        wait_until(lambda: all(library.session(number).state == "recovered" for number in numbers), "ended sessions")
        check_kept(library, writers)
        os.write(survivor, b"and after")
        os.close(survivor)
        assert beta.medium("T1").read_bytes().endswith(b"written before, and after")
        assert library.extract("T1") == beta.medium("T1").read_bytes()


def test_recover_leaves_live_mounts_alone(library: OnDisks, tmp_path: Path) -> None:
    with library.mounted("host=beta", at=tmp_path / "beta") as beta:
        survivor = os.open(beta.medium("T1"), os.O_WRONLY | os.O_TRUNC)
        number = os.fstat(survivor).st_ino
        os.write(survivor, b"before, ")
        assert library.vtlfs("recover", library.path).startswith("nothing to recover")
        assert library.session(number).state == "open"
        os.write(survivor, b"after")
        os.close(survivor)
        assert beta.medium("T1").read_bytes() == b"before, after"


def test_mounting_again_on_the_dead_mount_point(library: OnDisks, tmp_path: Path) -> None:
    with library.mounted() as mounted:
        writers = start_writers(mounted, tmp_path)
        mounted.kill()
        end(writers)
        with library.mounted(expects=["the mount here is dead", "died; 4 of its sessions"]) as again:
            check_kept(library, writers)
            again.medium("T3").write_bytes(b"alive")
            assert again.medium("T3").read_bytes() == b"alive"


def test_dead_mount_can_be_unmounted(library: OnDisks) -> None:
    with library.mounted() as mounted:
        mounted.kill()
        library.vtlfs("umount", mounted.path)
        assert os.listdir(mounted.path) == []


def test_stream_that_was_never_made_durable_leaves_no_tape_file(library: OnDisks) -> None:
    with library.mounted("io=direct") as mounted:
        descriptor = os.open(mounted.medium("T1"), os.O_WRONLY | os.O_TRUNC)
        number = os.fstat(descriptor).st_ino
        os.write(descriptor, b"never synced")
        mounted.kill()
        with pytest.raises(OSError, match="not connected"):
            os.close(descriptor)
        library.vtlfs("umount", mounted.path)
    library.vtlfs("recover", library.path)
    known = library.session(number)
    assert (known.state, known.bytes, known.tape_file) == ("recovered", 0, None)
    assert library.tape_files("T1") == []


def test_running_stream_is_made_durable_now_and_then(library: OnDisks) -> None:
    """No fsync() is needed: `tracking.checkpoint` does it."""
    library.checkpoint_every("0.1s")
    with library.mounted() as mounted:
        descriptor = os.open(mounted.medium("T1"), os.O_WRONLY)
        number = os.fstat(descriptor).st_ino
        data = random.Random(1).randbytes((5 << 20) + 5)  # of which the kernel makes a write for each mebibyte
        os.write(descriptor, data)
        wait_until(lambda: library.session(number).bytes >= 5 << 20, "a checkpoint")
        mounted.kill()
        with pytest.raises(OSError, match="not connected"):
            os.close(descriptor)
        library.vtlfs("umount", mounted.path)
    library.vtlfs("recover", library.path)
    assert library.session(number).state == "recovered"
    assert library.extract("T1", 0) in (data[: 5 << 20], data)  # the last 5 bytes may have come too late for it


def test_reservation_of_a_dead_mount_comes_back(library: OnDisks) -> None:
    library.add("FULL", capacity=100_000)
    with library.mounted("io=direct") as mounted:
        descriptor = os.open(mounted.medium("FULL"), os.O_WRONLY)
        os.write(descriptor, b"a" * 60_000)
        os.fsync(descriptor)
        os.write(descriptor, b"b" * 30_000)
        mounted.kill()
        with pytest.raises(OSError, match="not connected"):
            os.close(descriptor)
        library.vtlfs("umount", mounted.path)
    library.vtlfs("recover", library.path)
    with library.mounted("io=direct") as mounted:
        descriptor = os.open(mounted.medium("FULL"), os.O_WRONLY)
        assert os.write(descriptor, b"c" * 40_000) == 40_000
        os.close(descriptor)
    assert library.extract("FULL") == b"a" * 60_000 + b"c" * 40_000


def test_numbers_of_sessions_are_never_used_again(library: OnDisks) -> None:
    numbers = []
    for _ in range(3):
        with library.mounted() as mounted:
            descriptor = os.open(mounted.medium("T1"), os.O_WRONLY)
            numbers.append(os.fstat(descriptor).st_ino)
            os.write(descriptor, b"x")
            os.fsync(descriptor)
            mounted.kill()
            with pytest.raises(OSError, match="not connected"):
                os.close(descriptor)
            library.vtlfs("umount", mounted.path)
        library.vtlfs("recover", library.path)
    assert numbers == sorted(set(numbers))
    assert [tape_file.session for tape_file in library.tape_files("T1")] == numbers


@pytest.mark.parametrize("stop", [lambda mounted: mounted.stop(signal.SIGTERM)], ids=["SIGTERM"])
def test_orderly_end_under_load_keeps_what_was_acknowledged(
    library: OnDisks, tmp_path: Path, stop: Callable[[Mounted], int | None]
) -> None:
    with library.mounted() as mounted:
        writers = start_writers(mounted, tmp_path)
        assert stop(mounted) == 0
        end(writers)
    check_kept(library, writers, "failed")
    assert {library.session(writer.notes()[0]).error for writer in writers} == {"ESHUTDOWN"}
    assert library.vtlfs("recover", library.path).startswith("nothing to recover")


@pytest.mark.parametrize(
    "where",
    [
        "extent.written:40",
        "member.synced:17",
        "tracking.session_opened:3>transaction.commit",
        "tracking.progress_recorded:5>transaction.committed",
    ],
)
def test_mount_that_dies_at_a_step(
    library: OnDisks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Like the tests of the failpoints, but with a real mount, and real programs that write."""
    monkeypatch.setenv(failpoints.ENVIRONMENT, where)
    with library.mounted("io=direct") as mounted:
        monkeypatch.delenv(failpoints.ENVIRONMENT)
        writers = launch_writers(mounted, tmp_path)
        assert mounted.ended() == failpoints.STATUS
        mounted.has_ended = True
        for writer in writers:
            writer.process.wait(SECONDS)
        library.vtlfs("umount", mounted.path)
    library.vtlfs("recover", library.path)
    library.check()
    begun = [writer for writer in writers if writer.notes()]
    check_kept(library, [writer for writer in begun if library.session(writer.notes()[0]).bytes])
    assert all(library.session(writer.notes()[0]).bytes or writer.notes()[1:] == [] for writer in begun)
