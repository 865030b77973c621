"""The real program in a real terminal, on an idle library, and on a mount with a running stream."""

import html
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from driver import WRITE
from example_library import ExampleLibrary
from mounting import PROJECT, OnDisks, require_fuse, wait_until
from rich.console import Console
from rich.text import Text
from terminal import SECONDS, Terminal

from vtlfs.engine.library import Library

LIVE, DEGRADED = (PROJECT / "docs" / "pictures" / f"tui-{name}.svg" for name in ("live", "degraded"))
Start = Callable[..., Terminal]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts `vtlfs tui` in a terminal."""
    if shutil.which("tmux") is None:
        if os.environ.get("CI"):
            pytest.fail("there is no tmux, and CI refuses to skip")
        pytest.skip("there is no tmux")
    terminals: list[Terminal] = []

    def call(path: Path, **environment: str) -> Terminal:
        words = [sys.executable, "-m", "vtlfs", "tui", str(path)]
        known = {"TERM": "screen", "LANG": "C.UTF-8"} | environment
        terminals.append(Terminal(tmp_path / f"tmux{len(terminals)}", words, known, PROJECT))
        return terminals[-1]

    yield call
    for terminal in terminals:
        terminal.close()


def test_it_starts_and_ends_in_a_terminal(example: ExampleLibrary, start: Start) -> None:
    terminal = start(example.path)
    terminal.until(lambda text: "before the upgrade" in text, "the timeline")
    terminal.keys("Enter")
    terminal.until(lambda text: "16 sessions" in text, "sessions")
    terminal.resize(100, 30)
    terminal.until(lambda text: len(text.split("\n")) == 31 and "16 sessions" in text, "the new size")
    terminal.click(16, 2)
    terminal.until(lambda text: "RETAINED" in text, "the media, after a click on their tab")
    terminal.keys("q")
    terminal.until(lambda text: "status 0" in text, "the end")


def test_it_keeps_to_sixteen_colours_where_there_are_no_more(example: ExampleLibrary, start: Start) -> None:
    terminal = start(example.path)
    terminal.until(lambda text: "before the upgrade" in text, "the timeline")
    codes = re.findall(r"\x1b\[([0-9;]*)m", terminal.text(colours=True))
    assert codes
    assert not any(re.search(r"\b[34]8;[25];", code) for code in codes)


def test_a_file_is_restored_in_a_terminal(example: ExampleLibrary, start: Start, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "vtlfs", "index", example.path], cwd=PROJECT, check=True, capture_output=True)
    (tmp_path / "out").mkdir()
    terminal = start(example.path)
    terminal.until(lambda text: "before the upgrade" in text, "the timeline")
    terminal.keys("/")
    terminal.until(lambda text: "enter what to search for" in text, "the search")
    terminal.keys("n", "o", "t", "e", "s", "Enter")
    terminal.until(lambda text: "1 archive member" in text and "A00001L9/0000" in text, "what was found")
    terminal.keys("Enter")
    terminal.until(lambda text: "A00001L9/0000, now: home" in text and "1 entry" in text, "the directory")
    terminal.keys("Left")
    terminal.until(lambda text: "home/" in text, "the directory above")
    terminal.keys("r")
    terminal.until(lambda text: "Restore home of A00001L9/0000" in text, "the dialog")
    terminal.keys("C-u")
    terminal.keys(*str(tmp_path / "out"), "Enter")
    terminal.until(lambda text: "restored 1 file" in text, "the restored file")
    terminal.keys("Escape")
    terminal.until(lambda text: "1 entry" in text, "the directory again")
    terminal.keys("q")
    terminal.until(lambda text: "status 0" in text, "the end")
    assert (tmp_path / "out" / "home" / "notes").read_bytes() == b"remember the milk\n" * 500


def has_rates(text: str) -> bool:
    """Tell whether the live view shows rates of sessions and of disks."""
    return text.count("iB/s") >= 4 and "2 writing" in text and "1 reading" in text


def test_it_shows_a_mount_with_a_stream_that_runs(tmp_path: Path, start: Start) -> None:
    require_fuse()
    library = OnDisks(tmp_path, media="A00001L9..A00004L9")
    shown = Path("/tmp/vtlfs-demo") if os.environ.get(WRITE) else library.path  # a short name for the picture
    if shown != library.path:
        shown.unlink(missing_ok=True)
        shown.symlink_to(library.path)
    with library.mounted("host=alpha") as mounted:
        with open(mounted.medium("A00001L9"), "wb") as done:
            done.write(os.urandom((200 if os.environ.get(WRITE) else 20) << 20))
        with (
            open(mounted.drive(0, "A00001L9"), "wb", buffering=0) as one,
            open(mounted.drive(1, "A00002L9"), "wb", buffering=0) as other,
            open(mounted.medium("A00001L9"), "rb", buffering=0) as reader,
        ):
            terminal = start(shown, COLORTERM="truecolor", TERM="xterm-256color")
            terminal.until(lambda text: "0 snapshots" in text, "the timeline")
            terminal.keys("Enter")
            terminal.until(lambda text: "4 sessions" in text, "the sessions")
            terminal.keys("5")
            began = time.monotonic()
            shown_for = 40 if os.environ.get(WRITE) else 0  # seconds: a picture has a plot that is full
            step = 0
            while not has_rates(terminal.text()) or time.monotonic() < began + shown_for:
                one.write(os.urandom(1 << 20) * (2 + step % 7))
                other.write(os.urandom(1 << 20))
                reader.read(1 << 20)
                step += 1
                time.sleep(0.2)
                assert time.monotonic() < began + shown_for + SECONDS, terminal.text()
            if os.environ.get(WRITE):
                _keep(terminal.text(colours=True), LIVE)
            terminal.keys("s")
            terminal.until(lambda text: "snapshot 1 taken" in text, "a snapshot")
        wait_until(lambda: all(session["state"] != "open" for session in library.listed()), "the end of the streams")
        terminal.keys("3")
        terminal.until(lambda text: text.count("released") == 4, "the end of the streams")
        terminal.keys("End", "y")
        terminal.until(lambda text: "Copied" in text, "a path of the mount")
        terminal.keys("q")
        terminal.until(lambda text: "status 0" in text, "the end")
    with closing(Library.open(library.path).tracking(read_only=True)) as tracking:
        assert tracking.library.epoch() == 2


def test_it_shows_that_a_mount_has_lost_a_disk(tmp_path: Path, start: Start) -> None:
    require_fuse()
    root = tmp_path
    if os.environ.get(WRITE):  # short names for the picture
        root = Path(tempfile.mkdtemp(prefix="vtl", dir="/tmp"))
    library = OnDisks(root, 3, media="A00001L9", parity=1)
    with library.mounted("host=alpha", expects=["disk 1"], checked=False) as mounted:
        data = os.urandom(20 << 20)
        mounted.medium("A00001L9").write_bytes(data)
        away = library.disks[1].rename(root / "away")
        terminal = start(library.path, COLORTERM="truecolor", TERM="xterm-256color")
        terminal.until(lambda text: "degraded: disk 1" in text and "computed from" in text, "the banner")
        terminal.keys("Enter")
        terminal.until(lambda text: "1 session" in text, "the sessions")
        terminal.keys("5")
        terminal.until(lambda text: "degraded: disk 1" in text and "throughput" in text, "the live view")
        with open(mounted.drive(0, "A00001L9"), "wb", buffering=0) as stream:
            for _ in range(10):
                stream.write(os.urandom(4 << 20))
                time.sleep(0.2)
            terminal.until(lambda text: "1 writing" in text and "iB/s" in text, "the stream")
            if os.environ.get(WRITE):
                _keep(terminal.text(colours=True), DEGRADED)
        terminal.keys("4")
        terminal.until(lambda text: "no such" in text, "the disks")
        away.rename(library.disks[1])
        wait_until(lambda: library.disk_fault(1) is None, "the disk to be used again")
        terminal.keys("5")
        terminal.until(lambda text: "throughput" in text and "degraded: disk" not in text, "no banner")
        terminal.keys("q")
        terminal.until(lambda text: "status 0" in text, "the end")


def _keep(text: str, picture: Path) -> None:
    """Save the visible screen as a picture for the documents."""
    console = Console(width=80, height=24, record=True, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(text.rstrip("\n")), no_wrap=True, crop=True)
    picture.parent.mkdir(exist_ok=True)
    drawn = console.export_svg(title="vtlfs tui /tmp/vtlfs-demo")
    picture.write_text(
        re.sub(r'<text ([^>]*)x="([^"]+)"([^>]*)textLength="([^"]+)"([^>]*)>([^<]+)</text>', _apart, drawn)
    )


def _apart(found: re.Match[str]) -> str:
    """Position each text after a wide gap by itself, because not every renderer keeps spaces."""
    before, x, y, length, after, text = found.groups()
    plain = html.unescape(text)
    width = float(length) / len(plain)
    return "".join(
        f'<text {before}x="{float(x) + word.start() * width:g}"{y}textLength="{len(word[0]) * width:g}"{after}>'
        f"{html.escape(word[0])}</text>"
        for word in re.finditer(r"[^\xa0]+(?:\xa0[^\xa0]+)*", plain)
    )


def test_without_a_terminal_it_says_so(example: ExampleLibrary) -> None:
    words = [sys.executable, "-m", "vtlfs", "tui", str(example.path)]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=PROJECT, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs a terminal" in done.stderr
    assert done.stderr.count("\n") == 1


def test_other_commands_do_not_load_textual() -> None:
    script = "import sys, vtlfs.cli.main; sys.exit('textual' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=PROJECT, check=True)
