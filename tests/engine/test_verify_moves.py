"""Verification of a library whose extents move, and whose disks come and go, while it runs or before it."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from filling import flip_at
from roster import UNIT, Roster

from vtlfs.disks.contents import Flaw, Kind, Part
from vtlfs.disks.local.examine import Examiner
from vtlfs.disks.local.opening import member_path
from vtlfs.disks.records import BLOCK
from vtlfs.engine import lease
from vtlfs.engine.scrub import verification as verifications
from vtlfs.engine.scrub.check import check
from vtlfs.engine.scrub.defects import Defect
from vtlfs.engine.scrub.mending import Mending
from vtlfs.engine.scrub.verification import Verification
from vtlfs.engine.scrub.verify import verify
from vtlfs.engine.tracking.repositories.extents import BEGIN
from vtlfs.engine.tracking.repositories.lacks import HEADERS
from vtlfs.engine.tracking.repositories.verifications import Hurt
from vtlfs.model import Extent, utc_now
from vtlfs.sizes import Sizes
from vtlfs.timing import Timing

SIZES = [1, UNIT + 1, 5 * UNIT, 19 * UNIT + 100]
STEPS = Sizes(parts_a_job=1, job=UNIT, jobs_in_flight=1, extents_at_once=3)
SOON = Timing(look=0.01, save=0.01)


def filled(root: Path, disks: int, parity: int) -> Roster:
    roster = Roster(root, disks, parity)
    for size in SIZES:
        roster.write(size)
    return roster


def verified(
    roster: Roster, sizes: Sizes = STEPS, *, mends: bool = False
) -> tuple[list[Defect], Verification, list[Hurt]]:
    """Verify all; return the defects, the verification as it is recorded, and the tape files that are hurt."""
    defects: list[Defect] = []
    with closing(roster.tracking()) as tracking:
        found = verifications.begin(tracking, [], utc_now())
        mending = Mending(roster.library, tracking, None) if mends else None
        verify(roster.library, tracking, found, defects.append, lambda _: None, None, SOON, sizes, mending)
        assert found.ended_at is not None
        return defects, found, list(verifications.hurt(tracking, found))


def rows_of(roster: Roster, session: int) -> list[Extent]:
    with closing(roster.tracking(read_only=True)) as tracking:
        return roster.rows(tracking, session)


def damage(roster: Roster, extent: Extent, at: int = 5) -> None:
    """Flip a bit of an extent, or with a negative `at` of its record."""
    flip_at(member_path(roster.paths[extent.disk], extent.session), extent.position + BLOCK + at)


def lacks(roster: Roster) -> dict[tuple[int, int], int]:
    """Return the table `lack`: whether a stripe, or the headers of a session, are damaged."""
    with closing(roster.tracking(read_only=True)) as tracking:
        return {
            (one.session, one.stripe): one.damaged for session in roster.streams for one in tracking.lacks.of(session)
        }


def to_and_fro(roster: Roster) -> None:
    for disk in (2, 0, 1):
        roster.empty(disk, retiring=False)


CHANGES: dict[str, Callable[[Roster], None]] = {
    "moved": lambda roster: roster.empty(1, retiring=False),
    "retired": lambda roster: roster.retire(1),
    "moved to and fro": to_and_fro,
}


@pytest.mark.parametrize("after", [1, 12])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("disks", "parity"), [(3, 0), (3, 1), (5, 2)])
def test_extents_that_move_meanwhile_are_no_defects_and_count_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disks: int, parity: int, change: str, after: int
) -> None:
    roster = filled(tmp_path, disks, parity)
    really, calls = Examiner.examine, [0]

    def examine(self: Examiner, part: Part) -> list[Flaw]:
        calls[0] += 1
        if calls[0] == after:
            CHANGES[change](roster)
        return really(self, part)

    monkeypatch.setattr(Examiner, "examine", examine)
    defects, found, hurt = verified(roster)
    assert calls[0] > after
    assert (defects, hurt, found.bytes) == ([], [], sum(SIZES))
    assert not any(damaged for damaged in lacks(roster).values())
    monkeypatch.undo()
    assert verified(roster)[0] == []
    roster.check_streams()


def test_damage_beside_what_moves_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roster = filled(tmp_path, 5, 1)
    roster.add()
    row = next(row for row in reversed(rows_of(roster, 4)) if row.disk == 3 and not row.is_parity)
    damage(roster, row)
    really, calls = Examiner.examine, [0]

    def examine(self: Examiner, part: Part) -> list[Flaw]:
        calls[0] += 1
        if calls[0] == 2:
            roster.empty(1, retiring=False)
        return really(self, part)

    monkeypatch.setattr(Examiner, "examine", examine)
    (defect,), found, _ = verified(roster)
    assert (defect.kind, defect.disk, defect.offset) == (Kind.FLIPPED, 3, row.offset)
    assert found.bytes == sum(SIZES)
    assert lacks(roster) == {(4, row.stripe): 1}


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_each_extent_has_its_turn_once_in_the_order_of_writing(tmp_path: Path, count: int) -> None:
    roster = filled(tmp_path, 4, 1)
    with closing(roster.tracking(read_only=True)) as tracking:
        for session in roster.streams:
            for disk in roster.paths:
                found: list[tuple[int, Extent]] = []
                following: int | None = BEGIN
                while following is not None:
                    some, following = tracking.extents.on_disk(disk, session, following, count)
                    found += some
                wanted = [row for row in roster.rows(tracking, session) if row.disk == disk]
                assert [row for _, row in found] == sorted(wanted, key=lambda row: row.position)
                turns = [turn for turn, _ in found]
                assert turns == sorted(set(turns))


# --- what is noted, and mended ----------------------------------------------------------------------------------------


def damage_each(roster: Roster) -> set[tuple[int, int]]:
    """Damage a data extent, a parity extent, a record and a header, of different stripes; return the lacks."""
    rows = rows_of(roster, 4)
    stripes = sorted({row.stripe for row in rows})
    data = next(row for row in rows if row.stripe == stripes[0])
    parity = next(row for row in rows if row.stripe == stripes[1] and row.is_parity)
    record = next(row for row in rows if row.stripe == stripes[2])
    damage(roster, data)
    damage(roster, parity)
    damage(roster, record, -BLOCK + 70)
    for at in (70, BLOCK // 2 + 70):
        flip_at(member_path(roster.paths[rows_of(roster, 3)[0].disk], 3), at)
    return {*((4, stripe) for stripe in stripes[:3]), (3, HEADERS)}


def test_what_is_damaged_is_noted_in_stripes_and_what_is_on_an_absent_disk_is_not(tmp_path: Path) -> None:
    roster = filled(tmp_path, 4, 1)
    wanted = damage_each(roster)
    defects, found, hurt = verified(roster)
    assert (len(defects), hurt) == (4, [])
    assert lacks(roster) == dict.fromkeys(wanted, 1)
    assert verified(roster)[1].defects == found.defects, "nothing was mended"
    other = filled_elsewhere(tmp_path)
    other.lose(2)
    (defect,), found, hurt = verified(other)
    assert (defect.kind, defect.disk, defect.is_replaceable, found.replaceable) == (Kind.ABSENT, 2, True, 1)
    assert str(defect).endswith("its extents can be computed from the other disks, as far as these are undamaged")
    assert (lacks(other), hurt) == ({}, [])


def filled_elsewhere(root: Path, parity: int = 1) -> Roster:
    (root / "other").mkdir()
    return filled(root / "other", 4, parity)


def test_tape_files_that_an_absent_disk_takes_along_are_listed(tmp_path: Path) -> None:
    roster = filled(tmp_path, 3, 0)
    gone = {session: sum(row.bytes for row in rows_of(roster, session) if row.disk == 1) for session in roster.streams}
    roster.lose(1)
    (defect,), found, hurt = verified(roster)
    assert (defect.kind, defect.is_replaceable, found.replaceable) == (Kind.ABSENT, False, 0)
    assert {one.session: one.bytes for one in hurt} == {session: size for session, size in gone.items() if size}
    assert str(hurt[-1]) == f"medium T1, tape file 0003 (session 4): {gone[4]} of {SIZES[3]} bytes are lost"


def test_with_more_disks_gone_than_parity_what_the_rest_can_not_replace_is_lost(tmp_path: Path) -> None:
    roster = filled(tmp_path, 4, 1)
    lost: dict[int, int] = {}
    for session in roster.streams:
        rows = rows_of(roster, session)
        for stripe in {row.stripe for row in rows}:
            gone = [row for row in rows if row.stripe == stripe and row.disk in (0, 2)]
            left = sum(row.is_parity for row in rows if row.stripe == stripe and row not in gone)
            if sum(not row.is_parity for row in gone) > left:
                lost[session] = lost.get(session, 0) + sum(row.bytes for row in gone)
    roster.lose(0, 2)
    defects, _, hurt = verified(roster)
    assert {(defect.kind, defect.is_replaceable) for defect in defects} == {(Kind.ABSENT, False)}
    assert {one.session: one.bytes for one in hurt} == lost
    assert lost


@pytest.mark.parametrize("sizes", [STEPS, Sizes()])
def test_what_is_damaged_is_mended_as_it_is_found(tmp_path: Path, sizes: Sizes) -> None:
    roster = filled(tmp_path, 4, 1)
    damage_each(roster)
    defects, found, hurt = verified(roster, sizes, mends=True)
    assert (len(defects), found.mended, found.left, hurt) == (4, 4, 0, [])
    assert lacks(roster) == {}
    assert verified(roster)[0] == []
    roster.check_streams()


def test_what_a_stripe_can_not_replace_is_not_mended(tmp_path: Path) -> None:
    roster = filled(tmp_path, 4, 1)
    wanted = damage_each(roster)
    rows = rows_of(roster, 4)
    last = max(row.stripe for row in rows)
    lost = [row for row in rows if row.stripe == last]
    for row in lost:
        damage(roster, row, 0)
    defects, found, [hurt] = verified(roster, mends=True)
    count = sum(defect.count for defect in defects)
    assert (found.mended, found.left) == (len(wanted), len(lost))
    assert count == len(wanted) + len(lost)
    assert (hurt.session, hurt.bytes) == (4, sum(row.bytes for row in lost))
    assert set(lacks(roster)) == {(4, last)}


def test_where_somebody_else_repairs_it_is_left_to_them(tmp_path: Path) -> None:
    roster = filled(tmp_path, 4, 1)
    wanted = damage_each(roster)
    with lease.work(roster.library.path, "repair") as mine:
        assert mine
        _, found, _ = verified(roster, mends=True)
    assert (found.mended, found.left) == (0, 4)
    assert lacks(roster) == dict.fromkeys(wanted, 1)


def test_label_of_a_disk_that_has_left_is_a_note_of_check(tmp_path: Path) -> None:
    roster = filled(tmp_path, 4, 1)
    roster.retire(1)
    assert not check(roster.library).damaged
    report = check(roster.library)
    assert [str(one) for one in report.findings if "mount" not in one.problem] == []
    (roster.paths[1] / "vtlfs-disk.json").write_text(roster.labels[1])
    file = roster.library.path / "library.toml"
    file.write_text(file.read_text().replace("disks = [", f'disks = ["{roster.paths[1]}", '))
    report = check(roster.library)
    assert not report.damaged
    assert any("is disk 1, which has left the library; take it out" in str(one) for one in report.findings)
