"""The mount program restarts itself once, with the C library's allocator and the same arguments and environment."""

import os
import sys
from collections.abc import Callable

import pytest

from vtlfs import process

PROGRAM = "/usr/bin/python3"
Started = list[tuple[str, list[str], dict[str, str]]]  # the arguments of each execve()
Start = Callable[[list[str], dict[str, str]], Started]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Start:
    """Return a function that starts the program with arguments and an environment, and returns the execve() calls."""

    def start(words: list[str], environment: dict[str, str]) -> Started:
        calls: Started = []
        monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
        monkeypatch.setattr(os, "environ", environment)
        monkeypatch.setattr(sys, "orig_argv", ["python", *words])
        monkeypatch.setattr(sys, "executable", PROGRAM)
        process.use_system_allocator()
        return calls

    return start


def test_the_program_is_started_again_with_the_same_words_and_environment(started: Start) -> None:
    words = ["-X", "utf8", "/usr/bin/vtlfs", "mount", "-I", "/mnt"]
    wanted = {"PATH": "/bin", "PYTHONPATH": "/lib", "PYTHONMALLOC": "malloc"}
    assert started(words, {"PATH": "/bin", "PYTHONPATH": "/lib"}) == [(PROGRAM, ["python", *words], wanted)]


def test_an_isolated_program_still_takes_nothing_else_from_the_environment(started: Start) -> None:
    words = ["-I", "-X", "utf8", "-m", "vtlfs.cli.helper", "mount"]
    ((_, again, environment),) = started(words, {"PATH": "/bin", "PYTHONPATH": "/evil"})
    assert again == ["python", "-P", "-s", *words[1:]]
    assert environment == {"PATH": "/bin", "PYTHONMALLOC": "malloc"}


@pytest.mark.parametrize("allocator", ["malloc", "pymalloc", "debug"])
def test_an_allocator_that_was_chosen_stays(started: Start, allocator: str) -> None:
    assert started(["vtlfs", "mount"], {"PYTHONMALLOC": allocator}) == []


def test_where_it_cannot_be_started_again_it_goes_on(started: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError

    started([], {"PYTHONMALLOC": "malloc"})  # so that the environment and the words are made up
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(os, "execve", fail)
    process.use_system_allocator()
