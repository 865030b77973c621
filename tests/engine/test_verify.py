"""Verification: every kind of defect is found, distinguished and located, and everything else is still verified."""

import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filling import OPENER, UNIT, fill, flip, flip_at, make, member, nth, tracked

from vtlfs import model
from vtlfs.disks.contents import Flaw, Kind, Part
from vtlfs.disks.discovery import Discovery, discover
from vtlfs.disks.local.examine import Examiner
from vtlfs.disks.records import BLOCK, after
from vtlfs.engine.library import Library
from vtlfs.engine.scrub import verification as verifications
from vtlfs.engine.scrub import verify as verifying
from vtlfs.engine.scrub.defects import Defect, Severity
from vtlfs.engine.scrub.unfinished import Unfinished
from vtlfs.engine.scrub.verification import Verification
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.extents import BEGIN
from vtlfs.engine.tracking.repositories.verifications import LeftOut
from vtlfs.errors import NoSuchMedium, NothingToResume
from vtlfs.model import MIB, Access, DiskRecord, Extent, Session, utc_now
from vtlfs.sizes import SIZES, Sizes
from vtlfs.timing import Timing

SOON = Timing(look=0.01)
LENGTH = 10 * UNIT + 100  # 11 extents
DATA = [random.Random(seed).randbytes(LENGTH) for seed in range(4)]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """A library with a stream on T1, two on T2."""
    made = make(tmp_path / "lib")
    assert fill(made, ("T1", DATA[0]), ("T2", DATA[1]), ("T2", DATA[2])) == [1, 2, 3]
    return made


def verify(
    library: Library, *media: str, resume: bool = False, timing: Timing = SOON, sizes: Sizes = SIZES
) -> tuple[list[Defect], Verification]:
    """Verify; return the defects, and the verification as it is recorded."""
    defects: list[Defect] = []
    with closing(library.tracking()) as tracking:
        found = verifications.resume(tracking) if resume else verifications.begin(tracking, media, utc_now())
        more = (lambda _: None, None, timing, sizes)
        assert verifying.verify(library, tracking, found, defects.append, *more) is None
        row = tracking.sql.one("SELECT ended_at, bytes FROM verification ORDER BY id DESC LIMIT 1")
        assert row == (found.ended_at, found.bytes)
    return defects, found


def the_defect(library: Library, timing: Timing = SOON) -> Defect:
    """Verify; assert that there is one defect, and return it."""
    (defect,), found = verify(library, timing=timing)
    assert found.defects == {severity: defect.count * (severity is defect.severity) for severity in Severity}
    return defect


def placed(library: Library, session: int, disk: int) -> list[Extent]:
    """Return the extents that a session has on a disk, by position."""
    with closing(library.tracking(read_only=True)) as tracking:
        return [extent for _, extent in tracking.extents.on_disk(disk, session, BEGIN, 100)[0]]


def offset_of(extent: Extent) -> int:
    """Return the offset of a data extent."""
    assert extent.offset is not None
    return extent.offset


def test_all_is_as_it_should_be(library: Library) -> None:
    defects, found = verify(library)
    assert defects == []
    assert found.bytes == 3 * LENGTH
    assert found.ended_at is not None
    with closing(library.tracking(read_only=True)) as tracking:
        assert verifications.last_of_all(tracking) == found


def test_flipped_bit_is_located(library: Library) -> None:
    extent = placed(library, 3, 1)[2]
    offset = offset_of(extent)
    position = flip(member(library, 1, 3), 2, byte=7) - 7
    defect = the_defect(library)
    assert defect == Defect(
        kind=Kind.FLIPPED,
        why="its BLAKE3 is not the recorded one",
        disk=1,
        path=str(member(library, 1, 3)),
        position=position,
        end_position=position + UNIT,
        medium="T2",
        tape_file=1,
        session=3,
        stripe=extent.stripe,
        extents=1,
        parity=0,
        bytes=UNIT,
        offset=offset,
        last_offset=offset + UNIT - 1,
        medium_offset=LENGTH + offset,
        is_replaceable=False,
        lost_bytes=UNIT,
    )
    assert defect.severity is Severity.DAMAGED
    assert str(defect) == (
        f"flipped: medium T2, tape file 0001, extent at offset {offset} ({LENGTH + offset} on the medium), session 3 "
        f"on disk 1 ({member(library, 1, 3)} from byte {position}): its BLAKE3 is not the recorded one"
    )


def test_only_the_media_that_are_named_are_verified(library: Library) -> None:
    flip(member(library, 0, 1), 0)
    defects, found = verify(library, "T2", "T3")
    assert (defects, found.bytes, found.media) == ([], 2 * LENGTH, ["T2", "T3"])
    defects, found = verify(library, "T1")
    assert ([defect.medium for defect in defects], found.bytes) == (["T1"], LENGTH)
    with pytest.raises(NoSuchMedium):
        verify(library, "T9")


def test_file_that_ends_too_early(library: Library) -> None:
    extents = placed(library, 2, 0)
    os.truncate(member(library, 0, 2), nth(2) + BLOCK + 5)
    defect = the_defect(library)
    assert defect.kind is Kind.TRUNCATED
    assert (defect.offset, defect.last_offset) == (extents[2].offset, extents[-1].end - 1)
    assert (defect.extents, defect.bytes) == (len(extents) - 2, sum(extent.bytes for extent in extents[2:]))
    assert (defect.position, defect.end_position) == (nth(2) + BLOCK, after(extents[-1].position, extents[-1].stored))
    assert f"{defect.extents} extents of offsets {defect.offset} to {defect.last_offset} (" in str(defect)
    os.truncate(member(library, 0, 2), 0)
    defects, _ = verify(library)
    assert {defect.kind for defect in defects} == {Kind.TRUNCATED, Kind.HEADER}


def replaced_by(make_it: Callable[[Path], None]) -> Callable[[Library], None]:
    def defect(library: Library) -> None:
        path = member(library, 1, 2)
        path.rename(path.with_name("kept"))
        make_it(path)

    return defect


@pytest.mark.parametrize(
    ("defect", "kind", "why"),
    [
        (replaced_by(lambda path: None), Kind.MISSING, "its member file is gone"),
        (replaced_by(lambda path: path.symlink_to("kept")), Kind.REPLACED, "a symbolic link is in its place"),
        (replaced_by(lambda path: path.mkdir()), Kind.REPLACED, "a directory is in its place"),
        (replaced_by(os.mkfifo), Kind.REPLACED, "a FIFO is in its place"),
    ],
)
def test_missing_member_file_is_one_defect(
    library: Library, defect: Callable[[Library], None], kind: Kind, why: str
) -> None:
    defect(library)
    found = the_defect(library)
    assert (found.kind, found.why, found.medium, found.session) == (kind, why, "T2", 2)
    assert found.extents == len(placed(library, 2, 1))
    assert found.severity is Severity.DAMAGED


def test_files_exchanged_between_sessions(library: Library) -> None:
    one, other = member(library, 0, 1), member(library, 0, 2)
    one.rename(one.with_name("kept"))
    other.rename(one)
    one.with_name("kept").rename(other)
    defects, found = verify(library)
    swapped = [defect for defect in defects if defect.kind is Kind.SWAPPED]
    assert [(defect.session, defect.why) for defect in swapped] == [
        (1, "what lies there belongs to session 2 on disk 0"),
        (2, "what lies there belongs to session 1 on disk 0"),
    ]
    assert {defect.kind for defect in defects} == {Kind.SWAPPED, Kind.HEADER}
    assert found.defects[Severity.DAMAGED] == len(placed(library, 1, 0)) + len(placed(library, 2, 0))


def test_files_exchanged_between_disks(library: Library) -> None:
    one, other = member(library, 0, 1), member(library, 1, 1)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    defects, _ = verify(library)
    swapped = [defect for defect in defects if defect.kind is Kind.SWAPPED]
    assert sorted((defect.disk, defect.why) for defect in swapped) == [
        (0, "what lies there belongs to session 1 on disk 1"),
        (1, "what lies there belongs to session 1 on disk 0"),
    ]


def test_file_of_another_library(library: Library, tmp_path: Path) -> None:
    stranger = make(tmp_path / "stranger")
    fill(stranger, ("T1", DATA[3]))
    shutil.copy(member(stranger, 1, 1), member(library, 1, 1))
    defects, _ = verify(library)
    (defect,) = [defect for defect in defects if defect.severity is Severity.DAMAGED]
    assert defect.kind is Kind.FOREIGN
    assert defect.why == f"what lies there belongs to library {stranger.config.uuid}"
    assert defect.extents == len(placed(library, 1, 1))


def test_extents_exchanged_within_a_file(library: Library) -> None:
    extents = placed(library, 1, 0)
    step, begin = BLOCK + UNIT, nth(1)
    content = bytearray(member(library, 0, 1).read_bytes())
    first, second = content[begin : begin + step], content[begin + step : begin + 2 * step]
    content[begin : begin + 2 * step] = second + first
    member(library, 0, 1).write_bytes(content)
    defects, _ = verify(library)
    assert [defect.severity for defect in defects] == [Severity.DAMAGED] * len(defects)
    assert [(defect.kind, defect.offset, defect.why) for defect in defects] == [
        (Kind.SWAPPED, extents[1].offset, f"what belongs at position {nth(2)} lies in its place"),
        (Kind.SWAPPED, extents[2].offset, f"what belongs at position {nth(1)} lies in its place"),
    ]


@pytest.mark.parametrize("is_direct", [True, False])
def test_damaged_record_and_header_are_reported_though_the_data_is_right(
    library: Library, monkeypatch: pytest.MonkeyPatch, is_direct: bool
) -> None:
    if not is_direct:
        monkeypatch.setattr(os, "O_DIRECT", 0)
    flip(member(library, 1, 2), 1, byte=-BLOCK + 20)
    flip_at(member(library, 0, 3), 70)  # generation 0 of the header, which no longer counts
    flip_at(member(library, 0, 3), BLOCK // 2 + 70)
    defects, found = verify(library)
    told = sorted((defect.disk, defect.kind, defect.session, defect.why) for defect in defects)
    assert told == [
        (0, Kind.HEADER, 3, "its header is damaged"),
        (1, Kind.RECORD, 2, "its record is damaged"),
    ]
    assert found.defects == {Severity.DAMAGED: 0, Severity.UNREADABLE: 0, Severity.METADATA: 2}


@pytest.fixture
def unfinished(library: Library) -> Callable[[], object]:
    """Take the end of session 1 out of its header on disk 0; return a function that puts it back."""
    file = member(library, 0, 1)
    whole = file.read_bytes()
    file.write_bytes(whole[: BLOCK // 2] + bytes(BLOCK // 2) + whole[BLOCK:])
    return lambda: file.write_bytes(whole)


@pytest.fixture
def alive(library: Library) -> Iterator[Callable[[], None]]:
    """Make the mount that wrote the library live; return a function that lets it die and be recovered."""
    lease = library.leases.take(1)

    def die() -> None:
        library.leases.remove(1)

    yield die
    lease.let_go()


def test_header_that_nobody_can_be_about_to_finish_is_told_at_once(library: Library, unfinished: object) -> None:
    """A power cut may leave such a header. No mount will finish it, so there is nothing to wait for."""
    assert the_defect(library).why == "its header does not say how the session ended"


def test_header_that_is_finished_meanwhile_is_right(
    library: Library, unfinished: Callable[[], object], alive: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right after the release, the mount may not have written it yet."""
    really = Examiner.examine
    looks: list[Flaw] = []

    def look(self: Examiner, part: Part) -> list[Flaw]:
        found = really(self, part)
        looks.extend(one for one in found if one.is_unfinished)
        if len(looks) == 3:
            unfinished()
        return found

    monkeypatch.setattr(Examiner, "examine", look)
    defects, found = verify(library)
    assert (defects, found.unfinished, len(looks)) == ([], [], 3)


def test_header_that_stays_unfinished_is_told_after_a_while(
    library: Library, unfinished: object, alive: object
) -> None:
    assert the_defect(library, replace(SOON, finished=0.1)).why == "its header does not say how the session ended"


def test_header_that_recovery_is_to_finish_is_no_defect(library: Library, unfinished: object) -> None:
    """The mount has died, and its lease shows that recovery is not finished."""
    library.leases.take(1).let_go()
    defects, found = verify(library)
    assert (defects, found.unfinished) == ([], [])


def test_header_is_looked_at_again_after_an_interruption(
    library: Library, unfinished: object, alive: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the record, nothing would be known of the header, as all extents had been verified."""
    timing = replace(SOON, save=0.01)
    really, sent = verifications.save, list[signal.Signals]()

    def save(tracking: Tracking, verification: Verification) -> None:
        really(tracking, verification)
        if verification.unfinished and not sent:
            sent.append(signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    with closing(library.tracking()) as tracking:
        monkeypatch.setattr(verifications, "save", save)
        found = verifications.begin(tracking, [], utc_now())
        assert (
            verifying.verify(library, tracking, found, lambda _: None, lambda _: None, timing=timing) == signal.SIGTERM
        )
    monkeypatch.setattr(verifications, "save", really)
    assert found.unfinished == [(0, 1)]
    alive()
    defects, found = verify(library, resume=True)
    assert [(defect.kind, defect.session) for defect in defects] == [(Kind.HEADER, 1)]
    assert found.bytes == 3 * LENGTH


def test_many_unfinished_headers_are_not_kept_in_memory(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = Sizes(unfinished=2, parts_a_job=1, jobs_in_flight=1)
    fill(library, *[("T3", b"x" * (2 * UNIT))] * 20)
    kept: list[int] = []
    really = Unfinished.add

    def add(self: Unfinished, disk: int, session: Session) -> None:
        really(self, disk, session)
        kept.append(len(self._verification.unfinished))

    monkeypatch.setattr(Unfinished, "add", add)
    for session in range(1, 24):
        for disk in range(2):
            with open(member(library, disk, session), "r+b") as file:
                file.seek(BLOCK // 2)
                file.write(bytes(BLOCK // 2))
    _, found = verify(library, sizes=sizes)
    assert (found.defects[Severity.METADATA], len(kept)) == (46, 46)
    assert max(kept) <= 2 + 2 * 2, "each disk's task looks whenever it has seen too many"


def test_header_that_says_something_else_than_the_database(library: Library) -> None:
    with closing(tracked(library)) as tracking, tracking.transaction():
        tracking.sql.execute("UPDATE session SET host = 'beta' WHERE id = 1")
    defects, _ = verify(library)
    assert [defect.why for defect in defects] == [
        "its header says host 'alpha' where the tracking database has 'beta'"
    ] * 2


def test_bytes_that_the_database_has_lost(library: Library) -> None:
    with closing(tracked(library)) as tracking, tracking.transaction():
        tracking.sql.execute(f"DELETE FROM extent WHERE session = 2 AND offset = {4 * UNIT}")
    defect = the_defect(library)
    assert (defect.kind, defect.medium, defect.tape_file, defect.disk) == (Kind.UNMAPPED, "T2", 0, None)
    assert defect.why == f"the tracking database does not say where {UNIT} of its {LENGTH} bytes lie"


@pytest.mark.parametrize("how", ["directory", "label", "stranger"])
def test_missing_disk_is_one_defect_and_the_others_are_verified(library: Library, tmp_path: Path, how: str) -> None:
    disk = library.config.disks[1]
    disk.rename(disk.with_name("away"))
    if how != "directory":
        disk.mkdir()
    if how == "stranger":
        shutil.copytree(make(tmp_path / "stranger").config.disks[1], disk, dirs_exist_ok=True)
    flip(member(library, 0, 3), 0)
    defects, found = verify(library)
    assert sorted((defect.kind, defect.disk) for defect in defects) == [(Kind.ABSENT, 1), (Kind.FLIPPED, 0)]
    assert found.defects == {Severity.DAMAGED: 1, Severity.UNREADABLE: 1, Severity.METADATA: 0}
    assert found.ended_at is not None


def test_disk_that_goes_away_meanwhile_is_one_defect(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = library.config.disks[1]

    def and_then_gone(self: Library, ever: Sequence[DiskRecord]) -> Discovery:
        found = discover(self.config.disks, self.config.uuid)
        disk.rename(disk.with_name("away"))
        disk.mkdir()
        return found

    monkeypatch.setattr(Library, "discover", and_then_gone)
    defect = the_defect(library)
    assert (defect.kind, defect.disk, defect.path) == (Kind.ABSENT, 1, str(disk))
    assert "its label is not there; is the right device mounted?" in defect.why


@pytest.mark.parametrize("part", ["data", "record", "header"])
def test_bad_sector_is_unreadable_and_what_lies_around_it_is_verified(
    library: Library, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """The disk returns EIO for one block, as for a bad sector."""
    bad = {"data": nth(2) + BLOCK, "record": nth(2), "header": 0}[part]
    really, path = os.preadv, str(member(library, 0, 1))

    def with_a_bad_sector(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}") != path or not bad < offset + len(buffers[0]) <= bad + (1 << 30):
            return really(descriptor, buffers, offset)
        if offset >= bad + BLOCK:
            return really(descriptor, buffers, offset)
        if offset < bad:
            return really(descriptor, [buffers[0][: bad - offset]], offset)
        raise OSError(5, "bad sector")

    monkeypatch.setattr(os, "preadv", with_a_bad_sector)
    flip(member(library, 0, 1), 3)
    defects, found = verify(library)
    told = {defect.kind: defect for defect in defects}
    assert len(defects) == 2
    assert told[Kind.FLIPPED].position == nth(3) + BLOCK
    wanted = {"data": Kind.UNREADABLE, "record": Kind.RECORD, "header": Kind.HEADER}[part]
    assert "Input/output error" in told[wanted].why
    assert told[wanted].position == (None if part == "header" else bad)
    assert found.bytes == 3 * LENGTH


def test_interrupted_and_resumed(library: Library) -> None:
    """Everything is verified once, however often the run is interrupted; each defect is reported once."""
    sizes = Sizes(parts_a_job=1, job=UNIT, jobs_in_flight=1)
    flip(member(library, 0, 1), 1)
    flip(member(library, 1, 3), 3)
    defects: list[Defect] = []
    seen: list[int] = []
    runs = 0

    def advance(size: int) -> None:
        seen.append(size)
        if len(seen) % 5 == 0:
            signal.raise_signal(signal.SIGTERM)

    with closing(library.tracking()) as tracking:
        found = verifications.begin(tracking, [], utc_now())
        while stopped := verifying.verify(library, tracking, found, defects.append, advance, sizes=sizes):
            assert stopped is signal.SIGTERM
            assert found.ended_at is None
            runs += 1
            found = verifications.resume(tracking)
    assert runs > 3
    assert sum(seen) == found.bytes == 3 * LENGTH
    assert sorted((defect.session, defect.position) for defect in defects) == [(1, nth(1) + BLOCK), (3, nth(3) + BLOCK)]
    assert found.defects[Severity.DAMAGED] == 2
    with (
        closing(library.tracking()) as tracking,
        pytest.raises(NothingToResume, match="no verification was interrupted"),
    ):
        verifications.resume(tracking)


def forbidden(defect: Defect) -> None:
    pytest.fail(f"{defect}")


def test_what_is_released_later_is_left_out(library: Library) -> None:
    with closing(library.tracking()) as tracking:
        found = verifications.begin(tracking, [], utc_now())
        fill(library, ("T3", DATA[3]))
        verifying.verify(library, tracking, found, forbidden, lambda _: None)
    assert found.bytes == 3 * LENGTH


def test_extents_are_verified_that_are_larger_than_those_of_today(tmp_path: Path) -> None:
    library = make(tmp_path / "lib", unit=4 * MIB)
    data = DATA[0] * 220
    assert len(data) > 8 * MIB
    fill(library, ("T1", data))
    today = Library(library.path, replace(library.config, stripe_unit=UNIT))
    defects, found = verify(today)
    assert (defects, found.bytes) == ([], len(data))
    flip_at(member(library, 0, 1), BLOCK + BLOCK + 3 * MIB)
    assert the_defect(today).kind is Kind.FLIPPED


def test_long_sessions_are_gone_through_in_steps(tmp_path: Path) -> None:
    library = make(tmp_path / "lib", disks=3)
    fill(library, *((f"T{1 + number % 3}", DATA[number % 4]) for number in range(7)))
    os.truncate(member(library, 2, 5), nth(0))
    defects, found = verify(library, sizes=Sizes(extents_at_once=3, files_at_once=2))
    (defect,) = defects
    assert (defect.kind, defect.session, defect.extents) == (Kind.TRUNCATED, 5, len(placed(library, 5, 2)))
    assert found.bytes == 7 * LENGTH


def test_extents_without_a_place_are_all_gone_through_however_many_they_are(library: Library) -> None:
    """A rebuild has found none of a session's extents on a disk, and they are more than one query looks up."""
    gone = placed(library, 3, 1)
    assert len(gone) > 3
    with closing(tracked(library)) as tracking, tracking.transaction():
        tracking.sql.execute("UPDATE extent SET position = 0 WHERE session = 3 AND disk = 1")
    defects, found = verify(library, sizes=Sizes(extents_at_once=2, extents_a_part=1, parts_a_job=1))
    assert {defect.kind for defect in defects} == {Kind.UNMAPPED}
    assert sum(defect.extents for defect in defects) == len(gone) == found.defects[Severity.DAMAGED]
    assert found.bytes == 3 * LENGTH


def test_progress_is_written_down_while_it_goes_on(library: Library) -> None:
    """So it can be resumed after a power cut."""
    limits = (10 * LENGTH, replace(SOON, save=0.0), Sizes(parts_a_job=1))
    seen: list[dict[str, list[int]]] = []
    with closing(library.tracking()) as tracking, closing(library.tracking(read_only=True)) as other:

        def look(_: int) -> None:
            seen.append(json.loads(other.sql.one("SELECT progress FROM verification")[0]))

        verifying.verify(library, tracking, verifications.begin(tracking, [], utc_now()), forbidden, look, *limits)
    assert any("0" in progress or "1" in progress for progress in seen[:-1])


# --- which tape files, and what is left out ---------------------------------------------------------------------------


@pytest.mark.parametrize("years", [-40, -1, 1, 40])
def test_what_a_clock_said_when_it_was_released_leaves_nothing_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    library = make(tmp_path / "lib")
    with monkeypatch.context() as clock:
        clock.setattr(model, "wall_clock", lambda: datetime.now(UTC) + timedelta(days=365 * years))
        fill(library, ("T1", DATA[0]))
    flip(member(library, 0, 1), 1)
    for media in ([], ["T1"]):
        (defect,), found = verify(library, *media)
        assert (defect.kind, found.bytes, found.left_out) == (Kind.FLIPPED, LENGTH, (0, []))


def test_what_is_released_later_is_left_out_and_named(library: Library) -> None:
    defects: list[Defect] = []
    with closing(library.tracking()) as tracking:
        found = verifications.begin(tracking, [], utc_now())
        fill(library, *[("T3", DATA[3])] * 7)
        with tracking.transaction():  # by a mount that died
            number = tracking.library.take_sessions(1)[0]
            tracking.sessions.open(number, 1, OPENER, Access.WRITE, 0, "T1", UNIT, utc_now())
        verifying.verify(library, tracking, found, defects.append, lambda _: None)
        assert (defects, found.bytes) == ([], 3 * LENGTH)
        assert found.left_out is not None
        count, first = found.left_out
        assert (count, len(first)) == (8, verifications.NAMED)
        assert [str(one) for one in first][:2] == [
            "session 4 on T3 (tape file 0000)",
            "session 5 on T3 (tape file 0001)",
        ]
        assert verifications.left_out(tracking, replace(found, media=["T1"])) == (1, [LeftOut(number, "T1", None)])
        assert verifications.left_out(tracking, replace(found, media=["T2"])) == (0, [])


def test_an_interrupted_verification_goes_on_with_the_same_tape_files(library: Library) -> None:
    with closing(library.tracking()) as tracking:
        begun = verifications.begin(tracking, [], utc_now())
    fill(library, ("T1", DATA[3]))
    defects, found = verify(library, resume=True)
    assert (defects, found.last, found.bytes) == ([], begun.last, 3 * LENGTH)
    assert found.left_out == (1, [LeftOut(4, "T1", 1)])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            "DELETE FROM tape_file WHERE medium = 'T2' AND number = 1",
            f"the medium is recorded as {2 * LENGTH} bytes long, but its tape files have {LENGTH} bytes",
        ),
        (
            "DELETE FROM tape_file WHERE medium = 'T2'",
            f"the medium is recorded as {2 * LENGTH} bytes long, but its tape files have 0 bytes",
        ),
        (
            "DELETE FROM session WHERE id = 3",
            f"{LENGTH} bytes were not read; `vtlfs check` says what is wrong with the tracking database",
        ),
    ],
)
@pytest.mark.parametrize("media", [(), ("T2",)])
def test_bytes_that_the_database_no_longer_lists_are_damage(
    library: Library, change: str, why: str, media: tuple[str, ...]
) -> None:
    """Bytes that were not read are never reported as right."""
    with closing(library.tracking()) as tracking:
        tracking.sql.execute("PRAGMA foreign_keys = OFF")
        with tracking.transaction():
            tracking.sql.execute("UPDATE library SET tape_files = 0")
            tracking.sql.execute(change)
    (defect,), found = verify(library, *media)
    assert (defect.kind, defect.why, found.defects[Severity.DAMAGED]) == (Kind.UNMAPPED, why, 1)
    assert str(defect).startswith("unmapped: ")


# --- stripes with parity ----------------------------------------------------------------------------------------------


def with_parity(root: Path, parity: int, disks: int) -> Library:
    """Return a library of stripes with parity, with a stream on T1 and one on T2."""
    library = make(root, disks=disks, parity=parity)
    assert fill(library, ("T1", DATA[0]), ("T2", DATA[1])) == [1, 2]
    return library


def stripe_with(library: Library, offset: int) -> list[Extent]:
    """Return the extents of session 1's stripe with the byte at an offset: its data by place, then its parity."""
    with closing(library.tracking(read_only=True)) as tracking:
        [extent] = tracking.extents.of(1, offset, 1)
        return tracking.extents.stripe(extent, LENGTH)


def damage(library: Library, extent: Extent) -> None:
    flip_at(member(library, extent.disk, extent.session), extent.position + BLOCK + 5)


PARITIES = [(1, 2), (1, 3), (1, 5), (2, 3), (2, 4), (2, 6)]


@pytest.mark.parametrize(("parity", "disks"), PARITIES)
def test_parity_is_verified_and_is_no_byte_of_a_tape_file(tmp_path: Path, parity: int, disks: int) -> None:
    library = with_parity(tmp_path / "lib", parity, disks)
    defects, found = verify(library)
    assert (defects, found.bytes, found.replaceable) == ([], 2 * LENGTH, 0)
    stripe = stripe_with(library, 0)
    for extent in stripe[-parity:]:
        assert extent.is_parity
        damage(library, extent)
    defects, found = verify(library)
    covered = sum(extent.bytes for extent in stripe)
    assert {(one.disk, one.parity, one.offset, one.last_offset, one.bytes, one.is_replaceable) for one in defects} == {
        (extent.disk, 1, 0, covered - 1, 0, True) for extent in stripe[-parity:]
    }
    assert (found.bytes, found.defects[Severity.DAMAGED], found.replaceable) == (2 * LENGTH, parity, parity)
    position = stripe[-1].position + BLOCK
    (told,) = [str(defect) for defect in defects if defect.disk == stripe[-1].disk]
    assert told == (
        f"flipped: medium T1, tape file 0000, parity of stripe {stripe[-1].stripe}, which covers offsets 0 to "
        f"{covered - 1}, session 1 on disk {stripe[-1].disk} ({member(library, stripe[-1].disk, 1)} from byte "
        f"{position}): its BLAKE3 is not the recorded one; its stripe can replace it"
    )


@pytest.mark.parametrize(("parity", "disks"), PARITIES)
def test_what_a_stripe_can_replace_costs_no_byte(tmp_path: Path, parity: int, disks: int) -> None:
    """The stripe can replace as many extents as it has parity; with one more, every damaged data extent is lost."""
    library = with_parity(tmp_path / "lib", parity, disks)
    stripe = stripe_with(library, 4 * UNIT)
    for count, extent in enumerate(stripe, 1):
        damage(library, extent)
        defects, found = verify(library)
        assert found.defects[Severity.DAMAGED] == len(defects) == count
        is_replaceable = count <= parity
        assert {defect.is_replaceable for defect in defects} == {is_replaceable}
        assert found.replaceable == (count if is_replaceable else 0)
        assert all(str(defect).endswith("; its stripe can replace it") == is_replaceable for defect in defects)
        if not is_replaceable:
            break
    else:
        pytest.fail("never was too much of the stripe damaged")


@pytest.mark.parametrize(("parity", "disks"), [(1, 3), (2, 4)])
def test_damage_beside_a_disk_that_is_not_there(tmp_path: Path, parity: int, disks: int) -> None:
    library = with_parity(tmp_path / "lib", parity, disks)
    stripe = stripe_with(library, 0)
    away = library.config.disks[stripe[0].disk]
    away.rename(away.with_name("away"))
    damage(library, stripe[-1])
    defects, found = verify(library)
    told = {defect.kind: defect.is_replaceable for defect in defects}
    assert told == {Kind.ABSENT: True, Kind.FLIPPED: parity == 2}
    assert found.replaceable == 1 + (parity == 2)
    lost = 0 if parity == 2 else stripe[0].bytes
    with closing(library.tracking(read_only=True)) as tracking:
        assert sum(hurt.bytes for hurt in verifications.hurt(tracking, found)) == lost


@pytest.mark.parametrize(("parity", "disks"), [(1, 2), (1, 3), (2, 4)])
def test_member_file_with_parity_that_is_gone_is_one_defect(tmp_path: Path, parity: int, disks: int) -> None:
    library = with_parity(tmp_path / "lib", parity, disks)
    member(library, 1, 1).unlink()
    extents = placed(library, 1, 1)
    count = sum(extent.is_parity for extent in extents)
    (defect,), found = verify(library, sizes=Sizes(stripes_at_once=2))
    assert (defect.kind, defect.extents, defect.parity) == (Kind.MISSING, len(extents), count)
    assert count > 0
    assert defect.bytes == sum(extent.bytes for extent in extents)
    assert defect.is_replaceable
    assert found.replaceable == found.defects[Severity.DAMAGED] == len(extents)
    assert (
        f", {len(extents)} extents ({count} parity) of offsets {defect.offset} to {defect.last_offset} (" in f"{defect}"
    )
    assert str(defect).endswith(": its member file is gone; their stripes can replace them")


def test_wrong_record_of_parity_is_told_with_what_it_covers(tmp_path: Path) -> None:
    library = with_parity(tmp_path / "lib", 1, 3)
    *data, parity = stripe_with(library, 0)
    flip_at(member(library, parity.disk, 1), parity.position + 60)
    defect = the_defect(library)
    assert (defect.kind, defect.severity, defect.parity) == (Kind.RECORD, Severity.METADATA, 1)
    assert (defect.offset, defect.last_offset, defect.is_replaceable) == (0, data[-1].end - 1, False)


def test_stripe_whose_rows_are_not_all_there_replaces_nothing(tmp_path: Path) -> None:
    library = with_parity(tmp_path / "lib", 2, 5)
    first, second, third, *parity = stripe_with(library, 0)
    with closing(tracked(library)) as tracking, tracking.transaction():
        tracking.sql.execute("DELETE FROM extent WHERE session = 1 AND offset = ?", offset_of(second))
    damage(library, first)
    damage(library, parity[0])
    defects, found = verify(library)
    assert third.place == 2
    assert [defect.is_replaceable for defect in defects] == [False] * 3
    assert {defect.kind for defect in defects} == {Kind.UNMAPPED, Kind.FLIPPED}
    assert found.replaceable == 0


def test_an_interrupted_verification_keeps_what_can_be_replaced(tmp_path: Path) -> None:
    """Every defect is reported once, and counted once."""
    library = with_parity(tmp_path / "lib", 1, 3)
    for offset in range(0, LENGTH, 2 * UNIT):
        damage(library, stripe_with(library, offset)[0])
    defects: list[Defect] = []
    count, sizes = 0, Sizes(parts_a_job=1, job=UNIT, jobs_in_flight=1)

    def advance(_: int) -> None:
        nonlocal count
        count += 1
        if count % 4 == 0:
            signal.raise_signal(signal.SIGTERM)

    with closing(library.tracking()) as tracking:
        found = verifications.begin(tracking, [], utc_now())
        while verifying.verify(library, tracking, found, defects.append, advance, sizes=sizes) is not None:
            found = verifications.resume(tracking)
    assert found.bytes == 2 * LENGTH
    assert {defect.offset for defect in defects} == set(range(0, LENGTH, 2 * UNIT))
    assert found.replaceable == found.defects[Severity.DAMAGED] == len(defects) == 6
