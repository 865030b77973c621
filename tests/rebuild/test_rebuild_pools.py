"""Streams of pools come back from the disks in one piece, and the pools are where they were."""

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from filling import OPENER, make, tracked
from mounting import random_bytes

from vtlfs.cli.main import main
from vtlfs.disks.local.disk import LocalDisk
from vtlfs.disks.local.opening import member_path
from vtlfs.engine.assembly import running
from vtlfs.engine.backup import copies
from vtlfs.engine.library import Library
from vtlfs.engine.pool_streams import open_stream
from vtlfs.engine.reading.extract import extract
from vtlfs.engine.rebuild.pool_parts import is_chain
from vtlfs.engine.rebuild.rebuild import Rebuilt, rebuild
from vtlfs.engine.tracking import invariants
from vtlfs.engine.tracking.repositories.rebuild.rejoined import FoundPart
from vtlfs.model import Mount, utc_now
from vtlfs.rules import PoolRule

BLOCK = 1000
CAPACITY = 20 * BLOCK
POOLS = {"P": PoolRule("N*", span=True), "Q": PoolRule("Q*", span=True)}


class Shelf:
    """A library of three disks with parity, and the pools P and Q, each of six media."""

    def __init__(self, root: Path) -> None:
        library = make(root, 3, parity=1)
        self.library = Library(library.path, replace(library.config, pools=POOLS))
        with closing(tracked(self.library)) as tracking, tracking.transaction():
            tracking.media.add([f"{pool}{number}" for pool in "NQ" for number in range(1, 7)], CAPACITY, utc_now())

    def write(self, pool: str, *streams: bytes) -> list[int]:
        """Write streams to a pool by one mount; return their identifiers."""
        return trio.run(self._write, pool, streams)

    async def _write(self, pool: str, streams: tuple[bytes, ...]) -> list[int]:
        async def anything(barcode: str) -> int:
            return 0

        mount = Mount(0, None, "machine", os.getpid(), 0, "/mnt", "", "mounted", utc_now(), None)
        numbers = []
        async with running(self.library, mount) as engine:
            for data in streams:
                stream = await open_stream(engine, pool, OPENER, anything)
                for start in range(0, len(data), BLOCK):
                    await stream.write(start, data[start : start + BLOCK])
                await stream.flush(closing=True)
                await stream.release()
                numbers.append(stream.number)
        return numbers

    def copy(self) -> None:
        for number, path in enumerate(self.library.config.disks):
            copies.make(self.library.path, LocalDisk(number, path, self.library.config.uuid), 1)

    def lose(self) -> None:
        for file in self.library.path.glob("tracking.db*"):
            file.unlink()

    def rebuild(self, *without: int) -> Rebuilt:
        """Rebuild, without some disks, and want the books to be right."""
        rebuilt = rebuild(self.library.path, [], without, utc_now())
        with closing(self.library.tracking(read_only=True)) as tracking:
            for rule in [invariants.SOUND, *invariants.rules(tracking)]:
                assert not list(invariants.broken(tracking, rule))
        return rebuilt

    def streams(self, pool: str) -> dict[int, bytes]:
        """Return the streams of a pool as they are read back, by identifier."""
        with closing(self.library.tracking(read_only=True)) as tracking:
            found = tracking.pools.files(pool, 0, 1000)
        return {file.session: b"".join(self.read(part.medium, part.number) for part in file.parts) for file in found}

    def read(self, barcode: str, number: int) -> bytes:
        pieces: list[bytes] = []
        extract(self.library, barcode, number, lambda piece: pieces.append(bytes(piece)), lambda _: None)
        return b"".join(pieces)

    def where(self, pool: str) -> str | None:
        with closing(self.library.tracking(read_only=True)) as tracking:
            return tracking.pools.get(pool).medium

    def parts(self, stream: int) -> list[tuple[int, int]]:
        with closing(self.library.tracking(read_only=True)) as tracking:
            return [(part.session, part.place) for part in tracking.pools.parts(stream)]


@pytest.mark.parametrize("copied", [None, "before", "between"])
def test_streams_come_back_in_one_piece_and_pools_are_where_they_were(tmp_path: Path, copied: str | None) -> None:
    shelf = Shelf(tmp_path)
    data = [random_bytes(number, size) for number, size in enumerate((50_500, 300, 45 * BLOCK, 7))]
    if copied == "before":
        shelf.copy()
    first = shelf.write("P", *data[:2])
    if copied == "between":
        shelf.copy()
    wanted = dict(zip(first + shelf.write("P", *data[2:]), data, strict=True))
    assert shelf.streams("P") == wanted, "the fixture"
    (other,) = shelf.write("Q", b"q" * 100)
    before = {number: shelf.parts(number) for number in wanted}
    places = [shelf.where(pool) for pool in "PQ"]
    assert places == ["N5", "Q1"], "the fixture"
    shelf.lose()
    shelf.rebuild()
    assert shelf.streams("P") == wanted
    assert shelf.streams("Q") == {other: b"q" * 100}
    assert {number: shelf.parts(number) for number in wanted} == before
    assert [shelf.where(pool) for pool in "PQ"] == places
    after = shelf.write("P", b"more")
    assert shelf.streams("P") == wanted | {after[0]: b"more"}
    assert shelf.where("P") == "N5"


def test_the_newest_stream_tells_where_a_pool_is_also_where_its_number_is_lower(tmp_path: Path) -> None:
    """Mounts take identifiers in advance: one that idles gives lower ones later."""
    shelf = Shelf(tmp_path)

    async def two_mounts() -> tuple[int, int]:
        async def anything(barcode: str) -> int:
            return 0

        mounts = [
            Mount(0, host, "machine", os.getpid(), 0, f"/{host}", "", "mounted", utc_now(), None) for host in "ab"
        ]
        async with running(shelf.library, mounts[0]) as early, running(shelf.library, mounts[1]) as late:
            numbers = []
            for engine, size in ((late, CAPACITY), (early, BLOCK)):
                stream = await open_stream(engine, "P", OPENER, anything)
                await stream.write(0, b"x" * size)
                await stream.flush(closing=True)
                await stream.release()
                numbers.append(stream.number)
            return numbers[0], numbers[1]

    first, second = trio.run(two_mounts)
    assert first > second, "the fixture"
    assert shelf.where("P") == "N2"
    shelf.lose()
    shelf.rebuild()
    assert shelf.where("P") == "N2"


@pytest.mark.parametrize("lacking", [0, 1, 2])
def test_stream_that_lacks_a_part_is_taken_apart(tmp_path: Path, lacking: int) -> None:
    """No reader sees a hole, nor a beginning that looks like the whole: what is left of it are tape files."""
    shelf = Shelf(tmp_path)
    whole, torn = shelf.write("P", b"w" * 300, b"t" * 50 * BLOCK)
    assert len(shelf.parts(torn)) == 3, "the fixture"
    lost = shelf.parts(torn)[lacking][0]
    for disk in shelf.library.config.disks:
        member_path(disk, lost).unlink(missing_ok=True)
    shelf.lose()
    rebuilt = shelf.rebuild()
    assert any(f"stream {torn} of a pool lacks a part" in text for text in rebuilt.report.ignored)
    assert shelf.streams("P") == {whole: b"w" * 300}
    if lacking != 0:
        assert shelf.read("N1", 1) == b"t" * 19 * BLOCK


def test_first_part_that_wrote_nothing_leaves_no_trace_and_is_not_missed(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.write("P", b"a" * (CAPACITY - 10))
    (stream,) = shelf.write("P", b"b" * 25 * BLOCK)
    assert [place for _, place in shelf.parts(stream)] == [0, 1, 2], "the fixture: nothing of it fits on the first"
    shelf.lose()
    shelf.rebuild()
    assert shelf.streams("P")[stream] == b"b" * 25 * BLOCK


def test_headers_that_a_repair_writes_name_the_stream_too(tmp_path: Path) -> None:
    """Over the years each disk is replaced, and all member files are written anew."""
    shelf = Shelf(tmp_path)
    data = random_bytes(9, 30 * BLOCK)
    (stream,) = shelf.write("P", data)
    for number in range(3):
        new = tmp_path / f"new{number}"
        new.mkdir()
        assert main(["disk", "replace", str(shelf.library.path), str(number), str(new)]) == 0
    shelf.library = Library.open(shelf.library.path)
    shelf.lose()
    for disk in shelf.library.config.disks:
        for copy in (disk / "tracking").glob("*.db"):
            copy.unlink()
    shelf.rebuild()
    assert shelf.streams("P") == {stream: data}
    assert shelf.where("P") == "N2"
    end = shelf.parts(stream)[-1][0]
    for disk in shelf.library.config.disks:
        member_path(disk, end).unlink(missing_ok=True)
    shelf.lose()
    shelf.rebuild(0, 1, 2)
    assert shelf.streams("P") == {}, "the headers tell, too, that the stream goes on"


FIRST = FoundPart(7, "P", 0, 0, 10)


@pytest.mark.parametrize(
    ("parts", "is_there"),
    [
        ([FIRST, FoundPart(9, "P", 1, 10, 5)], True),
        ([FIRST, FoundPart(9, "P", 2, 10, 5)], True),  # one between them wrote nothing
        ([replace(FIRST, start=None), FoundPart(9, "P", 1, 10, 5), FoundPart(10, "P", 2, 15, 0)], True),
        ([FIRST, FoundPart(9, "P", 1, 11, 5)], False),  # there is a hole between them
        ([FIRST, FoundPart(9, "Q", 1, 10, 5)], False),
        ([FIRST, FoundPart(6, "P", 1, 10, 5)], False),
        ([replace(FIRST, goes_on=True), FoundPart(9, "P", 1, 10, 5)], True),
        ([FIRST, FoundPart(9, "P", 1, 10, 5, goes_on=True)], False),  # its end is missing
        ([FoundPart(9, "P", 1, 10, 5)], False),
        ([FoundPart(9, "P", 1, 0, 5)], False),  # the first session is there, and is no part
    ],
)
def test_chain_of_parts(parts: list[FoundPart], is_there: bool) -> None:
    assert is_chain(7, parts, begins_there=True) is is_there


def test_chain_whose_first_session_left_no_trace() -> None:
    assert is_chain(7, [FoundPart(9, "P", 1, 0, 5)], begins_there=False)
    assert not is_chain(7, [FoundPart(6, "P", 1, 0, 5)], begins_there=False)
