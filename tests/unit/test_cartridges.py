"""What a disk remembers of media is not believed unseen, and a crash leaves the old memory or the new."""

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtlfs.disks import cartridges
from vtlfs.disks.cartridges import Cartridge
from vtlfs.disks.headers import MAX_VOLUMES
from vtlfs.disks.local import cartridges as files
from vtlfs.disks.local import label
from vtlfs.disks.local.disk import LocalDisk
from vtlfs.disks.local.label import Label
from vtlfs.errors import DiskError
from vtlfs.model import Event, Hold, MediumState, RetainMode

LIBRARY = "a library"
AT = "2026-01-31T09:30:00.000000Z"
HOLD = Hold("T1", "case 7", "", AT, 0, "alpha")
EVENT = Event(3, AT, 0, "held", "T1", 3, 0, "alpha", "vtlfs", "letter", {"hold": "case 7"})
GOOD = Cartridge(
    *("T1", 5, 4, 3, AT, AT, MediumState.RETIRED, True, 1 << 40, RetainMode.COMPLIANCE, 86400, AT),
    (HOLD, replace(HOLD, name="case 8", reason="r" * 999)),
    (EVENT, replace(EVENT, id=4, what="protected", volume=None, reason=None, details={})),
)
SAID = cartridges.document(LIBRARY, GOOD)


@pytest.fixture
def disk(tmp_path: Path) -> LocalDisk:
    label.write(tmp_path, Label(LIBRARY, "disk 0", 0, AT))
    return LocalDisk(0, tmp_path, LIBRARY)


def test_what_is_written_is_read() -> None:
    assert cartridges.read(SAID, LIBRARY, "T1") == GOOD
    assert cartridges.read(SAID, "another", "T1") is None
    assert cartridges.read(SAID, LIBRARY, "T2") is None
    moved = replace(GOOD, slot=7)
    assert cartridges.read(cartridges.document(LIBRARY, moved), LIBRARY, "T1") == moved
    without = {key: value for key, value in SAID.items() if key != "slot"}  # as an older vtlfs wrote it
    assert cartridges.read(without, LIBRARY, "T1") == GOOD


@pytest.mark.parametrize(
    "change",
    [
        {"volume": 0},
        {"volume": MAX_VOLUMES + 1},
        {"commits": -1},
        {"state": "lost"},
        {"protected": 1},
        {"capacity": -1},
        {"retain_mode": "for ever"},
        {"retain_until": "3000-01-01T00:00:00.000000Z"},
        {"retain_seconds": 1 << 60},
        {"slot": 0},
        {"slot": True},
        {"slot": "7"},
        {"holds": [{"name": ""}]},
        {"holds": [7]},
        {"holds": {}},
        {"holds": SAID["holds"] * 10_000},
        {"begun_at": "soon"},
    ],
)
def test_what_nobody_writes_is_not_believed(change: dict[str, Any]) -> None:
    assert cartridges.read(SAID | change, LIBRARY, "T1") is None


@pytest.mark.parametrize(
    "events",
    [7, {}, [7], [{}], SAID["events"] * 100, [SAID["events"][0] | {"event": 0}], [SAID["events"][0] | {"details": 7}]],
)
def test_events_that_cannot_be_are_none_and_the_rest_counts(events: Any) -> None:
    assert cartridges.read(SAID | {"events": events}, LIBRARY, "T1") == replace(GOOD, events=())


def test_an_older_memory_has_no_events() -> None:
    older = {key: value for key, value in SAID.items() if key != "events"}
    assert cartridges.read(older, LIBRARY, "T1") == replace(GOOD, events=())


def test_many_holds_leave_the_events_no_room(disk: LocalDisk) -> None:
    holds = tuple(replace(HOLD, name=f"{number}", reason="r" * 999) for number in range(950))
    disk.put_cartridges([replace(GOOD, holds=holds, events=(replace(EVENT, reason="x" * 999),) * 50)])
    assert list(disk.cartridges()) == [("T1.cartridge", replace(GOOD, holds=holds, events=()))]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(SAID)), anything))
def test_no_document_is_an_error(document: dict[str, Any]) -> None:
    cartridges.read(SAID | document, LIBRARY, "T1")
    cartridges.read(document, LIBRARY, "T1")


def test_links_are_neither_followed_nor_written_through(disk: LocalDisk, tmp_path: Path) -> None:
    victim, place = tmp_path / "victim", tmp_path / "cartridges"
    victim.write_bytes(b"mine")
    disk.put_cartridges([GOOD])
    (place / "T1.cartridge").rename(tmp_path / "elsewhere")
    (place / "T1.cartridge").symlink_to(tmp_path / "elsewhere")
    (place / ".T1.cartridge.tmp").symlink_to(victim)
    assert dict(disk.cartridges()) == {"T1.cartridge": None}
    disk.put_cartridges([replace(GOOD, commits=9)])
    assert dict(disk.cartridges()) == {"T1.cartridge": replace(GOOD, commits=9)}
    assert stat.S_ISREG(os.lstat(place / "T1.cartridge").st_mode)
    assert stat.S_IMODE(os.lstat(place / "T1.cartridge").st_mode) == 0o600
    assert victim.read_bytes() == b"mine"
    place.rename(tmp_path / "moved")
    place.symlink_to(tmp_path / "moved")
    with pytest.raises(DiskError):
        disk.put_cartridges([GOOD])
    with pytest.raises(DiskError):
        list(disk.cartridges())


def test_nothing_is_written_where_the_disk_is_not_mounted(disk: LocalDisk, tmp_path: Path) -> None:
    (tmp_path / label.FILE_NAME).unlink()
    with pytest.raises(DiskError, match="is the right device mounted"):
        disk.put_cartridges([GOOD])
    assert list(tmp_path.iterdir()) == []


def test_damaged_file_is_none_and_is_written_anew(disk: LocalDisk, tmp_path: Path) -> None:
    disk.put_cartridges([GOOD])
    file = tmp_path / "cartridges" / "T1.cartridge"
    content = file.read_bytes()
    for at in (0, 9, 40, 70, len(content) - 1):
        damaged = bytearray(content)
        damaged[at] ^= 1
        file.write_bytes(damaged)
        assert dict(disk.cartridges()) == {"T1.cartridge": None}
    disk.put_cartridges([replace(GOOD, commits=1)])
    assert dict(disk.cartridges()) == {"T1.cartridge": replace(GOOD, commits=1)}


def test_memory_that_does_not_fit_is_refused_and_the_old_one_stays(disk: LocalDisk) -> None:
    """What there is to remember of other media at the same time is remembered."""
    disk.put_cartridges([GOOD])
    other = replace(GOOD, barcode="T2", commits=9, holds=(), events=())
    holds = tuple(replace(HOLD, name=f"case {number}", reason="r" * 999) for number in range(2000))
    with pytest.raises(DiskError, match="does not fit"):
        disk.put_cartridges([replace(GOOD, commits=9, holds=holds), other])
    assert dict(disk.cartridges()) == {"T1.cartridge": GOOD, "T2.cartridge": other}
    assert not list((disk.root / files.DIRECTORY).glob(".*"))
