"""A search for files in the archives of all tape files, of all times."""

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Input, Static

from vtlfs.tui import contents
from vtlfs.tui import format as fmt
from vtlfs.tui.contents import HitRow, Hits
from vtlfs.tui.screens.page import DataPage
from vtlfs.tui.source import NOW, Target
from vtlfs.tui.widgets.table import Column, Table

COLUMNS: list[Column[HitRow]] = [
    Column("PATH", 0, lambda r: fmt.printable(r.member.path)),
    Column("SIZE", 9, lambda r: fmt.size(r.member.size), right=True),
    Column("MODIFIED", 17, lambda r: contents.modified(r.member)),
    Column("TAPE FILE", 14, lambda r: f"{r.file.medium}/{r.file.number:04d}"),
    Column("VOLUME", 6, lambda r: str(r.file.volume), right=True, wide=True),
    Column("RELEASED", 17, lambda r: fmt.minute(r.file.released_at), wide=True),
]


class SearchScreen(DataPage):
    """A pattern above, and below it the members that are like it. Erased volumes are searched too, until reclaimed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "Back"),
        Binding("slash", "ask", "Search"),
        Binding("r", "restore", "Restore"),
    ]
    DEFAULT_CSS = """
    SearchScreen Table { height: 1fr; }
    SearchScreen #status { height: 1; padding: 0 1; }
    """
    state = NOW

    def heading(self) -> str:
        """Return the title."""
        return f"files on all tapes, of all times: {self.source.path}"

    def body(self) -> Iterable[Widget]:
        """Return the input, the table, and a status line below it."""
        yield Input(placeholder="part of a path, or a pattern such as *.odt or /etc/*.conf")
        yield Table(COLUMNS, key=lambda row: row.member.id)
        yield Static("enter what to search for", id="status", markup=False)

    def on_mount(self) -> None:
        """Ask for the pattern."""
        self.query_one(Input).focus()

    def action_ask(self) -> None:
        """Ask for another pattern."""
        self.query_one(Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Search."""
        event.stop()
        source, text = self.source, event.value.strip()
        if text:
            self._show_status("searching")
            self.run_query(
                lambda: contents.search(source, text), self._show, "search", lambda: self._show_status("it failed")
            )

    def _show(self, hits: Hits) -> None:
        table = self.query_one(Table)
        table.clear()
        table.show(hits.rows)
        at_least = "at least " if hits.more else ""
        pending = f"; {fmt.count(hits.pending, 'tape file')} not indexed yet" if hits.pending else ""
        self._show_status(f"{at_least}{fmt.count(len(hits.rows), 'archive member')}{pending}")
        if hits.rows:
            table.focus()

    def _show_status(self, message: str) -> None:
        self.query_one("#status", Static).update(fmt.printable(message))

    @property
    def _row(self) -> HitRow | None:
        row: HitRow | None = self.query_one(Table).selected_row
        return row

    def target(self) -> Target | None:
        """Return the tape file of the row under the cursor."""
        return None if self._row is None else self._row.tape_file

    def on_table_row_selected(self, event: Table.RowSelected) -> None:
        """Open the directory in which the member lies."""
        event.stop()
        if self._row is not None:
            directory = self._row.member.path.rpartition("/")[0]
            is_at_root = not directory and self._row.member.path.startswith("/")
            path = "/" if is_at_root else directory
            self.post_message(self.ShowContents(self._row.tape_file, self.state, path))

    def action_restore(self) -> None:
        """Restore what is under the cursor."""
        if self._row is not None:
            self.post_message(self.Restore(self._row.target, self.state))
