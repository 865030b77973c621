"""Retention that nobody ends: not by losing the database, editing library.toml, setting the clock back, or all of it.

The mounts and the commands are real; libfaketime tells them another time than that of the machine.
"""

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from faked_clock import as_words, faked, require_faketime
from mounting import PROGRAM, PROJECT, SECONDS, OnDisks, random_bytes, require_fuse

DATA = random_bytes(7, 3 << 20)
RULE = """
[media."T*"]
retain = "90d"
mode = "compliance"
"""


class Kept(OnDisks):
    """A library with a rule of retention, whose mounts and commands have a clock that a test sets."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, 3, parity=1)
        self.set_clock("+0")
        self.configure(RULE)

    def set_clock(self, ahead: str) -> None:
        """Have mounts and commands see so much more or less than the right time, such as +1d or -30y."""
        self.clock = faked(FAKETIME=ahead)
        self.serving = [*as_words(self.clock), *PROGRAM]

    def configure(self, rules: str) -> None:
        """Have library.toml end with these rules for media, and no others."""
        file = self.path / "library.toml"
        file.write_text(file.read_text().split("\n[media")[0] + rules)

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run the program by the clock."""
        return subprocess.run(
            [*PROGRAM, *map(str, words)],
            env=os.environ | self.clock,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            cwd=PROJECT,
            check=False,
        )

    def lose(self, *, copies_too: bool = True) -> None:
        """Lose the tracking database, and its copies."""
        for file in self.path.glob("tracking.db*"):
            file.unlink()
        for copy in [copy for disk in self.disks for copy in disk.glob("tracking/*.db") if copies_too]:
            copy.unlink()

    def rebuild(self) -> None:
        """Rebuild it, by the clock. Media that nobody wrote to may be lost."""
        done = self.run("rebuild", self.path)
        losses = [
            line for line in done.stdout.splitlines() if line.startswith("lost:") and "nobody wrote to" not in line
        ]
        assert done.returncode in (0, 3), done.stderr
        assert losses == []

    def want_refusal(self, *barcodes: str) -> None:
        """Want no command to end the volumes, whoever says whatever."""
        for words in (("erase",), ("erase", "--override", "--reason", "room"), ("remove",)):
            done = self.run("media", words[0], self.path, *barcodes, "--yes", *words[1:])
            assert done.returncode != 0, done.stdout
            assert "retained" in done.stderr, done.stderr

    def until(self, barcode: str) -> str:
        """Return until when the current volume is retained."""
        with self.database() as tracking:
            return tracking.volumes.get(barcode, tracking.media.get(barcode).volume).retain_until or ""

    def database(self) -> Any:
        from contextlib import closing

        from vtlfs.engine.library import Library

        return closing(Library.open(self.path).tracking(read_only=True))


@pytest.fixture
def kept(tmp_path: Path, _no_descriptor_left: None) -> Kept:
    require_fuse()
    require_faketime()
    library = Kept(tmp_path)
    with library.mounted() as mounted:
        mounted.medium("T1").write_bytes(DATA)
    return library


def about(days: int) -> tuple[str, str]:
    """Return the times between which it is so many days from now."""
    now = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=days)
    return tuple((now + timedelta(hours=hours)).isoformat() for hours in (-1, 1))  # type: ignore[return-value]


def test_compliance_survives_the_loss_of_database_and_copies_an_edited_file_and_a_set_back_clock(kept: Kept) -> None:
    until = kept.until("T1")
    earliest, latest = about(90)
    assert earliest < until < latest
    kept.want_refusal("T1")
    for clock in ("+0", "-20y", "+89d"):
        kept.set_clock(clock)
        kept.want_refusal("T1")
    for rules in (
        "",
        '\n[media."T*"]\nretain = "1s"\nmode = "governance"\n',
        '\n[media."T1"]\non_truncate = "erase"\n',
    ):
        kept.configure(rules)
        for clock in ("-20y", "+0"):
            kept.set_clock(clock)
            kept.lose()
            kept.rebuild()
            assert kept.until("T1") == until
            kept.want_refusal("T1")
    kept.check()
    assert kept.extract("T1") == DATA
    kept.set_clock("+91d")
    done = kept.run("media", "erase", kept.path, "T1", "--yes")
    assert done.returncode == 0, done.stderr


def test_a_stream_of_a_set_back_clock_is_retained_from_the_highest_time(kept: Kept) -> None:
    """Also where that time is on the disks only."""
    kept.lose()
    kept.set_clock("-20y")
    kept.rebuild()
    assert kept.run("media", "add", kept.path, "T2").returncode == 0
    with kept.mounted() as mounted:
        mounted.medium("T2").write_bytes(DATA)
    kept.set_clock("+0")
    earliest, latest = about(90)
    assert earliest < kept.until("T2") < latest
    kept.want_refusal("T2")


def test_what_a_disk_that_was_away_did_not_hear_it_learns_from_the_next_mount(kept: Kept) -> None:
    disk = kept.disks[2]
    disk.rename(disk.with_name("away"))
    done = kept.run("media", "hold", kept.path, "T1", "T2", "--name", "case 7", "--reason", "auditors")
    assert done.returncode == 0, done.stderr
    assert not (disk.with_name("away") / "cartridges").exists()
    disk.with_name("away").rename(disk)
    with kept.mounted():
        pass
    names = ["T1.cartridge", "T2.cartridge"]
    assert [sorted(path.name for path in (one / "cartridges").iterdir()) for one in kept.disks] == [names] * 3
    for other in kept.disks[:2]:  # the one that was away is the only one that remembers
        for name in names:
            (other / "cartridges" / name).unlink()
    kept.lose()
    kept.rebuild()
    shown = json.loads(kept.run("media", "list", kept.path, "--json").stdout)
    assert [one["barcode"] for one in shown] == ["T1", "T2"]
    for barcode in ("T1", "T2"):
        done = kept.run("media", "erase", kept.path, barcode, "--yes", "--override", "--reason", "room")
        assert done.returncode != 0
        assert "case 7" in done.stderr
