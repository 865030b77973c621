"""The program as a whole: help, version, errors and exit statuses."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from mounting import SECONDS, wait_until
from unmounted import Done, Refused, Run, Shelf

from vtlfs import __version__
from vtlfs.cli.main import COMMANDS as NAMES
from vtlfs.cli.main import SYNONYMS, program

OF_MEDIA = ("add", "list", "show", "erase", "retire", "remove", "protect", "hold", "release", "set")
COMMANDS = [[name] for name in NAMES] + [["media", name] for name in OF_MEDIA]


def test_version(done: Done) -> None:
    assert done("--version") == f"vtlfs {__version__}\n"


@pytest.mark.parametrize("words", [[], *COMMANDS], ids=" ".join)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_has_help_with_an_example(done: Done, words: list[str], option: str) -> None:
    text = done(*words, option)
    assert f"Usage: {' '.join(['vtlfs', *words])} " in text
    assert "Example:\n    vtlfs " in text


def test_first_help_names_every_command(done: Done) -> None:
    text = done("--help")
    assert all(f"\n  {name} " in text for name in NAMES)


NO_LIBRARY = "which library? VTLFS_LIBRARY is /nonexistent, where there is none; name LIBRARY, or set VTLFS_LIBRARY"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], "missing command (see `vtlfs --help`)"),
        (["medai"], "no such command 'medai'"),
        (["medai"], "did you mean `media`?"),
        (["sesions"], "did you mean `sessions`?"),
        (["unmount", "/mnt"], "no such command 'unmount'; the command is `vtlfs umount`"),
        (["df"], "no such command 'df'; the command is `vtlfs status`"),
        (["help"], "the command is `vtlfs --help`"),
        (["media"], "missing command (see `vtlfs media --help`)"),
        (["media", "add"], NO_LIBRARY),
        (["media", "add", "somewhere"], NO_LIBRARY),
        (["media", "add", "./somewhere"], "missing argument 'BARCODE...' (see `vtlfs media add --help`)"),
        (["status", "--jsno", "somewhere"], "(see `vtlfs status --help`)"),
        (["status", "one", "two"], "(see `vtlfs status --help`)"),
        (["umount"], "missing argument 'MOUNTPOINT' (see `vtlfs umount --help`)"),
        (["mount", "only-one"], NO_LIBRARY),
        (["status", ""], "the name of the directory is empty"),
    ],
)
def test_wrong_words_are_told_in_one_line(refused: Refused, words: list[str], wanted: str) -> None:
    assert wanted in refused(2, *words)


@pytest.mark.parametrize(
    "words",
    [
        ["media", "add", "{}", "A1"],
        ["media", "list", "{}"],
        ["media", "show", "{}", "A1"],
        ["media", "erase", "{}", "A1", "--yes"],
        ["media", "set", "{}", "A1", "--retain", "1d"],
        ["media", "release", "{}", "--name", "case"],
        ["events", "{}"],
        ["load", "{}", "0", "A1"],
        ["unload", "{}", "0"],
        ["status", "{}"],
        ["sessions", "{}"],
        ["files", "{}", "A1"],
        ["extract", "{}", "A1"],
        ["verify", "{}"],
        ["snapshot", "take", "{}"],
        ["snapshot", "list", "{}"],
        ["snapshot", "show", "{}", "1"],
        ["snapshot", "diff", "{}", "1", "now"],
        ["snapshot", "export", "{}", "1", "file.db"],
        ["snapshot", "prune", "{}"],
        ["recover", "{}"],
    ],
    ids=" ".join,
)
def test_no_library_is_told_in_one_line(refused: Refused, tmp_path: Path, words: list[str]) -> None:
    line = refused(1, *(word.format(tmp_path / "nothing") for word in words))
    assert line.endswith("no vtlfs library here (no library.toml); `vtlfs init` makes one")


def test_name_with_control_characters_stays_one_line(refused: Refused, tmp_path: Path) -> None:
    assert "a\\nb\\x1b[31m" in refused(1, "status", f"{tmp_path}/a\nb\x1b[31m")


def test_name_that_is_not_utf8_is_refused(refused: Refused, tmp_path: Path) -> None:
    assert "is not UTF-8" in refused(2, "status", os.fsencode(tmp_path) + b"/\xff")


def test_typing_error_in_configuration_names_line_and_key(refused: Refused, shelf: Shelf) -> None:
    file = shelf.library.path / "library.toml"
    file.write_text(file.read_text().replace("drives = 4", "drivse = 4"))
    line = refused(1, "status", shelf.path)
    assert "line 6: library.drivse: unknown key" in line


def test_configuration_that_is_no_toml_is_told(refused: Refused, shelf: Shelf) -> None:
    file = shelf.library.path / "library.toml"
    file.write_text("[library\n")
    assert "library.toml" in refused(1, "media", "add", shelf.path, "A1")


@pytest.mark.parametrize("words", ["status", "sessions", "files", "snapshot list", "snapshot take"])
def test_quick_commands_load_nothing_that_is_slow_to_load(shelf: Shelf, words: str) -> None:
    slow = {"sqlite_utils", "numpy", "rich", "trio", "pyfuse3", "textual", "psutil"}
    shelf.mount("alpha")
    arguments = [*words.split(), shelf.path, *(["A00001L9"] if words == "files" else [])]
    program = f"import sys, vtlfs.cli.main as m; m.main({arguments}); print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_tracking_database_of_a_newer_version_is_left_alone(refused: Refused, shelf: Shelf) -> None:
    from sqlite_utils import Database, Migrations

    later = Migrations("vtlfs")
    later(name="from_the_future")(lambda db: None)
    database = Database(shelf.library.path / "tracking.db")
    later.apply(database)
    database.conn.close()
    assert "made by a newer vtlfs than this one" in refused(1, "media", "add", shelf.path, "A1")


def test_missing_tracking_database_is_not_made(refused: Refused, shelf: Shelf) -> None:
    (shelf.library.path / "tracking.db").unlink()
    assert "the tracking database is missing" in refused(1, "status", shelf.path)


def test_not_enough_rights(refused: Refused, shelf: Shelf) -> None:
    shelf.library.path.chmod(0)
    try:
        line = refused(1, "status", shelf.path, rights=False)
    finally:
        shelf.library.path.chmod(0o700)
    assert "Permission denied" in line


def test_interrupt_ends_with_130(shelf: Shelf, tmp_path: Path) -> None:
    """A FIFO that nobody reads blocks the program."""
    shelf.write("A00001L9", b"x")
    os.mkfifo(tmp_path / "pipe")
    words = [sys.executable, "-m", "vtlfs", "extract", shelf.path, "A00001L9", "-o", str(tmp_path / "pipe")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_until(lambda: waits_in_open(process.pid), "the program waits for a reader")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, output, errors) == (130, "", "vtlfs: interrupted\n")


def waits_in_open(pid: int) -> bool:
    """Tell whether a process waits in open() for the other end of a FIFO."""
    return Path(f"/proc/{pid}/wchan").read_text() == "wait_for_partner"


def test_nobody_reads_the_output(shelf: Shelf) -> None:
    words = [sys.executable, "-m", "vtlfs", "status", "--json", shelf.path]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        result = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writing)
    assert (result.returncode, result.stderr) == (141, "")


def test_output_on_a_full_device_is_an_error(run: Run, shelf: Shelf) -> None:
    with open("/dev/full", "w") as full:
        result = run("status", shelf.path, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert result.returncode == 1
    assert result.stderr == "vtlfs: standard output: No space left on device\n"


def test_closed_standard_output_is_survived(shelf: Shelf) -> None:
    words = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "vtlfs", "status", shelf.path]
    result = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_help_texts_are_sentences() -> None:
    context = click.Context(program)

    def commands(group: click.Group) -> Iterator[click.Command]:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield command
            if isinstance(command, click.Group):
                yield from commands(command)

    for command in commands(program):
        assert command.help is not None
        assert command.help.rstrip().endswith(".")
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert (parameter.help or "").endswith(".") or parameter.show_default


def test_commands_that_are_suggested_are_there(done: Done) -> None:
    for meant in set(SYNONYMS.values()):
        words = [word for word in meant.split() if not word.startswith("--")]
        assert "Usage: vtlfs" in done(*words, "--help")
    assert not set(SYNONYMS) & set(NAMES)
