"""Keys, mouse, command palette, colours, and the size of the terminal."""

import pytest
from driver import TABS, Driver, drive
from example_library import ExampleLibrary
from textual.command import CommandList
from textual.widgets import Input


def test_a_heading_sorts_and_a_row_is_chosen_with_the_mouse(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.pilot.click("#sessions Table", offset=(75, 0))
        await d.until(lambda: "by bytes, descending" in d.text() and d.rows[0].startswith("13 "), "sorted by bytes")
        await d.pilot.click("#sessions Table", offset=(30, 3))
        await d.until(lambda: d.table.cursor == 2, "the third row")
        await d.pilot.click("#sessions Table", offset=(30, 3), times=2)
        await d.until(lambda: d.screen == "DetailsScreen", "details")

    drive(example.path, story)


def test_a_key_in_the_last_lines_can_be_clicked(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.sees("Compare")
        x = d.text().split("\n")[22].index("Compare")
        await d.pilot.click("KeyBar", offset=(x, 0))
        await d.until(lambda: d.screen == "CompareScreen", "a comparison")

    drive(example.path, story)


WAYS: dict[str, tuple[tuple[str, ...], str]] = {
    "timeline": ((), "TimelineScreen"),
    "drives": (("enter", "1"), "StateScreen"),
    "media": (("enter", "2"), "StateScreen"),
    "sessions": (("enter",), "StateScreen"),
    "disks": (("enter", "4"), "StateScreen"),
    "live": (("enter", "5"), "StateScreen"),
    "a snapshot": (("end", "enter"), "StateScreen"),
    "details": (("enter", "enter"), "DetailsScreen"),
    "comparison": (("c",), "CompareScreen"),
    "bytes": (("enter", "b"), "PreviewScreen"),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_key_is_in_the_last_lines_and_in_the_command_palette(example: ExampleLibrary, way: str) -> None:
    keys, screen = WAYS[way]

    async def story(d: Driver) -> None:
        for key in keys:
            if key == "end":
                await d.press(key)
            elif key in TABS:
                await d.tab(key)
            else:
                await d.leave(key)
        assert d.screen == screen
        declared = {
            binding.description: binding.key
            for kind in type(d.app.screen).mro()
            if kind.__module__.startswith("vtlfs.")
            for binding in kind.__dict__.get("BINDINGS", ())
            if binding.show
        }
        usable = {active.binding.description for active in d.app.screen.active_bindings.values() if active.enabled}
        shown = usable & declared.keys() | {"Open", "Quit", "Light/dark", "Commands"}
        assert len(shown) >= 8
        await d.sees(*shown)
        offered = {command.title for command in d.app.get_system_commands(d.app.screen)}
        assert (shown - {"Commands"} | {"Up", "Down", "Page up", "Page down", "First", "Last"}) <= offered

    drive(example.path, story)


def test_a_key_is_pressed_by_its_name_in_the_command_palette(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.press("ctrl+p")
        await d.until(lambda: d.screen == "CommandPalette" and isinstance(d.app.screen.focused, Input), "the palette")
        d.paste("verify")
        found = d.app.screen.query_one(CommandList)
        await d.until(lambda: found.highlighted == 0 and "Verify" in str(found.get_option_at_index(0).prompt), "it")
        await d.press("enter")
        await d.until(lambda: d.screen == "VerifyDialog", "what was chosen")

    drive(example.path, story)


def test_a_resized_terminal_is_redrawn(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.go("enter", screen="StateScreen")
        await d.pilot.resize_terminal(120, 40)
        await d.until(lambda: len(d.text().split("\n")) == 40, "the new size")
        await d.pilot.resize_terminal(40, 12)
        await d.until(lambda: len(d.text().split("\n")) == 12, "a small size")
        await d.press("end", "enter")
        await d.until(lambda: d.screen == "DetailsScreen", "details")

    drive(example.path, story)


def test_light_and_dark(example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.press("t")
        await d.until(lambda: d.app.theme == "ansi-light", "light")
        await d.press("t")
        await d.until(lambda: d.app.theme == "ansi-dark", "dark")

    drive(example.path, story)
