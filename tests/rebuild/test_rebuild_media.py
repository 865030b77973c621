"""Media that have lived: their volumes, states, holds and retention come back from the disks, whatever else is lost."""

import os
import random
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trio
from filling import OPENER, UNIT, make
from mounting import random_bytes, wait_until

from vtlfs.cli.main import main
from vtlfs.disks.cartridges import Cartridge
from vtlfs.disks.headers import MAX_VOLUMES, Ending, Opening
from vtlfs.disks.local import cartridges as files
from vtlfs.disks.local.disk import LocalDisk
from vtlfs.disks.records import BLOCK
from vtlfs.engine.assembly import running
from vtlfs.engine.backup import copies
from vtlfs.engine.library import Library
from vtlfs.engine.media import cartridges
from vtlfs.engine.reading.extract import extract
from vtlfs.engine.rebuild.rebuild import Rebuilt, rebuild
from vtlfs.engine.reclaim.foreground import reclaim
from vtlfs.engine.scrub import verification, verify
from vtlfs.engine.scrub.check import check
from vtlfs.engine.tracking import invariants
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.sessions import SessionFilter
from vtlfs.errors import NoSuchMedium, Retained
from vtlfs.model import NO_CODEC, Actor, Extent, Hold, MediumState, Mount, RetainMode, State, utc_now
from vtlfs.rules import MediaRule
from vtlfs.snap import store
from vtlfs.timing import DEFAULT

ACTOR = Actor(0, "alpha", "vtlfs")
COMPLIANCE = {"T3": MediaRule(RetainMode.COMPLIANCE, 30 * 86400)}
MEDIA = ("T1", "T2", "T3")


@dataclass
class Life:
    """A library and its media, as they should be."""

    library: Library
    contents: dict[str, list[bytes]] = field(default_factory=lambda: {barcode: [] for barcode in MEDIA})
    copied: int = 0

    def tracking(self, *, read_only: bool = False) -> Tracking:
        return self.library.tracking(read_only=read_only)

    def act(self, barcode: str, what: str, change: Callable[[Tracking], object]) -> None:
        """Do something to a medium as a command does: in a transaction, with an event; then the disks hear of it."""
        with closing(self.tracking()) as tracking:
            with tracking.transaction():
                change(tracking)
                tracking.events.add(what, ACTOR, utc_now(), medium=barcode)
            cartridges.keep(self.library, tracking, [barcode])

    def erase(self, barcode: str) -> None:
        self.act(barcode, "erased", lambda tracking: tracking.volumes.end_current(barcode, utc_now()))
        self.contents[barcode] = []

    def write(self, barcode: str, *streams: bytes) -> None:
        trio.run(self._write, barcode, streams)
        self.contents[barcode] += streams

    async def _write(self, barcode: str, streams: Sequence[bytes]) -> None:
        mount = Mount(0, None, "machine", os.getpid(), 0, "/mnt", "", "mounted", utc_now(), None)
        async with running(self.library, mount) as engine:
            for data in streams:
                session = await engine.open_writer(barcode, 0, OPENER)
                await session.write(0, data)
                await session.flush(closing=True)
                await engine.release_writer(session)

    def snapshot(self) -> None:
        with closing(self.tracking()) as tracking, tracking.transaction():
            store.take(tracking, utc_now())

    def copy(self) -> None:
        """Keep a copy of the tracking database on all disks."""
        self.copied += 1
        for number, path in enumerate(self.library.config.disks):
            copies.make(self.library.path, self.disk(number, path), self.copied)

    def disk(self, number: int, path: Path) -> LocalDisk:
        return LocalDisk(number, path, self.library.config.uuid)

    def lose(self, *, copies_too: bool) -> None:
        for file in self.library.path.glob("tracking.db*"):
            file.unlink()
        for disk in self.library.config.disks:
            for copy in disk.glob("tracking/*.db") if copies_too else ():
                copy.unlink()

    def rebuild(self, *without: int) -> Rebuilt:
        there = [path for number, path in enumerate(self.library.config.disks) if number not in without]
        for number in without:
            path = self.library.config.disks[number]
            path.rename(path.with_name(f"away{number}"))
        return rebuild(self.library.path, there if without else [], without, utc_now())

    def state(self) -> dict[str, object]:
        """Return what there is to know of media, beside what is on them, and their slots."""
        with closing(self.tracking(read_only=True)) as tracking:
            found = {one.barcode: one for one in tracking.cartridges.of(MEDIA)}
        return {
            barcode: replace(one, commits=0, event=0, added_at="", begun_at="", retain_until=None, events=(), slot=None)
            for barcode, one in found.items()
        }

    def until(self, barcode: str) -> str:
        with closing(self.tracking(read_only=True)) as tracking:
            return tracking.cartridges.of([barcode])[0].retain_until or ""

    def check(self) -> None:
        """Want a database in order, and what is on the current volumes, byte for byte."""
        with closing(self.tracking(read_only=True)) as tracking:
            for rule in [invariants.SOUND, *invariants.rules(tracking)]:
                assert not list(invariants.broken(tracking, rule))
            known = set(tracking.media.barcodes())
        for barcode, streams in self.contents.items():
            assert barcode in known or not streams
            assert barcode not in known or self.read(barcode) == b"".join(streams), barcode

    def read(self, barcode: str) -> bytes:
        pieces: list[bytes] = []
        extract(self.library, barcode, None, lambda piece: pieces.append(bytes(piece)), lambda _: None)
        return b"".join(pieces)


def begin(root: Path, disks: int = 3, parity: int = 1) -> Life:
    library = make(root, disks, parity=parity)
    return Life(replace(library, config=replace(library.config, media=COMPLIANCE)))


def some_life(life: Life, chance: random.Random) -> None:
    """Write, erase and do what else is done to media, in any order."""
    for number in range(14):
        one_act(life, chance, chance.choice(MEDIA), number)


def one_act(life: Life, chance: random.Random, barcode: str, number: int) -> None:
    match chance.choice(("write", "write", "write", "erase", "erase", "hold", "protect", "snapshot", "copy", "size")):
        case "write":
            with closing(life.tracking(read_only=True)) as tracking:
                writable = tracking.media.get(barcode).is_writable
            if writable:
                life.write(barcode, random_bytes(number, chance.choice((1, 100, 3 * UNIT, 7 * UNIT + 5))))
        case "erase":
            with suppress(Retained):
                life.erase(barcode)
        case "hold" if barcode != "T2":
            hold = Hold(barcode, f"case {number}", "auditors", utc_now(), 0, "alpha")
            life.act(barcode, "held", lambda tracking: tracking.volumes.hold(hold))
        case "protect":
            is_on = chance.random() < 0.3
            life.act(barcode, "set", lambda tracking: tracking.media.set_protected(barcode, is_on))
        case "snapshot":
            life.snapshot()
        case "copy":
            life.copy()
        case "size":
            life.act(barcode, "set", lambda tracking: tracking.media.set_capacity(barcode, 1 << 30))


@pytest.mark.parametrize("seed", range(8))
def test_any_life_of_media_comes_back(tmp_path: Path, seed: int) -> None:
    """With or without copies of the database, of any age, and with any disk missing that parity makes up for."""
    chance = random.Random(seed)
    life = begin(tmp_path)
    some_life(life, chance)
    before, until = life.state(), life.until("T3")
    life.lose(copies_too=chance.random() < 0.5)
    without = chance.choice(((), (), (0,), (1,), (2,)))
    rebuilt = life.rebuild(*without)
    assert rebuilt.report.lost == []
    life.check()
    after = life.state()
    assert after == {
        barcode: one for barcode, one in before.items() if barcode in after
    }  # to the others nothing was done
    assert "T3" not in after or life.until("T3") >= until


def history(life: Life) -> list[tuple[int, int, int]]:
    """Return number, bytes and tape files of the volumes of T1."""
    with closing(life.tracking(read_only=True)) as tracking:
        return [(one.number, one.bytes, one.tape_files) for one in tracking.volumes.of("T1")]


@pytest.mark.parametrize("copies_too", [True, False])
def test_erased_medium_that_was_not_written_since_stays_erased(tmp_path: Path, copies_too: bool) -> None:
    """Also where a copy of the database is older than the erasure."""
    life = begin(tmp_path)
    life.write("T1", b"old", b"older")
    life.copy()
    life.erase("T1")
    life.lose(copies_too=copies_too)
    life.rebuild()
    life.check()
    assert history(life) == [(1, 8, 2), (2, 0, 0)]
    life.write("T1", b"new")
    life.lose(copies_too=True)
    life.rebuild()
    life.check()
    assert history(life) == [(1, 8, 2), (2, 3, 1)]
    with closing(life.tracking(read_only=True)) as tracking:
        assert {event.what for event in tracking.events.find()} == {"erased", "rebuilt"}
        files = tracking.tape_files.of("T1", volume=1)
    assert [file.bytes for file in files] == [3, 5]


def slots(life: Life) -> dict[str, int | None]:
    with closing(life.tracking(read_only=True)) as tracking:
        return {medium.barcode: medium.slot for medium in tracking.media.all()}


def test_slots_that_the_disks_remember_come_back_and_the_others_are_given_anew(tmp_path: Path) -> None:
    life = begin(tmp_path)
    life.write("T3", b"three")
    life.copy()
    life.write("T2", b"two")
    life.act("T1", "moved", lambda tracking: tracking.media.set_slot("T1", 7))
    life.act("T3", "moved", lambda tracking: tracking.media.set_slot("T3", 30))
    life.act("T3", "moved", lambda tracking: tracking.media.set_slot("T3", 8))
    assert slots(life) == {"T1": 7, "T2": 2, "T3": 8}
    life.lose(copies_too=False)
    life.rebuild()
    assert slots(life) == {"T1": 7, "T2": 2, "T3": 8}  # the copy knows of T2, and the disks of later moves
    life.lose(copies_too=True)
    rebuilt = life.rebuild()
    life.check()
    assert slots(life) == {"T1": 7, "T2": 1, "T3": 8}
    told = "slots that are not known: 1; these media have the lowest that were free, in the order"
    assert [one for one in rebuilt.report.ignored if told in one]


def test_media_that_have_changed_places_come_back_in_their_new_slots(tmp_path: Path) -> None:
    life = begin(tmp_path)
    life.copy()
    life.act("T1", "moved", lambda tracking: tracking.media.set_slot("T1", 9))
    life.act("T2", "moved", lambda tracking: tracking.media.set_slot("T2", 1))
    life.act("T1", "moved", lambda tracking: tracking.media.set_slot("T1", 2))
    life.lose(copies_too=False)
    life.rebuild()
    life.check()
    assert slots(life) == {"T1": 2, "T2": 1, "T3": 3}


@pytest.mark.parametrize("copies_too", [True, False])
def test_the_last_events_of_a_medium_come_back(tmp_path: Path, copies_too: bool) -> None:
    """With number, time, reason and all; those of the copy are not added again."""
    life = begin(tmp_path)
    life.write("T1", b"old")
    life.act("T2", "protected", lambda tracking: tracking.media.set_protected("T2", True))
    life.copy()
    life.erase("T1")
    hold = Hold("T1", "case 7", "auditors", utc_now(), 0, "alpha")
    with closing(life.tracking()) as tracking:
        with tracking.transaction():
            tracking.volumes.hold(hold)
            tracking.events.add("held", ACTOR, utc_now(), medium="T1", volume=2, reason="letter", hold="case 7")
        cartridges.keep(life.library, tracking, ["T1"])
        before = tracking.events.find()
    assert [event.what for event in before] == ["protected", "erased", "held"]
    life.lose(copies_too=copies_too)
    life.rebuild()
    life.check()
    with closing(life.tracking(read_only=True)) as tracking:
        after = tracking.events.find()
    assert [replace(event, epoch=0) for event in after[:3]] == [replace(event, epoch=0) for event in before]
    assert {event.what for event in after[3:]} == {"rebuilt"}
    assert after[3].id > after[2].id + 100


def test_newest_memory_counts_whichever_disk_has_it(tmp_path: Path) -> None:
    life = begin(tmp_path)
    life.write("T1", b"old")
    life.erase("T1")
    kept = {disk: (disk / "cartridges" / "T1.cartridge").read_bytes() for disk in life.library.config.disks}
    life.erase("T1")
    life.act("T1", "protected", lambda tracking: tracking.media.set_protected("T1", True))
    for disk in life.library.config.disks[:2]:  # they were away
        (disk / "cartridges" / "T1.cartridge").write_bytes(kept[disk])
    life.lose(copies_too=True)
    life.rebuild()
    life.check()
    assert history(life) == [(1, 3, 1), (2, 0, 0), (3, 0, 0)]
    with closing(life.tracking(read_only=True)) as tracking:
        assert tracking.media.get("T1").protected
    assert len({(disk / "cartridges" / "T1.cartridge").read_bytes() for disk in life.library.config.disks}) == 1


def test_a_mount_tells_its_disks(tmp_path: Path) -> None:
    """Of what it does itself, and a disk that it finds later."""
    life = begin(tmp_path)
    away = life.library.config.disks[2]

    async def serve() -> None:
        mount = Mount(0, None, "machine", os.getpid(), 0, "/mnt", "", "mounted", utc_now(), None)
        timing = replace(DEFAULT, probe=0.05)
        async with running(life.library, mount, timing=timing) as engine:
            with closing(life.tracking()) as tracking, tracking.transaction():
                tracking.volumes.end_current("T1", utc_now())
            await engine.health.keep("T1")
            assert all((disk / "cartridges" / "T1.cartridge").exists() for disk in life.library.config.disks[:2])
            away.with_name("away").rename(away)
            file = away / "cartridges" / "T1.cartridge"
            await trio.to_thread.run_sync(wait_until, file.exists, "what the disk that is back remembers")

    away.rename(away.with_name("away"))
    trio.run(serve)
    life.lose(copies_too=True)
    for disk in life.library.config.disks[:2]:
        (disk / "cartridges" / "T1.cartridge").unlink()
    life.rebuild()
    assert history(life) == [(1, 0, 0), (2, 0, 0)]


def test_a_truncation_is_newer_than_what_the_disks_remember(tmp_path: Path) -> None:
    """Also where nothing came between it and the act of which they know, and the copy of the database."""
    life = begin(tmp_path)
    life.write("T1", b"old")

    async def truncate() -> None:
        mount = Mount(0, None, "machine", os.getpid(), 0, "/mnt", "", "mounted", utc_now(), None)
        async with running(life.library, mount) as engine:
            session = await engine.open_writer("T1", 0, OPENER)
            life.act("T1", "set", lambda tracking: tracking.media.set_capacity("T1", 1 << 30))
            await engine.begin_volume(session, "ftruncate")
            for number, disk in enumerate(life.library.config.disks):
                remembered = dict(life.disk(number, disk).cartridges())["T1.cartridge"]
                assert remembered is not None
                assert remembered.volume == 2
            await engine.release_writer(session)

    trio.run(truncate)


@pytest.mark.parametrize("state", [MediumState.RETIRED, MediumState.REMOVED])
@pytest.mark.parametrize("copies_too", [True, False])
def test_medium_stays_out_of_use(tmp_path: Path, state: MediumState, copies_too: bool) -> None:
    life = begin(tmp_path)
    life.write("T1", b"old")
    life.copy()
    life.erase("T1")
    life.act("T1", str(state), lambda tracking: tracking.media.set_state("T1", state))
    life.lose(copies_too=copies_too)
    life.rebuild()
    with closing(life.tracking(read_only=True)) as tracking:
        assert tracking.cartridges.of(["T1"])[0].state is state
        for rule in invariants.rules(tracking):
            assert not list(invariants.broken(tracking, rule))
    if state is MediumState.REMOVED:
        with pytest.raises(NoSuchMedium):
            life.read("T1")
        # It is added anew, and written; then the memory of its removal is older than what is on it.
        with closing(life.tracking()) as tracking, tracking.transaction():
            tracking.media.add(["T1"], None, utc_now())
        life.contents["T1"] = []
        life.write("T1", b"new")
        life.lose(copies_too=True)
        life.rebuild()
        life.check()
        assert life.read("T1") == b"new"


def test_sessions_of_a_volume_that_ended_without_them_come_to_it(tmp_path: Path) -> None:
    """A rebuild without too many disks ended the volume; then the disks are back."""
    life = begin(tmp_path, 4, 0)
    life.write("T1", b"a" * 10, b"b" * 20)  # on a disk each
    life.snapshot()
    life.erase("T1")
    life.write("T2", b"c" * 30)
    life.write("T1", b"d" * 40)
    with closing(life.tracking(read_only=True)) as tracking:
        sessions = {session.bytes: session for session in tracking.sessions.find(SessionFilter())}
    (gone,) = sessions[20].disks
    assert sessions[40].disks != (gone,)
    life.lose(copies_too=True)
    life.rebuild(gone)
    assert history(life)[-1] == (2, 40, 1)
    lacking = history(life)
    path = life.library.config.disks[gone]
    path.with_name(f"away{gone}").rename(path)
    life.snapshot()
    rebuilt = life.rebuild()
    assert history(life) == [(1, 30, 2), (2, 40, 1)] != lacking
    assert rebuilt.report.lost == []
    life.check()


def test_stored_bytes_that_were_reclaimed_are_no_loss(tmp_path: Path) -> None:
    """The copy is older than the erasure, and has the tape files of the old volume."""
    life = begin(tmp_path)
    life.write("T1", b"a" * 10, b"b" * UNIT * 3)
    life.copy()
    life.erase("T1")
    life.write("T1", b"c")
    for number, path in enumerate(life.library.config.disks):
        for session in (1, 2):
            life.disk(number, path).remove(session)
    life.lose(copies_too=False)
    rebuilt = life.rebuild()
    assert (rebuilt.report.lost, rebuilt.report.damaged) == ([], [])
    assert any("reclaimed" in text for text in rebuilt.report.ignored)
    life.check()
    with closing(life.tracking(read_only=True)) as tracking:
        assert [tracking.sessions.get(number).reclaimed for number in (1, 2, 3)] == [True, True, False]
        assert tracking.volumes.get("T1", 1).reclaimed_at is not None


@pytest.mark.parametrize("by_hand", [True, False])
def test_a_snapshot_that_was_deleted_since_the_copy_does_not_come_back(tmp_path: Path, by_hand: bool) -> None:
    """The copy is older than the deletion, and than the reclaim after it: nothing is lost, for nothing shows it."""
    life = begin(tmp_path)
    life.write("T1", b"a" * 10, b"b" * UNIT * 3)
    life.write("T2", b"stays")
    for _ in range(3):
        life.snapshot()
    life.copy()
    life.erase("T1")
    life.erase("T2")
    life.contents["T2"] = []
    if by_hand:
        assert main(["snapshot", "delete", str(life.library.path), "1", "2", "--yes"]) == 0
    else:  # as a mount's schedule does it: the disks hear of it when bytes are reclaimed
        with closing(life.tracking()) as tracking, tracking.transaction():
            store.remove(tracking, (1, 2, 3))
    reclaim(life.library, limit=None, progress=lambda done, total: None)
    life.lose(copies_too=False)
    rebuilt = life.rebuild()
    assert rebuilt.base is not None
    assert (rebuilt.report.lost, rebuilt.report.damaged) == ([], [])
    assert any("snapshots that were deleted since" in text for text in rebuilt.report.ignored)
    with closing(life.tracking(read_only=True)) as tracking:
        assert [one.id for one in store.snapshots(tracking)] == ([3] if by_hand else [])
        reclaimed = [tracking.sessions.get(number).reclaimed for number in (1, 2, 3)]
    assert reclaimed == [not by_hand] * 3
    assert verified(life.library) == []
    life.check()


def test_a_new_snapshot_never_gets_the_number_of_a_deleted_one(tmp_path: Path) -> None:
    """The disks know of many that were deleted, but their marks are lost. The next rebuild would delete the new one."""
    life = begin(tmp_path)
    life.write("T1", b"old")
    life.copy()
    cartridges.keep_deleted(life.library, range(1, 500))
    life.lose(copies_too=False)
    for mark in tmp_path.rglob("vtlfs-disk.mark"):
        mark.unlink()
    life.rebuild()
    life.snapshot()
    with closing(life.tracking(read_only=True)) as tracking:
        (snapshot,) = store.snapshots(tracking)
    assert snapshot.id > 499


# --- retention --------------------------------------------------------------------------------------------------------


def retention(life: Life, barcode: str = "T3") -> tuple[RetainMode | None, int | None, str | None]:
    with closing(life.tracking(read_only=True)) as tracking:
        volume = tracking.volumes.get(barcode, tracking.media.get(barcode).volume)
    return volume.retain_mode, volume.retain_seconds, volume.retain_until


def test_retention_is_in_the_headers(tmp_path: Path) -> None:
    life = begin(tmp_path)
    life.write("T3", b"x" * 9 * UNIT, b"y")
    before = retention(life)
    life.lose(copies_too=True)
    life.rebuild(1)
    life.check()
    assert retention(life) == before
    with closing(life.tracking(read_only=True)) as tracking, pytest.raises(Retained, match="compliance"):
        tracking.volumes.check_may_end(tracking.media.get("T3"), utc_now(), override=True)


def test_what_was_said_of_retention_is_remembered(tmp_path: Path) -> None:
    """`media set` extends it, and no header tells of that."""
    life = begin(tmp_path)
    until = "2222-02-02T00:00:00.000000Z"
    life.write("T1", b"x")
    life.act("T1", "set", lambda tracking: tracking.volumes.extend("T1", RetainMode.GOVERNANCE, until))
    life.act("T2", "set", lambda tracking: tracking.volumes.extend("T2", RetainMode.WORM, None))
    life.lose(copies_too=True)
    life.rebuild()
    assert retention(life, "T1") == (RetainMode.GOVERNANCE, None, until)
    assert retention(life, "T2")[0] is RetainMode.WORM


def test_session_without_an_end_is_retained_by_the_rule_of_its_header(tmp_path: Path) -> None:
    life = begin(tmp_path)
    life.write("T3", b"x" * 3 * UNIT)
    with closing(life.tracking(read_only=True)) as tracking:
        (file,) = tracking.tape_files.of("T3")
        latest = tracking.volumes.now("")
    life.lose(copies_too=True)
    for disk in life.library.config.disks:  # a power cut took the second generation of each header
        for member in disk.glob("sessions/*/*.member"):
            with open(member, "r+b") as opened:
                opened.seek(2048)
                opened.write(bytes(2048))
    rebuilt = life.rebuild()
    assert [session.id for session in rebuilt.report.recovered] == [file.session]
    mode, seconds, until = retention(life)
    assert (mode, seconds) == (RetainMode.COMPLIANCE, 30 * 86400)
    assert file.retention is not None
    assert (until or "") >= (file.retention.until or "") > latest


def test_time_never_runs_backwards(tmp_path: Path) -> None:
    """A clock was ahead; it is put right, the database is lost, and the retention is told by the later time still."""
    life, ahead = begin(tmp_path), "2099-01-01T00:00:00.000000Z"
    with closing(life.tracking()) as tracking, tracking.transaction():
        tracking.volumes.note_time(ahead)
    life.lose(copies_too=True)
    rebuilt = life.rebuild()
    assert any(ahead in text for text in rebuilt.report.ignored)
    with closing(life.tracking(read_only=True)) as tracking:
        assert tracking.volumes.now(utc_now()) == ahead


def test_clock_of_another_library_ends_no_retention(tmp_path: Path) -> None:
    """A session was imported from a library whose clock was ahead; its header has the times of then.

    Nor does what the disks remember after a rebuild.
    """
    life = begin(tmp_path)
    life.write("T3", b"kept")
    ahead = "2099-01-01T00:00:00.000000Z"
    origin = "01234567-89ab-cdef-0123-456789abcdef/5"
    opening = Opening("T1", 0, OPENER, ahead, UNIT, volume=2, origin=origin)
    member = life.disk(0, life.library.config.disks[0]).member(17, UNIT, opening)
    member.write(Extent(17, 0, 0, 0, 8, NO_CODEC, 0, BLOCK, 0, b""), [memoryview(b"imported")])
    member.finish(Ending(State.RELEASED, None, ahead, 0, 0, 8))
    life.contents["T1"] = [b"imported"]
    for _ in range(2):
        life.lose(copies_too=True)
        life.rebuild()
        life.check()
    with closing(life.tracking(read_only=True)) as tracking:
        assert tracking.volumes.now(utc_now()) < ahead
        with pytest.raises(Retained, match="compliance"):
            tracking.volumes.check_may_end(tracking.media.get("T3"), utc_now(), override=True)


def test_no_volume_comes_after_one_that_nobody_can_end(tmp_path: Path) -> None:
    """Somebody says in a header, or in what a disk remembers, that a medium under compliance was erased."""
    life = begin(tmp_path)
    life.write("T3", b"kept")
    life.write("T1", b"else")
    disk, at = life.library.config.disks[0], utc_now()
    files.put(disk, life.library.config.uuid, [Cartridge("T3", 1 << 40, 7, 2, at, at)])
    opening = Opening("T3", 0, OPENER, at, UNIT, volume=3)
    member = life.disk(0, disk).member(17, UNIT, opening)
    member.write(Extent(17, 0, 0, 0, 4, NO_CODEC, 0, BLOCK, 0, b""), [memoryview(b"fake")])
    member.finish(Ending(State.RELEASED, None, at, 0, 0, 4))
    life.lose(copies_too=True)
    rebuilt = life.rebuild()
    assert any("what came after it is left out" in text for text in rebuilt.report.damaged)
    life.check()
    with closing(life.tracking(read_only=True)) as tracking:
        assert tracking.media.get("T3").volume == 1
        assert tracking.library.watermark().commits > 1 << 40  # so that the next memory counts
    life.act("T3", "set", lambda tracking: tracking.media.set_protected("T3", True))
    assert dict(life.disk(0, disk).cartridges())["T3.cartridge"] != Cartridge("T3", 1 << 40, 7, 2, at, at)


def test_worm_medium_that_was_erased_before_anything_was_written_to_it(tmp_path: Path) -> None:
    """The copy has the empty volume, for which the rule was WORM; what was written after it ended comes back."""
    life = begin(tmp_path)
    life.act("T1", "set", lambda tracking: tracking.volumes.extend("T1", RetainMode.WORM, None))
    life.copy()
    life.erase("T1")
    life.write("T1", b"kept")
    life.lose(copies_too=False)
    rebuilt = life.rebuild()
    assert rebuilt.report.damaged == []
    life.check()
    assert history(life) == [(1, 0, 0), (2, 4, 1)]


@pytest.mark.parametrize("has_copy", [True, False])
def test_volume_that_was_reclaimed_in_part_is_no_loss(tmp_path: Path, has_copy: bool) -> None:
    """One of its disks was away."""
    life = begin(tmp_path)
    life.write("T1", b"a" * 20 * UNIT, b"b" * UNIT)
    if has_copy:
        life.copy()
    life.erase("T1")
    life.write("T1", b"c" * UNIT)
    for number, path in enumerate(life.library.config.disks[:2]):
        for session in (1, 2):
            life.disk(number, path).remove(session)
    life.lose(copies_too=False)
    rebuilt = life.rebuild()
    assert rebuilt.report.lost == []
    assert any("of erased volumes" in text for text in rebuilt.report.ignored)
    assert [str(one) for one in check(life.library).findings if one.damage] == []
    assert verified(life.library) == []
    assert reclaim(life.library, limit=None, progress=lambda done, total: None).reclaimed.volumes == [("T1", 1)]
    assert [str(one) for one in check(life.library).findings] == []
    life.check()


def verified(library: Library) -> list[object]:
    """Return what a verification of everything finds."""
    found: list[object] = []
    with closing(library.tracking()) as tracking:
        begun = verification.begin(tracking, (), utc_now())
        trio.run(verify.Verifier(library, tracking, begun, found.append, lambda _: None).run, None)
    return found


# --- what somebody has forged ----------------------------------------------------------------------------------------


def test_forged_memory_is_bounded_and_told(tmp_path: Path) -> None:
    life = begin(tmp_path)
    life.write("T1", b"x")
    life.erase("T1")
    disk, uuid = life.library.config.disks[0], life.library.config.uuid
    at = utc_now()
    good = Cartridge("T1", 1 << 60, 1, 2, at, at)
    files.put(disk, uuid, [replace(good, barcode=f"F{number}", volume=MAX_VOLUMES) for number in range(15)])
    place = disk / "cartridges"
    files.put(disk, "another", [replace(good, barcode="OTHER")])
    (place / "HUGE.cartridge").write_bytes(bytes(2 << 20))
    (place / "LINK.cartridge").symlink_to(place / "T1.cartridge")
    os.mkfifo(place / "FIFO.cartridge")
    (place / "T2.cartridge").write_bytes((place / "T1.cartridge").read_bytes())  # another medium's
    (place / "bad name.cartridge").touch()
    (place / "DIR.cartridge").mkdir()
    life.lose(copies_too=True)
    rebuilt = life.rebuild()
    told = [text for text in rebuilt.report.ignored if "can't be read, or is another's" in text]
    assert len(told) == 7
    left_out = [text for text in rebuilt.report.damaged if "volumes of which nothing is there" in text]
    assert len(left_out) == 5
    with closing(life.tracking(read_only=True)) as tracking:
        assert tracking.sql.one("SELECT count(*) FROM volume")[0] <= 1_000_000 + 100
    life.check()
