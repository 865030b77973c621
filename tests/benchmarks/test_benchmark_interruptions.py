"""Ctrl-C in the middle of a benchmark."""

import os
import signal
import threading

import pytest

from benchmarks.interruptions import impatience, patience
from benchmarks.measuring import together


def interrupt() -> None:
    """Do what Ctrl-C does."""
    os.kill(os.getpid(), signal.SIGINT)


def measure(done: list[str], interruptions: int, error: type[BaseException] | None = None) -> None:
    """Simulate a measurement that is interrupted while something is mounted; print the steps."""
    with patience():
        for _ in range(interruptions):
            interrupt()
        done.append("mounted")
        if error:
            raise error
        try:
            with impatience():
                done.append("worked")
        finally:
            done.append("unmounted")


def test_an_interruption_waits_for_whoever_can_take_it() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        measure(done, 1)
    assert done == ["mounted", "unmounted"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interruption_waits_for_the_end_where_nothing_can_take_it() -> None:
    done: list[str] = []

    def clean_up() -> None:
        with patience():
            interrupt()
            done.append("unmounted")

    with pytest.raises(KeyboardInterrupt):
        clean_up()
    assert done == ["unmounted"]


def test_without_an_interruption_all_is_done() -> None:
    done: list[str] = []
    measure(done, 0)
    assert done == ["mounted", "worked", "unmounted"]


def test_the_second_interruption_does_not_wait() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        measure(done, 2)
    assert done == []


def test_an_error_is_not_hidden_by_an_interruption() -> None:
    with pytest.raises(ZeroDivisionError):
        measure([], 1, ZeroDivisionError)


def test_an_interruption_ends_the_programs_that_write_and_their_children() -> None:
    timer = threading.Timer(0.2, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt), patience():
        together([["sleep", "1000"], ["sh", "-c", "sleep 1000; true"]])  # longer than a test may take
    timer.join()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_program_that_fails_ends_the_others() -> None:
    with pytest.raises(RuntimeError, match="sh -c echo no room >&2; exit 3: no room"):
        together([["sleep", "61.5"], ["sh", "-c", "echo no room >&2; exit 3"]])
