"""Rebuilding a library whose disks have come and gone: there are gaps in their numbers, and extents have moved."""

import errno
import os
import random
from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import groupby
from pathlib import Path

import pytest
from roster import UNIT, Roster

from vtlfs.disks.local.opening import member_path
from vtlfs.disks.records import BLOCK
from vtlfs.engine import lease
from vtlfs.engine.rebuild.candidates import matched
from vtlfs.engine.repair.foreground import repair
from vtlfs.engine.roster import roster as repair_roster
from vtlfs.engine.scrub.check import check
from vtlfs.errors import LibraryError
from vtlfs.model import NOWHERE, DiskState, Extent, utc_now

SIZES = [1, UNIT + 1, 5 * UNIT, 9 * UNIT + 100]


def filled(root: Path, disks: int, parity: int) -> Roster:
    """Return a library with a few streams in it."""
    roster = Roster(root, disks, parity)
    for size in SIZES:
        roster.write(size)
    return roster


def states(roster: Roster) -> dict[int, DiskState]:
    """Return the disks in the database, with their states."""
    with closing(roster.tracking(read_only=True)) as tracking:
        return {disk.number: disk.state for disk in tracking.disks.ever()}


def counters(roster: Roster) -> tuple[int, int]:
    """Return the number that the next disk gets, and how often extents have moved."""
    with closing(roster.tracking(read_only=True)) as tracking:
        mark = tracking.library.watermark()
        return mark.disks, mark.moves


BASES: dict[str, Callable[[Roster], None]] = {
    "nothing": partial(Roster.lose_database, copies_too=True),
    "a copy from before": Roster.lose_database,
    "the old one": lambda roster: None,
}


@pytest.mark.parametrize("begins_with", BASES)
@pytest.mark.parametrize(("disks", "parity"), [(3, 0), (4, 1), (3, 1), (4, 2)])
def test_library_with_a_gap_comes_back_and_no_disk_is_missed_that_has_left(
    tmp_path: Path, disks: int, parity: int, begins_with: str
) -> None:
    roster = filled(tmp_path, disks, parity)
    roster.copy()
    roster.retire(1)
    added = roster.add()
    roster.write(7 * UNIT)
    before = counters(roster)
    BASES[begins_with](roster)
    rebuilt = roster.rebuild()
    assert (rebuilt.report.lost, rebuilt.report.damaged) == ([], []) or begins_with == "nothing"
    roster.check_streams()
    assert added == disks
    assert states(roster).get(1) in (None, DiskState.RETIRED)
    assert {number for number, state in states(roster).items() if state is DiskState.IN_USE} == {*roster.in_use()}
    assert counters(roster)[0] == before[0]
    assert counters(roster)[1] >= before[1]


@pytest.mark.parametrize("begins_with", BASES)
def test_disk_that_is_missing_is_missed_and_one_that_has_left_is_not(tmp_path: Path, begins_with: str) -> None:
    roster = filled(tmp_path, 4, 1)
    roster.copy()
    roster.retire(0)
    roster.add()
    roster.write(30 * UNIT)
    BASES[begins_with](roster)
    there = [roster.paths[number] for number in (1, 2, 4)]
    with pytest.raises(LibraryError, match="disk"):
        roster.rebuild(disks=there)
    roster.lose(3)
    with pytest.raises(LibraryError, match="no such directory"):
        roster.rebuild()
    with pytest.raises(LibraryError, match="--without-disk 3"):
        roster.rebuild(disks=there)
    rebuilt = roster.rebuild(3)
    assert rebuilt.report.lost == []
    roster.check_streams()
    roster.write(UNIT)
    roster.check_streams()
    with closing(roster.tracking(read_only=True)) as tracking:
        assert {lack.damaged for session in roster.streams for lack in tracking.lacks.of(session)} <= {0, 1}


def test_disk_that_comes_back_after_a_rebuild_without_it_is_known_by_its_number(tmp_path: Path) -> None:
    roster = filled(tmp_path, 3, 1)
    roster.lose(1)
    roster.lose_database(copies_too=True)
    roster.rebuild(1)
    roster.bring_back(1)
    with closing(roster.tracking(read_only=True)) as tracking:
        record = tracking.disks.all()[1]
    found = roster.library.find(record, [])
    assert found is not None
    assert found.number == 1
    assert [str(one) for one in check(roster.library).findings if one.damage] == []


def test_new_configuration_has_no_more_parity_than_its_disks_allow(tmp_path: Path) -> None:
    roster = filled(tmp_path, 3, 2)
    file = roster.root / "library" / "library.toml"
    file.write_text(file.read_text().replace("parity = 2", "parity = 1"))
    roster.retire(2)
    roster.lose_database()
    file.unlink()
    roster.rebuild(disks=[roster.paths[0], roster.paths[1]])
    assert (roster.library.config.parity, len(roster.library.config.disks)) == (1, 2)
    roster.check_streams()


def test_without_any_mark_a_copy_from_before_the_moves_is_not_believed(tmp_path: Path) -> None:
    roster = filled(tmp_path, 4, 1)
    roster.copy()
    roster.retire(0)
    roster.lose_database()
    for mark in tmp_path.glob("*/vtlfs-disk.mark"):
        mark.unlink()
    rebuilt = roster.rebuild()
    assert (rebuilt.report.lost, rebuilt.report.damaged) == ([], [])
    roster.check_streams()
    assert roster.in_use() == [1, 2, 3]


def test_without_library_and_database_a_disk_is_missed_by_its_number_and_its_extents(tmp_path: Path) -> None:
    roster = filled(tmp_path, 4, 1)
    roster.retire(0)
    roster.lose_database(copies_too=True)
    (roster.root / "library" / "library.toml").unlink()
    roster.lose(3)
    there = [roster.paths[number] for number in (1, 2)]
    with pytest.raises(LibraryError, match=r"disks 0, 3 are missing; .*--without-disk 0 --without-disk 3"):
        roster.rebuild(disks=there)
    roster.rebuild(3, disks=there)
    roster.check_streams()
    assert states(roster) == dict.fromkeys((1, 2, 3), DiskState.IN_USE)


def test_disk_that_was_away_while_it_was_emptied_comes_back_with_what_it_has(tmp_path: Path) -> None:
    """Its extents exist in two places then; a rebuild must not take two extents of a stripe on one disk."""
    roster = filled(tmp_path, 4, 1)
    roster.add()
    for first, second in ((1, 2), (0, 3)):
        roster.lose(first)
        roster.empty(first, retiring=False)
        roster.bring_back(first)
        roster.empty(second, retiring=False)
    roster.lose_database(copies_too=True)
    roster.rebuild()
    roster.check_streams()
    with closing(roster.tracking(read_only=True)) as tracking:
        rows = [row for session in roster.streams for row in roster.rows(tracking, session)]
    assert all(row.position != NOWHERE for row in rows)


def test_older_whole_copy_is_no_base_where_extents_have_moved_since(tmp_path: Path) -> None:
    roster = filled(tmp_path, 4, 1)
    roster.copy()
    roster.lose(1)
    roster.lose_database(copies_too=True)
    roster.rebuild(1)
    roster.add()
    roster.empty(2, retiring=False)
    roster.bring_back(1)
    rebuilt = roster.rebuild()
    assert rebuilt.base is not None
    assert rebuilt.base.is_old
    roster.check_streams()


@pytest.mark.parametrize("begins_with", BASES)
@pytest.mark.parametrize(("disks", "parity"), [(3, 1), (4, 2)])
def test_library_that_was_rebuilt_without_a_disk_is_repaired(
    tmp_path: Path, disks: int, parity: int, begins_with: str
) -> None:
    """A new disk replaces the lost one; then as many other disks as there is parity may be lost."""
    roster = filled(tmp_path, disks, parity)
    roster.copy()
    BASES[begins_with](roster)
    roster.lose(1)
    assert roster.rebuild(1).report.lost == []
    new = tmp_path / "new"
    new.mkdir()
    added = repair_roster.replace(roster.library, 1, new, utc_now())
    roster.paths[added.number] = new
    result = repair(roster.library, limit=None, progress=lambda done, total: None)
    assert (result.is_whole, result.emptied) == (True, [1])
    assert states(roster)[1] is DiskState.RETIRED
    assert str(roster.paths[1]) not in (roster.library.path / "library.toml").read_text()
    roster.check_streams()
    assert not has_lacks(roster)
    roster.lose(*roster.in_use()[:parity])
    roster.check_streams()
    roster.bring_back(*roster.away - {1})
    roster.lose_database()
    assert roster.rebuild().report.lost == []
    roster.check_streams()
    assert not has_lacks(roster)


@pytest.mark.parametrize(
    ("work", "why"), [("repair", "it is being repaired"), ("disks", "its disks are being changed")]
)
def test_library_that_somebody_works_on_is_not_rebuilt(tmp_path: Path, work: str, why: str) -> None:
    roster = filled(tmp_path, 2, 0)
    with lease.work(roster.library.path, work), pytest.raises(LibraryError, match=why):
        roster.rebuild()
    roster.rebuild()
    roster.check_streams()


@pytest.mark.parametrize("which", ["record", "header"])
def test_bad_sector_takes_no_more_along_than_what_lies_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    roster = filled(tmp_path, 3, 1)
    roster.lose_database(copies_too=True)
    path, bad = str(member_path(roster.paths[1], 4)), BLOCK if which == "record" else 0
    really = os.pread

    def with_a_bad_sector(descriptor: int, size: int, offset: int) -> bytes:
        if offset <= bad < offset + size and os.readlink(f"/proc/self/fd/{descriptor}") == path:
            raise OSError(errno.EIO, "bad sector")
        return really(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", with_a_bad_sector)
    rebuilt = roster.rebuild()
    monkeypatch.undo()
    assert rebuilt.report.lost == []
    assert any(f"from byte {bad}: Input/output error" in text for text in rebuilt.report.damaged) == (which == "record")
    with closing(roster.tracking(read_only=True)) as tracking:
        rows = [row for session in roster.streams for row in roster.rows(tracking, session)]
    assert sum(row.position == NOWHERE for row in rows) <= 1
    roster.check_streams()


@pytest.mark.parametrize("cut_off", [[0], [1], [0, 1], [2]])
@pytest.mark.parametrize("comes_back", [[], [3]])
@pytest.mark.parametrize("begins_with", ["nothing", "a copy from before"])
def test_stripes_that_were_half_dealt_anew_at_a_power_cut_are_whole(
    tmp_path: Path, begins_with: str, comes_back: list[int], cut_off: list[int]
) -> None:
    roster = filled(tmp_path, 4, 1)
    roster.copy()
    roster.lose(3)
    files = [file for disk in cut_off for file in roster.paths[disk].glob("sessions/*/*.member")]
    sizes = {file: file.stat().st_size for file in files}
    with closing(roster.tracking()) as tracking:
        for session in roster.streams:
            rows = roster.rows(tracking, session)
            stripe = max(row.stripe for row in rows)
            for data in data_by_stripe(rows):
                content = b"".join(
                    roster.bytes_of(row, [one for one in rows if one.stripe == row.stripe]) for row in data
                )
                stripe = max(
                    row.stripe for row in roster._deal(tracking, session, stripe + 1, content, data[0].offset or 0)
                )
    for file, size in sizes.items():
        os.truncate(file, size)
    roster.bring_back(*comes_back)
    BASES[begins_with](roster)
    assert roster.rebuild(*roster.away).report.lost == []
    roster.check_streams()
    assert repair(roster.library, limit=None, progress=lambda done, total: None).is_whole
    roster.check_streams()


def data_by_stripe(rows: list[Extent]) -> list[list[Extent]]:
    """Return data extents, those of a stripe together."""
    data = [row for row in rows if not row.is_parity]
    return [[*group] for _, group in groupby(data, key=lambda row: row.stripe)]


@pytest.mark.parametrize("seed", range(24))
def test_whatever_disks_did_every_byte_comes_back(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    parity = seed % 3
    roster = Roster(tmp_path, parity + 2, parity)
    for _ in range(7):
        match chance.choice(["write", "write", "add", "retire", "empty", "away", "copy"]):
            case "write":
                roster.write(chance.choice([1, UNIT, 3 * UNIT + 5, 11 * UNIT]))
            case "add" if len(roster.paths) < 8:
                roster.add()
            case "copy":
                roster.copy()
            case "retire" | "empty" | "away" as what if len(disks := roster.in_use()) > max(2, parity + 1):
                disk = chance.choice(disks)
                if parity and what == "away":
                    roster.lose(disk)
                    roster.empty(disk, retiring=False)
                    roster.bring_back(disk)
                elif what == "retire":
                    roster.retire(disk)
                else:
                    roster.empty(disk, retiring=False)
    roster.write(8 * UNIT)
    roster.check_streams()
    gone = chance.sample(roster.in_use(), chance.randint(0, min(parity, len(roster.in_use()) - 2)))
    match chance.choice(["nothing", "a copy", "the old one"]):
        case "nothing":
            roster.lose_database(copies_too=True)
        case "a copy":
            roster.lose_database()
    lacks = has_lacks(roster) if (roster.root / "library" / "tracking.db").exists() else True
    roster.lose(*gone)
    roster.rebuild(*gone)
    if not (lacks and gone):
        roster.check_streams()
    roster.bring_back(*gone)
    roster.rebuild()
    roster.check_streams()


def has_lacks(roster: Roster) -> bool:
    """Tell whether any stripe has less parity than its session wants."""
    with closing(roster.tracking(read_only=True)) as tracking:
        return any(tracking.lacks.of(session) for session in roster.streams)


def test_as_many_as_can_get_a_number_of_their_own() -> None:
    assert matched([[1, 3], [1]]) == [3, 1]
    assert matched([[1, 2], [2, 3], [2]]) == [1, 3, 2]
    assert matched([[1], [1], []]).count(None) == 2
