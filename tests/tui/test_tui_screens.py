"""The content of the screens: timeline, states, details, comparisons, an exported snapshot, errors."""

from contextlib import closing
from pathlib import Path

from driver import Driver, drive
from example_library import MEDIA, ExampleLibrary, at

from vtlfs.model import Snapshot
from vtlfs.snap import store
from vtlfs.snap.export import export
from vtlfs.tui import comparison
from vtlfs.tui.source import Source


def snapshots(example: ExampleLibrary) -> list[Snapshot]:
    with closing(example.library.tracking()) as tracking:
        return store.snapshots(tracking)


def test_the_timeline_has_now_on_top_and_then_the_newest(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        assert [row.split()[0] for row in d.rows] == ["now", "5", "4", "3", "2", "1"]
        assert "before the upgrade" in d.rows[1]
        assert "+3 +82 KiB" in d.rows[4]

    drive(example.path, story)


def test_the_plot_is_by_host_and_then_by_medium(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.until(lambda: "by host" in d.text() and "gamma" in d.text(), "a plot by host")
        await d.press("h")
        await d.until(lambda: "by medium" in d.text() and "A00003L9" in d.text(), "a plot by medium")

    drive(example.path, story)


def test_a_snapshot_is_taken_with_one_key(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.press("s")
        await d.until(lambda: d.table.count == 7, "one more snapshot")
        assert "snapshot 6 taken" in d.notifications

    drive(example.path, story)
    assert [snapshot.id for snapshot in snapshots(example)] == [1, 2, 3, 4, 5, 6]


def test_a_snapshot_can_be_given_a_name(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.go("S", screen="PromptDialog")
        await d.press(*"friday", "enter")
        await d.until(lambda: d.table.count == 7, "one more snapshot")

    drive(example.path, story)
    assert snapshots(example)[-1].name == "friday"


def test_a_state_shows_the_library_as_it_stood(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.go("end", "enter", screen="StateScreen")
        await d.until(lambda: "snapshot 1 of 2026-11-16" in d.text(), "the title")
        assert len(d.rows) == 4
        await d.tab("1")
        await d.until(lambda: d.rows[1] == "1 A00001L9 2026-11-15 01:00:00Z 0", "drives")
        await d.tab("2")
        await d.until(lambda: d.rows[0].startswith("A00001L9 2 26.8 KiB"), "media")
        await d.tab("4")
        await d.until(lambda: "as recorded" in d.rows[0], "disks")
        await d.press("5")
        assert d.is_tab("disks")  # a snapshot has no live tab

    drive(example.path, story)


def test_details_of_every_kind_of_row(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        for tab, expected in (
            ("3", "write to drive 0, medium A00003L9, by host alpha"),
            ("1", "drive 0: its latest sessions"),
            ("2", "medium A00001L9"),
            ("4", "health"),
        ):
            await d.tab(tab)
            await d.press("enter")
            await d.until(lambda: d.screen == "DetailsScreen", "details")
            await d.sees(expected)
            await d.back("StateScreen")

    drive(example.path, story)


def test_the_details_of_a_session_show_where_its_extents_lie(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.go("enter", screen="DetailsScreen")
        with closing(example.library.tracking()) as tracking:
            extent = tracking.extents.of(16, 0, 1)[0]
        assert d.rows[0] == f"0 4096 0 0 4096 {extent.blake3.hex()}"

    drive(example.path, story)


def test_sessions_are_searched_filtered_and_sorted(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.go("slash", screen="PromptDialog")
        await d.enter("beta")
        await d.until(lambda: d.table.count == 5, "sessions of beta")
        await d.go("slash", screen="PromptDialog")
        await d.enter("")
        await d.until(lambda: d.table.count == 16, "all sessions")
        await d.press("o", "o")
        await d.until(lambda: "by opened_at, descending" in d.text(), "sorted")
        await d.press("O")
        await d.until(lambda: "ascending" in d.text() and d.rows[0].startswith("1 "), "the other way")
        await d.go("f", screen="FilterDialog")
        await d.press("tab", "tab", "tab", *"opne", "enter")
        await d.until(lambda: "a state is one of" in d.text(), "a refusal")
        await d.press("ctrl+l", *"open", "enter")
        await d.until(lambda: d.screen == "StateScreen" and d.table.count == 2, "open sessions")
        await d.go("f", screen="FilterDialog")
        await d.press("ctrl+l")
        for name, value in (("drive", "1"), ("since", "2026-11-18"), ("until", "2026-11-19")):
            d.paste(value, f"#{name}")
        await d.press("enter")
        await d.until(lambda: d.screen == "StateScreen" and d.table.count == 2, "two days of drive 1")

    drive(example.path, story)


def test_two_states_are_compared(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.press("down", "down", "space", "end")
        await d.go("c", screen="CompareScreen")
        await d.until(lambda: "9 sessions came, 0 changed; 9 tape files came with 369 KiB" in d.text(), "the sums")
        assert "snapshot 1 and snapshot 4" in d.text()
        assert "library bytes 61 KiB 430 KiB +369 KiB" in d.rows
        assert "by host gamma +185 KiB" in d.rows
        assert "~ medium A00001L9 26.8 KiB, 2 files 88.4 KiB, 5 files +61.5 KiB" in d.rows
        assert any(row.startswith("+ session 13 gamma 82 KiB released") for row in d.rows)
        await d.press("n", "n", "n")
        await d.until(lambda: d.selected.kind == "medium", "the media")
        await d.go("enter", screen="DetailsScreen")

    drive(example.path, story)


def test_of_very_many_differences_the_first_are_listed_and_all_are_counted(example: ExampleLibrary) -> None:
    found = comparison.compare(Source.open(example.path), 1, 4, most=4)
    assert found.summary.startswith("9 sessions came, 0 changed; 9 tape files came with 369 KiB")
    for kind in ("session", "tape file"):
        came = [row for row in found.rows if (row.sign, row.kind) == ("+", kind)]
        assert len(came) == 5
        assert (came[-1].name, came[-1].after) == ("5 more", "`vtlfs snapshot diff 1 4`")


def test_a_state_is_compared_with_the_one_before_it(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.go("c", screen="CompareScreen")
        await d.sees("snapshot 5 and now")
        await d.back("TimelineScreen")
        await d.press("end", "c")
        await d.until(lambda: "no older snapshot" in d.notifications, "nothing to compare with")

    drive(example.path, story)


def test_now_follows_open_sessions(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.tab("5")
        await d.until(lambda: len(d.rows) == 2 and "2 writing" in d.text(), "open sessions")
        example.open(at(6, 1), MEDIA[0], b"new " * 100000, "delta")
        await d.until(lambda: len(d.rows) == 3 and "delta" in d.rows[2], "one more")
        await d.press("3")
        await d.until(lambda: d.table.count == 17, "in the table of sessions")

    drive(example.path, story)


def test_the_disks_of_now_are_probed(example: ExampleLibrary) -> None:
    (example.disks[1] / "vtlfs-disk.json").unlink(missing_ok=True)
    example.disks[1].rename(example.disks[1].with_name("elsewhere"))

    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.tab("4")
        await d.until(lambda: d.rows[0].endswith("ok") and "no such directory" in d.rows[1], "their health")

    drive(example.path, story)


def test_an_exported_snapshot_is_shown_without_its_library(example: ExampleLibrary, tmp_path: Path) -> None:
    file = tmp_path / "tuesday.db"
    export(example.library, 5, file)
    before = file.read_bytes()

    async def story(d: Driver) -> None:
        assert d.rows[0].startswith("this 2026-11-20 03:00Z tuesday.db")
        await d.press("s")
        await d.until(lambda: "not with an exported snapshot" in d.notifications, "no snapshot of a snapshot")
        await d.press("down", "enter")
        await d.until(lambda: "snapshot 5: not with" in d.notifications, "no other state")
        await d.press("home")
        await d.go("enter", screen="StateScreen")
        assert len(d.rows) == 15
        await d.go("enter", screen="DetailsScreen")
        await d.press("e")
        await d.until(lambda: "extracting: not with" in d.notifications, "no data")

    drive(file, story)
    assert file.read_bytes() == before


def test_an_error_is_shown_and_ends_nothing(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        database = example.path / "tracking.db"
        database.rename(database.with_suffix(".away"))
        await d.press("r")
        await d.until(lambda: "the tracking database is missing" in d.notifications, "the error")
        database.with_suffix(".away").rename(database)
        await d.go("enter", screen="StateScreen")

    drive(example.path, story)


def test_a_snapshot_that_is_pruned_while_it_is_shown_gives_an_error(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.press("end")
        await d.go("enter", screen="StateScreen")
        with closing(example.library.tracking()) as tracking, tracking.transaction():
            store.remove(tracking, [1])
        await d.press("2")
        await d.until(lambda: "no snapshot 1;" in d.notifications, "an error")
        await d.back("TimelineScreen")
        await d.until(lambda: [row.split()[0] for row in d.rows] == ["now", "5", "4", "3", "2"], "those that are left")
        await d.go("enter", screen="StateScreen")

    drive(example.path, story)


def test_the_cursor_stays_on_its_row_when_a_snapshot_comes(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.press("down", "down")
        assert d.selected.state == 4
        await d.press("s")
        await d.until(lambda: d.table.count == 7, "one more snapshot")
        assert d.selected.state == 4

    drive(example.path, story)


def test_names_with_control_characters_are_shown_escaped(example: ExampleLibrary) -> None:
    example.write(at(6, 1), at(6, 2), MEDIA[0], b"x", program="[b]\x1b[2J[/x]")
    example.take_snapshot(at(6, 3), "[red]name[/blue]")

    async def story(d: Driver) -> None:
        await d.sees("[red]name[/blue]")
        await d.go("enter", screen="StateScreen")
        assert "\x1b" not in d.text()
        await d.go("enter", screen="DetailsScreen")
        await d.sees("[b]\\x1b[2J[/x], pid 123")

    drive(example.path, story)
