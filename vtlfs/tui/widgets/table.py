"""A table that formats only the visible rows, so that a million rows cost as much as a screenful.

The table is given the number of rows, posts `RowMissing` for a visible row that it does not have, and formats a cell
only to draw it. Rejected alternative: Textual's DataTable takes all rows at once, and more than a second for 10,000.
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
WIDE = 96  # terminal columns
PLACEHOLDER = "…"  # drawn for a row that the table does not have yet


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """A column of rows of type `T`.

    `width` is in terminal columns; 0 takes the space that is left. `right` aligns the cells right. `HeadingPressed`
    carries `name`; a column without a name posts no such message. `style` returns the name of a cell's style: `good`,
    `bad`, `warn`, `dim`, or an empty string. `wide`: the column is left out if the table is narrower than `WIDE`.
    """

    heading: str
    width: int
    cell: Callable[[T], str]
    right: bool = False
    name: str = ""
    style: Callable[[T], str] | None = None
    wide: bool = False


class Table(ScrollView, Generic[T], can_focus=True):
    """Rows under headings, with a cursor that covers a whole row. All methods run in the event loop."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "jump(0)", "First", show=False),
        Binding("end", "jump(-1)", "Last", show=False),
        Binding("enter", "select", "Open"),
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
    class RowSelected(Message):
        """The person has pressed enter, or clicked twice, on a row."""

        table: "Table[object]"
        row: object

        @property
        def control(self) -> "Table[object]":
            """The table."""
            return self.table

    @dataclass
    class RowMissing(Message):
        """A row is visible that the table does not have."""

        table: "Table[object]"
        index: int

        @property
        def control(self) -> "Table[object]":
            """The table."""
            return self.table

    @dataclass
    class HeadingPressed(Message):
        """The person has clicked the heading of a column that has a name."""

        table: "Table[object]"
        name: str

        @property
        def control(self) -> "Table[object]":
            """The table."""
            return self.table

    def __init__(self, columns: Sequence[Column[T]], *, key: Callable[[T], Hashable] | None = None) -> None:
        """With `key`, the cursor stays on the row of the same key when other rows are inserted before it."""
        super().__init__()
        self._columns = list(columns)
        self._key = key
        self._rows: Mapping[int, T] = {}
        self.count = 0

    @property
    def columns(self) -> list[Column[T]]:
        """The columns for which there is room."""
        return [column for column in self._columns if not column.wide or self.size.width >= WIDE]

    def show(self, rows: Sequence[T]) -> None:
        """Show these rows, and keep the cursor on its row. Each row is fetched from the sequence when it is drawn."""
        self._set_rows(_ByIndex(rows), len(rows))

    def show_part(self, rows: dict[int, T], count: int) -> None:
        """Show `count` rows, of which only `rows` are known, by index; keep the cursor on its row."""
        self._set_rows(rows, count)

    def _set_rows(self, rows: Mapping[int, T], count: int) -> None:
        before = self.selected_row
        self._rows = rows
        self.count = count
        self._resize()
        self.cursor = max(0, min(self._index_of(before), count - 1))
        self.refresh()

    def clear(self) -> None:
        """Remove all rows; the cursor goes to the first row that is shown next."""
        self._rows = {}
        self.count = self.cursor = 0
        self.refresh()

    def _index_of(self, before: T | None) -> int:
        """Return the index of the row with the same key; the cursor's index if there is none."""
        if self._key is None or before is None:
            return self.cursor
        key, current = self._key(before), self._rows.get(self.cursor)
        if current is not None and self._key(current) == key:  # the usual case, found without a search through all rows
            return self.cursor
        return next((index for index, row in self._rows.items() if self._key(row) == key), self.cursor)

    @property
    def selected_row(self) -> T | None:
        """The row under the cursor; None if the table does not have it."""
        return self._rows.get(self.cursor)

    def row(self, index: int) -> T | None:
        """Return a row; None if there is no such row or the table does not have it."""
        return self._rows.get(index)

    def watch_cursor(self) -> None:
        """Scroll so that the cursor is visible."""
        visible = max(1, self.size.height - 1)
        top = round(self.scroll_target_y)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, force=True)
        elif self.cursor >= top + visible:
            self.scroll_to(y=self.cursor - visible + 1, animate=False, force=True)
        self.refresh()

    def on_resize(self) -> None:
        """Fit the columns to the new width."""
        self._resize()
        self.watch_cursor()

    def action_move(self, rows: int) -> None:
        """Move the cursor."""
        self.cursor = max(0, min(self.count - 1, self.cursor + rows))

    def action_page(self, pages: int) -> None:
        """Move the cursor by a screenful."""
        self.action_move(pages * max(1, self.size.height - 2))

    def action_jump(self, index: int) -> None:
        """Move the cursor to the first row, or to the last."""
        self.cursor = index if index >= 0 else max(0, self.count - 1)

    def action_select(self) -> None:
        """Post `RowSelected` for the row under the cursor."""
        if self.selected_row is not None:
            self.post_message(self.RowSelected(self, self.selected_row))  # type: ignore[arg-type]

    def on_click(self, event: events.Click) -> None:
        """Put the cursor on the row under the mouse; a double click selects the row."""
        event.stop()
        if event.y == 0:
            self._press_heading(event.x + round(self.scroll_x))
            return
        index = event.y - 1 + round(self.scroll_y)
        if index >= self.count:
            return
        if index == self.cursor and event.chain > 1:
            self.action_select()
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
        fixed = sum(column.width + GAP for column in self.columns) - GAP
        flexible = sum(not column.width for column in self.columns)
        left = max(0, self.scrollable_content_region.width - fixed)
        return [column.width or max(4, cell_len(column.heading), left // max(1, flexible)) for column in self.columns]

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
            self.post_message(self.RowMissing(self, index))  # type: ignore[arg-type]
            return Strip([Segment(PLACEHOLDER, style)])
        segments = []
        for column, width in zip(self.columns, self._widths(), strict=True):
            name = column.style(row) if column.style is not None and index != self.cursor else ""
            cell_style = style + self.get_component_rich_style(f"table--{name}", partial=True) if name else style
            segments.append(Segment(_fit(column.cell(row), width, column.right), cell_style))
        return Strip(segments)


class _ByIndex(Mapping[int, T]):
    """A sequence as a mapping from indexes to rows."""

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
    """Return the text in exactly `width` terminal columns, and the gap after it. A wide character takes two columns."""
    if cell_len(text) > width:
        text = set_cell_size(text, width - 1) + "…" if width > 1 else "…"
    elif right:
        text = " " * (width - cell_len(text)) + text
    return set_cell_size(text, width) + " " * GAP
