"""Media of any tape files come into libraries of any layout; and the manifest is read as it was written."""

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scripted import OPENER, UNIT, a_mount, make_library

from vtlfs.engine.assembly import running
from vtlfs.engine.library import Library
from vtlfs.engine.reading.extract import extract
from vtlfs.engine.scrub.check import check
from vtlfs.engine.transfer import copying, exporting, importing, manifest
from vtlfs.engine.transfer.outgoing import Take, manifest_of
from vtlfs.engine.transfer.tar import TarReader
from vtlfs.errors import first_of
from vtlfs.model import Access, Actor, Digest, RetainMode, Retention, utc_now

ACTOR = Actor(0, "machine", "vtlfs")
LAYOUTS = [(2, UNIT, 0), (3, 2 * UNIT, 1), (4, 65536, 2), (2, UNIT, 1)]  # disks, stripe unit, parity
BORDERS = [1, UNIT - 1, UNIT, UNIT + 1, 2 * UNIT, 3 * UNIT - 1, 65536, 65537]


class Silent:
    """Progress that nobody looks at."""

    def expect(self, size: int) -> None:
        """See `result.Progress`."""

    def advance(self, size: int) -> None:
        """See `result.Progress`."""


def write(library: Library, streams: Sequence[bytes]) -> None:
    """Have each stream be a tape file of T1."""

    async def work() -> None:
        async with running(library, a_mount()) as engine:
            for data in streams:
                session = await engine.open_writer("T1", 0, OPENER)
                for start in range(0, len(data), 10_000):
                    await session.write(start, data[start : start + 10_000])
                await session.flush(closing=True)
                await engine.release_writer(session)

    try:
        trio.run(work)
    except BaseExceptionGroup as group:
        raise first_of(group) from None


def read(library: Library, barcode: str) -> list[bytes]:
    found = []
    with closing(library.tracking(read_only=True)) as tracking:
        files = tracking.tape_files.of(barcode)
    for file in files:
        pieces: list[bytes] = []
        extract(library, barcode, file.number, lambda piece, pieces=pieces: pieces.append(bytes(piece)), lambda _: None)  # type: ignore[misc]
        found.append(b"".join(pieces))
    return found


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(sizes=BORDERS, layout=1, kept=3)
@example(sizes=[1], layout=2, kept=0)
@given(
    sizes=st.lists(st.one_of(st.sampled_from(BORDERS), st.integers(1, 200_000)), min_size=1, max_size=6),
    layout=st.integers(0, len(LAYOUTS) - 1),
    kept=st.integers(0, 6),
)
def test_any_medium_comes_into_any_library(sizes: list[int], layout: int, kept: int) -> None:
    """By way of a directory, of a tar stream and of a copy; the first of its tape files may be there already."""
    disks, unit, parity = LAYOUTS[layout]
    streams = [Random(size + place).randbytes(size) for place, size in enumerate(sizes)]
    with tempfile.TemporaryDirectory(prefix="vtlfs-transfer-") as name:
        root = Path(name)
        for part in ("here", "there"):
            (root / part).mkdir()
        here = make_library(root / "here")
        there = make_library(root / "there", disks=disks, unit=unit, parity=parity)
        write(here, streams[:kept])
        copying.copy(here, ["T1"], importing.Import(there, ACTOR, Silent()))
        write(here, streams[kept:])
        exporting.to_directory(exporting.Export(here, ["T1"], ACTOR, Silent()), root / "out")
        wanted = importing.Import(there, ACTOR, Silent())
        importing.from_directories(wanted, [root / "out"])
        assert [one.new_files for one in wanted.moved] == [len(streams[kept:])]
        with open(root / "out.tar", "wb") as file:
            exporting.to_tar(exporting.Export(here, ["T1"], ACTOR, Silent()), file.write, "out.tar")
        with open(root / "out.tar", "rb") as file:
            importing.from_tar(importing.Import(there, ACTOR, Silent(), "N1"), TarReader(file, "out.tar"))
        assert read(there, "T1") == read(there, "N1") == streams
        assert not check(there).damaged


class Wrong:
    """A medium that comes in and turns out to be damaged, while somebody begins to write to it."""

    def __init__(self, of: manifest.Manifest, library: Library) -> None:
        self.manifest = of
        self.where = "somewhere"
        self._library = library

    async def take(self, file: manifest.Entry, take: Take) -> Digest:
        """See `Incoming`."""
        with closing(self._library.tracking()) as tracking, tracking.transaction():
            mount = tracking.mounts.add(a_mount())
            number = tracking.library.take_sessions(1)[0]
            tracking.sessions.open(number, mount, OPENER, Access.WRITE, 0, "N1", UNIT, utc_now())
        return bytes(32)

    async def skip(self, file: manifest.Entry) -> None:
        """See `Incoming`."""

    async def finish(self) -> None:
        """See `Incoming`."""


def test_medium_to_which_somebody_writes_stays_after_an_import_in_vain(tmp_path: Path) -> None:
    """The stream's close() is answered with success, so its bytes are to be found."""
    library = make_library(tmp_path)
    write(library, [b"x" * UNIT])
    with closing(library.tracking(read_only=True)) as tracking:
        said = replace(manifest_of(tracking, "T1"), barcode="N1")

    async def work() -> None:
        async with importing.importer(library, ACTOR, Silent(), "imported") as target:
            await target.take_in(Wrong(said, library), "N1")

    with pytest.raises(BaseExceptionGroup) as failed:
        trio.run(work)
    assert isinstance(first_of(failed.value), manifest.BadExport)
    with closing(library.tracking(read_only=True)) as tracking:
        assert "N1" in [medium.barcode for medium in tracking.media.all()]


@pytest.mark.parametrize("until", ["2030-01-31T09:30:00.000000Z", None])
def test_manifest_is_read_as_it_was_written(tmp_path: Path, until: str | None) -> None:
    library = make_library(tmp_path)
    write(library, [b"one", b"two"])
    with closing(library.tracking(read_only=True)) as tracking:
        found = manifest_of(tracking, "T1")
    retention = Retention(RetainMode.WORM if until is None else RetainMode.COMPLIANCE, until)
    files = (replace(found.files[0], retention=retention, error="ENOSPC"), found.files[1])
    found = replace(found, retention=retention, files=files, capacity=7)
    assert manifest.parse(manifest.render(found), "x") == found


def test_stricter_retention_is_as_long_as_both() -> None:
    early, late = "2030-01-31T09:30:00.000000Z", "2031-01-31T09:30:00.000000Z"
    governed, compliant = Retention(RetainMode.GOVERNANCE, late), Retention(RetainMode.COMPLIANCE, early)
    assert manifest.stricter(governed, compliant) == Retention(RetainMode.COMPLIANCE, late)
    assert manifest.stricter(governed, Retention(RetainMode.WORM, None)) == Retention(RetainMode.WORM, None)
    assert manifest.stricter(None, governed) == manifest.stricter(governed, None) == governed
