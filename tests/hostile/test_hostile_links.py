"""Planted links, FIFOs and devices: vtlfs neither reads nor writes through them."""

import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from mounting import OnDisks
from tampering import CANARY, Tamper, described

PLACES = (
    "disk0/sessions",
    "disk0/sessions/000000",
    "disk0/vtlfs-disk.json",
    "disk0/tracking",
    "disk0/cartridges",
    "disk0/cartridges/T4.cartridge",
    "library/tracking.db-wal",
    "library/vtlfs.log",
    described(0, 1),
    described(1, 2),
)


def linked(name: str) -> Tamper:
    """Return a mutation that moves a file or directory elsewhere and leaves a symbolic link to it."""

    def tamper(place: Path, chance: random.Random) -> None:
        there = place / "elsewhere" / Path(name).name
        there.parent.mkdir()
        if (place / name).exists():
            shutil.move(place / name, there)
        else:
            there.write_bytes(CANARY)
        (place / name).symlink_to(there)

    return tamper


def hard(name: str) -> Tamper:
    """Return a mutation that makes a member file a hard link to a file elsewhere."""

    def tamper(place: Path, chance: random.Random) -> None:
        there = place / "elsewhere"
        there.write_bytes(CANARY * 4000)
        (place / name).unlink()
        (place / name).hardlink_to(there)

    return tamper


def replaced(name: str, kind: int) -> Tamper:
    """Return a mutation that replaces a file by a FIFO or a device."""

    def tamper(place: Path, chance: random.Random) -> None:
        if (place / name).is_dir():
            shutil.rmtree(place / name)
        (place / name).unlink(missing_ok=True)
        os.mknod(place / name, kind | 0o600, os.makedev(1, 5) if kind == 0o020000 else 0)

    return tamper


def test_planted_links_are_not_followed(survives: Callable[[dict[str, Tamper]], None]) -> None:
    survives(
        {f"link{number}": linked(name) for number, name in enumerate(PLACES)}
        | {f"hard{number}": hard(described(number, session)) for number, session in ((0, 1), (1, 4), (0, 4))}
    )


def test_planted_fifos_and_devices_are_not_waited_for(survives: Callable[[dict[str, Tamper]], None]) -> None:
    fifo, device = 0o010000, 0o020000
    names = ("disk0/vtlfs-disk.json", "disk0/sessions", "library/tracking.db-wal", "library/mounts/2.lock",
             "library/mounts/2.live", "library/library.toml", described(0, 4))  # fmt: skip
    survives(
        {f"fifo{number}": replaced(name, fifo) for number, name in enumerate(names)}
        | {"device0": replaced(names[0], device), "device1": replaced(names[-1], device)}
    )


@pytest.mark.parametrize("name", ["sessions", "sessions/000000", "tracking", "cartridges"])
def test_a_mount_writes_nothing_where_a_planted_link_leads(library: OnDisks, name: str) -> None:
    library.vtlfs("media", "hold", library.path, "T4", "--name", "case 7", "--reason", "auditors")
    with library.mounted() as mounted:
        mounted.medium("T1").write_bytes(b"x" * 10)
    disk, elsewhere = library.disks[1], library.root / "elsewhere"
    (disk / name).parent.mkdir(exist_ok=True)
    if (disk / name).exists():
        (disk / name).rename(elsewhere)
    elsewhere.mkdir(exist_ok=True)
    (disk / name).symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    with library.mounted(expects=["disk 1"], checked=False) as mounted:
        for number in range(2, 5):
            with suppress(OSError):
                mounted.medium(f"T{number}").write_bytes(bytes(3 << 20))
        assert mounted.path.joinpath("media").is_dir()
    assert sorted(elsewhere.rglob("*")) == before
