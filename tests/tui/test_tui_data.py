"""Operations on stored data: extract, verify, preview, copy the path."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest
from driver import Driver, drive
from example_library import ExampleLibrary

from vtlfs.engine.library import Library
from vtlfs.engine.reading import extract as engine
from vtlfs.tui.app import Browser
from vtlfs.tui.screens.read_dialogs import ReadDialog


@pytest.fixture
def go_on(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Make an extraction wait after its first piece until the event is set."""
    event = Event()
    unchanged = engine.extract

    def held(
        library: Library,
        barcode: str,
        number: int | None,
        write: Callable[[memoryview], object],
        progress: Callable[[int], None],
        opening: engine.Opening,
        *,
        volume: int | None,
    ) -> int:
        def progress_and_wait(size: int) -> None:
            progress(size)
            event.wait(30)

        return unchanged(library, barcode, number, write, progress_and_wait, opening, volume=volume)

    monkeypatch.setattr(engine, "extract", held)
    return event


def has_read(d: Driver) -> bool:
    """Tell whether the dialog has read any bytes."""
    return isinstance(d.app.screen, ReadDialog) and d.app.screen.bytes_done > 0


def test_a_tape_file_is_extracted(example: ExampleLibrary, tmp_path: Path) -> None:
    target = tmp_path / "out" / "later"
    target.parent.mkdir()

    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.go("e", screen="ExtractDialog")
        await d.enter(str(target))
        await d.until(lambda: "all bytes match their checksums" in d.label("#status"), "the end")
        await d.back("StateScreen")
        await d.go("e", screen="ExtractDialog")
        await d.enter(str(target))
        await d.until(lambda: "exists already" in d.label("#status"), "a refusal")
        await d.enter(str(example.disks[0] / "x"))
        await d.until(lambda: "inside the library" in d.label("#status"), "a refusal")

    drive(example.path, story)
    assert target.read_bytes() == b"later " * 10000
    assert [path.name for path in target.parent.iterdir()] == ["later"]


def test_a_medium_is_extracted_as_it_stood_at_a_snapshot(example: ExampleLibrary, tmp_path: Path) -> None:
    target = tmp_path / "medium"

    async def story(d: Driver) -> None:
        await d.go("end", "enter", screen="StateScreen")
        await d.tab("2")
        await d.press("down", "down")
        await d.go("e", screen="ExtractDialog")
        await d.enter(str(target))
        await d.until(lambda: "all bytes match their checksums" in d.label("#status"), "the end")

    drive(example.path, story)
    assert target.read_bytes() == b"B" * 21000


def test_extracting_is_cancelled_and_leaves_nothing(example: ExampleLibrary, tmp_path: Path, go_on: Event) -> None:
    out = tmp_path / "out"
    out.mkdir()

    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.go("e", screen="ExtractDialog")
        await d.enter(str(out / "zeros"))
        await d.until(lambda: has_read(d), "progress")
        await d.press("escape")
        await d.until(lambda: d.label("#status") == "cancelling", "a word")
        go_on.set()
        await d.until(lambda: "cancelled; nothing was written" in d.label("#status"), "the end")
        await d.back("StateScreen")

    drive(example.path, story)
    assert not list(out.iterdir())


def test_leaving_in_the_middle_of_extracting_leaves_nothing(
    example: ExampleLibrary, tmp_path: Path, go_on: Event
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    apps: list[Browser] = []

    async def story(d: Driver) -> None:
        apps.append(d.app)
        await d.go("enter", screen="StateScreen")
        await d.go("e", screen="ExtractDialog")
        await d.enter(str(out / "half"))
        await d.until(lambda: has_read(d), "progress")
        assert list(out.iterdir())
        await d.press("ctrl+q")

    drive(example.path, story)
    go_on.set()
    apps[0].threads.join(30)
    assert not list(out.iterdir())


def test_checksums_are_verified_and_damage_is_shown(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.go("v", screen="VerifyDialog")
        await d.until(lambda: "all bytes match their checksums" in d.label("#status"), "the end")
        await d.back("StateScreen")
        for file in example.disks[0].rglob("*"):
            if file.is_file() and b"later " in file.read_bytes():
                file.write_bytes(file.read_bytes().replace(b"later", b"lAter"))
        await d.go("v", screen="VerifyDialog")
        await d.until(lambda: "failed: session 16, the extent at offset 0 on disk" in d.label("#status"), "the damage")
        assert d.app.is_running

    drive(example.path, story)


def test_the_first_bytes_and_the_members_of_an_archive_are_seen(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.press("end")
        await d.go("b", screen="PreviewScreen")
        await d.until(lambda: "a tar archive of 1 member" in d.label("#status"), "members")
        assert d.rows[0].endswith("home/notes......")
        await d.press("tab")
        await d.until(lambda: d.rows == ["- 8.79 KiB home/notes"], "the list")
        await d.back("StateScreen")
        await d.press("home")
        await d.go("b", screen="PreviewScreen")
        await d.until(lambda: "no tar archive" in d.label("#status"), "no members")
        assert d.rows[0] == "00000000 6c 61 74 65 72 20 6c 61 74 65 72 20 6c 61 74 65 later later late"

    drive(example.path, story)


def test_the_path_in_the_mount_is_copied_if_there_is_one(example: ExampleLibrary) -> None:
    from vtlfs.engine.lease import Leases

    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.press("y")
        await d.until(lambda: "not mounted" in d.notifications, "no mount")
        Leases(example.path).take(example.mount)
        await d.press("y")
        await d.until(lambda: d.app.clipboard == "/mnt/vtl/files/A00003L9/0004", "the path")
        await d.back("TimelineScreen")
        await d.press("end")
        await d.go("enter", screen="StateScreen")
        await d.tab("2")
        await d.press("y")
        await d.until(lambda: d.app.clipboard == "/mnt/vtl/snapshots/1/media/A00001L9", "the snapshot's path")

    drive(example.path, story)


def test_an_open_session_has_no_stored_data_yet(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.press("down", "e")
        await d.until(lambda: "no stored data" in d.notifications, "a word")

    drive(example.path, story)


def test_a_full_disk_gives_an_error_and_leaves_no_part_of_a_file(example: ExampleLibrary, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs wants root")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", small], check=True)

    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.go("e", screen="ExtractDialog")
        await d.enter(str(small / "later"))
        await d.until(lambda: "No space left on device" in d.label("#status"), "the reason")
        await d.back("StateScreen")

    try:
        drive(example.path, story)
        assert not list(small.iterdir())
    finally:
        subprocess.run(["umount", "-l", small], check=True)
