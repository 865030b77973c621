"""What the screens have in common: a title, a footer, and what can be done with the data under the cursor."""

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static

from vtlfs.errors import VtlfsError
from vtlfs.tui.format import printable
from vtlfs.tui.screens.worker_screen import WorkerScreen
from vtlfs.tui.source import NOW, Target
from vtlfs.tui.widgets.keys import Keys


class Page(WorkerScreen):
    """A whole window: a title above, the keys below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "take", "Snapshot"),
        Binding("S", "take_named", "Named snapshot"),
    ]
    state: int | None = NOW

    def compose(self) -> ComposeResult:
        """Lay it out."""
        yield Static(printable(self.heading()), classes="title", markup=False)
        yield from self.body()
        yield Keys()

    def heading(self) -> str:
        """Return the title."""
        return str(self.browser.source.path)

    def body(self) -> Iterable[Widget]:
        """Return what is between title and keys."""
        return ()

    def retitle(self, words: str) -> None:
        """Change the title."""
        self.query_one(".title", Static).update(printable(words))

    def action_take(self) -> None:
        """Take a snapshot without a name."""
        self._take(None)

    def action_take_named(self) -> None:
        """Ask for a name, then take a snapshot."""
        from vtlfs.tui.screens.prompt import Prompt

        self.app.push_screen(Prompt("Take a snapshot", "Its name"), lambda name: self._take(name) if name else None)

    def _take(self, name: str | None) -> None:
        def taken(snapshot: object) -> None:
            self.notify(f"snapshot {getattr(snapshot, 'id', '')} taken")
            self.after_taking()

        self.ask(lambda: self.browser.source.take(name), taken, "take")

    def after_taking(self) -> None:
        """Do what is to be done when there is one more snapshot."""


class DataPage(Page):
    """A page where something is under the cursor that has data: a session, a tape file, a medium."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "extract", "Extract"),
        Binding("b", "bytes", "Bytes"),
        Binding("v", "verify", "Verify"),
        Binding("y", "copy_path", "Copy path"),
    ]

    def target(self) -> Target | None:
        """Return the data under the cursor, None where there is none."""
        return None

    def _target(self, what: str) -> Target | None:
        """Return what to work with, or say why there is nothing."""
        try:
            self.browser.source.require(what)
        except VtlfsError as error:
            self.complain(error)
            return None
        target = self.target()
        if target is None:
            self.notify("this row has no data that was released; choose a tape file, a medium or a session that wrote")
        return target

    def action_extract(self) -> None:
        """Ask for a file, then extract to it."""
        if (target := self._target("extracting")) is not None:
            from vtlfs.tui.screens.extract import ExtractDialog

            self.app.push_screen(ExtractDialog(target, self.state))

    def action_verify(self) -> None:
        """Check every stripe unit."""
        if (target := self._target("verifying")) is not None:
            from vtlfs.tui.screens.extract import VerifyDialog

            self.app.push_screen(VerifyDialog(target, self.state))

    def action_bytes(self) -> None:
        """Look at the first bytes."""
        if (target := self._target("looking at bytes")) is not None:
            from vtlfs.tui.screens.bytes import BytesScreen

            self.app.push_screen(BytesScreen(target, self.state))

    def action_copy_path(self) -> None:
        """Copy the path under which the mount shows the data."""
        if (target := self._target("a path in the mount")) is not None:

            def copy(path: str) -> None:
                self.app.copy_to_clipboard(path)
                self.notify(printable(path), title="Copied", markup=False)

            self.ask(lambda: self.browser.source.shown_at(target, self.state), copy, "path")
