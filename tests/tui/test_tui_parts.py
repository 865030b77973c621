"""The parts of the terminal UI that need no window: texts, bars, rates, pages of sessions, output files, threads."""

import asyncio
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from example_library import MEDIA, ExampleLibrary
from filling import UNIT, fill, make

from vtlfs import tui
from vtlfs.engine.live import LiveStats
from vtlfs.errors import VtlfsError
from vtlfs.model import Access, Session, State
from vtlfs.snap import browse
from vtlfs.snap.browse import SessionQuery
from vtlfs.snap.view import open_view
from vtlfs.tui import details, output_file
from vtlfs.tui import format as fmt
from vtlfs.tui.app import theme_for
from vtlfs.tui.preview import hex_dump
from vtlfs.tui.rates import RateMeter, Sample
from vtlfs.tui.threads import DaemonThreads
from vtlfs.tui.widgets.plot import bars


def test_control_characters_are_escaped() -> None:
    assert fmt.printable("a\x1b[31mb\n") == "a\\x1b[31mb\\n"
    assert fmt.printable(None) == "-"


def test_bars_of_a_fill_show_the_share() -> None:
    assert fmt.bar(50, 100) == "█████░░░░░  50%"
    assert fmt.bar(1, 10**6).startswith("▏")
    assert fmt.bar(5, None) == fmt.bar(None, 5) == fmt.bar(5, 0) == "-"


def test_gains_have_their_sign() -> None:
    assert [fmt.delta(n) for n in (0, 1234, -1)] == ["", "+1,234", "-1"]
    assert fmt.delta(-2048, in_bytes=True) == "-2 KiB"


def test_bars_of_a_plot_are_in_one_scale_and_fill_the_width() -> None:
    assert bars([0, 5, 10], 3, 10) == " ▄█"
    assert bars([1, 8], 4, 8) == "▁▁██"
    assert bars([0, 9, 0, 3], 2, 9) == "█▃"
    assert bars([], 3, 1) == "   "
    assert bars([0], 2, 0) == "  "


def test_bytes_are_shown_in_hexadecimal_and_as_text() -> None:
    first, second = hex_dump(b"0123456789abcdef\x00z")
    assert first == "00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  0123456789abcdef"
    assert second.split() == ["00000010", "00", "7a", ".z"]


def test_the_theme_suits_the_terminal() -> None:
    assert theme_for({"TERM": "xterm"}) == "ansi-dark"
    assert theme_for({"TERM": "xterm-256color"}) == "textual-dark"
    assert theme_for({"TERM": "xterm", "COLORTERM": "truecolor", "COLORFGBG": "0;15"}) == "textual-light"


def session(number: int, size: int, mount: int = 1) -> Session:
    return Session(
        *(number, mount, "alpha", 1, 0, 0, "tar", Access.WRITE, 0, "A", State.OPEN, None, "", None),
        *(size, 1, 0, 4096, (), None),
    )


def test_rates_are_those_that_the_mounts_tell() -> None:
    meter = RateMeter(5.0)
    for second in range(11):
        told = {
            1: LiveStats(50.0 + second, {1: (second * 100, 1)}, {0: (70 * second, 5 * second), 1: (30 * second, 0)}),
            2: LiveStats(90.0 + second, {9: (0, 0)}, {0: (second, 0)}),
        }
        meter.add(Sample(float(second), [session(1, second * 100)], told))
    assert meter.session_rate(session(1, 1000)) == 100
    assert meter.session_rate(session(9, 0, mount=2)) == meter.session_rate(session(3, 0, mount=3)) == 0
    assert len(meter.disk_rates(0)) == 10
    assert all(rate == pytest.approx((71, 5)) for rate in meter.disk_rates(0))
    assert meter.disk_rates(1)[-1] == pytest.approx((30, 0))
    assert meter.disk_rates(2) == [(0, 0)]


def test_a_session_counts_from_its_beginning_and_a_mount_that_says_nothing_more_does_nothing() -> None:
    meter = RateMeter(5.0)
    meter.add(Sample(0.0, [], {1: LiveStats(0.0, {}, {0: (0, 0)})}))
    told = LiveStats(1.0, {1: (500, 1)}, {0: (500, 0)})
    meter.add(Sample(1.0, [session(1, 500)], {1: told}))
    assert meter.session_rate(session(1, 500)) == 500
    meter.add(Sample(2.0, [session(1, 500)], {1: told}))  # looked a moment too early
    assert meter.session_rate(session(1, 500)) == 500
    meter.add(Sample(4.0, [session(1, 500)], {1: told}))
    assert meter.session_rate(session(1, 500)) == 0
    assert meter.disk_rates(0) == [(500, 0), (500, 0), (0, 0)]


def test_figures_of_a_clock_that_began_anew_make_no_rate_until_there_are_two() -> None:
    """A monotonic clock counts from the start of the machine, so it begins anew after a reboot."""
    meter = RateMeter(5.0)
    for at, size in ((5000.0, 100), (5001.0, 200), (1.0, 10), (2.0, 60)):
        meter.add(
            Sample(
                at % 1000 + (1000 if at < 1000 else 0),
                [session(1, size)],
                {1: LiveStats(at, {1: (size, 1)}, {0: (size, 0)})},
            )
        )
    assert meter.session_rate(session(1, 60)) == 50
    assert meter.disk_rates(0) == [(100, 0), (0, 0), (50, 0)]


def test_without_figures_rates_are_those_between_checkpoints() -> None:
    meter = RateMeter(5.0)
    for second in range(16):
        meter.add(Sample(float(second), [session(1, second // 5 * 600)], {}))
    assert 100 <= meter.session_rate(session(1, 1800)) <= 200
    assert meter.disk_rates(0) == [(0, 0)]


@pytest.mark.parametrize("sort", browse.SORTS)
def test_pages_of_sessions_are_those_of_the_whole(example: ExampleLibrary, sort: str) -> None:
    for state in (None, 3):
        with closing(example.library.tracking() if state is None else open_view(example.library, state)) as tracking:
            query = SessionQuery(sort=sort, descending=False)
            whole = browse.sessions_page(tracking, query, 0, 1000)
            pages = [browse.sessions_page(tracking, query, first, 3) for first in range(0, 18, 3)]
            assert [found for page in pages for found in page] == whole
            assert len(whole) == browse.count_sessions(tracking, query) == (16 if state is None else 10)
            if sort not in ("released_at", "sequence"):  # a session has no such attribute
                values = [getattr(found, sort) for found in whole]
                assert values == sorted(values)


def test_sessions_are_chosen_by_what_is_asked(example: ExampleLibrary) -> None:
    with closing(example.library.tracking()) as tracking:

        def ids(**wanted: Any) -> list[int]:
            query = SessionQuery(**wanted)
            found = [found.id for found in browse.sessions_page(tracking, query, 0, 100)]
            assert len(found) == browse.count_sessions(tracking, query)
            return found

        assert ids(state="open") == [15, 14]
        assert ids(host="beta", medium=MEDIA[0]) == [14]
        assert ids(text="pg_") == [16]
        assert ids(text="%") == []
        assert ids(text="7") == [7]
        assert ids(since="2026-11-20") == [16, 15, 14]
        assert ids(until="2026-11-16") == [4, 3, 2, 1]
        assert browse.hosts(tracking) == ["alpha", "beta", "gamma"]
        with pytest.raises(ValueError, match="id; drop"):
            ids(sort="id; drop")


def test_bytes_over_time_are_all_there(example: ExampleLibrary) -> None:
    with closing(example.library.tracking()) as tracking:
        for group in browse.GROUPS:
            found = browse.bytes_over_time(tracking, group, 10)
            assert sum(sum(values) for _, values in found.series) == browse.counters(tracking)[2]
            assert all(len(values) == 10 for _, values in found.series)


def test_a_new_file_is_there_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def half() -> None:
        with output_file.create(path) as write:
            write(memoryview(b"half"))
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        half()
    assert not list(tmp_path.iterdir())
    with output_file.create(path) as write:
        write(memoryview(b"whole"))
    with pytest.raises(VtlfsError, match="exists already"), output_file.create(path) as write:
        write(memoryview(b"another"))
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("file", b"whole")]


def test_nothing_is_written_into_the_library_or_over_a_file(example: ExampleLibrary, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    (tmp_path / "link").symlink_to(example.path)
    for name, why in (
        ("", "enter the name"),
        (str(tmp_path / "there"), "exists already"),
        (str(tmp_path / "no" / "file"), "no such directory"),
        (str(tmp_path / "link" / "file"), "inside the library"),
        (str(example.disks[1] / "file"), "inside the library"),
    ):
        with pytest.raises(VtlfsError, match=why):
            output_file.resolve(example.library, name)


def test_a_thread_that_hangs_keeps_nobody_from_ending() -> None:
    threads, gate = DaemonThreads(), threading.Event()

    async def ask() -> None:
        assert await threads.run(lambda: 5) == 5
        with pytest.raises(ValueError, match="no"):
            await threads.run(lambda: int("no"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(threads.run(gate.wait, join=True), 0.05)

    asyncio.run(ask())
    threads.join(0.05)  # ends, or this test never does
    gate.set()


def test_pages_reach_the_application_by_messages_alone() -> None:
    package = Path(tui.__file__).parent
    pages = [path for room in ("screens", "panes") for path in (package / room).glob("*.py")]
    assert len(pages) > 10
    assert [path.name for path in pages if "self.app" in path.read_text()] == []


def test_details_of_a_session_show_its_parity(tmp_path: Path) -> None:
    library = make(tmp_path / "lib", disks=3, parity=1)
    [session] = fill(library, ("T1", bytes(5 * UNIT)))
    with closing(library.tracking(read_only=True)) as tracking:
        found = details.of_session(tracking, session)
        by_disk = browse.by_disk(tracking, session)
        data = tracking.extents.of(session, 0, 99)
        parity = tracking.extents.parity_of(data)
    fields = dict(found.fields)
    assert fields["striping"] == "4 KiB stripe units, parity 1"
    assert fields["extents"] == "; ".join(
        f"disk {one.disk}: {one.extents}{f' ({one.parity} parity)' if one.parity else ''}, {fmt.size(one.stored)}"
        for one in by_disk
    )
    assert sum(one.parity for one in by_disk) == len(parity) == 3
    assert sum(one.stored for one in by_disk) == 8 * UNIT
    assert [row.cells[:5] for row in found.tables[0].rows] == [
        (f"{one.offset}", f"{one.stored}", f"{one.stripe}", f"{one.disk}", f"{one.position}") for one in data
    ] + [("parity", f"{one.stored}", f"{one.stripe}", f"{one.disk}", f"{one.position}") for one in parity]
