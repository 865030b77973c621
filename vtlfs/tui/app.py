"""The application: it opens every screen and dialog, for the messages that the pages post.

Textual runs it in the main thread, in one event loop; blocking work goes to `DaemonThreads`. All screens but the first
are imported when they are opened, since some load trio: the window appears 0.1 s sooner.
"""

import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from vtlfs.tui.format import printable
from vtlfs.tui.panes.sessions import Sessions
from vtlfs.tui.screens.page import DataPage, Page
from vtlfs.tui.screens.timeline import TimelineScreen
from vtlfs.tui.source import Source
from vtlfs.tui.threads import DaemonThreads
from vtlfs.tui.widgets.table import Table

CLEANUP_SECONDS = 5.0  # at the end, for a thread to remove the file that it has not completed
LIGHT_BACKGROUNDS = {"7", "15"}  # colours in COLORFGBG
OPPOSITE_THEMES = {
    "textual-dark": "textual-light",
    "textual-light": "textual-dark",
    "ansi-dark": "ansi-light",
    "ansi-light": "ansi-dark",
}


class Browser(App[None]):
    """Shows a library, or an exported snapshot."""

    TITLE = "vtlfs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("t", "toggle_theme", "Light/dark"),
        Binding("ctrl+p", "command_palette", "Commands", priority=True),
    ]
    CSS = """
    Page { background: $surface; }
    .title { height: 1; background: $primary; color: $text; padding: 0 1; text-style: bold;
        text-wrap: nowrap; text-overflow: ellipsis; }
    ToastRack { margin-bottom: 3; }
    """

    def __init__(self, source: Source, theme: str | None = None) -> None:
        super().__init__()
        self.source = source
        self.threads = DaemonThreads()
        self.theme = theme or theme_for(os.environ)

    def on_mount(self) -> None:
        """Begin with the timeline."""
        self.push_screen(TimelineScreen(self.source, self.threads))

    @on(TimelineScreen.OpenState)
    def open_state(self, event: TimelineScreen.OpenState) -> None:
        """Open one state of the library."""
        from vtlfs.tui.screens.state import StateScreen

        self.push_screen(StateScreen(self.source, self.threads, event.state, event.taken_at))

    @on(TimelineScreen.CompareStates)
    def compare_states(self, event: TimelineScreen.CompareStates) -> None:
        """Open the comparison of two states."""
        from vtlfs.tui.screens.compare import CompareScreen

        self.push_screen(CompareScreen(self.source, self.threads, event.earlier, event.later))

    @on(DataPage.ShowDetails)
    def show_details(self, event: DataPage.ShowDetails) -> None:
        """Open the details of a row, unless the person has left the page while they were loaded."""
        from vtlfs.tui.screens.details import DetailsScreen

        page = event.page
        if page.is_current:
            self.push_screen(DetailsScreen(self.source, self.threads, event.details, page.state, page.state_name))

    @on(DataPage.ShowPreview)
    def show_preview(self, event: DataPage.ShowPreview) -> None:
        """Open the preview of stored data."""
        from vtlfs.tui.screens.preview import PreviewScreen

        self.push_screen(PreviewScreen(self.source, self.threads, event.target, event.state))

    @on(DataPage.ShowContents)
    def show_contents(self, event: DataPage.ShowContents) -> None:
        """Open the directories of a tape file."""
        from vtlfs.tui.screens.contents import ContentsScreen

        self.push_screen(ContentsScreen(self.source, self.threads, event.target, event.state, event.path))

    @on(TimelineScreen.FindFiles)
    def find_files(self) -> None:
        """Open the search for files."""
        from vtlfs.tui.screens.search import SearchScreen

        self.push_screen(SearchScreen(self.source, self.threads))

    @on(DataPage.Restore)
    def restore(self, event: DataPage.Restore) -> None:
        """Ask for a directory, then restore an archive member to it."""
        from vtlfs.tui.screens.read_dialogs import RestoreDialog

        self.push_screen(RestoreDialog(self.source, self.threads, event.member, event.state))

    @on(DataPage.Extract)
    def extract(self, event: DataPage.Extract) -> None:
        """Ask for a file, then extract stored data to it."""
        from vtlfs.tui.screens.read_dialogs import ExtractDialog

        self.push_screen(ExtractDialog(self.source, self.threads, event.target, event.state))

    @on(DataPage.Verify)
    def verify(self, event: DataPage.Verify) -> None:
        """Verify stored data."""
        from vtlfs.tui.screens.read_dialogs import VerifyDialog

        self.push_screen(VerifyDialog(self.source, self.threads, event.target, event.state))

    @on(DataPage.CopyPath)
    def copy_path(self, event: DataPage.CopyPath) -> None:
        """Copy a path through the terminal, and show it."""
        self.copy_to_clipboard(event.path)
        self.notify(printable(event.path), title="Copied", markup=False)

    @on(Page.NameSnapshot)
    def name_snapshot(self, event: Page.NameSnapshot) -> None:
        """Ask for the name of a snapshot, then have the page take it."""
        from vtlfs.tui.screens.prompt import PromptDialog

        def take(name: str | None) -> None:
            if name:
                event.page.take_snapshot(name)

        self.push_screen(PromptDialog("Take a snapshot", "Its name"), take)

    @on(Sessions.SearchRequested)
    def search_sessions(self, event: Sessions.SearchRequested) -> None:
        """Ask for a text, then have the pane search for it."""
        from vtlfs.tui.screens.prompt import PromptDialog

        def search(text: str | None) -> None:
            if text is not None:
                event.pane.search(text)

        title = "Search host, program, medium or session; empty for all"
        self.push_screen(PromptDialog(title, "text", event.pane.session_query.text or ""), search)

    @on(Sessions.FilterRequested)
    def filter_sessions(self, event: Sessions.FilterRequested) -> None:
        """Ask for a query, then have the pane show its sessions."""
        from vtlfs.tui.screens.filter import FilterDialog

        pane = event.pane
        self.push_screen(
            FilterDialog(pane.session_query), lambda query: None if query is None else pane.change_query(query)
        )

    def action_toggle_theme(self) -> None:
        """Change between dark and light."""
        self.theme = OPPOSITE_THEMES.get(self.theme, "textual-dark")

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Offer every key's action in the command palette, beside Textual's own commands."""
        yield from super().get_system_commands(screen)
        for key, active in screen.active_bindings.items():
            binding = active.binding
            is_ours = binding.show or isinstance(active.node, Table)  # leaves out Textual's keys for moving the focus
            if active.enabled and is_ours and binding.description and binding.action != "command_palette":
                run = partial(self.run_action, binding.action, default_namespace=active.node)
                yield SystemCommand(binding.description, f"the key {self.get_key_display(binding)} ({key})", run)


def theme_for(environment: Mapping[str, str]) -> str:
    """Return the theme that suits the terminal.

    A terminal with few colours gets its own 16; one that says that its background is light gets a light theme.
    """
    has_light_background = environment.get("COLORFGBG", "").rpartition(";")[2] in LIGHT_BACKGROUNDS
    has_many_colours = environment.get("COLORTERM") in ("truecolor", "24bit") or "256" in environment.get("TERM", "")
    return f"{'textual' if has_many_colours else 'ansi'}-{'light' if has_light_background else 'dark'}"


def run(path: Path, theme: str | None = None) -> None:
    """Run the application until the person quits. Raises LibraryError if the path can't be opened."""
    browser = Browser(Source.open(path), theme)
    try:
        browser.run()
    finally:
        browser.threads.join(CLEANUP_SECONDS)
