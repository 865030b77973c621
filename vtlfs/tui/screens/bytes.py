"""The first bytes of a tape file or a medium, and the members of a tar archive."""

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static, TabbedContent, TabPane

from vtlfs.tui import format as fmt
from vtlfs.tui.preview import Peek, hexadecimal
from vtlfs.tui.screens.page import DataPage
from vtlfs.tui.source import NOW, Target
from vtlfs.tui.widgets.table import Column, Table


class BytesScreen(DataPage):
    """Two tabs."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "Back"),
        Binding("tab", "other", "Hex/tar", priority=True),
        Binding("1,2", "other", "Hex/tar", show=False),
    ]
    DEFAULT_CSS = """
    BytesScreen TabbedContent { height: 1fr; }
    BytesScreen TabPane { padding: 0; }
    BytesScreen #said { height: 1; padding: 0 1; }
    """

    def __init__(self, target: Target, state: int | None) -> None:
        super().__init__()
        self.state = state
        self._target_ = target

    def heading(self) -> str:
        """Return the title."""
        return f"{self._target_}{'' if self.state is NOW else f' of snapshot {self.state}'}: first bytes"

    def body(self) -> Iterable[Widget]:
        """Return the tabs."""
        column: Column[str] = Column("", 0, lambda line: line)
        with TabbedContent(initial="hex"):
            yield TabPane("1 Hex and text", Table([column], name="bytes"), id="hex")
            yield TabPane("2 Members of the tar archive", Table([column], name="members"), id="tar")
        yield Static("reading", id="said", markup=False)

    def on_mount(self) -> None:
        """Read."""
        from vtlfs.tui.preview import peek

        source, target, state = self.browser.source, self._target_, self.state

        def question() -> Peek:
            library = source.require("looking at bytes")
            if state is NOW:
                return peek(library, target, lambda: library.tracking(read_only=True))
            from vtlfs.snap.view import open_view

            return peek(library, target, lambda: open_view(library, state))

        self.ask(question, self._show, "bytes", lambda: self._say("could not be read"))

    def target(self) -> Target | None:
        """Return what is looked at."""
        return self._target_

    def action_other(self) -> None:
        """Go to the other tab."""
        tabs = self.query_one(TabbedContent)
        tabs.active = "tar" if tabs.active == "hex" else "hex"

    def on_tabbed_content_tab_activated(self, event: TabbedContent.TabActivated) -> None:
        """Have the keys go to the table that is seen."""
        event.pane.query_one(Table).focus()

    def _say(self, message: str) -> None:
        self.query_one("#said", Static).update(fmt.printable(message))

    def _show(self, found: Peek) -> None:
        self.query_one("#bytes", Table).show(hexadecimal(found.first))
        members = found.members or ["no tar archive"]
        self.query_one("#members", Table).show([fmt.printable(line) for line in members])
        what = "no tar archive"
        if found.members is not None:
            what = f"a tar archive of {'at least ' if found.more else ''}{fmt.count(len(found.members), 'member')}"
        self._say(f"{fmt.size(found.size)}, {what}; the first {fmt.size(len(found.first))} are shown")
