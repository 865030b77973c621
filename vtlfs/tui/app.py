"""The application: its first screen, its keys, and how it looks on the terminal at hand."""

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from vtlfs.tui.screens.timeline import Timeline
from vtlfs.tui.source import Source
from vtlfs.tui.threads import Threads
from vtlfs.tui.widgets.table import Table

PATIENCE_SECONDS = 5.0  # at the end, for a file that is half written to be removed
LIGHT_BACKGROUNDS = {"7", "15"}  # the colours of COLORFGBG that are light


class Browser(App[None]):
    """Looks at a library, or at an exported snapshot."""

    TITLE = "vtlfs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("t", "other_theme", "Light/dark"),
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
        self.threads = Threads()
        self.theme = theme or theme_for(os.environ)

    def on_mount(self) -> None:
        """Begin with the timeline."""
        self.push_screen(Timeline())

    def action_other_theme(self) -> None:
        """Change between dark and light."""
        pairs = {"textual-dark": "textual-light", "ansi-dark": "ansi-light"}
        pairs |= {light: dark for dark, light in pairs.items()}
        self.theme = pairs.get(self.theme, "textual-dark")

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Offer every key's action in the command palette, beside Textual's own."""
        yield from super().get_system_commands(screen)
        for key, active in screen.active_bindings.items():
            binding = active.binding
            is_ours = binding.show or isinstance(active.node, Table)  # not Textual's own for moving the focus
            if active.enabled and is_ours and binding.description and binding.action != "command_palette":
                run = partial(self.run_action, binding.action, default_namespace=active.node)
                yield SystemCommand(binding.description, f"the key {self.get_key_display(binding)} ({key})", run)


def theme_for(environment: "os._Environ[str] | dict[str, str]") -> str:
    """Return the theme that suits the terminal: its own colours where it has few, light where it says it is light."""
    light = environment.get("COLORFGBG", "").rpartition(";")[2] in LIGHT_BACKGROUNDS
    many = environment.get("COLORTERM") in ("truecolor", "24bit") or "256" in environment.get("TERM", "")
    return f"{'textual' if many else 'ansi'}-{'light' if light else 'dark'}"


def run(path: Path, theme: str | None = None) -> None:
    """Run the application until its end. Raises LibraryError where there is nothing to look at."""
    browser = Browser(Source.open(path), theme)
    try:
        browser.run()
    finally:
        browser.threads.finish(PATIENCE_SECONDS)
