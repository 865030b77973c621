"""A plot in a few lines of text: for each name a row of bars over time, all in the same scale.

Drawn here, in block characters: Textual's Sparkline scales each line by itself, so that two hosts can't be compared,
and textual-plotext, the wrapper of a plotting library, has had no release since 2024 and holds plotext at version 5.
"""

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import set_cell_size
from rich.text import Text
from textual.geometry import Size
from textual.widget import Widget

LEVELS = " ▁▂▃▄▅▆▇█"
NAME_WIDTH = 12
NOTE_WIDTH = 11

Series = Sequence[tuple[str, Sequence[float], tuple[str, ...]]]


class Plot(Widget):
    """A title, a row of bars for each name, as many as fit, and the ends of the axis of time.

    At the end of each row are notes, as many as there are headings for them.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"plot--bars", "plot--axis"}
    DEFAULT_CSS = """
    Plot { height: auto; max-height: 30%; min-height: 3; padding: 0 1; border-top: solid $primary; background: $surface;
        color: $foreground;
        & > .plot--bars { color: $text-success; }
        & > .plot--axis { color: $foreground 60%; }
    }
    """

    def __init__(self, headings: Sequence[str]) -> None:
        super().__init__()
        self._headings = tuple(headings)
        self._series: list[tuple[str, list[float], tuple[str, ...]]] = []
        self._ends = ("", "")
        self._instead = "reading"

    @property
    def spans(self) -> int:
        """How many bars fit into a row."""
        notes = len(self._headings) * (NOTE_WIDTH + 1)
        return max(8, self.content_size.width - NAME_WIDTH - 1 - notes)

    def plot(self, title: str, series: Series, ends: tuple[str, str]) -> None:
        """Show series of a name, numbers and what is written at the end of the row; the ends are of the axis."""
        self.border_title = title
        is_as_high = len(series) == len(self._series)
        self._series = [(name, list(values), notes) for name, values, notes in series]
        self._ends = ends
        self._instead = "nothing yet"
        self.refresh(layout=not is_as_high)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Return how many lines there are, with the axis."""
        return len(self._series) + 1

    def render(self) -> Text:
        """Draw it."""
        if not self._series:
            return Text(self._instead, style="dim")
        top = max((max(values, default=0) for _, values, _ in self._series), default=0)
        rows = max(1, self.content_size.height - 1)
        shown = Text(no_wrap=True, overflow="crop")
        for name, values, notes in self._series[:rows]:
            shown.append(f"{set_cell_size(name, NAME_WIDTH)} ")
            shown.append(bars(values, self.spans, top), self.get_component_rich_style("plot--bars", partial=True))
            shown.append(f"{_notes(notes)}\n")
        first, last = self._ends
        hidden = len(self._series) - rows
        more = f"and {hidden} more" if hidden > 0 else ""
        gap = max(1, self.spans - len(first) - len(last))
        axis = f"{more:{NAME_WIDTH}} {first}{' ' * gap}{last}{_notes(self._headings)}"
        shown.append(axis, self.get_component_rich_style("plot--axis", partial=True))
        return shown


def _notes(notes: Sequence[str]) -> str:
    return "".join(f" {note:>{NOTE_WIDTH}}" for note in notes)


def bars(values: Sequence[float], width: int, top: float) -> str:
    """Return bars of one line for numbers from 0 to `top`, put together or spread so that they fill the width."""
    if not values or width < 1:
        return " " * max(0, width)
    found = []
    for place in range(width):
        first = place * len(values) // width
        last = max(first + 1, (place + 1) * len(values) // width)
        value = max(values[first:last])
        level = 0 if top <= 0 or value <= 0 else max(1, round(value / top * (len(LEVELS) - 1)))
        found.append(LEVELS[level])
    return "".join(found)
