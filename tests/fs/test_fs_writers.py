"""The program that writes, where a shell has opened the file."""

import subprocess
from pathlib import Path

import pytest

from vtlfs.fs.writers import has_become, name_of, writing_child


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "TAPE"


def test_process_that_has_become_another_program_is_told_by_its_new_name() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        while name_of(process.pid) != "cat":
            pass
        assert has_become(process.pid, "bash") == "cat"
        assert has_become(process.pid, "cat") is None
        process.communicate()
    assert has_become(process.pid, "bash") is None  # it has ended
    assert has_become(0, "bash") is None  # it is in another container


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("{{ cat; }} > {0}; :", "cat"),
        ("exec 3> {0}; cat | tee /dev/null >&3; :", "tee"),  # cat has the file as well, but not as its output
        ("( cat > {0}; : ); :", "cat"),
        ("read line; : > {0}", None),
        ("exec 3> {0}; read line", None),  # the shell itself
    ],
)
def test_child_that_holds_the_file_of_a_shell_writes(file: Path, script: str, wanted: str | None) -> None:
    words = ["bash", "-c", script.format(file)]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        while wanted is not None and writing_child(process.pid, "TAPE") != wanted:
            assert process.poll() is None
        assert writing_child(process.pid, "TAPE") == wanted
        assert writing_child(process.pid, "OTHER") is None
        process.communicate(b"\n")
