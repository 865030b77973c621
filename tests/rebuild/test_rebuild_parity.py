"""Rebuilding a library with parity while some disks are missing: any disks, as many as there is parity."""

import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest
import trio
from filling import tracked
from lived import moved
from mounting import random_bytes

from vtlfs.disks import headers, records
from vtlfs.disks.contents import Kind
from vtlfs.disks.local.disk import LocalDisk
from vtlfs.disks.local.member import LocalMember
from vtlfs.disks.local.opening import member_path
from vtlfs.engine import recover
from vtlfs.engine.assembly import running
from vtlfs.engine.backup import copies
from vtlfs.engine.library import Library, create
from vtlfs.engine.reading.extract import extract
from vtlfs.engine.rebuild.rebuild import Rebuilt, rebuild
from vtlfs.engine.scrub import verification
from vtlfs.engine.scrub.defects import Defect
from vtlfs.engine.scrub.verify import verify
from vtlfs.engine.tracking import invariants
from vtlfs.engine.tracking.database import FILE_NAME
from vtlfs.engine.tracking.repositories.extents import BEGIN
from vtlfs.errors import DiskError, LibraryError, VtlfsError
from vtlfs.model import NO_CODEC, NOWHERE, Extent, Mount, Opener, Session, State, utc_now

UNIT = 4096
OPENER = Opener("alpha", 4711, 0, 0, "tar")
SIZES = [1, UNIT - 1, UNIT, UNIT + 1, 3 * UNIT, 7 * UNIT + 100, 20 * UNIT, 33 * UNIT + 1]
LAYOUTS = [(3, 1), (3, 2), (4, 1), (4, 2)]


def losses(
    layouts: Sequence[tuple[int, int]], count: Callable[[int], int]
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Yield all combinations of lost disks for each layout; `count` computes how many are lost from the parity."""
    for disks, parity in layouts:
        for gone in combinations(range(disks), count(parity)):
            yield disks, parity, gone


ANY_M = [*losses(LAYOUTS, lambda parity: parity)]


@dataclass
class Written:
    """A library, and the content of its tape files."""

    root: Path
    library: Library
    streams: dict[tuple[str, int], bytes]

    @classmethod
    def make(cls, root: Path, disks: int, parity: int) -> "Written":
        """Write sessions of many sizes, some with flushes on the way."""
        library = make(root, disks, parity)
        written = cls(root, library, trio.run(write_all, library))
        for number in range(disks):
            copies.make(library.path, written.disk(number), 1)
        there = moved(root)
        return cls(there, Library.open(there / "library"), written.streams)

    def copied(self, root: Path) -> "Written":
        """Return a copy of the library in another directory."""
        shutil.copytree(self.root, root, symlinks=True, dirs_exist_ok=True)
        configuration = root / "library" / "library.toml"
        configuration.write_text(configuration.read_text().replace(str(self.root), str(root)))
        return Written(root, Library.open(root / "library"), dict(self.streams))

    def disk(self, number: int) -> LocalDisk:
        """Return a disk."""
        return LocalDisk(number, self.library.config.disks[number], self.library.config.uuid)

    def lose(self, *disks: int, all_copies: bool = True, database: bool = True) -> None:
        """Lose disks, the tracking database, and the copies of it."""
        for file in self.library.path.glob(f"{FILE_NAME}*") if database else ():
            file.unlink()
        for number, disk in enumerate(self.library.config.disks):
            if all_copies:
                shutil.rmtree(disk / "tracking", ignore_errors=True)
            if number in disks:
                disk.rename(self.away(number))

    def bring_back(self, *disks: int) -> None:
        """Put lost disks back."""
        for number in disks:
            self.away(number).rename(self.library.config.disks[number])

    def away(self, disk: int) -> Path:
        """Return the directory to which a lost disk was moved."""
        return self.root / f"away{disk}"

    def rebuild(self, *without: int) -> Rebuilt:
        """Rebuild the database without these disks; assert that the result is sound."""
        rebuilt = rebuild(self.library.path, (), without, utc_now())
        with closing(self.library.tracking(read_only=True)) as tracking:
            for rule in [invariants.SOUND, *invariants.rules(tracking)]:
                assert list(invariants.broken(tracking, rule)) == []
        return rebuilt

    def read(self, barcode: str, number: int) -> bytes:
        """Return a tape file."""
        pieces: list[bytes] = []
        extract(self.library, barcode, number, lambda piece: pieces.append(bytes(piece)), lambda _: None)
        return b"".join(pieces)

    def check_streams(self) -> None:
        """Assert that every byte of every tape file can be read."""
        for (barcode, number), data in self.streams.items():
            assert self.read(barcode, number) == data, (barcode, number, len(data))

    def rows(self) -> list[Extent]:
        """Return all rows of extents, data and parity."""
        with closing(self.library.tracking(read_only=True)) as tracking:
            return [
                extent
                for number in range(len(self.library.config.disks))
                for session in tracking.sessions.known(0, 1 << 40)
                for _, extent in tracking.extents.on_disk(number, session, BEGIN, 1 << 30)[0]
            ]

    def sessions(self) -> list[Session]:
        """Return the sessions that left tape files, without what a rebuild can't know."""
        with closing(self.library.tracking(read_only=True)) as tracking:
            return [tracking.sessions.get(tracking.tape_files.get(*key).session) for key in self.streams]

    def member(self, disk: int, session: int) -> Path:
        """Return where a session's member file lies on a disk."""
        return member_path(self.library.config.disks[disk], session)


def make(root: Path, disks: int, parity: int) -> Library:
    """Make a library with media T1 and T2."""
    paths = [root / f"disk{number}" for number in range(disks)]
    for path in paths:
        path.mkdir(parents=True)
    library = create(root / "library", paths, drives=1, stripe_unit=UNIT, parity=parity, at=utc_now())
    with closing(tracked(library)) as tracking, tracking.transaction():
        tracking.media.add(["T1", "T2"], None, utc_now())
    return library


async def write_all(library: Library) -> dict[tuple[str, int], bytes]:
    """Write streams of SIZES to two media, in pieces of many lengths, every other one with flushes on the way."""
    mount = Mount(0, None, "machine", os.getpid(), 0, "/mnt", "", "mounted", utc_now(), None)
    chance = random.Random(len(library.config.disks) * 10 + library.config.parity)
    streams: dict[tuple[str, int], bytes] = {}
    async with running(library, mount) as engine:
        for turn, size in enumerate([*SIZES, *SIZES]):
            barcode = f"T{turn % 2 + 1}"
            data = random_bytes(turn, size)
            session = await engine.open_writer(barcode, 0, OPENER)
            offset = 0
            while offset < size:
                piece = data[offset : offset + chance.choice([1, 1000, UNIT, 3 * UNIT + 5, 10 * UNIT])]
                await session.write(offset, piece)
                offset += len(piece)
                if turn >= len(SIZES) and chance.random() < 0.5:
                    await session.flush()
            await session.flush(closing=True)
            await engine.release_writer(session)
            streams[barcode, turn // 2] = data
    return streams


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], Written]:
    """Libraries of each layout, made once."""
    return cache(lambda disks, parity: Written.make(tmp_path_factory.mktemp("model") / "at first", disks, parity))


@pytest.fixture
def written(tmp_path: Path, request: pytest.FixtureRequest, models: Callable[[int, int], Written]) -> Written:
    """A library of the layout that the test is given."""
    return models(*request.param[:2]).copied(tmp_path)


@pytest.mark.parametrize(("written", "gone"), [(case, case[2]) for case in ANY_M], indirect=["written"])
def test_with_any_disks_gone_that_parity_makes_up_for_every_byte_comes_back(
    written: Written, gone: tuple[int, ...]
) -> None:
    before = written.sessions()
    written.lose(*gone)
    rebuilt = written.rebuild(*gone)
    written.check_streams()
    assert rebuilt.report.lost == []
    assert rebuilt.report.recovered == []
    assert not [text for text in rebuilt.report.damaged if "not there" in text]
    assert any("is computed from the other disks" in text for text in rebuilt.report.ignored)
    for old, new in zip(before, written.sessions(), strict=True):
        for name in ("id", "medium", "bytes", "stripe_unit", "parity", "volume", "tape_file", "state", "requests"):
            assert getattr(new, name) == getattr(old, name)
    lost = [row for row in written.rows() if row.position == NOWHERE]
    assert lost
    assert {row.disk for row in lost} <= set(gone)


@pytest.mark.parametrize(("written", "gone"), [(case, case[2]) for case in ANY_M], indirect=["written"])
def test_with_any_disks_gone_and_a_copy_every_byte_is_there(written: Written, gone: tuple[int, ...]) -> None:
    """The copy has the positions of all extents, also of those on the missing disks."""
    before = {(row.session, row.disk, row.position): row for row in written.rows()}
    written.lose(*gone, all_copies=False)
    rebuilt = written.rebuild(*gone)
    assert rebuilt.base is not None
    assert rebuilt.report.lost == []
    written.check_streams()
    assert {(row.session, row.disk, row.position): row for row in written.rows()} == before


TOO_MANY = [*losses([(3, 1), (4, 1), (4, 2)], lambda parity: parity + 1)]


@pytest.mark.parametrize(("written", "gone"), [(case, case[2]) for case in TOO_MANY], indirect=["written"])
def test_with_more_disks_gone_nothing_wrong_is_read_and_each_loss_is_told(
    written: Written, gone: tuple[int, ...]
) -> None:
    written.lose(*gone)
    rebuilt = written.rebuild(*gone)
    assert [text for text in rebuilt.report.damaged if "not there" in text]
    told = {(lost.medium, lost.tape_file) for lost in rebuilt.report.lost}
    with closing(written.library.tracking(read_only=True)) as tracking:
        kept = {(file.medium, file.number): file for name in ("T1", "T2") for file in tracking.tape_files.of(name)}
    for key, data in written.streams.items():
        if key not in kept:  # of the last ones on a medium, nothing may be left
            continue
        assert kept[key].bytes == len(data)
        if key in told:
            with pytest.raises(DiskError, match="is missing"):
                written.read(*key)
        else:
            assert written.read(*key) == data
    assert told
    assert set(kept) - told


@pytest.mark.parametrize("disks_gone", [1, 2])
@pytest.mark.parametrize("begins_with", ["nothing", "the old one"])
@pytest.mark.parametrize("written", LAYOUTS, indirect=True)
def test_disks_that_come_back_bring_their_extents_and_their_parity(
    written: Written, begins_with: str, disks_gone: int
) -> None:
    before = {(row.session, row.disk, row.position): row for row in written.rows()}
    gone = range(disks_gone)
    written.lose(*gone)
    written.rebuild(*gone)
    written.bring_back(*gone)
    if begins_with == "nothing":
        written.lose()
    rebuilt = written.rebuild()
    assert rebuilt.report.lost == []
    assert {(row.session, row.disk, row.position): row for row in written.rows()} == before
    written.check_streams()


@pytest.mark.parametrize(("written", "gone"), [((4, 1), (2,)), ((4, 2), (0, 3))], indirect=["written"])
def test_library_is_written_to_while_disks_are_gone_and_after_they_are_back(
    written: Written, gone: tuple[int, ...]
) -> None:
    written.lose(*gone)
    written.rebuild(*gone)
    for turn in range(2):
        more = trio.run(write_all, written.library)
        count = len(written.streams) // 2
        written.streams |= {(barcode, number + count): data for (barcode, number), data in more.items()}
        written.check_streams()
        if not turn:
            written.bring_back(*gone)
            written.check_streams()
    written.lose()
    assert written.rebuild().report.lost == []
    written.check_streams()


@pytest.mark.parametrize("written", [(4, 2)], indirect=True)
def test_of_two_disks_that_were_gone_one_comes_back(written: Written) -> None:
    written.lose(0, 3)
    written.rebuild(0, 3)
    written.bring_back(3)
    rebuilt = written.rebuild(0)
    assert rebuilt.report.lost == []
    assert {row.disk for row in written.rows() if row.position == NOWHERE} == {0}
    written.lose(1, all_copies=False, database=False)  # that are two again
    written.check_streams()


@pytest.mark.parametrize("written", LAYOUTS, indirect=True)
def test_disk_that_comes_back_without_a_rebuild_does_no_harm(written: Written) -> None:
    """The rebuilt database does not know the disk's extents: they are computed, even without checks, not trimmed."""
    written.lose(1)
    written.rebuild(1)
    written.bring_back(1)
    before = {path: path.stat().st_size for path in written.root.rglob("*.member")}
    assert before
    written.check_streams()
    pieces: list[bytes] = []
    disks_to_read = Library.disks_to_read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Library, "disks_to_read", lambda library: disks_to_read(library, check=False))
        extract(written.library, "T1", None, lambda piece: pieces.append(bytes(piece)), lambda _: None)
    assert b"".join(pieces) == b"".join(data for (name, _), data in sorted(written.streams.items()) if name == "T1")
    assert {(defect.kind, defect.is_replaceable) for defect in verified(written.library)} == {(Kind.UNMAPPED, True)}
    (written.library.path / "mounts" / "1.lock").touch()  # of a mount that died before the disk was lost
    recover.recover(written.library)
    assert {path: path.stat().st_size for path in written.root.rglob("*.member")} == before


@pytest.mark.parametrize("written", [(3, 1)], indirect=True)
def test_recovery_is_finished_when_a_missing_disk_is_back(written: Written) -> None:
    lease = written.library.path / "mounts" / "1.lock"
    lease.touch()  # of a mount that died
    lose_endings(written)
    written.lose(1, database=False)
    recover.recover(written.library)
    assert lease.exists()
    written.bring_back(1)
    recover.recover(written.library)
    assert not lease.exists()
    assert verified(written.library) == []


def verified(library: Library) -> list[Defect]:
    """Return what a verification finds."""
    found: list[Defect] = []
    with closing(library.tracking()) as tracking:
        verify(library, tracking, verification.begin(tracking, [], utc_now()), found.append, lambda _: None)
    return found


# --- damage, and power cuts -----------------------------------------------------------------------------------------


def lose_endings(written: Written) -> None:
    """Take the ends of all sessions out of the headers, as if these had not reached the disks."""
    for disk in written.library.config.disks:
        for path in disk.glob("sessions/*/*.member"):
            with open(path, "r+b") as file:
                for document, generation in records.decode_all(file.read(records.BLOCK)):
                    if headers.ending(document) is not None:
                        file.seek(records.place(generation))
                        file.write(bytes(records.RECORD))


@pytest.mark.parametrize(("written", "gone"), [(case, case[2]) for case in ANY_M], indirect=["written"])
def test_streams_without_an_end_come_back_too(written: Written, gone: tuple[int, ...]) -> None:
    """Their lengths are unknown, so the rebuild reads or computes each extent."""
    lose_endings(written)
    written.lose(*gone)
    rebuilt = written.rebuild(*gone)
    assert len(rebuilt.report.recovered) == len(written.streams)
    check_contents(written)


def check_contents(written: Written) -> None:
    """Assert that the tape files of each medium are the streams that were written to it, in any order."""
    for barcode in ("T1", "T2"):
        with closing(written.library.tracking(read_only=True)) as tracking:
            numbers = [file.number for file in tracking.tape_files.of(barcode)]
        wanted = [data for (name, _), data in written.streams.items() if name == barcode]
        assert sorted(written.read(barcode, number) for number in numbers) == sorted(wanted)


def damage(written: Written, extent: Extent, at: int) -> None:
    """Flip a bit of an extent, or with a negative `at` of its record."""
    with open(written.member(extent.disk, extent.session), "r+b") as file:
        file.seek(extent.position + records.BLOCK + at)
        (value,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([value ^ 1]))


@pytest.mark.parametrize("is_ended", [True, False])
@pytest.mark.parametrize("what", ["record", "bytes"])
@pytest.mark.parametrize("written", LAYOUTS, indirect=True)
def test_damage_of_as_many_extents_of_each_stripe_is_made_up_for(written: Written, what: str, is_ended: bool) -> None:
    parity = written.library.config.parity
    stripes: dict[tuple[int, int], list[Extent]] = {}
    for row in written.rows():
        stripes.setdefault((row.session, row.stripe), []).append(row)
    chance = random.Random(7)
    for stripe in stripes.values():
        for extent in chance.sample(stripe, min(parity, len(stripe) - 1)):
            damage(written, extent, -records.BLOCK + 70 if what == "record" else 0)
    if not is_ended:
        lose_endings(written)
    written.lose()
    rebuilt = written.rebuild()
    assert rebuilt.report.lost == []
    check_contents(written)


@pytest.mark.parametrize("written", LAYOUTS, indirect=True)
def test_stream_without_an_end_goes_as_far_as_its_bytes_are_right(written: Written) -> None:
    """A power cut has left more records without bytes than the parity makes up for."""
    (barcode, number), data = max(written.streams.items(), key=lambda item: len(item[1]))
    with closing(written.library.tracking(read_only=True)) as tracking:
        session = tracking.tape_files.get(barcode, number).session
    stripes = sorted({row.stripe for row in written.rows() if row.session == session})
    torn = [row for row in written.rows() if (row.session, row.stripe) == (session, stripes[len(stripes) // 2])]
    for extent in torn:
        damage(written, extent, 0)
    first = min(row.offset for row in torn if row.offset is not None)
    lose_endings(written)
    written.lose()
    rebuilt = written.rebuild()
    assert any(f"session {session}: an extent" in text for text in rebuilt.report.ignored)
    kept = next(one for one in rebuilt.report.recovered if one.id == session)
    assert kept.bytes == first
    assert kept.tape_file is not None
    assert written.read(barcode, kept.tape_file) == data[:first]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("written", [(3, 1), (4, 2)], indirect=True)
def test_whatever_is_damaged_nothing_wrong_is_ever_read(written: Written, seed: int) -> None:
    """Bytes anywhere in member files are changed, and a disk may be gone: reading returns right bytes or an error."""
    chance = random.Random(seed)
    files = sorted(file for disk in written.library.config.disks for file in disk.glob("sessions/*/*.member"))
    for file in chance.sample(files, 8):
        content = bytearray(file.read_bytes())
        for _ in range(chance.choice([1, 3, 30])):
            at = chance.randrange(min(len(content), chance.choice([100, 5000, len(content)])))
            content[at] = chance.randrange(256)
        file.write_bytes(content[: chance.choice([len(content), len(content), chance.randrange(len(content))])])
    if chance.random() < 0.3:
        lose_endings(written)
    gone = [1] if chance.random() < 0.5 else []
    written.lose(*gone)
    written.rebuild(*gone)
    wanted = set(written.streams.values())
    read = 0
    with closing(written.library.tracking(read_only=True)) as tracking:
        kept = [file for name in ("T1", "T2") for file in tracking.tape_files.of(name)]
    for kept_file in kept:
        try:
            left = written.read(kept_file.medium, kept_file.number)
        except VtlfsError:
            continue
        assert any(data.startswith(left) for data in wanted)
        read += 1
    assert read


def test_without_the_library_a_missing_disk_is_known_by_the_width_of_stripes(
    tmp_path: Path, models: Callable[[int, int], Written]
) -> None:
    written = models(3, 1).copied(tmp_path)
    written.lose(2)
    shutil.rmtree(written.library.path)
    there = written.library.config.disks[:2]
    with pytest.raises(LibraryError, match=r"disk 2 is missing.*--without-disk 2"):
        rebuild(written.library.path, there, (), utc_now())
    rebuilt = rebuild(written.library.path, there, (2,), utc_now())
    assert (rebuilt.library.config.parity, rebuilt.library.config.stripe_unit) == (1, UNIT)
    written.check_streams()


def test_volumes_of_a_medium_come_back(tmp_path: Path) -> None:
    written = Written(tmp_path, make(tmp_path, 2, 0), {})
    data = b"of the third volume"
    opening = headers.Opening("T1", 0, OPENER, utc_now(), UNIT, volume=3)
    member = written.disk(0).member(17, UNIT, opening)
    member.write(Extent(17, 0, 0, 0, len(data), NO_CODEC, 0, records.BLOCK, 0, b""), [memoryview(data)])
    member.finish(headers.Ending(State.RELEASED, None, utc_now(), 0, 0, len(data)))
    written.lose()
    written.rebuild()
    assert written.read("T1", 0) == data
    with closing(written.library.tracking(read_only=True)) as tracking:
        assert (tracking.media.get("T1").volume, tracking.sessions.get(17).volume) == (3, 3)
        volumes = tracking.sql.execute("SELECT number, begun_at FROM volume WHERE medium = 'T1' ORDER BY number")
        assert volumes.fetchall() == [(number, opening.opened_at) for number in (1, 2, 3)]


# --- stripes that were dealt anew -----------------------------------------------------------------------------------


class FailingDisk(LocalDisk):
    """A disk that fails for good at a write, before or after the bytes have been written."""

    fails_at = 1 << 30
    leaves_bytes = False
    is_dead = False

    def member(
        self, session: int, stripe_unit: int, opening: headers.Opening, ending: headers.Ending | None = None
    ) -> LocalMember:
        """Return a member that fails."""
        made = super().member(session, stripe_unit, opening, ending)
        written, write, sync = 0, made.write, made.sync

        def failing(extent: Extent, pieces: list[memoryview], members: Sequence[Extent] = ()) -> Extent:
            nonlocal written
            written += 1
            if written > self.fails_at and self.leaves_bytes and not self.is_dead:
                write(extent, pieces, members)
            check(dead=written > self.fails_at)
            return write(extent, pieces, members)

        def check(*, dead: bool = False) -> None:
            self.is_dead = self.is_dead or dead
            if self.is_dead:
                raise DiskError(self.number, self.path, OSError(errno.EIO, os.strerror(errno.EIO)))

        def syncing() -> None:
            check()
            sync()

        made.write, made.sync = failing, syncing  # type: ignore[method-assign]
        return made


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("disks", "parity"), [*LAYOUTS, (4, 0)])
def test_acknowledged_bytes_come_back_after_a_disk_has_failed_in_mid_stream(
    tmp_path: Path, disks: int, parity: int, seed: int
) -> None:
    """During the stream, the power is cut; then the database is lost, and as many disks as there is parity."""
    chance = random.Random(seed)
    library = make(tmp_path, disks, parity)
    there = [FailingDisk(number, path, library.config.uuid) for number, path in enumerate(library.config.disks)]
    failing = chance.choice(there)
    failing.fails_at, failing.leaves_bytes = chance.randrange(6), chance.random() < 0.5
    data = random_bytes(seed, 40 * UNIT)
    cut = tmp_path / "cut"

    async def stream() -> int:
        offset = acknowledged = 0
        mount = Mount(0, None, "machine", os.getpid(), 0, "/mnt", "", "mounted", utc_now(), None)
        async with running(library, mount, disks=[*there]) as engine:
            session = await engine.open_writer("T1", 0, OPENER)
            while offset < len(data):
                piece = data[offset : offset + chance.choice([100, UNIT, 5 * UNIT])]
                await session.write(offset, piece)
                offset += len(piece)
                if chance.random() < 0.3:
                    await session.flush()
                    acknowledged = offset
                    if chance.random() < 0.3:
                        break
            shutil.copytree(tmp_path, cut)
            await session.flush()
            await engine.release_writer(session)
        return acknowledged

    acknowledged = trio.run(stream)
    for path in library.config.disks:  # where the copy would look, too
        shutil.rmtree(path)
    others = [number for number in range(disks) if number != failing.number]
    after = Written(tmp_path, library, {}).copied(cut)
    is_full = parity < disks - 1  # of which the stripes have been since the failure: of parity
    gone = chance.sample(range(disks), parity) if is_full else [failing.number, *others[: parity - 1]]
    after.lose(*gone)
    rebuilt = after.rebuild(*gone)
    assert rebuilt.report.lost == []
    kept = after.read("T1", 0) if acknowledged or after.rows() else b""
    assert len(kept) >= acknowledged
    assert data.startswith(kept)


@pytest.mark.parametrize("written", LAYOUTS, indirect=True)
def test_of_several_stripes_with_the_same_bytes_the_last_one_that_is_right_counts(written: Written) -> None:
    session = written.sessions()[-1].id
    rows = [row for row in written.rows() if row.session == session]
    first = next(row for row in rows if row.offset == 0)
    other = next(disk for disk in range(len(written.library.config.disks)) if disk != first.disk)
    end = max((records.after(row.position, row.stored) for row in rows if row.disk == other), default=records.BLOCK)
    member = written.disk(other).reopen(session, end)
    assert member is not None
    content = written.disk(first.disk).read_stored(first)
    torn = replace(first, disk=other, position=end, stripe=max(row.stripe for row in rows) + 1)
    member.write(torn, [memoryview(content)])
    member.finish(None)
    damage(written, torn, 0)
    for is_ended in (True, False):
        if not is_ended:
            lose_endings(written)
        written.lose()
        written.rebuild()
        check_contents(written)
        assert first in written.rows()
