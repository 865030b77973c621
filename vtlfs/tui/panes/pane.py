"""What the panes have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from textual.containers import Vertical
from textual.message import Message

from vtlfs.engine.tracking.database import Tracking
from vtlfs.tui.source import Source


class Pane(Vertical):
    """A table, and perhaps more. The screen calls `look` in a thread, and what that returns in the window."""

    NAME: ClassVar[str]
    LABEL: ClassVar[str]
    DEFAULT_CSS = "Pane { height: 1fr; }"

    @dataclass
    class Wants(Message):
        """The pane has something to look for."""

        pane: "Pane"

    def look(self, tracking: Tracking, source: Source, state: int | None) -> Callable[[], None]:
        """Ask the database; return what shows the answer. Touches no widget itself."""
        raise NotImplementedError
