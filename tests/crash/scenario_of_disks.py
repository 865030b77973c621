"""A library whose disks come and go, in one short run that may die at any failpoint; run as `scenario.py` is.

Five things are done to its disks: a dead disk is replaced, a disk is added, a working disk is retired, stripes that
were written with too few disks are repaired, and so is damage that `vtlfs verify` has found. Each command is
noted as acknowledged before it begins and when it has ended.
"""

import sys
from pathlib import Path

import trio
from scenario import UNIT, Run, main, sync

from vtlfs.disks.records import BLOCK
from vtlfs.engine.engine import Engine
from vtlfs.engine.repair import foreground  # noqa: F401, so that every run finds it loaded

MANY = 10  # sessions: more members than are synced one by one


class RunOfDisks(Run):
    """One run in a directory."""

    DOOMED = ()

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.more = [root / f"disk{number}" for number in (3, 4)]

    def run(self) -> None:
        """Do all steps of the run."""
        for path in self.more:
            path.mkdir()
        self.init()
        self.vtlfs("media", "add", self.library, "T1", "T2")
        self.acknowledge("media", "T1", "T2")
        trio.run(self.mount_and_write, 1)
        lose(self.disks[1])
        self.acknowledge("lost", 1)
        self.change("replace", self.library, 1, self.more[0])
        self.change("add", self.library, self.more[1])
        trio.run(self.mount_and_write, 40)
        self.change("retire", self.library, 0)
        self.write_too_little_parity()
        self.change("repair", self.library)
        self.damage()
        self.acknowledge("damaged")
        self.vtlfs("verify", self.library, status=3)
        self.change("repair", self.library)
        self.acknowledge("end")

    def change(self, *words: object) -> None:
        """Run a command on the disks; acknowledge it before and afterwards."""
        said = [str(word) for word in words]
        self.acknowledge("begun", *said)
        self.vtlfs("disk", *words)
        self.acknowledge("done", *said)

    async def mount_and_write(self, seed: int) -> None:
        """Write some streams at the same time, and many short ones."""
        async with self.mounted() as engine, trio.open_nursery() as nursery:
            for number, barcode in enumerate(["T1", "T2"]):
                nursery.start_soon(self.write_and_close, engine, barcode, seed + number)
            for number in range(MANY):
                nursery.start_soon(self.write_short, engine, seed + 2 + number)

    async def write_short(self, engine: Engine, seed: int) -> None:
        """Write a stream of one extent."""
        session = await self.opened(engine, "T1", seed)
        await session.write(2_000)
        await session.flush(closing=True)
        await session.release()

    def write_too_little_parity(self) -> None:
        """Write for parity 2 while one of three disks is away, which then comes back."""
        configuration = self.library / "library.toml"
        configuration.write_text(configuration.read_text().replace("parity = 1", "parity = 2"))
        sync(configuration)
        away = self.root / "away"
        self.acknowledge("away")
        self.more[1].rename(away)
        sync(self.root)
        trio.run(self.mount_and_write, 60)
        away.rename(self.more[1])
        sync(self.root)

    def damage(self) -> None:
        """Change the header of a member file, and a byte of an extent in another."""
        files = sorted(path for path in self.more[0].glob("sessions/*/*.member") if path.stat().st_size > 2 * UNIT)
        for file, offset in ((files[0], 0), (files[1], 2 * BLOCK)):
            with open(file, "r+b") as member:
                member.seek(offset)
                member.write(b"damage")
            sync(file)


def lose(disk: Path) -> None:
    """Take away all that lies on a disk, its directory too."""
    disk.rename(disk.with_name("lost"))
    sync(disk.parent)


if __name__ == "__main__":
    sys.exit(main(RunOfDisks, sys.argv[1:]))
