"""What every screen looks like, character by character, in 80 by 24. VTLFS_PICTURES=1 writes the pictures anew.

Characters, not SVG: pytest-textual-snapshot needs syrupy 4, which holds pytest below 9, and an SVG holds every shade of
a theme, which a new version of Textual may change.
"""

import pytest
from driver import TABS, Driver, drive
from example_library import ExampleLibrary

SESSIONS = ("enter", "16 sessions; by id")

# For each picture its keys, and after each key a text that has to be visible before the next key is pressed.
SCREENS: dict[str, tuple[tuple[str, str], ...]] = {
    "timeline": (),
    "now-drives": (SESSIONS, ("1", "OPEN SESSIONS")),
    "now-sessions": (SESSIONS,),
    "snapshot-media": (("end", ""), ("enter", "4 sessions; by id"), ("2", "CAPACITY")),
    "snapshot-disks": (("end", ""), ("enter", "4 sessions; by id"), ("4", "HEALTH")),
    "live": (SESSIONS, ("5", "throughput")),
    "session": (SESSIONS, ("enter", "BLAKE3")),
    "medium": (SESSIONS, ("2", "A00003L9"), ("enter", "RELEASED")),
    "compare": (("down", ""), ("c", "2 sessions came")),
    "filter": (SESSIONS, ("f", "that day included")),
    "search": (SESSIONS, ("slash", "Search host")),
    "verified": (SESSIONS, ("v", "all bytes match")),
    "bytes": (SESSIONS, ("end", ""), ("b", "a tar archive")),
    "members": (SESSIONS, ("end", ""), ("b", "a tar archive"), ("tab", "home/notes")),
}


@pytest.mark.parametrize("name", SCREENS)
def test_screens_look_as_in_their_pictures(name: str, example: ExampleLibrary) -> None:
    async def story(d: Driver) -> None:
        await d.sees("gamma", "+61 KiB")  # the plot and the table
        for key, word in SCREENS[name]:
            await d.press(key)
            await d.sees(word)
            if key in TABS:
                await d.sees_tab(key)
        await d.picture(name, example.root)

    drive(example.path, story)
