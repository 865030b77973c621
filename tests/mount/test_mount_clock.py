"""Mounts whose clock is wrong, or jumps: libfaketime shows the serving process another time than all other processes.

Only the wall clock is changed; the monotonic clock is the machine's own.
"""

import json
import os
import re
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from faked_clock import as_words, faked, require_faketime, set_offset
from filling import flip_at
from mounting import PROGRAM, OnDisks, random_bytes, require_fuse, wait_until

from vtlfs.disks.local import copies as on_disk
from vtlfs.disks.local.opening import member_path
from vtlfs.disks.records import BLOCK
from vtlfs.model import MIB

DATA = [random_bytes(seed, 2 * MIB + 5) for seed in range(4)]


class WithAClock(OnDisks):
    """A library whose mounts have a wall clock that a test can set at any moment."""

    def __init__(self, root: Path, **more: object) -> None:
        super().__init__(root)
        self.clock = root / "clock"
        self.set_clock("+0")
        clock = faked(FAKETIME_TIMESTAMP_FILE=str(self.clock), FAKETIME_NO_CACHE="1")
        self.serving = [*as_words(clock), *PROGRAM]

    def set_clock(self, ahead: str) -> None:
        """Shift the clock of the mounts from the right time, by an offset such as +1d or -30y."""
        set_offset(self.clock, ahead)

    def snapshots(self) -> list[dict[str, object]]:
        """Return the snapshots, the newest first."""
        found: list[dict[str, object]] = json.loads(self.vtlfs("snapshot", "list", self.path, "--json"))
        return sorted(found, key=lambda one: -int(str(one["id"])))

    def configure(self, old: str, new: str) -> None:
        """Change library.toml."""
        file = self.path / "library.toml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))


@pytest.fixture
def clocked(tmp_path: Path, _no_descriptor_left: None) -> WithAClock:
    require_fuse()
    require_faketime()
    return WithAClock(tmp_path)


def damage(library: OnDisks, barcode: str, number: int) -> None:
    """Flip a bit of a tape file on its disk."""
    extent = library.extents(barcode, number)[0]
    flip_at(member_path(library.disks[extent.disk], extent.session), extent.position + BLOCK + 100)


@pytest.mark.parametrize("ahead", ["+1d", "+30y", "-1d", "-30y"])
def test_a_stream_of_a_wrong_clock_is_verified_like_any_other(clocked: WithAClock, ahead: str) -> None:
    with clocked.mounted() as mounted:
        for clock, barcode, data in (("+0", "T1", DATA[0]), (ahead, "T1", DATA[1]), ("+0", "T2", DATA[2])):
            clocked.set_clock(clock)
            mounted.medium(barcode).write_bytes(data)
            mounted.medium(barcode).stat()  # it waits for the release
    times = [datetime.fromisoformat(file.released_at) for name in ("T1", "T2") for file in clocked.tape_files(name)]
    off = abs((times[1] - times[0]).days)
    assert off in ((0, 1) if ahead.endswith("d") else range(29 * 365, 31 * 366)), "the clock of the mount was wrong"
    assert times[1].date() != times[0].date()
    assert "6 MiB in 3 tape files on 2 media verified: all is as it should be" in clocked.vtlfs("verify", clocked.path)
    damage(clocked, "T1", 1)
    for named in ([], ["T1"]):
        said = clocked.vtlfs("verify", clocked.path, *named, status=3)
        assert re.search(r"^flipped: medium T1, tape file 0001, ", said, re.MULTILINE)
        assert f"in {3 - len(named)} tape files on {2 - len(named)} medi" in said
        assert "1 damaged" in said


def test_streams_that_are_left_out_are_named(clocked: WithAClock) -> None:
    clocked.set_clock("-1d")
    with clocked.mounted() as mounted:
        mounted.medium("T1").write_bytes(DATA[0])
        with open(mounted.medium("T2"), "wb", buffering=0) as stream:
            stream.write(DATA[1])
            number = os.fstat(stream.fileno()).st_ino
            said = clocked.vtlfs("verify", clocked.path)
            assert said.splitlines() == [
                f"left out, open or released later: 1 stream: session {number} on T2 (open)",
                "2 MiB in 1 tape file on 1 medium verified: all is as it should be",
            ]
            assert "left out" not in clocked.vtlfs("verify", clocked.path, "T1")
            summary = json.loads(clocked.vtlfs("verify", clocked.path, "--json"))["summary"]
            assert summary["left_out"] == {
                "count": 1,
                "sessions": [{"session": number, "medium": "T2", "tape_file": None}],
            }


@pytest.mark.parametrize("ahead", ["+20y", "-20y"])
def test_mounts_with_clocks_that_are_years_apart_see_what_was_closed(
    clocked: WithAClock, tmp_path: Path, ahead: str
) -> None:
    clocked.set_clock(ahead)
    with clocked.mounted("host=wrong") as one:
        clocked.serving = PROGRAM
        with clocked.mounted("host=right", at=tmp_path / "other") as other:
            for count in range(1, 31):
                one.medium("T1").write_bytes(DATA[0][:1000])
                assert other.medium("T1").stat().st_size == 1000 * (2 * count - 1)
                other.medium("T1").write_bytes(DATA[1][:1000])
                assert one.medium("T1").stat().st_size == 1000 * 2 * count


def test_snapshots_and_copies_go_on_when_a_clock_that_was_ahead_is_put_right(clocked: WithAClock) -> None:
    clocked.configure('copy = "1h"', 'copy = "1s"')
    with open(clocked.path / "library.toml", "a") as file:
        file.write('[snapshots]\nevery = "1s"\n')

    def both() -> tuple[int, int]:
        copied = [number for disk in clocked.disks for number in on_disk.numbers(disk)]
        return max(copied, default=0), len(clocked.snapshots())

    def both_are_more(before: tuple[int, int]) -> bool:
        return all(a > b for a, b in zip(both(), before, strict=True))

    with clocked.mounted() as mounted:
        for ahead in ("+10y", "+0", "-10y", "+0"):
            clocked.set_clock(ahead)
            before = both()
            mounted.medium("T1").write_bytes(DATA[0][:1000])
            wait_until(partial(both_are_more, before), "both")
    years = [int(str(one["taken_at"])[:4]) for one in clocked.snapshots()]
    assert max(years) - min(years) >= 19
