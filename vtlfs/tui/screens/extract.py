"""Dialogs that read a tape file or a medium from end to end: to a file, or only to check every stripe unit."""

from functools import partial
from pathlib import Path
from threading import Event
from time import monotonic
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label, ProgressBar
from textual.worker import WorkType

from vtlfs.engine.library import Library
from vtlfs.tui import format as fmt
from vtlfs.tui import output_file
from vtlfs.tui.screens.worker_screen import WorkerScreen
from vtlfs.tui.source import NOW, Target
from vtlfs.tui.widgets.keys import Keys

SHOW_SECONDS = 0.1  # between two looks at how far it is


class Cancelled(Exception):
    """The person wants no more of it."""


class ReadDialog(WorkerScreen, ModalScreen[None]):
    """A progress bar. Escape cancels while it reads, and closes the dialog after that."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "stop", "Cancel/close")]
    DEFAULT_CSS = """
    ReadDialog { align: center middle; background: $background 60%; }
    ReadDialog > Vertical { width: 70; max-width: 95%; height: auto; padding: 1 2; background: $panel;
        border: solid $primary; }
    ReadDialog ProgressBar { margin: 1 0 0 0; width: auto; display: none; }
    ReadDialog ProgressBar Bar { width: 56; }
    ReadDialog #said { margin: 1 0 0 0; }
    ReadDialog Label { width: 100%; height: auto; }
    """

    def __init__(self, target: Target, state: int | None) -> None:
        super().__init__()
        self.data = target
        self.state = state
        self.done = 0
        self._total = 0
        self._began = 0.0
        self._stop = Event()
        self.running = False

    @property
    def title_words(self) -> str:
        """What is done, with what."""
        return f"Verify {self.data}{self.of_state}"

    @property
    def of_state(self) -> str:
        """Which state, if it is not now."""
        return "" if self.state is NOW else f" of snapshot {self.state}"

    def compose(self) -> ComposeResult:
        """Lay it out."""
        with Vertical():
            yield Label(self.title_words, markup=False)
            yield from self.more()
            yield ProgressBar(total=None, show_eta=False)
            yield Label("", id="said", markup=False)
        yield Keys()

    def more(self) -> ComposeResult:
        """Return what else is asked."""
        return
        yield

    def on_mount(self) -> None:
        """Show how far it is from time to time."""
        self.every(SHOW_SECONDS, self._show)

    def say(self, message: str) -> None:
        """Say how it stands, if there still is somebody who sees it."""
        if self.is_whole:
            self.query_one("#said", Label).update(fmt.printable(message))

    def action_stop(self) -> None:
        """Cancel, or close."""
        if self.running:
            self._stop.set()
            self.say("cancelling")
        else:
            self.dismiss()

    def read(self, path: Path | None) -> None:
        """Begin to read, to a new file or to nowhere."""
        self.running = True
        self._stop.clear()
        self.query_one(ProgressBar).display = True
        self.done, self._began = 0, monotonic()
        work: WorkType[None] = partial(self._run, path)
        self.run_worker(work, exclusive=True, exit_on_error=False)

    def on_unmount(self) -> None:
        """Have the thread end when the window does."""
        self._stop.set()

    async def _run(self, path: Path | None) -> None:
        try:
            size = await self.browser.threads.run(lambda: self._read(path), tidy=True)
        except Cancelled:
            self.say("cancelled; nothing was written" if path else "cancelled")
        except Exception as error:
            self.complain(error)
            self.say(f"failed: {error}")
        else:
            if self.is_whole:
                self.query_one(ProgressBar).update(total=max(1, size), progress=max(1, size))
            to = f", written to {path}" if path else ""
            self.say(f"{fmt.size(size)}: every stripe unit is as it was written{to}")
        finally:
            self.running = False

    def _read(self, path: Path | None) -> int:
        library = self.browser.source.require("reading")
        self._total = _size(library, self.data, self.state)
        if path is None:
            return self._extract(library, None)
        with output_file.create(path) as write:
            return self._extract(library, write)

    def _extract(self, library: Library, write: object) -> int:
        from vtlfs.engine.reading.extract import extract

        to = write if callable(write) else lambda _: None
        opening = _opening(library, self.state)
        return extract(library, self.data.barcode, self.data.number, to, self._advance, opening)

    def _advance(self, size: int) -> None:
        self.done += size
        if self._stop.is_set():
            raise Cancelled

    def _show(self) -> None:
        if self.running and self._total:
            self.query_one(ProgressBar).update(total=self._total, progress=self.done)
            if not self._stop.is_set():
                speed = self.done / max(0.001, monotonic() - self._began)
                self.say(f"{fmt.size(self.done)} of {fmt.size(self._total)}, {fmt.rate(speed)}")


class VerifyDialog(ReadDialog):
    """Checks every stripe unit, at once."""

    def on_mount(self) -> None:
        """Begin."""
        super().on_mount()
        self.read(None)


class ExtractDialog(ReadDialog):
    """Asks for a file, then extracts to it."""

    @property
    def title_words(self) -> str:
        """What is done, with what."""
        return f"Extract {self.data}{self.of_state} to a new file"

    def more(self) -> ComposeResult:
        """Ask for the file."""
        number = "" if self.data.number is None else f"-{self.data.number:04d}"
        state = "" if self.state is NOW else f"-snapshot{self.state}"
        yield Input(str(Path.cwd() / f"{self.data.barcode}{number}{state}"), placeholder="file")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Begin, if the file will do."""
        if self.running:
            return
        try:
            path = output_file.resolve(self.browser.source.require("extracting"), event.value.strip())
        except Exception as error:
            self.say(str(error))
        else:
            self.read(path)


def _opening(library: Library, state: int | None):  # type: ignore[no-untyped-def]
    from vtlfs.snap.view import open_view

    return None if state is NOW else lambda: open_view(library, state)


def _size(library: Library, target: Target, state: int | None) -> int:
    from vtlfs.engine.reading.extract import size_of

    return size_of(library, target.barcode, target.number, _opening(library, state))
