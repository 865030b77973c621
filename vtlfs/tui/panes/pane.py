"""The base of all panes: a pane loads in a worker thread and shows in the event loop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from textual.containers import Vertical
from textual.message import Message

from vtlfs.engine.tracking.database import Tracking
from vtlfs.tui.source import Source


class Pane(Vertical):
    """A tab's content: a table, and perhaps more. The state screen loads it when it is seen."""

    NAME: ClassVar[str]
    LABEL: ClassVar[str]
    DEFAULT_CSS = "Pane { height: 1fr; }"

    @dataclass
    class LoadRequested(Message):
        """The pane needs other rows than those it has."""

        pane: "Pane"

    def load(self, tracking: Tracking, source: Source, state: int | None) -> Callable[[], None]:
        """Query the database, and return the function that shows the result.

        Runs in a worker thread, so it touches no widget; the returned function runs in the event loop.
        """
        raise NotImplementedError
