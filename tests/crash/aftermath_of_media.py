"""What a run of `scenario_of_media.py` has left when it died: each act is done or not, and no byte is lost."""

from contextlib import closing
from functools import partial
from typing import Any

import scenario
import trio
from aftermath import Aftermath, extracted
from scenario_of_media import ERASED

from vtlfs.cli.main import main
from vtlfs.engine import recover
from vtlfs.engine.library import Library
from vtlfs.engine.rebuild.rebuild import rebuild
from vtlfs.engine.scrub.check import check
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.sessions import SessionFilter
from vtlfs.errors import NoSuchMedium
from vtlfs.model import Access, MediumState, RetainMode, Volume, utc_now
from vtlfs.snap import store
from vtlfs.snap.view import open_view

# What records each act, and what is done by then; every act is to be in the database with its event, or neither.
EVENTS = {
    ("erase",): "erased",
    ("protect",): "protected",
    ("protect", "--off"): "unprotected",
    ("hold",): "held",
    ("release",): "released",
    ("set", "--capacity"): "capacity set",
    ("set", "--retain"): "retention set",
    ("move",): "moved",
    ("retire",): "retired",
    ("remove",): "removed",
    ("add",): "added",
}


FILES = {1: 4, 2: 6}  # tape files that each snapshot shows


class AftermathOfMedia(Aftermath):
    """What a run has left, and what the library had promised it."""

    def check(self, *, by_mount: bool = False) -> None:
        """Want every act done whole or not at all, all volumes that are not reclaimed, and books that are right."""
        if not self.of("made"):
            return  # `scenario.py` dies there, too
        library = Library.open(self.path)
        if by_mount:
            trio.run(self.mount_for_a_moment, library)
        else:
            recover.recover(library)
        self.check_acts(library)
        assert [str(finding) for finding in check(library).findings if finding.damage] == []
        self.check_volumes(library)
        self.finish()
        library = Library.open(self.path)
        self.check_acts(library)
        self.check_books(library)
        self.check_second_recovery(library)
        self.check_media(library)
        self.check_volumes(library)
        self.check_snapshots(library)
        assert main(["verify", str(self.path)]) == 0
        trio.run(self.go_on, library)
        self.check_books(library)

    # --- acts -------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Do the act again that was interrupted: it is done already, or is done now; reclaim what can be."""
        if self.of("deleting"):
            main(["snapshot", "delete", str(self.path), "first", "--yes"])
        assert main(["reclaim", str(self.path)]) == 0
        begun, done = self.of("begun"), self.of("done")
        if len(begun) > len(done):
            verb, *words = begun[-1]
            if "--retain" in words and self.is_recorded(verb, *words):
                return  # again it would be later, and so an act of its own
            status = main(["media", verb, str(self.path), *words])
            assert status == 0 or (self.is_recorded(verb, *words) and verb in ("hold", "release", "remove", "add"))

    def is_recorded(self, verb: str, *words: str) -> bool:
        """Tell whether the last event of a medium is that of an act."""
        with closing(Library.open(self.path).tracking(read_only=True)) as tracking:
            return tracking.events.find(medium=words[0])[-1].what == event_of(verb, *words)

    def check_acts(self, library: Library) -> None:
        """Want what is recorded of each medium to be the acts that were done, in their order; the last one may be."""
        begun, done = self.of("begun"), self.of("done")
        assert begun[: len(done)] == done
        with closing(library.tracking(read_only=True)) as tracking:
            for barcode in sorted({word for act in begun for word in media_of(act)}):
                wanted = [event_of(*act) for act in begun if barcode in media_of(act)]
                promised = sum(barcode in media_of(act) for act in done)
                found = [event.what for event in tracking.events.find(medium=barcode) if event.what in wanted]
                if found[:1] == ["added"]:
                    del found[0]  # before the acts
                assert found in (wanted, wanted[:promised]), (barcode, found, wanted)
                self.check_state(tracking, barcode, found)

    def check_state(self, tracking: Tracking, barcode: str, events: list[str]) -> None:
        """Want a medium to be as its events say."""
        volumes = tracking.volumes.of(barcode)
        assert len(volumes) == 1 + events.count("erased")
        assert [one.number for one in volumes] == list(range(1, len(volumes) + 1))
        assert [one.ended is None for one in volumes] == [False] * (len(volumes) - 1) + [True]
        if last(events, "removed", "added") == "removed":
            try:
                tracking.media.get(barcode)
            except NoSuchMedium:
                return
            raise AssertionError(f"{barcode} is not removed")
        medium = tracking.media.get(barcode)
        assert medium.volume == len(volumes)
        assert medium.protected == (last(events, "protected", "unprotected") == "protected")
        is_retired = last(events, "retired", "added") == "retired"
        assert medium.state is (MediumState.RETIRED if is_retired else MediumState.IN_USE)
        assert bool(tracking.volumes.holds(barcode)) == (last(events, "held", "released") == "held")
        assert (medium.capacity == 1 << 20) == ("capacity set" in events)
        assert (medium.slot == 9) == ("moved" in events)
        if barcode.startswith("GOV") and medium.tape_files:
            assert volumes[-1].retain_mode is RetainMode.GOVERNANCE
            assert volumes[-1].retain_until is not None
        if "retention set" in events:
            assert volumes[-1].retain_until is not None

    def check_media(self, library: Library) -> None:
        """Want the media that were added, but for the one that was removed last."""
        with closing(library.tracking(read_only=True)) as tracking:
            there = {medium.barcode for medium in tracking.media.all()}
        acts = [verb for verb, *_ in self.of("begun") if verb in ("remove", "add")]
        assert there == {"T1", "T2", "GOV1"} | ({"T3"} if acts[-1:] != ["remove"] else set())

    # --- volumes and their data -------------------------------------------------------------------------------------

    def check_volumes(self, library: Library) -> None:
        """Want every stream that is acknowledged in the volume to which it was written, and whole."""
        with closing(library.tracking(read_only=True)) as tracking:
            sessions = {one.id: one for one in tracking.sessions.find(SessionFilter())}
            barcodes = tracking.media.barcodes()
            volumes = {(barcode, one.number): one for barcode in barcodes for one in tracking.volumes.of(barcode)}
            files = {key: tracking.tape_files.of(key[0], volume=key[1]) for key in volumes}
            shown = {key for key, one in volumes.items() if is_shown(tracking, one)}
        seeds = {session: (barcode, seed) for session, barcode, seed in self.of("opened")}
        for key, found in files.items():
            assert sum(one.bytes for one in found) == volumes[key].bytes
            for one in found:
                barcode, seed = seeds[one.session]
                assert barcode == key[0]
                if volumes[key].reclaimed_at is not None:
                    assert key not in shown
                    self.check_gone(one.session)
                elif not sessions[one.session].reclaimed:
                    content = extracted(library, barcode, one.number, volume=key[1])
                    assert content == scenario.stream(seed, one.bytes)
                else:
                    assert key not in shown
        for number in seeds:
            if sessions[number].access is Access.WRITE and not sessions[number].reclaimed:
                self.check_stream(sessions[number])

        if self.of("deleting"):
            self.check_nothing_is_left(volumes, shown)

    def check_nothing_is_left(self, volumes: dict[tuple[str, int], Volume], shown: set[tuple[str, int]]) -> None:
        """Want the volumes that nothing shows to be reclaimed, once that was acknowledged."""
        if self.of("reclaimed"):
            assert all(one.reclaimed_at is not None for key, one in volumes.items() if key not in shown)

    def check_gone(self, session: int) -> None:
        """Want no member of a session on any disk."""
        assert list(self.root.glob(f"disk*/sessions/*/{session:012d}.member")) == []

    def check_snapshots(self, library: Library) -> None:
        """Want the data of every snapshot as it was when the snapshot was taken."""
        seeds = {session: seed for session, _, seed in self.of("opened")}
        with closing(library.tracking(read_only=True)) as tracking:
            taken = {snapshot.id: snapshot for snapshot in store.snapshots(tracking)}
        assert set(taken) >= {number for (number,) in self.of("snapshot")} - self.deleted()
        for number, snapshot in taken.items():
            with closing(open_view(library, number)) as view:
                media = view.media.all()
                files = [one for medium in media for one in view.tape_files.of(medium.barcode)]
            assert {medium.barcode for medium in media} == {"T1", "T2", "T3", "GOV1"}
            assert (len(media), len(files)) == (snapshot.media, FILES[number])
            for file in files:
                content = extracted(library, file.medium, file.number, opening=partial(open_view, library, number))
                assert content == scenario.stream(seeds[file.session], file.bytes)

    def deleted(self) -> set[int]:
        """Return the snapshots that the run has deleted, or was deleting."""
        return {number for (number,) in self.of("deleting")}

    # --- from the disks alone ---------------------------------------------------------------------------------------

    def check_rebuilt(self) -> None:
        """Want the current volumes, and what was done to media, from the disks alone."""
        with closing(Library.open(self.path).tracking(read_only=True)) as tracking:
            before = [state_of(tracking, medium.barcode) for medium in tracking.media.all()]
        for file in self.path.glob("tracking.db*"):
            file.unlink()
        rebuilt = rebuild(self.path, (), (), utc_now())
        assert rebuilt.report.lost == []
        library = Library.open(self.path)
        recover.recover(library)
        self.check_books(library)
        with closing(library.tracking(read_only=True)) as tracking:
            assert [state_of(tracking, medium.barcode) for medium in tracking.media.all()] == before
        assert main(["verify", str(self.path)]) == 0


def state_of(tracking: Tracking, barcode: str) -> tuple[Any, ...]:
    """Return what a rebuild is to bring back of a medium."""
    medium = tracking.media.get(barcode)
    volume = tracking.volumes.get(barcode, medium.volume)
    files = [(one.session, one.start, one.bytes) for one in tracking.tape_files.of(barcode)]
    holds = [(one.name, one.reason) for one in tracking.volumes.holds(barcode)]
    return barcode, medium.state, medium.protected, medium.volume, volume.retention, holds, files


def media_of(act: tuple[str, ...]) -> list[str]:
    """Return the barcodes of an act, which come first."""
    return [word for word in act[1:] if word.startswith(("T", "GOV"))]


def event_of(verb: str, *words: str) -> str:
    """Return what is recorded of an act."""
    return next(
        what for (name, *options), what in reversed(EVENTS.items()) if name == verb and set(options) <= set(words)
    )


def last(events: list[str], *kinds: str) -> str | None:
    """Return the last of the events of some kinds."""
    return next((event for event in reversed(events) if event in kinds), None)


def is_shown(tracking: Tracking, volume: Volume) -> bool:
    """Tell whether a volume is current, or a snapshot shows it."""
    ended = volume.ended
    return ended is None or any(volume.begun <= one.id < ended for one in store.snapshots(tracking))


assert ERASED == "T1"  # to which `Aftermath.go_on` writes
