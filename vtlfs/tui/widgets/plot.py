"""A plot in a few lines of text: for each name a row of bars over time, all in the same scale.

Drawn here, in block characters: Textual's Sparkline scales each line by itself, so that two hosts can't be compared,
and textual-plotext, the wrapper of a plotting library, has had no release since 2024 and holds plotext at version 5.
"""

from collections.abc import Sequence

from rich.cells import set_cell_size
from rich.text import Text
from textual.widget import Widget

LEVELS = " ▁▂▃▄▅▆▇█"
NAME_WIDTH = 12
SIZE_WIDTH = 12

Series = Sequence[tuple[str, Sequence[float]]]


class Plot(Widget):
    """A title, a row of bars for each name, as many as fit, and the ends of the axis of time."""

    DEFAULT_CSS = """
    Plot { height: 30%; min-height: 7; padding: 0 1; border-top: solid $primary; background: $surface;
        color: $foreground; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._series: list[tuple[str, list[float], str]] = []
        self._ends = ("", "")
        self._instead = "reading"

    @property
    def spans(self) -> int:
        """How many bars fit into a row."""
        return max(8, self.size.width - NAME_WIDTH - SIZE_WIDTH - 2)

    def plot(self, title: str, series: Sequence[tuple[str, Sequence[float], str]], ends: tuple[str, str]) -> None:
        """Show series of a name, numbers and what is written at the end of the row; the ends are of the axis."""
        self.border_title = title
        self._series = [(name, list(values), note) for name, values, note in series]
        self._ends = ends
        self._instead = "nothing yet"
        self.refresh()

    def render(self) -> Text:
        """Draw it."""
        if not self._series:
            return Text(self._instead, style="dim")
        top = max((max(values, default=0) for _, values, _ in self._series), default=0)
        rows = max(1, self.size.height - 1)
        lines = [
            f"{set_cell_size(name, NAME_WIDTH)} {bars(values, self.spans, top)} {note:>{SIZE_WIDTH}}"
            for name, values, note in self._series[:rows]
        ]
        first, last = self._ends
        if len(self._series) > rows:
            last = f"and {len(self._series) - rows} more   {last}"
        gap = self.spans - len(first) - len(last)
        lines.append(f"{'':{NAME_WIDTH}} {first}{' ' * max(1, gap)}{last}")
        return Text("\n".join(lines), no_wrap=True, overflow="crop")


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
