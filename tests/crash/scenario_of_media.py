"""A library whose media live and are erased, in one short run that may die at any failpoint; run as `scenario.py` is.

Every act on media is done once or more, between mounts that write and snapshots that show what was erased. Each command
is acknowledged before it begins and when it has ended.
"""

import sys
from pathlib import Path

import trio
from scenario import Run, main, sync

from vtlfs.disks.local import cartridges
from vtlfs.engine.media import lifecycle  # noqa: F401, so that every run finds them loaded
from vtlfs.engine.reclaim import foreground  # noqa: F401

RULES = """
[media."GOV*"]
retain = "30d"
"""
BARCODES = ["T1", "T2", "T3", "GOV1"]
ERASED = "T1"  # more than once
REASON = ("--reason", "as was asked")


class RunOfMedia(Run):
    """One run in a directory."""

    DOOMED = ()

    def run(self) -> None:
        """Do everything."""
        self.init()
        configuration = self.library / "library.toml"
        configuration.write_text(configuration.read_text() + RULES)
        sync(configuration)
        self.vtlfs("media", "add", self.library, *BARCODES)
        self.acknowledge("media", *BARCODES)
        trio.run(self.mount_and_write, 1, BARCODES)
        self.snapshot(1, "--name", "first")
        self.act("erase", ERASED, "T2", "--yes", *REASON)
        self.refuse("erase", "T3", "GOV1", "--yes")
        trio.run(self.mount_and_write, 20, BARCODES)
        self.snapshot(2)
        self.act("protect", "T2")
        self.act("protect", "T2", "--off")
        self.act("hold", "T2", "--name", "case", *REASON)
        self.refuse("erase", "T2", "--yes")
        self.act("release", "T2", "--name", "case", *REASON)
        self.act("set", "T2", "--capacity", "1MiB")
        self.act("set", "T2", "--retain", "1d")
        self.act("move", "T2", "9")
        self.act("retire", "T3")
        self.act("erase", "GOV1", "--override", "--yes", *REASON)
        self.act("erase", "T3", "--yes", *REASON)
        self.act("remove", "T3", "--yes")
        self.act("add", "T3")
        self.act("erase", ERASED, "--yes", *REASON)
        self.reclaim("first", 1)
        self.forget_media(self.disks[2])
        trio.run(self.mount_and_write, 40, [ERASED, "T3"])
        self.acknowledge("end")

    def snapshot(self, number: int, *words: str) -> None:
        """Take a snapshot."""
        self.vtlfs("snapshot", "take", self.library, *words)
        self.acknowledge("snapshot", number)

    def reclaim(self, name: str, number: int) -> None:
        """Delete a snapshot, and reclaim what nothing shows any more."""
        self.acknowledge("deleting", number)
        self.vtlfs("snapshot", "delete", self.library, name, "--yes")
        self.acknowledge("deleted", number)
        self.vtlfs("reclaim", self.library)
        self.acknowledge("reclaimed")

    def act(self, verb: str, *words: str) -> None:
        """Do something to media; say so before, and afterwards."""
        self.acknowledge("begun", verb, *words)
        self.vtlfs("media", verb, self.library, *words)
        self.acknowledge("done", verb, *words)

    def refuse(self, *words: str) -> None:
        """Want an act to be refused."""
        verb, *rest = words
        self.vtlfs("media", verb, self.library, *rest, status=1)

    def forget_media(self, disk: Path) -> None:
        """Have a disk forget what it remembers of media, as one that was away does not know it."""
        directory = disk / cartridges.DIRECTORY
        for file in directory.iterdir():
            file.unlink()
        directory.rmdir()
        sync(disk)

    async def mount_and_write(self, seed: int, barcodes: list[str]) -> None:
        """Write a stream to each medium, at the same time."""
        async with self.mounted() as engine, trio.open_nursery() as nursery:
            for number, barcode in enumerate(barcodes):
                nursery.start_soon(self.write_and_close, engine, barcode, seed + number)


if __name__ == "__main__":
    sys.exit(main(RunOfMedia, sys.argv[1:]))
