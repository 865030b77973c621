"""Checks the library that a run of `scenario_of_disks.py` has left: repeated commands finish, and no byte is lost."""

from contextlib import closing
from pathlib import Path

import scenario
import trio
from aftermath import Aftermath, extracted

from vtlfs.cli.main import main
from vtlfs.engine import recover
from vtlfs.engine.library import Library
from vtlfs.model import DiskState

REFUSED = 1  # exit status of `vtlfs disk`
WRONGLY_DESCRIBED = 5  # exit status of `vtlfs verify`


class AftermathOfDisks(Aftermath):
    """The library that a run has left, and the promises: everything that was acknowledged in the run."""

    def check(self, *, by_mount: bool = False) -> None:
        """Assert that disks and database are as the commands should leave them, and that all promises are kept."""
        if not self.of("made"):
            return  # `scenario.py` dies there, too
        self.bring_back()
        library = Library.open(self.path)
        if by_mount:
            trio.run(self.mount_for_a_moment, library)
        else:
            recover.recover(library)
        self.finish()
        library = Library.open(self.path)
        recover.recover(library)  # member files are cut off when all disks are there
        self.check_disks(library)
        self.check_books(library)
        self.check_second_recovery(library)
        self.check_media(library)
        self.check_streams(library)
        if self.power_cut and main(["verify", str(self.path)]) == WRONGLY_DESCRIBED:  # no header is promised
            assert main(["disk", "repair", str(self.path)]) == 0
        assert main(["verify", str(self.path)]) == 0
        self.check_without_each_disk(library)
        trio.run(self.go_on, library)
        self.check_books(library)

    def bring_back(self) -> None:
        """Put the disk back that the run took away for a while."""
        away = self.root / "away"
        if away.exists():
            (self.root / "disk4").mkdir(exist_ok=True)
            (self.root / "disk4").rmdir()
            away.rename(self.root / "disk4")

    def finish(self) -> None:
        """Repeat the interrupted command; replace the lost disk; mend the damage."""
        done = self.of("done")
        for words in self.of("begun"):
            if words in done:
                done.remove(words)
            elif main(["disk", *words]) == REFUSED:  # it had got so far that it has begun, or is done
                assert words[0] != "repair"
        if not (self.root / "disk1").exists():
            main(["disk", "replace", str(self.path), "1", str(self.root / "disk3")])
        if self.of("damaged"):
            main(["verify", str(self.path)])
        assert main(["disk", "repair", str(self.path)]) == 0

    def check_disks(self, library: Library) -> None:
        """Assert that no disk is retiring any more, and that library.toml lists the disks of the library."""
        with closing(library.tracking(read_only=True)) as tracking:
            ever, disks = tracking.disks.ever(), tracking.disks.all()
        assert all(disk.state is DiskState.IN_USE for disk in disks)
        assert sorted(Path(disk.path) for disk in disks) == sorted(library.config.disks)
        retired = {disk.number for disk in ever} - {disk.number for disk in disks}
        kinds = [words[0] for words in self.of("begun")]
        assert retired >= {number for number, kind in ((1, "replace"), (0, "retire")) if kind in kinds}
        for number in retired:
            assert not (self.root / f"disk{number}" / ".vtlfs-disk").exists()

    def check_without_each_disk(self, library: Library) -> None:
        """Assert that every stream can be read without any one of the disks."""
        with closing(library.tracking(read_only=True)) as tracking:
            media = tracking.media.all()
            kept = [file for medium in media for file in tracking.tape_files.of(medium.barcode)]
        seeds = {session: seed for session, _, seed in self.of("opened")}
        for disk in library.config.disks:
            away = disk.with_name("taken")
            disk.rename(away)
            for file in kept:
                content = extracted(Library.open(self.path), file.medium, file.number)
                assert content == scenario.stream(seeds[file.session], file.bytes)
            away.rename(disk)
