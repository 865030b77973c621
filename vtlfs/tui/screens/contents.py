"""A tape file as a tree of directories: what lies in its archive, one directory at a time."""

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static

from vtlfs.tui import contents
from vtlfs.tui import format as fmt
from vtlfs.tui.contents import ContentsRow, Listing
from vtlfs.tui.screens.page import DataPage
from vtlfs.tui.source import Source, Target
from vtlfs.tui.threads import DaemonThreads
from vtlfs.tui.widgets.table import Column, Table

COLUMNS: list[Column[ContentsRow]] = [
    Column("", 1, lambda r: r.kind, style=lambda _: "dim"),
    Column("NAME", 0, lambda r: r.name),
    Column("SIZE", 9, lambda r: fmt.size(None if r.entry.is_directory or not r.entry.member else r.entry.member.size),
           right=True),
    Column("MODIFIED", 17, lambda r: contents.modified(r.entry.member)),
]  # fmt: skip


class ContentsScreen(DataPage):
    """A table of one directory's entries; enter opens a directory, or shows a member's details."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "Back"),
        Binding("left,backspace", "up", "Up"),
        Binding("r", "restore", "Restore"),
    ]
    DEFAULT_CSS = """
    ContentsScreen Table { height: 1fr; }
    ContentsScreen #status { height: 1; padding: 0 1; }
    """

    def __init__(
        self, source: Source, threads: DaemonThreads, target: Target, state: int | None, path: str = ""
    ) -> None:
        """`path`: of the directory to begin with."""
        super().__init__(source, threads)
        self.state = state
        self._shown_target = target
        self._path = path

    def heading(self) -> str:
        """Return the title."""
        return f"{self._shown_target}, {self.state_name}: {self._path or 'what lies in it'}"

    def body(self) -> Iterable[Widget]:
        """Return the table, and a status line below it."""
        yield Table(COLUMNS, key=lambda row: row.entry.path)
        yield Static("reading", id="status", markup=False)

    def on_mount(self) -> None:
        """Load the first directory."""
        self.query_one(Table).focus()
        self._open(self._path)

    def target(self) -> Target | None:
        """Return the tape file."""
        return self._shown_target

    def _open(self, path: str) -> None:
        source, target, state = self.source, self._shown_target, self.state
        self.run_query(
            lambda: contents.listing(source, target, state, path),
            self._show,
            "contents",
            lambda: self._show_status("it can't be looked into; b shows its first bytes"),
        )

    def _show(self, listing: Listing) -> None:
        if not listing.path and [row.entry.path for row in listing.rows] == ["."]:  # all that `tar cf - .` writes
            self._open(".")
            return
        self._path = listing.path
        table = self.query_one(Table)
        table.clear()
        table.show(listing.rows)
        self.set_heading(self.heading())
        entries = f"{len(listing.rows):,} {'entry' if len(listing.rows) == 1 else 'entries'}"
        self._show_status(entries if listing.note is None else f"{entries}; {listing.note}")

    def _show_status(self, message: str) -> None:
        self.query_one("#status", Static).update(fmt.printable(message))

    def on_table_row_selected(self, event: Table.RowSelected) -> None:
        """Open a directory, or show the details of a member."""
        event.stop()
        row: ContentsRow | None = self.query_one(Table).selected_row
        if row is None:
            return
        if row.entry.is_directory:
            self._open(row.entry.path)
        elif row.entry.member is not None:
            self.load_details(contents.of_member(row))

    def action_up(self) -> None:
        """Open the directory above."""
        if self._path:
            above = self._path.rstrip("/").rpartition("/")[0]
            self._open(above or ("/" if self._path.startswith("/") and self._path != "/" else ""))

    def action_restore(self) -> None:
        """Restore what is under the cursor."""
        row: ContentsRow | None = self.query_one(Table).selected_row
        if row is not None:
            self.post_message(self.Restore(row.target, self.state))
