"""A plot in a few lines of text: for each name a row of bars over time, all rows in the same scale.

Rejected alternatives: Textual's Sparkline scales each row by itself, so rows can't be compared; textual-plotext has had
no release since 2024 and requires plotext 5.
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

Series = tuple[str, Sequence[float], tuple[str, ...]]  # a name, its values over time, and a note for each heading


class Plot(Widget):
    """A title, a row of bars for each name, and the two ends of the time axis. Rows that do not fit are counted.

    After its bars, a row has a note for each heading.
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
        self._series: list[Series] = []
        self._axis_ends = ("", "")
        self._placeholder = "loading"

    @property
    def bars_per_row(self) -> int:
        """How many bars fit into a row."""
        notes = len(self._headings) * (NOTE_WIDTH + 1)
        return max(8, self.content_size.width - NAME_WIDTH - 1 - notes)

    def show(self, title: str, series: Sequence[Series], axis_ends: tuple[str, str]) -> None:
        """Show these series; `axis_ends` are the labels at the two ends of the time axis."""
        self.border_title = title
        is_same_height = len(series) == len(self._series)
        self._series = [(name, list(values), notes) for name, values, notes in series]
        self._axis_ends = axis_ends
        self._placeholder = "no data yet"
        self.refresh(layout=not is_same_height)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Return the number of lines, with the axis."""
        return len(self._series) + 1

    def render(self) -> Text:
        """Draw the rows that fit, and the axis."""
        if not self._series:
            return Text(self._placeholder, style="dim")
        top = max((max(values, default=0) for _, values, _ in self._series), default=0)
        rows = max(1, self.content_size.height - 1)
        shown = Text(no_wrap=True, overflow="crop")
        for name, values, notes in self._series[:rows]:
            shown.append(f"{set_cell_size(name, NAME_WIDTH)} ")
            shown.append(
                bars(values, self.bars_per_row, top), self.get_component_rich_style("plot--bars", partial=True)
            )
            shown.append(f"{_aligned(notes)}\n")
        first, last = self._axis_ends
        hidden = len(self._series) - rows
        more = f"and {hidden} more" if hidden > 0 else ""
        gap = max(1, self.bars_per_row - len(first) - len(last))
        axis = f"{more:{NAME_WIDTH}} {first}{' ' * gap}{last}{_aligned(self._headings)}"
        shown.append(axis, self.get_component_rich_style("plot--axis", partial=True))
        return shown


def _aligned(notes: Sequence[str]) -> str:
    return "".join(f" {note:>{NOTE_WIDTH}}" for note in notes)


def bars(values: Sequence[float], width: int, top: float) -> str:
    """Return one bar for each of `width` columns, in a scale from 0 to `top`.

    With more values than columns a bar shows the largest of its values; with fewer, a value takes several columns.
    """
    if not values or width < 1:
        return " " * max(0, width)
    levels = []
    for column in range(width):
        first = column * len(values) // width
        last = max(first + 1, (column + 1) * len(values) // width)
        value = max(values[first:last])
        level = 0 if top <= 0 or value <= 0 else max(1, round(value / top * (len(LEVELS) - 1)))
        levels.append(LEVELS[level])
    return "".join(levels)
