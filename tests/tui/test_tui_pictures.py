"""The look of every screen, character by character, in 80 by 24. VTLFS_PICTURES=1 writes the pictures anew.

Characters, not SVG: pytest-textual-snapshot needs syrupy 4, which requires pytest below 9, and an SVG has each shade of
a theme, which a new version of Textual may change.
"""

from contextlib import closing

import pytest
from driver import TABS, Driver, drive
from example_library import ExampleLibrary, at

from vtlfs.engine import lease

SESSIONS = ("enter", "16 sessions; by opening")

# For each picture its keys, and after each key a text that has to be visible before the next key is pressed.
SCREENS: dict[str, tuple[tuple[str, str], ...]] = {
    "timeline": (),
    "now-drives": (SESSIONS, ("1", "OPEN SESSIONS")),
    "now-sessions": (SESSIONS,),
    "snapshot-media": (("end", ""), ("enter", "4 sessions; by opening"), ("2", "RETAINED")),
    "snapshot-disks": (("end", ""), ("enter", "4 sessions; by opening"), ("4", "HEALTH")),
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


def degrade(example: ExampleLibrary) -> None:
    """Make the library degraded: a failed disk, a retiring disk, stripes that lack parity, and a running repair."""
    with closing(example.library.tracking()) as tracking, tracking.transaction():
        tracking.mounts.end(example.mount, "unmounted", at(5, 6))
        tracking.disks.record_fault(1, "Input/output error", at(5, 3))
        tracking.disks.begin_retiring(0, at(5, 4))
        tracking.lacks.note_written(2, tracking.extents.of(2, 0, 2), 1, at(5, 5))
        tracking.jobs.begin("repair", "mount 3", 4 << 30, at(5, 5, 30))
        tracking.jobs.advance("repair", 1 << 30)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("timeline-degraded", ()),
        ("live-degraded", (SESSIONS, ("5", "throughput"), ("", "repair: "))),
    ],
)
def test_a_degraded_library_looks_as_in_its_picture(
    name: str, keys: tuple[tuple[str, str], ...], example: ExampleLibrary
) -> None:
    degrade(example)

    async def story(d: Driver) -> None:
        await d.sees("gamma", "+61 KiB", "repair: ")
        for key, word in keys:
            if key:
                await d.press(key)
            await d.sees(word)
            if key in TABS:
                await d.sees_tab(key)
        await d.picture(name, example.root)

    with lease.work(example.path, "repair"):
        drive(example.path, story)


def test_the_banner_goes_when_all_is_well_again(example: ExampleLibrary) -> None:
    degrade(example)

    async def story(d: Driver) -> None:
        await d.sees("1 disk away (1)", "is retiring")
        with closing(example.library.tracking()) as tracking, tracking.transaction():
            tracking.disks.record_fault(1, None, at(5, 7))
            tracking.lacks.remove(2, [0, 1])
            tracking.jobs.end("repair", "mended", at(5, 7))
        await d.press("r")
        await d.until(lambda: "1 disk away" not in d.text(), "a shorter banner")
        await d.sees("is retiring")

    drive(example.path, story)


def test_disks_show_their_state(example: ExampleLibrary) -> None:
    degrade(example)

    async def story(d: Driver) -> None:
        for key, word in (SESSIONS, ("4", "Input/output")):
            await d.press(key)
            await d.sees(word)
        assert [row.split(" ", 2)[0] for row in d.rows] == ["0", "1"]
        assert d.rows[0].endswith("retiring, ok")
        assert d.rows[1].endswith("Input/output error")
        await d.press("enter")
        await d.sees("retiring since 2026-11-20 04:00:00Z", "extents, ")

    drive(example.path, story)
