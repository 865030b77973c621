"""What every screen looks like, character by character, in 80 by 24. VTLFS_PICTURES=1 writes the pictures anew.

Characters, not SVG: pytest-textual-snapshot needs syrupy 4, which holds pytest below 9, and an SVG holds every shade of
a theme, which a new version of Textual may change.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from driving import Driver, drive
from shelf import week

SCREENS = {
    "timeline": (),
    "now-drives": ("enter", "1"),
    "now-sessions": ("enter",),
    "snapshot-media": ("end", "enter", "2"),
    "snapshot-disks": ("end", "enter", "4"),
    "live": ("enter", "5"),
    "session": ("enter", "enter"),
    "medium": ("enter", "2", "enter"),
    "compare": ("down", "c"),
    "filter": ("enter", "f"),
    "search": ("enter", "slash"),
    "verified": ("enter", "v"),
    "bytes": ("enter", "end", "b"),
    "members": ("enter", "end", "b", "tab"),
}


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose name has always the same length, and fits into the window."""
    with tempfile.TemporaryDirectory(prefix="vtl", dir="/tmp") as name:
        assert len(name) == len("/tmp/vtl--------")
        yield Path(name)


@pytest.mark.parametrize("name", SCREENS)
def test_screens_look_as_in_their_pictures(name: str, short: Path) -> None:
    shelf = week(short)

    async def story(d: Driver) -> None:
        await d.until(lambda: "gamma" in d.text(), "the plot")
        for key in SCREENS[name]:
            await d.press(key)
            await d.settled()
        await d.picture(name, short)

    drive(shelf.path, story)
