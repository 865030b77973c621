"""A terminal of 80 by 24 characters: tmux with a server of its own."""

import os
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 60.0


class Terminal:
    """Runs one program; `environment`: the variables that describe the terminal."""

    def __init__(self, socket: Path, words: list[str], environment: dict[str, str], cwd: Path) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]
        clean = {name: value for name, value in os.environ.items() if name not in ("TMUX", "COLORTERM", "COLORFGBG")}
        assignments = [f"{name}={value}" for name, value in environment.items()]
        command = shlex.join(["env", *assignments, *words])
        self._run(
            "new-session", "-d", "-x", "80", "-y", "24", f"{command}; echo status $?; sleep 60", env=clean, cwd=cwd
        )

    def _run(self, *words: str, **more: Any) -> str:
        options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": SECONDS, "check": True} | more
        return str(subprocess.run([*self._tmux, *words], **options).stdout)

    def keys(self, *names: str) -> None:
        """Press keys by tmux's names."""
        self._run("send-keys", *names)

    def click(self, column: int, line: int) -> None:
        """Click the left button of the mouse, with the sequence that a terminal sends; column and line count from 1."""
        for end in "Mm":
            self._run("send-keys", "-l", f"\x1b[<0;{column};{line}{end}")

    def text(self, *, colours: bool = False) -> str:
        """Return the visible text."""
        return self._run("capture-pane", "-p", *(["-e", "-N"] if colours else []))

    def until(self, condition: Callable[[str], object], what: str) -> str:
        """Wait until the visible text fulfils the condition, and return it."""
        deadline = time.monotonic() + SECONDS
        while not condition(text := self.text()):
            assert time.monotonic() < deadline, f"waited in vain: {what}\n{text}"
            time.sleep(0.02)
        return text

    def resize(self, width: int, height: int) -> None:
        """Change the size of the terminal."""
        self._run("resize-window", "-x", str(width), "-y", str(height))

    def close(self) -> None:
        """End the terminal and what runs in it."""
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True, timeout=SECONDS)
