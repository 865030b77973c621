"""The bar of keys at the bottom of a screen. Textual's Footer has one line, too short for all keys in 80 columns."""

from rich.text import Text
from textual import events
from textual.geometry import Size
from textual.widget import Widget

GAP = 2


class KeyBar(Widget):
    """Every key of the screen and what it does, in as many lines as they need. A click on a key presses it."""

    DEFAULT_CSS = """
    KeyBar { dock: bottom; width: 100%; height: auto; background: $footer-background; color: $footer-foreground; }
    """

    def on_mount(self) -> None:
        """Draw the bar again whenever the screen's keys change."""
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.refresh(layout=True))

    def _lines(self, width: int) -> list[list[tuple[str, str, str]]]:
        """Return each line's keys: name, displayed name, description."""
        lines: list[list[tuple[str, str, str]]] = [[]]
        used = 0
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if not binding.show or not binding.description or not active.enabled:
                continue
            entry = (binding.key, self.app.get_key_display(binding), binding.description)
            if any(entry[1:] == other[1:] for line in lines for other in line):
                continue
            size = len(entry[1]) + 1 + len(entry[2])
            if used and used + size > width:
                lines.append([])
                used = 0
            lines[-1].append(entry)
            used += size + GAP
        return lines

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Return the number of lines."""
        return len(self._lines(width))

    def render(self) -> Text:
        """Draw the keys."""
        shown = Text(no_wrap=True)
        for number, line in enumerate(self._lines(self.size.width)):
            shown.append("\n" if number else "")
            for _, key, description in line:
                shown.append(key, "bold reverse")
                shown.append(f" {description}{' ' * GAP}")
        return shown

    def on_click(self, event: events.Click) -> None:
        """Press the key under the mouse."""
        lines = self._lines(self.size.width)
        start = 0
        for key, display, description in lines[event.y] if event.y < len(lines) else []:
            size = len(display) + 1 + len(description)
            if start <= event.x < start + size:
                self.app.simulate_key(key)
            start += size + GAP
