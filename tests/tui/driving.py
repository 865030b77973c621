"""Driving the application by its keys, in an asyncio loop of its own."""

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from textual.pilot import Pilot
from textual.widgets import Label, Static

from vtlfs.tui.app import Browser
from vtlfs.tui.source import Source
from vtlfs.tui.widgets.table import Table

SECONDS = 30.0
PICTURES = Path(__file__).with_name("pictures")
WRITE = "VTLFS_PICTURES"  # in the environment: write the pictures anew instead of comparing


def drive(
    path: Path, story: Callable[["Driver"], Awaitable[None]], size: tuple[int, int] = (80, 24), theme: str = "ansi-dark"
) -> None:
    """Start the application on a library or a file, and have the story drive it."""

    async def run() -> None:
        app = Browser(Source.open(path), theme)
        async with app.run_test(size=size) as pilot:
            driver = Driver(app, pilot)
            await driver.until(lambda: driver.table.count, "a timeline")
            await story(driver)

    asyncio.run(run())


class Driver:
    """The application and who sits before it."""

    def __init__(self, app: Browser, pilot: Pilot[Any]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def table(self) -> Table[Any]:
        """The table that has the keys, or the first."""
        focused = self.app.screen.focused
        return focused if isinstance(focused, Table) else self.app.screen.query(Table).first()

    @property
    def screen(self) -> str:
        """The name of the screen's class."""
        return type(self.app.screen).__name__

    @property
    def rows(self) -> list[str]:
        """Every row that the table knows, as it is shown, with single spaces."""
        table = self.table
        found = (table.row(index) for index in range(table.count))
        return [" ".join(" ".join(c.cell(r) for c in table.columns).split()) for r in found if r is not None]

    @property
    def said(self) -> str:
        """All notifications."""
        return "\n".join(notice.message for notice in self.app._notifications)

    def text(self) -> str:
        """The screen as characters."""
        return "\n".join(
            "".join(segment.text for segment in strip).rstrip() for strip in self.app.screen._compositor.render_strips()
        )

    def words(self, selector: str) -> str:
        """What a label shows."""
        return str(self.app.screen.query_one(selector, (Static, Label)).render())  # type: ignore[call-overload]

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
            assert time.monotonic() < deadline, f"waited in vain: {what}\n{self.text()}\n{self.said}"

    async def press(self, *keys: str) -> None:
        """Press keys."""
        await self.pilot.press(*keys)

    async def go(self, *keys: str, screen: str) -> None:
        """Press keys and wait for a screen with something in its table."""
        await self.press(*keys)
        await self.until(lambda: self.screen == screen, screen)
        if self.app.screen.query(Table):
            await self.until(lambda: self.table.count, f"rows in {screen}")

    async def tab(self, key: str) -> None:
        """Go to a tab of a state, and wait for its rows."""
        await self.press(key)
        await self.until(lambda: self.app.screen.pane.LABEL[0] and self.rows, f"tab {key}")  # type: ignore[attr-defined]

    async def settled(self) -> None:
        """Wait until no question is open and nothing moves any more."""
        seen, since = "", time.monotonic()
        while time.monotonic() - since < 0.4:
            await self.pilot.pause(0.05)
            busy = any(worker.is_running for worker in self.app.workers)
            if busy or self.text() != seen:
                seen, since = self.text(), time.monotonic()

    async def picture(self, name: str, root: Path) -> None:
        """Compare what is seen with a picture in characters; what is never the same is put away first."""
        seen = self.text().replace(str(root), "/tmp/vtl--------") + "\n"
        seen = re.sub(r"now 20\d\d-\d\d-\d\d \d\d:\d\dZ", "now 2026-11-22 12:00Z", seen)
        seen = "\n".join(line.rstrip() for line in seen.split("\n"))
        file = PICTURES / f"{name}.txt"
        if os.environ.get(WRITE):
            file.parent.mkdir(exist_ok=True)
            file.write_text(seen)
        assert seen == file.read_text(), f"not as in {file.name} (write pictures anew with {WRITE}=1):\n{seen}"
