"""The recipes of docs/care.md: what is for cron, systemd and [notify] is run as it stands there, but for its paths."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from mounting import PROJECT, OnDisks, require_fuse
from telling import configure

DOCUMENT = (PROJECT / "docs" / "care.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", DOCUMENT, re.DOTALL)


def blocks(kind: str) -> list[str]:
    """Return the blocks of a kind, such as toml."""
    return [text for name, text in BLOCKS if name == kind]


@pytest.fixture
def bin_directory(tmp_path: Path) -> Path:
    """A directory with the program, and a mail(1) that writes down what it is to send."""
    directory = tmp_path / "bin"
    directory.mkdir()
    program = shutil.which("vtlfs")
    assert program is not None
    (directory / "vtlfs").symlink_to(program)
    mail = directory / "mail"
    mail.write_text(f'#!/bin/sh\n{{ echo "$@"; cat; }} >> {tmp_path}/mailed\n')
    mail.chmod(0o755)
    return directory


def test_lines_for_cron_print_a_report_always_or_if_something_needs_attention(
    tmp_path: Path, bin_directory: Path
) -> None:
    require_fuse()
    library = OnDisks(tmp_path)
    lines = [line for block in blocks("") for line in block.splitlines() if line.startswith("0 7 ")]
    assert len(lines) == 2
    commands = [line.split("root  ", 1)[1].replace("/srv/vtl", str(library.path)) for line in lines]
    environment = {"PATH": f"{bin_directory}:{os.environ['PATH']}"}

    def printed(command: str) -> str:
        done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        return done.stdout

    always, if_needed = (printed(command) for command in commands)
    assert "condition  fine" in always
    assert if_needed == ""
    library.disks[0].rename(tmp_path / "away")
    always, if_needed = (printed(command) for command in commands)
    assert always == if_needed
    assert "condition  failed" in always


def test_units_for_systemd_are_valid_and_mail(tmp_path: Path, bin_directory: Path) -> None:
    require_fuse()
    library = OnDisks(tmp_path)
    names = ("vtlfs-report.service", "vtlfs-report.timer", "vtlfs-report-mail.service")
    units = tmp_path / "units"
    units.mkdir()
    for name, text in zip(names, blocks("ini"), strict=True):
        (units / name).write_text(
            text.replace("/usr/local/bin", str(bin_directory)).replace("/srv/vtl", str(library.path))
        )
    if shutil.which("systemd-analyze") is not None:
        words = ["systemd-analyze", "verify", "--man=no", *(str(units / name) for name in names)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert "vtlfs-report" not in done.stderr, done.stderr
    (line,) = re.findall(r"^ExecStart=/bin/sh -c '(.*)'$", (units / names[2]).read_text(), re.MULTILINE)
    subprocess.run(["sh", "-c", line], env={"PATH": f"{bin_directory}:{os.environ['PATH']}"}, check=True)
    mailed = (tmp_path / "mailed").read_text()
    assert mailed.startswith("-s vtl: needs attention root\n# ")


def test_script_that_mails_is_told(tmp_path: Path, bin_directory: Path) -> None:
    require_fuse()
    library = OnDisks(tmp_path)
    (script,) = blocks("sh")
    tell = tmp_path / "vtlfs-tell"
    tell.write_text(script.replace("| mail", f"| {bin_directory}/mail"))
    tell.chmod(0o755)
    section = next(text for text in blocks("toml") if text.startswith("[notify]"))
    lines = [line for line in section.splitlines()[1:] if not line.startswith(("url", "headers"))]
    configure(library, "\n".join(lines).replace("/usr/local/bin/vtlfs-tell", str(tell)))
    library.vtlfs("notify", library.path, "--test")
    assert (tmp_path / "mailed").read_text().startswith("-s vtl: test admins\nthis is a test: ")


def test_sections_of_library_toml_are_valid(tmp_path: Path) -> None:
    library = OnDisks(tmp_path)
    text = (library.path / "library.toml").read_text()
    for section in blocks("toml"):
        (library.path / "library.toml").write_text(f"{text}\n{section}")
        library.vtlfs("status", library.path)
