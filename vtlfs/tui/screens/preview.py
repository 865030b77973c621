"""The preview of a tape file or a medium: its first bytes, and the members of a tar archive."""

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static, TabbedContent, TabPane

from vtlfs.tui import format as fmt
from vtlfs.tui.preview import Preview, hex_dump, read_preview
from vtlfs.tui.screens.page import DataPage
from vtlfs.tui.source import NOW, Source, Target
from vtlfs.tui.threads import DaemonThreads
from vtlfs.tui.widgets.table import Column, Table


class PreviewScreen(DataPage):
    """Two tabs with a table each: the first bytes in hexadecimal, and the members of the tar archive."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "Back"),
        Binding("tab", "other_tab", "Hex/tar", priority=True),
        Binding("1,2", "other_tab", "Hex/tar", show=False),
    ]
    DEFAULT_CSS = """
    PreviewScreen TabbedContent { height: 1fr; }
    PreviewScreen TabPane { padding: 0; }
    PreviewScreen #status { height: 1; padding: 0 1; }
    """

    def __init__(self, source: Source, threads: DaemonThreads, target: Target, state: int | None) -> None:
        super().__init__(source, threads)
        self.state = state
        self._shown_target = target

    def heading(self) -> str:
        """Return the title."""
        return f"{self._shown_target}{'' if self.state is NOW else f' of {self.state_name}'}: first bytes"

    def body(self) -> Iterable[Widget]:
        """Return the tabs, and a status line below them."""
        column: Column[str] = Column("", 0, lambda line: line)
        with TabbedContent(initial="hex"):
            yield TabPane("1 Hex and text", Table([column]), id="hex")
            yield TabPane("2 Members of the tar archive", Table([column]), id="tar")
        yield Static("reading", id="status", markup=False)

    def on_mount(self) -> None:
        """Read the preview in a thread."""
        source, target, state = self.source, self._shown_target, self.state

        def query() -> Preview:
            return read_preview(source.require_library("looking at bytes"), target, source.tracking_opener(state))

        self.run_query(query, self._show, "preview", lambda: self._show_status("reading failed"))

    def target(self) -> Target | None:
        """Return the tape file or medium that the preview shows."""
        return self._shown_target

    def action_other_tab(self) -> None:
        """Go to the other tab."""
        tabs = self.query_one(TabbedContent)
        tabs.active = "tar" if tabs.active == "hex" else "hex"

    def on_tabbed_content_tab_activated(self, event: TabbedContent.TabActivated) -> None:
        """Focus the table of the visible tab."""
        event.pane.query_one(Table).focus()

    def _show_status(self, message: str) -> None:
        self.query_one("#status", Static).update(fmt.printable(message))

    def _show(self, preview: Preview) -> None:
        self.query_one("#hex Table", Table).show(hex_dump(preview.first_bytes))
        members = preview.members or ["no tar archive"]
        self.query_one("#tar Table", Table).show([fmt.printable(line) for line in members])
        kind = "no tar archive"
        if preview.members is not None:
            at_least = "at least " if preview.more else ""
            kind = f"a tar archive of {at_least}{fmt.count(len(preview.members), 'member')}"
        first = fmt.size(len(preview.first_bytes))
        self._show_status(f"{fmt.size(preview.size)}, {kind}; the first {first} are shown")
