"""A wall clock that a test sets, by libfaketime: for mounts and commands that are started with these variables."""

import os
from pathlib import Path

import pytest

# The monotonic clock is the machine's own. Without the second variable, libfaketime takes the end of a wait that Python
# tells by that clock for a wall-clock time: every wait for the interpreter's lock ends at once, and burns a processor.
MONOTONIC = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_FORCE_MONOTONIC_FIX": "0"}
LIBRARY = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


def require_faketime() -> None:
    """Skip the test without libfaketime; in CI, fail."""
    if not LIBRARY:
        why = "libfaketime is not installed"
        if os.environ.get("CI"):
            pytest.fail(f"{why}, and CI refuses to skip")
        pytest.skip(why)


def faked(**more: str) -> dict[str, str]:
    """Return the environment of a process with a faked clock. `more`: variables that say what time it is."""
    return {"LD_PRELOAD": str(LIBRARY[0]), "NO_FAKE_STAT": "1"} | MONOTONIC | more


def as_words(environment: dict[str, str]) -> list[str]:
    """Return the words for env(1) that start a process with this environment."""
    return ["env", *(f"{name}={value}" for name, value in environment.items())]


def set_offset(file: Path, offset: str) -> None:
    """Have a timestamp file say another offset from the right time, such as +1d or -30y, all at once."""
    new = file.with_name("clock.new")
    new.write_text(f"{offset}\n")
    new.rename(file)
