"""Space comes back in a real mount by itself, but for what a reader or a snapshot holds."""

import os
from contextlib import closing

from mounting import OnDisks, random_bytes, wait_until

from vtlfs.engine.library import Library
from vtlfs.model import MIB, Event, utc_now


def erase(library: OnDisks, barcode: str) -> None:
    with closing(Library.open(library.path).tracking()) as tracking, tracking.transaction():
        tracking.volumes.end_current(barcode, utc_now())


def stored(library: OnDisks) -> int:
    """Return the bytes that member files take."""
    paths = [path for disk in library.disks for path in disk.glob("sessions/*/*")]
    return sum(path.stat().st_blocks * 512 for path in paths)


def is_held(library: OnDisks) -> bool:
    return "session" in library.vtlfs("reclaim", library.path, "--dry-run")


def test_reader_reads_to_its_end_and_then_the_space_comes_back(library: OnDisks) -> None:
    content = random_bytes(1, 24 * MIB)
    with library.mounted() as mounted:
        mounted.medium("T2").write_bytes(b"kept")
        wait_until(lambda: mounted.medium("T2").stat().st_size == 4, "the tape file")
        before = stored(library)
        mounted.medium("T1").write_bytes(content)
        reader = os.open(mounted.medium("T1"), os.O_RDONLY)
        try:
            assert os.pread(reader, MIB, 0) == content[:MIB]
            erase(library, "T1")
            wait_until(lambda: is_held(library), "the reader's row")
            library.vtlfs("reclaim", library.path)
            assert mounted.medium("T1").stat().st_size == 0
            mounted.medium("T1").write_bytes(b"new")
            assert b"".join(os.pread(reader, MIB, at) for at in range(0, len(content), MIB)) == content
            assert stored(library) >= before + len(content)
        finally:
            os.close(reader)
        wait_until(lambda: stored(library) < before + MIB, "what was erased to be reclaimed")
        assert mounted.medium("T1").read_bytes() == b"new"
        assert mounted.medium("T2").read_bytes() == b"kept"
        wait_until(lambda: "reclaimed 24 MiB of 1 erased volume" in mounted.said(), "the log's line")


def test_snapshot_holds_until_it_is_deleted(library: OnDisks) -> None:
    content = random_bytes(1, 3 * MIB)
    with library.mounted() as mounted:
        mounted.medium("T1").write_bytes(content)
        library.vtlfs("snapshot", "take", library.path, "--name", "monday")
        erase(library, "T1")
        library.vtlfs("reclaim", library.path)
        assert (mounted.path / "snapshots" / "1" / "media" / "T1").read_bytes() == content
        library.vtlfs("snapshot", "delete", library.path, "monday", "--yes")
        wait_until(lambda: stored(library) == 0, "what only the snapshot showed to be reclaimed")
        assert not (mounted.path / "snapshots" / "1").exists()
        wait_until(lambda: _events(library)[-1].what == "reclaimed", "the event")
        assert [event.what for event in _events(library)] == ["snapshot deleted", "reclaimed"]


def _events(library: OnDisks) -> list[Event]:
    with closing(Library.open(library.path).tracking(read_only=True)) as tracking:
        return tracking.events.find()
