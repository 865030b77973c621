"""What the TUI shows of the lives of media: volumes, retention, holds, events; the data of a volume that has ended."""

from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from driver import Driver, drive
from example_library import MEDIA, ExampleLibrary, at

from vtlfs.model import Actor, Hold, MediumState, RetainMode
from vtlfs.rules import MediaRule
from vtlfs.snap.export import export
from vtlfs.tui import format as fmt
from vtlfs.tui.panes.tables import space_line

ROOT = Actor(0, "alpha", "vtlfs")
DAY = 86_400
WIDTHS = [(80, 24), (120, 36)]
FIRST = b"B" * (3 * 7000)  # the tape file 0000 of MEDIA[2], in its first volume
NEW = b"second life " * 1000


@pytest.fixture
def lived(example: ExampleLibrary) -> ExampleLibrary:
    """The example library, in which media were erased, written again, retained, held, protected and retired."""
    with closing(example.library.tracking()) as tracking, tracking.transaction():
        tracking.volumes.end_current(MEDIA[2], at(5, 6))
        tracking.events.add("erased", ROOT, at(5, 6), medium=MEDIA[2], volume=1, reason="its turn")
        tracking.volumes.begin_retention(MEDIA[2], MediaRule(RetainMode.GOVERNANCE, 30 * DAY))
    example.write(at(5, 7), at(5, 8), MEDIA[2], NEW, "beta")
    with closing(example.library.tracking()) as tracking, tracking.transaction():
        tracking.volumes.hold(Hold(MEDIA[2], "case 12", "a \x1b[31mlawsuit", at(5, 9), 0, "alpha"))
        tracking.events.add("held", ROOT, at(5, 9), medium=MEDIA[2], volume=2, reason="a lawsuit", hold="case 12")
        tracking.media.set_protected(MEDIA[0], True)
        tracking.events.add("protected", ROOT, at(5, 9), medium=MEDIA[0], volume=1)
        tracking.media.set_state(MEDIA[1], MediumState.RETIRED)
        tracking.events.add("retired", ROOT, at(5, 9), medium=MEDIA[1], volume=1, reason="worn")
    return example


@pytest.mark.parametrize("size", WIDTHS)
def test_the_table_of_media_shows_states_and_retention(lived: ExampleLibrary, size: tuple[int, int]) -> None:
    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.tab("2")
        await d.until(lambda: "protected - 2026-11-19" in d.rows[0], "a write-protected medium")
        assert "retired - 2026-11-19" in d.rows[1]
        assert "held 2026-12-20 2026-11-20" in d.rows[2]
        assert ("VOLUME" in d.text()) == ("CAPACITY" in d.text()) == (size[0] >= 100)
        assert all(line.rstrip()[-10:].startswith("2026-11-") for line in d.text().split("\n")[4:7])  # none is cut off

    drive(lived.path, story, size)


@pytest.mark.parametrize("size", WIDTHS)
def test_the_page_of_a_medium_has_its_whole_life(lived: ExampleLibrary, size: tuple[int, int]) -> None:
    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.tab("2")
        await d.press("end")
        await d.go("enter", screen="DetailsScreen")
        await d.sees(
            "state      in use",
            "volume     2, begun 2026-11-20 06:00:00Z",
            "retained   until 2026-12-20 08:00:00Z (governance, 30 days for each file)",
            "holds      case 12 (a \\x1b[31mlawsuit), since 2026-11-20 09:00:00Z",
        )
        assert "\x1b" not in d.text()
        assert d.rows == [f"0000 2026-11-20 08:00:00Z beta 11.7 KiB 0 {17}"]
        await d.press("2")
        await d.until(lambda: len(d.rows) == 2, "volumes")
        assert d.rows[0].startswith("2 2026-11-20 06:00:00Z - 1 11.7 KiB current")
        assert d.rows[1] == "1 2026-11-15 00:00:00Z 2026-11-20 06:00:00Z 5 264 KiB ended"
        await d.press("tab")
        await d.until(lambda: "held 2 alpha uid 0 a lawsuit, hold case 12" in d.rows[0], "events")
        assert "erased 1 alpha uid 0 its turn" in d.rows[1]
        await d.back("StateScreen")

    drive(lived.path, story, size)


def test_a_medium_that_is_retired_or_protected_says_so(lived: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.tab("2")
        await d.go("enter", screen="DetailsScreen")
        await d.sees("state      in use, write-protected", "retained   no", "holds      none")
        await d.back("StateScreen")
        await d.press("down")
        await d.go("enter", screen="DetailsScreen")
        await d.sees("state      retired")

    drive(lived.path, story)


def test_the_data_of_an_ended_volume_is_seen_and_extracted(lived: ExampleLibrary, tmp_path: Path) -> None:
    target = tmp_path / "first"

    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.tab("2")
        await d.press("end")
        await d.go("enter", screen="DetailsScreen")
        await d.press("2", "end")
        await d.until(lambda: d.selected.cells[0] == "1", "the first volume")
        await d.press("enter")
        await d.sees("volume 1 of medium A00003L9, now", "shown by   snapshots 2 more, 3, 4, 5 (before the upgrade)")
        await d.until(lambda: len(d.rows) == 5, "its tape files")
        await d.go("b", screen="PreviewScreen")
        await d.until(lambda: d.rows[0].endswith("BBBBBBBBBBBBBBBB"), "bytes of the first volume")
        await d.back("DetailsScreen")
        await d.press("y")
        await d.until(lambda: "volume 1 of A00003L9 has ended" in d.notifications, "no path")
        await d.go("e", screen="ExtractDialog")
        await d.enter(str(target))
        await d.until(lambda: "all bytes match their checksums" in d.label("#status"), "the end")

    drive(lived.path, story)
    assert target.read_bytes() == FIRST


def begins(d: Driver, word: str) -> bool:
    return bool(d.rows) and d.rows[0].split()[0] == word


def ends(d: Driver, text: str) -> bool:
    return d.rows[0].endswith(text)


def test_a_session_of_an_ended_volume_leads_to_its_own_data(lived: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        for session, first in (("17", "second life seco"), ("4", "BBBBBBBBBBBBBBBB")):  # both are tape file 0000
            await d.go("slash", screen="PromptDialog")
            await d.enter(session)
            await d.until(partial(begins, d, session), f"session {session}")
            await d.go("b", screen="PreviewScreen")
            await d.until(partial(ends, d, first), f"bytes of session {session}")
            await d.back("StateScreen")

    drive(lived.path, story)


def test_a_snapshot_shows_the_volume_of_then_and_its_data(lived: ExampleLibrary, tmp_path: Path) -> None:
    target = tmp_path / "then"

    async def story(d: Driver) -> None:
        await d.press("end")
        await d.go("enter", screen="StateScreen")
        await d.tab("2")
        assert [row.split()[0] for row in d.rows] == list(MEDIA)
        assert all("in use - 2026-11-16" in row for row in d.rows), d.rows
        await d.press("end")
        await d.go("enter", screen="DetailsScreen")
        await d.sees("volume     1, begun 2026-11-15", "retained   no", "holds      none")
        await d.press("3")
        await d.until(lambda: d.rows == [], "no event")
        await d.press("1")
        await d.until(lambda: len(d.rows) == 1, "its tape file")
        await d.go("b", screen="PreviewScreen")
        await d.until(lambda: d.rows[0].endswith("BBBBBBBBBBBBBBBB"), "bytes of then")
        await d.back("DetailsScreen")
        await d.go("v", screen="VerifyDialog")
        await d.until(lambda: "20.5 KiB: all bytes match" in d.label("#status"), "verified")
        await d.back("DetailsScreen")
        await d.back("StateScreen")
        await d.go("e", screen="ExtractDialog")
        await d.enter(str(target))
        await d.until(lambda: "all bytes match their checksums" in d.label("#status"), "the end")

    drive(lived.path, story)
    assert target.read_bytes() == FIRST


def test_two_states_tell_that_a_medium_was_erased(lived: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.go("c", screen="CompareScreen")
        await d.sees("snapshot 5 and now")
        await d.until(lambda: any("~ medium A00003L9" in row for row in d.rows), "media")
        assert "~ medium A00003L9 205 KiB, 4 files volume 2, 11.7 KiB, 1 file -193 KiB" in d.rows
        assert any("~ medium A00002L9" in row and "retired" in row for row in d.rows), d.rows

    drive(lived.path, story)


def test_an_exported_snapshot_has_volumes_and_events(lived: ExampleLibrary, tmp_path: Path) -> None:
    lived.take_snapshot(at(5, 10), "after the erasure")
    file = tmp_path / "then.db"
    export(lived.library, 6, file)

    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.tab("2")
        await d.press("end")
        await d.go("enter", screen="DetailsScreen")
        await d.sees("volume     2, begun", "holds      case 12 (a lawsuit)")
        await d.press("3")
        await d.until(lambda: len(d.rows) == 2 and "erased" in d.rows[1], "events")

    drive(file, story)


@pytest.mark.parametrize("size", WIDTHS)
def test_the_tab_of_the_disks_says_for_what_their_room_is_used(lived: ExampleLibrary, size: tuple[int, int]) -> None:
    with closing(lived.library.tracking(read_only=True)) as tracking:
        held = fmt.size(tracking.volumes.get(MEDIA[2], 1).bytes)

    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.tab("4")
        await d.until(lambda: "by what the media have now" in d.label("#space"), "the use of the room")
        assert f"{held} by erased volumes that are held; 0 B can be reclaimed" in d.label("#space")
        await d.sees("used: ", "free")

    drive(lived.path, story, size)


def test_the_line_on_the_room_tells_when_the_disks_will_be_full() -> None:
    use = {"current": 5 << 20, "held": 1 << 20, "reclaimable": 2048, "full_at": "2027-03-01T00:00:00.000000Z"}
    assert space_line(use, {"free": 1 << 30}) == (
        "used: 5 MiB by what the media have now, 1 MiB by erased volumes that are held; 2 KiB can be reclaimed;"
        " 1 GiB free; full about 2027-03-01"
    )


@pytest.mark.parametrize("size", WIDTHS)
def test_the_page_of_media_shows_where_the_pools_are(lived: ExampleLibrary, size: tuple[int, int]) -> None:
    with open(lived.path / "library.toml", "a") as file:
        file.write('\n[pools.NIGHT]\nmedia = "N*"\n[pools.OTHER]\nmedia = "A*"\n')
    with closing(lived.library.tracking()) as tracking, tracking.transaction():
        tracking.media.add(["N1", "N2"], 1000, at(5, 9))
        tracking.pools.move("NIGHT", "N1", at(5, 9))

    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.tab("2")
        await d.sees(
            "pool NIGHT: on N1, 0.977 KiB left; then N2: it was never written", "pool OTHER: on no medium yet; "
        )
        assert "it reuses none" in " ".join(d.label("#pools").split())
        with closing(lived.library.tracking()) as tracking, tracking.transaction():
            tracking.pools.note_full("NIGHT", "N1")
        await d.sees("pool NIGHT: on N1, full; then N2: it was never written")
        await d.back("TimelineScreen")
        await d.press("down")
        await d.go("enter", screen="StateScreen")
        await d.tab("2")
        await d.until(lambda: len(d.rows) == len(MEDIA), "the media of a snapshot")
        assert "pool" not in d.text()

    drive(lived.path, story, size)
