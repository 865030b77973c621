"""Checks the library that a run of `scenario.py` has left when it died against what was acknowledged in the run."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import scenario
import trio

from vtlfs.disks import records
from vtlfs.engine import recover
from vtlfs.engine.assembly import running
from vtlfs.engine.library import Library, create
from vtlfs.engine.reading.extract import Opening, extract
from vtlfs.engine.rebuild.rebuild import rebuild
from vtlfs.engine.scrub.check import check
from vtlfs.engine.tracking.repositories.sessions import SessionFilter
from vtlfs.errors import DamagedExtent, LibraryError
from vtlfs.model import Mount, Session, utc_now
from vtlfs.snap import store
from vtlfs.snap.export import export
from vtlfs.snap.view import open_view

STRAY = "left by a power cut"


class Aftermath:
    """The library that a run has left, and the promises: everything that was acknowledged in the run."""

    def __init__(
        self, root: Path, promised: Sequence[tuple[Any, ...]] | None = None, *, power_cut: bool = False
    ) -> None:
        """`promised`: None: a file in the run's directory has the promises. `power_cut`: the power failed, too."""
        self.root = root
        self.path = root / "library"
        self.power_cut = power_cut
        if promised is None:
            acknowledged = root / "acknowledged"
            lines = acknowledged.read_text().splitlines() if acknowledged.exists() else []
            promised = [tuple(json.loads(line)) for line in lines]
        self.promised = promised
        # After a power cut, which may have taken from the disks how sessions had ended.
        self.is_rebuilt = power_cut and bool(self.of("rebuilding"))

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        """Return the promises of a kind, without the word that names the kind."""
        return [tuple(rest) for word, *rest in self.promised if word == kind]

    def check(self, *, by_mount: bool = False) -> None:
        """Assert that all promises are kept and the database is sound. `by_mount`: recover by mounting."""
        if not self.of("rebuilding") and not (self.path / "library.toml").exists():
            assert not self.of("made")
            self.check_init()
            return
        self.rebuild()
        library = Library.open(self.path)
        if by_mount:
            trio.run(self.mount_for_a_moment, library)
        else:
            recover.recover(library)
        self.check_books(library)
        self.check_second_recovery(library)
        self.check_media(library)
        self.check_streams(library)
        self.check_snapshots(library)
        self.check_copies()
        trio.run(self.go_on, library)
        self.check_books(library)

    def check_init(self) -> None:
        """Assert that `vtlfs init` works as if there had been no run."""
        disks = [self.root / f"disk{number}" for number in range(scenario.DISKS)]
        for disk in disks:
            disk.mkdir(exist_ok=True)
        library = create(self.path, disks, drives=4, stripe_unit=scenario.UNIT, at=utc_now())
        assert sorted(path.name for path in self.path.iterdir()) == ["library.toml", "mounts", "tracking.db"]
        assert [finding.problem for finding in check(library).findings] == []
        assert len(library.disks()) == scenario.DISKS

    def rebuild(self) -> None:
        """Rebuild the library if the run died before the end of its rebuild."""
        try:
            Library.open(self.path).tracking().close()
        except LibraryError:
            assert len(self.of("rebuilding")) > len(self.of("rebuilt"))
            disks = [self.root / f"disk{number}" for number in range(scenario.DISKS)]
            rebuilt = rebuild(self.path, disks, (), utc_now())
            assert (rebuilt.report.lost, rebuilt.report.damaged) == ([], [])

    def check_rebuilt(self) -> None:
        """Assert that a rebuild from the disks alone has all streams, if there is a library that can be rebuilt."""
        if not (self.path / "library.toml").exists():
            return
        for file in self.path.glob("tracking.db*"):
            file.unlink()
        rebuilt = rebuild(self.path, (), (), utc_now())
        assert rebuilt.report.lost == []
        self.is_rebuilt = True
        library = Library.open(self.path)
        recover.recover(library)
        self.check_books(library)
        self.check_streams(library)

    def check_books(self, library: Library) -> None:
        """Assert that a check finds nothing wrong, and nothing left to do."""
        findings = [str(finding) for finding in check(library).findings]
        if self.power_cut:
            findings = [finding for finding in findings if STRAY not in finding]
            at_risk = [f" of session {number};" for number in self.at_risk()]
            findings = [finding for finding in findings if not any(session in finding for session in at_risk)]
        assert findings == [], findings
        assert not [path.name for path in (self.path / "mounts").glob("*") if path.suffix != ".work"]

    def at_risk(self) -> set[int]:
        """Return the sessions that sync=none has recorded and nothing has made durable: a power cut may damage them."""
        if not self.power_cut:
            return set()
        unsynced = {number for number, _, seed in self.of("opened") if seed == scenario.UNSYNCED}
        return unsynced - {number for number, _ in self.of("flushed")}

    def check_second_recovery(self, library: Library) -> None:
        """Assert that a second recovery changes nothing."""
        before = self.everything()
        assert recover.recover(library) == []
        assert self.everything() == before

    def everything(self) -> tuple[list[str], dict[str, str]]:
        """Return the content of the database and of the disks."""
        with closing(sqlite3.connect(self.path / "tracking.db")) as connection:
            rows = list(connection.iterdump())
        files = sorted(path for disk in self.root.glob("disk*") for path in disk.rglob("*") if path.is_file())
        return rows, {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def check_media(self, library: Library) -> None:
        """Assert that all media that were added are there, and the loaded ones are loaded."""
        with closing(library.tracking(read_only=True)) as tracking:
            there = {medium.barcode for medium in tracking.media.all()}
            assert there >= {barcode for barcodes in self.of("media") for barcode in barcodes}
            for number, barcode in self.of("loaded"):
                assert tracking.drives.get(number).loaded == barcode

    def check_streams(self, library: Library) -> None:
        """Assert that every stream has its acknowledged bytes, and no byte that was not sent."""
        seeds = {session: (barcode, seed) for session, barcode, seed in self.of("opened")}
        with closing(library.tracking(read_only=True)) as tracking:
            sessions = {session.id: session for session in tracking.sessions.find(SessionFilter())}
            kept = [
                tape_file for medium in tracking.media.all() for tape_file in tracking.tape_files.of(medium.barcode)
            ]
        for tape_file in kept:
            barcode, seed = seeds[tape_file.session]
            assert tape_file.medium == barcode
            try:
                content = extracted(library, barcode, tape_file.number)
            except DamagedExtent:
                assert tape_file.session in self.at_risk()
                continue
            assert content == scenario.stream(seed, tape_file.bytes)
        for number in seeds:
            if number in sessions or not self.power_cut:
                self.check_stream(sessions[number])
            else:
                assert not self.flushed(number)

    def flushed(self, session: int) -> int:
        """Return how many bytes of a stream were acknowledged."""
        kinds = ("flushed",) if self.power_cut else ("flushed", "flushed without waiting for the disks")
        return max((size for kind in kinds for number, size in self.of(kind) if number == session), default=0)

    def check_stream(self, session: Session) -> None:
        """Assert that a session has ended, with all that was promised."""
        flushed = self.flushed(session.id)
        assert session.state in ("released", "failed", "recovered")
        assert session.bytes >= flushed
        assert (session.tape_file is not None) == (session.bytes > 0)
        for file in self.root.glob(f"disk*/sessions/*/{session.id:012d}.member"):
            header = records.decode(file.read_bytes()[: records.BLOCK])
            if self.power_cut or header is None:
                continue  # it may have taken what a mount that had ended, or a recovery, wrote last
            if session.state == "recovered" or session.tape_file is not None:
                assert (header[0]["state"], header[0]["tape_file"]) == (session.state, session.tape_file)
        for number, tape_file, start in self.of("released"):
            if number == session.id:
                # A power cut may take the record of an orderly end, but never the stream's place on the medium.
                assert session.state in ("released", "failed") or self.is_rebuilt or self.power_cut
                assert session.bytes == flushed
                assert self.is_rebuilt or (session.tape_file, self.start(session)) == (tape_file, start)

    def start(self, session: Session) -> int | None:
        """Return the offset of a session's tape file on its medium; None without a tape file."""
        if session.tape_file is None:
            return None
        with closing(Library.open(self.path).tracking(read_only=True)) as tracking:
            return tracking.tape_files.get(session.medium, session.tape_file, volume=session.volume).start

    def check_snapshots(self, library: Library) -> None:
        """Assert that all snapshots that were taken are whole, and so is the exported one, if there is one."""
        with closing(library.tracking(read_only=True)) as tracking:
            taken = {snapshot.id: snapshot for snapshot in store.snapshots(tracking)}
        going = set() if (3,) not in self.of("snapshot") else {2}  # which the run may have pruned
        assert set(taken) >= {number for (number,) in self.of("snapshot")} - going
        assert not set(taken) & {number for (number,) in self.of("pruned")}
        for number, snapshot in taken.items():
            with closing(open_view(library, number)) as view:
                media = view.media.all()
                files = [one for medium in media for one in view.tape_files.of(medium.barcode)]
            assert (len(media), len(files)) == (snapshot.media, snapshot.tape_files)
            assert sum(one.bytes for one in files) == snapshot.bytes
        file = self.root / "then.db"
        if 1 in taken and not file.exists():
            assert not self.of("exported")
            export(library, 1, file)
        if file.exists():
            with closing(sqlite3.connect(file)) as exported:
                assert exported.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert exported.execute("SELECT count(*) FROM tape_file").fetchone()[0] == taken[1].tape_files

    def check_copies(self) -> None:
        """Assert that every copy of the database that has its final name is whole."""
        for file in self.root.glob("disk*/tracking/0*.db"):
            with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as copy:
                assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    async def mount_for_a_moment(self, library: Library) -> None:
        """Mount and unmount."""
        async with running(library, a_mount()):
            pass

    async def go_on(self, library: Library) -> None:
        """Assert that the next mount serves."""
        if "T1" not in {barcode for barcodes in self.of("media") for barcode in barcodes}:
            return
        async with running(library, a_mount()) as engine:
            before = engine.catalogue.tracking.media.get("T1").bytes
            session = await engine.open_writer("T1", 0, scenario.OPENER)
            await session.write(0, b"after" * 2000)
            await session.flush(closing=True)
            await engine.release_writer(session)
            medium = engine.catalogue.tracking.media.get("T1")
            assert medium.bytes == before + 10_000
            reader = engine.medium_reader("T1", medium.volume, medium.bytes)
            assert bytes(await reader.read(before, 10_000)) == b"after" * 2000


def a_mount() -> Mount:
    """Return a mount for `running`."""
    return Mount(0, "beta", "machine", os.getpid(), 0, "/mnt/vtl", "", "mounted", utc_now(), None)


def extracted(
    library: Library, barcode: str, number: int, opening: Opening | None = None, *, volume: int | None = None
) -> bytes:
    """Return a tape file."""
    pieces: list[bytes] = []
    take = lambda piece: pieces.append(bytes(piece))  # noqa: E731
    extract(library, barcode, number, take, lambda _: None, opening, volume=volume)
    return b"".join(pieces)
