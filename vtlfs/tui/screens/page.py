"""The base of all whole-window screens: a title, the keys, and the actions that every page has.

A page opens no other screen: it posts one of the messages below, and the application opens the screen.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import VtlfsError
from vtlfs.model import Snapshot
from vtlfs.tui.contents import MemberTarget
from vtlfs.tui.details import Details
from vtlfs.tui.format import printable
from vtlfs.tui.screens.worker_screen import WorkerScreen
from vtlfs.tui.source import NOW, Target
from vtlfs.tui.widgets.key_bar import KeyBar


class Page(WorkerScreen):
    """A whole window: a title above, the keys below. Every page can take a snapshot."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "take_snapshot", "Snapshot"),
        Binding("S", "name_snapshot", "Named snapshot"),
    ]

    @dataclass
    class NameSnapshot(Message):
        """The person wants to take a snapshot with a name; `page` takes it once the name is known."""

        page: "Page"

    def compose(self) -> ComposeResult:
        """Yield title, body and keys."""
        yield Static(printable(self.heading()), classes="title", markup=False)
        yield from self.body()
        yield KeyBar()

    def heading(self) -> str:
        """Return the title."""
        return str(self.source.path)

    def body(self) -> Iterable[Widget]:
        """Return the widgets between title and keys."""
        return ()

    def set_heading(self, text: str) -> None:
        """Change the title."""
        self.query_one(".title", Static).update(printable(text))

    def action_take_snapshot(self) -> None:
        """Take a snapshot without a name."""
        self.take_snapshot(None)

    def action_name_snapshot(self) -> None:
        """Ask for a name, then take a snapshot."""
        self.post_message(self.NameSnapshot(self))

    def take_snapshot(self, name: str | None) -> None:
        """Take a snapshot in a thread."""

        def taken(snapshot: Snapshot) -> None:
            self.notify(f"snapshot {snapshot.id} taken")
            self.after_snapshot()

        self.run_query(lambda: self.source.take_snapshot(name), taken, "snapshot")

    def after_snapshot(self) -> None:
        """Show the new snapshot, on a page that lists snapshots."""


class DataPage(Page):
    """A page that shows one state. The row under its cursor may have stored data: a session, a tape file, a medium."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "extract", "Extract"),
        Binding("b", "show_preview", "Bytes"),
        Binding("c", "show_contents", "Contents"),
        Binding("v", "verify", "Verify"),
        Binding("y", "copy_path", "Copy path"),
    ]
    state: int | None = NOW

    @dataclass
    class Extract(Message):
        """The person wants to extract the target to a file."""

        target: Target
        state: int | None

    @dataclass
    class Verify(Message):
        """The person wants to verify all bytes of the target."""

        target: Target
        state: int | None

    @dataclass
    class ShowPreview(Message):
        """The person wants to see the first bytes of the target."""

        target: Target
        state: int | None

    @dataclass
    class ShowContents(Message):
        """The person wants to see what lies in the archive of the target, a tape file; `path`: in which directory."""

        target: Target
        state: int | None
        path: str = ""

    @dataclass
    class Restore(Message):
        """The person wants to restore an archive member to a directory."""

        member: MemberTarget
        state: int | None

    @dataclass
    class ShowDetails(Message):
        """The details that the person has asked for are loaded, and are to be shown."""

        page: "DataPage"
        details: Details

    @dataclass
    class CopyPath(Message):
        """The person wants this path in the clipboard."""

        path: str

    @property
    def state_name(self) -> str:
        """The state, as the titles call it."""
        return "now" if self.state is NOW else f"snapshot {self.state}"

    def target(self) -> Target | None:
        """Return the stored data of the row under the cursor; None if it has none."""
        return None

    def _target_for(self, operation: str) -> Target | None:
        """Return the target of an operation; if there is none, tell the person why, and return None."""
        try:
            self.source.require_library(operation)
        except VtlfsError as error:
            self.show_error(error)
            return None
        target = self.target()
        if target is None:
            self.notify("this row has no stored data; choose a medium, a tape file, or a released session that wrote")
        return target

    def action_extract(self) -> None:
        """Extract the target to a file."""
        if (target := self._target_for("extracting")) is not None:
            self.post_message(self.Extract(target, self.state))

    def action_verify(self) -> None:
        """Verify all bytes of the target."""
        if (target := self._target_for("verifying")) is not None:
            self.post_message(self.Verify(target, self.state))

    def action_show_preview(self) -> None:
        """Show the first bytes of the target."""
        if (target := self._target_for("looking at bytes")) is not None:
            self.post_message(self.ShowPreview(target, self.state))

    def action_show_contents(self) -> None:
        """Show what lies in the archive of the target."""
        if (target := self._target_for("looking into archives")) is not None:
            if target.number is None:
                self.notify("a medium has several tape files; open it, and choose one of them")
            else:
                self.post_message(self.ShowContents(target, self.state))

    def action_copy_path(self) -> None:
        """Copy the path under which a mount shows the target."""
        if (target := self._target_for("a path in the mount")) is not None:
            self.run_query(
                lambda: self.source.mount_path(target, self.state),
                lambda path: self.post_message(self.CopyPath(path)),
                "path",
            )

    def load_details(self, query: Callable[[Tracking], Details]) -> None:
        """Query details of this page's state in a thread, then post `ShowDetails`."""
        source, state = self.source, self.state

        def load() -> Details:
            with source.tracking(state) as tracking:
                return query(tracking)

        self.run_query(load, lambda details: self.post_message(self.ShowDetails(self, details)), "details")
