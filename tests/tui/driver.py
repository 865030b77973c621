"""Drives the application by its keys, in an asyncio loop of its own."""

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from textual.pilot import Pilot
from textual.widgets import Input, Static

from vtlfs.tui.app import Browser
from vtlfs.tui.screens.state import StateScreen
from vtlfs.tui.source import Source
from vtlfs.tui.widgets.table import Table

SECONDS = 60.0
TABS = {"1": "drives", "2": "media", "3": "sessions", "4": "disks", "5": "live"}
PICTURES = Path(__file__).with_name("pictures")
WRITE = "VTLFS_PICTURES"  # in the environment: write the pictures anew instead of comparing


def drive(
    path: Path, story: Callable[["Driver"], Awaitable[None]], size: tuple[int, int] = (80, 24), theme: str = "ansi-dark"
) -> None:
    """Start the application on a library or a file, and let `story` drive it."""

    async def run() -> None:
        app = RecordingBrowser(Source.open(path), theme)
        async with app.run_test(size=size) as pilot:
            driver = Driver(app, pilot)
            await driver.until(lambda: driver.table.count and driver.table.has_focus, "a timeline")
            await story(driver)

    asyncio.run(run())


class RecordingBrowser(Browser):
    """The application, but it records its notifications, as they vanish after seconds, and animates nothing."""

    def __init__(self, source: Source, theme: str) -> None:
        super().__init__(source, theme)
        self.animation_level = "none"
        self.recorded: list[str] = []

    def notify(self, message: str, **options: Any) -> None:
        """Record the message and show it."""
        self.recorded.append(message)
        super().notify(message, **options)


class Driver:
    """Drives the application as a person does."""

    def __init__(self, app: RecordingBrowser, pilot: Pilot[Any]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def table(self) -> Table[Any]:
        """The focused table, or the first one."""
        focused = self.app.screen.focused
        return focused if isinstance(focused, Table) else self.app.screen.query(Table).first()

    @property
    def screen(self) -> str:
        """The name of the screen's class."""
        return type(self.app.screen).__name__

    @property
    def rows(self) -> list[str]:
        """The text of every row that the table has, with single spaces."""
        table = self.table
        found = (table.row(index) for index in range(table.count))
        return [" ".join(" ".join(c.cell(r) for c in table.columns).split()) for r in found if r is not None]

    @property
    def selected(self) -> Any:
        """The row under the cursor."""
        return self.table.selected_row

    @property
    def notifications(self) -> str:
        """All notifications so far."""
        return "\n".join(self.app.recorded)

    def text(self) -> str:
        """The screen as characters."""
        return "\n".join(
            "".join(segment.text for segment in strip).rstrip() for strip in self.app.screen._compositor.render_strips()
        )

    def label(self, selector: str) -> str:
        """The text of a label."""
        return str(self.app.screen.query_one(selector, Static).render())  # a Label is one

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait until the condition holds."""
        deadline = time.monotonic() + SECONDS
        while True:
            await self.pilot.pause(0.02)
            try:
                if condition():
                    return
            except Exception as error:  # such as a screen that is not there yet
                what = f"{what} ({error!r})" if "(" not in what else what
            assert time.monotonic() < deadline, f"waited in vain: {what}\n{self.text()}\n{self.notifications}"

    async def press(self, *keys: str) -> None:
        """Press keys."""
        await self.pilot.press(*keys)

    def paste(self, text: str, selector: str = "Input:focus") -> None:
        """Replace the content of an input at once."""
        self.app.screen.query_one(selector, Input).value = text

    async def enter(self, text: str) -> None:
        """Replace the content of the focused input, and press enter."""
        self.paste(text)
        await self.press("enter")

    async def go(self, *keys: str, screen: str) -> None:
        """Press keys, and wait for a screen with rows in its table, or for a dialog with a focused input."""
        await self.press(*keys)
        await self.until(lambda: self.screen == screen and self.app.screen.is_mounted, screen)
        if self.app.screen.query(Input):
            await self.until(lambda: isinstance(self.app.screen.focused, Input), f"an input in {screen}")
        if self.app.screen.query(Table):
            await self.until(lambda: self.table.count and self.table.row(0) is not None, f"rows in {screen}")

    async def leave(self, key: str) -> None:
        """Press a key, and wait for another screen with rows in its table."""
        before = self.screen
        await self.press(key)
        await self.until(lambda: self.screen != before and self.app.screen.is_mounted, f"another screen after {key}")
        await self.until(lambda: self.table.row(0) is not None, f"rows after {key}")

    async def back(self, screen: str) -> None:
        """Go back to a screen."""
        await self.press("escape")
        await self.until(lambda: self.screen == screen and self.app.screen.focused is not None, f"back to {screen}")

    async def tab(self, key: str) -> None:
        """Go to a tab of a state, and wait for its rows."""
        await self.press(key)
        await self.sees_tab(key)

    async def sees_tab(self, key: str) -> None:
        """Wait until a tab of a state is visible, with rows."""
        await self.until(lambda: self.is_tab(TABS[key]) and self.rows, f"tab {key}")

    def is_tab(self, name: str) -> bool:
        """Tell whether this tab of a state is visible, and its table focused."""
        screen = self.app.screen
        assert isinstance(screen, StateScreen)
        return name == screen.pane.NAME and screen.focused is screen.pane.query_one(Table)

    async def sees(self, *texts: str) -> None:
        """Wait until all these texts are visible."""
        await self.until(lambda: all(text in self.text() for text in texts), " and ".join(texts))

    async def picture(self, name: str, root: Path) -> None:
        """Wait until the screen looks as in a picture of characters, except for the library's path and the time."""
        file = PICTURES / f"{name}.txt"
        if os.environ.get(WRITE):
            await self.pilot.pause()
            file.parent.mkdir(exist_ok=True)
            file.write_text(self._normalised_text(root))
        expected = file.read_text()
        what = f"as in {file.name} (write pictures anew with {WRITE}=1)"
        await self.until(lambda: self._normalised_text(root) == expected, what)

    def _normalised_text(self, root: Path) -> str:
        text = self.text().replace(str(root), "/tmp/vtl--------") + "\n"
        text = re.sub(r"now 20\d\d-\d\d-\d\d \d\d:\d\dZ", "now 2026-11-22 12:00Z", text)
        return "\n".join(line.rstrip() for line in text.split("\n"))
