"""A table that draws only what is seen, so that a million rows cost what a screenful does.

Textual's DataTable wants a second and more to take in 10,000 rows, and all of them at once. This one is given a number
of rows, asks for those that it lacks, and makes a cell's text when the cell is drawn.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

T = TypeVar("T")
GAP = 1
LACKING = "…"


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """A column. `width` 0 takes what is left; `name` is for `HeadingPressed`; `look` names a style of the cell."""

    heading: str
    width: int
    cell: Callable[[T], str]
    right: bool = False
    name: str = ""
    look: Callable[[T], str] | None = None


class Table(ScrollView, Generic[T], can_focus=True):
    """Rows under headings, with a cursor that is a whole row."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "jump(0)", "First", show=False),
        Binding("end", "jump(-1)", "Last", show=False),
        Binding("enter", "choose", "Open"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"table--{name}" for name in ("heading", "cursor", "blurred", "good", "bad", "warn", "dim", "row")
    }
    DEFAULT_CSS = """
    Table {
        height: 1fr; background: $surface; color: $foreground; scrollbar-size: 1 1;
        & > .table--heading { text-style: bold underline; color: $foreground; background: $surface; }
        & > .table--row { color: $foreground; background: $surface; }
        & > .table--cursor { text-style: bold reverse; color: $foreground; background: $surface; }
        & > .table--blurred { background: $panel; color: $foreground; }
        & > .table--good { color: $text-success; }
        & > .table--bad { color: $text-error; text-style: bold; }
        & > .table--warn { color: $text-warning; }
        & > .table--dim { color: $foreground 60%; }
    }
    """
    cursor = reactive(0)

    @dataclass
    class Chosen(Message):
        """Enter, or a second click, on a row."""

        table: "Table[object]"
        row: object

        @property
        def control(self) -> "Table[object]":
            """The table."""
            return self.table

    @dataclass
    class Lacks(Message):
        """A row is seen that the table has not been given."""

        table: "Table[object]"
        index: int

        @property
        def control(self) -> "Table[object]":
            """The table."""
            return self.table

    @dataclass
    class HeadingPressed(Message):
        """A click on a heading."""

        table: "Table[object]"
        name: str

        @property
        def control(self) -> "Table[object]":
            """The table."""
            return self.table

    def __init__(
        self, columns: Sequence[Column[T]], *, key: Callable[[T], Hashable] | None = None, name: str | None = None
    ) -> None:
        """`key` tells rows apart, so that the cursor stays on its row when rows come before it."""
        super().__init__(id=name)
        self.columns = list(columns)
        self._key = key
        self._rows: Mapping[int, T] = {}
        self.count = 0

    def show(self, rows: Sequence[T]) -> None:
        """Have these rows, each asked for when it is seen, and the cursor on the row that it was on."""
        self._have(_Numbered(rows), len(rows))

    def show_some(self, rows: dict[int, T], count: int) -> None:
        """Have `count` rows, of which these are known by their indexes, and the cursor on the row that it was on."""
        self._have(rows, count)

    def _have(self, rows: Mapping[int, T], count: int) -> None:
        before = self.selected
        self._rows = rows
        self.count = count
        self._resize()
        self.cursor = max(0, min(self._find(before), count - 1))
        self.refresh()

    def forget(self) -> None:
        """Have no row for the time being, and the cursor on the first that comes."""
        self._rows = {}
        self.count = self.cursor = 0
        self.refresh()

    def _find(self, before: T | None) -> int:
        """Return where a row is now, the cursor's place if it is nowhere."""
        if self._key is None or before is None:
            return self.cursor
        wanted, here = self._key(before), self._rows.get(self.cursor)
        if here is not None and self._key(here) == wanted:
            return self.cursor
        return next((index for index, row in self._rows.items() if self._key(row) == wanted), self.cursor)

    @property
    def selected(self) -> T | None:
        """The row under the cursor."""
        return self._rows.get(self.cursor)

    def row(self, index: int) -> T | None:
        """Return a row, None where there is none or it has not been given."""
        return self._rows.get(index)

    def watch_cursor(self) -> None:
        """Keep the cursor in sight."""
        seen = max(1, self.size.height - 1)
        top = round(self.scroll_target_y)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, force=True)
        elif self.cursor >= top + seen:
            self.scroll_to(y=self.cursor - seen + 1, animate=False, force=True)
        self.refresh()

    def on_resize(self) -> None:
        """Fit the columns to the new width."""
        self._resize()
        self.watch_cursor()

    def action_move(self, rows: int) -> None:
        """Move the cursor."""
        self.cursor = max(0, min(self.count - 1, self.cursor + rows))

    def action_page(self, pages: int) -> None:
        """Move the cursor by what is seen."""
        self.action_move(pages * max(1, self.size.height - 2))

    def action_jump(self, index: int) -> None:
        """Move the cursor to the first row, or to the last."""
        self.cursor = index if index >= 0 else max(0, self.count - 1)

    def action_choose(self) -> None:
        """Choose the row under the cursor."""
        if self.selected is not None:
            self.post_message(self.Chosen(self, self.selected))  # type: ignore[arg-type]

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where the mouse is; on the cursor's row, choose it."""
        event.stop()
        if event.y == 0:
            self._press_heading(event.x + round(self.scroll_x))
            return
        index = event.y - 1 + round(self.scroll_y)
        if index >= self.count:
            return
        if index == self.cursor and event.chain > 1:
            self.action_choose()
        self.cursor = index

    def _press_heading(self, x: int) -> None:
        start = 0
        for column, width in zip(self.columns, self._widths(), strict=True):
            if start <= x < start + width + GAP and column.name:
                self.post_message(self.HeadingPressed(self, column.name))  # type: ignore[arg-type]
            start += width + GAP

    def _resize(self) -> None:
        self.virtual_size = Size(sum(self._widths()) + GAP * (len(self.columns) - 1), self.count + 1)

    def _widths(self) -> list[int]:
        taken = sum(column.width + GAP for column in self.columns) - GAP
        open_ones = [column for column in self.columns if not column.width]
        left = max(0, self.scrollable_content_region.width - taken)
        return [
            column.width or max(4, cell_len(column.heading), left // max(1, len(open_ones))) for column in self.columns
        ]

    def render_line(self, y: int) -> Strip:
        """Draw one line: the headings, or a row."""
        width = self.size.width
        if y == 0:
            style = self.get_component_rich_style("table--heading")
            cells = [_fit(c.heading, w, c.right) for c, w in zip(self.columns, self._widths(), strict=True)]
            strip = Strip([Segment("".join(cells), style)])
        else:
            index = y - 1 + round(self.scroll_y)
            strip = self._line(index) if index < self.count else Strip([])
            style = self._row_style(index)
        left = round(self.scroll_x)
        return strip.crop_extend(left, left + width, style)

    def _row_style(self, index: int) -> Style:
        name = "row"
        if index == self.cursor and index < self.count:
            name = "cursor" if self.has_focus else "blurred"
        return self.get_component_rich_style(f"table--{name}")

    def _line(self, index: int) -> Strip:
        style = self._row_style(index)
        row = self._rows.get(index)
        if row is None:
            self.post_message(self.Lacks(self, index))  # type: ignore[arg-type]
            return Strip([Segment(LACKING, style)])
        segments = []
        for column, width in zip(self.columns, self._widths(), strict=True):
            look = column.look(row) if column.look is not None and index != self.cursor else ""
            shown = style + self.get_component_rich_style(f"table--{look}", partial=True) if look else style
            segments.append(Segment(_fit(column.cell(row), width, column.right), shown))
        return Strip(segments)


class _Numbered(Mapping[int, T]):
    """A sequence by its indexes."""

    def __init__(self, rows: Sequence[T]) -> None:
        self._rows = rows

    def __getitem__(self, index: int) -> T:
        if not 0 <= index < len(self._rows):
            raise KeyError(index)
        return self._rows[index]

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self._rows)))

    def __len__(self) -> int:
        return len(self._rows)


def _fit(text: str, width: int, right: bool) -> str:
    if cell_len(text) > width:
        text = set_cell_size(text, width - 1) + "…" if width > 1 else "…"
    elif right:
        text = " " * (width - cell_len(text)) + text
    return set_cell_size(text, width) + " " * GAP
