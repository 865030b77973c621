"""Dialogs that read stored data: one extracts it to a file, one verifies it, one restores an archive member of it."""

from collections.abc import Callable
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

from vtlfs.engine.reading import extract
from vtlfs.restore import restoring
from vtlfs.restore.restoring import Report, Request, Restored
from vtlfs.tui import format as fmt
from vtlfs.tui import output_file
from vtlfs.tui.contents import MemberTarget
from vtlfs.tui.screens.worker_screen import WorkerScreen
from vtlfs.tui.source import NOW, Source, Target
from vtlfs.tui.threads import DaemonThreads
from vtlfs.tui.widgets.key_bar import KeyBar

PROGRESS_SECONDS = 0.1  # between two updates of the progress bar


class ReadCancelled(Exception):
    """The person has cancelled the reading."""


class ReadDialog(WorkerScreen, ModalScreen[None]):
    """Reads the target in a thread, and shows the progress.

    Escape cancels the reading; once nothing is being read, escape closes the dialog.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel_or_close", "Cancel/close")]
    DEFAULT_CSS = """
    ReadDialog { align: center middle; background: $background 60%; }
    ReadDialog > Vertical { width: 70; max-width: 95%; height: auto; padding: 1 2; background: $panel;
        border: solid $primary; }
    ReadDialog ProgressBar { margin: 1 0 0 0; width: auto; display: none; }
    ReadDialog ProgressBar Bar { width: 56; }
    ReadDialog #status { margin: 1 0 0 0; }
    ReadDialog Label { width: 100%; height: auto; }
    """

    def __init__(self, source: Source, threads: DaemonThreads, target: Target, state: int | None) -> None:
        super().__init__(source, threads)
        self.target = target
        self.state = state
        self.bytes_done = 0  # the thread sets this and _total; the event loop may read them, as each is one int
        self._total = 0
        self._began = 0.0
        self._cancel = Event()
        self.is_reading = False

    def heading(self) -> str:
        """Return the title."""
        raise NotImplementedError

    @property
    def target_name(self) -> str:
        """The target, with its state if that is a snapshot."""
        return f"{self.target}{'' if self.state is NOW else f' of snapshot {self.state}'}"

    def compose(self) -> ComposeResult:
        """Yield title, input, progress, status and keys."""
        with Vertical():
            yield Label(self.heading(), markup=False)
            yield from self.compose_input()
            yield ProgressBar(total=None, show_eta=False)
            yield Label("", id="status", markup=False)
        yield KeyBar()

    def compose_input(self) -> ComposeResult:
        """Yield the inputs that the person has to fill in before the dialog reads."""
        yield from ()

    def on_mount(self) -> None:
        """Update the progress periodically."""
        self.refresh_every(PROGRESS_SECONDS, self._show_progress)

    def on_unmount(self) -> None:
        """Stop the thread when the dialog is closed."""
        self._cancel.set()

    def show_status(self, message: str) -> None:
        """Show a message, unless the dialog has been closed."""
        if self.is_ready:
            self.query_one("#status", Label).update(fmt.printable(message))

    def action_cancel_or_close(self) -> None:
        """Cancel reading; if nothing is being read, close the dialog."""
        if self.is_reading:
            self._cancel.set()
            self.show_status("cancelling")
        else:
            self.dismiss()

    def start(self, path: Path | None) -> None:
        """Start to read the target: into a new file at `path`; with None, only to verify it."""
        self.is_reading = True
        self._cancel.clear()
        self.query_one(ProgressBar).display = True
        self.bytes_done, self._began = 0, monotonic()
        work: WorkType[None] = partial(self._run, path)
        self.run_worker(work, exclusive=True, exit_on_error=False)

    async def _run(self, path: Path | None) -> None:
        try:
            size = await self.threads.run(lambda: self._read(path), join=True)
        except ReadCancelled:
            self.show_status(self.cancelled(path))
        except Exception as error:
            self.show_error(error)
            self.show_status(f"failed: {error}")
        else:
            if self.is_ready:
                self.query_one(ProgressBar).update(total=max(1, size), progress=max(1, size))
            self.show_status(self.finished(size, path))
        finally:
            self.is_reading = False

    def cancelled(self, path: Path | None) -> str:
        """Return what to say once the person has cancelled."""
        return "cancelled; nothing was written" if path else "cancelled"

    def finished(self, size: int, path: Path | None) -> str:
        """Return what to say at the end. `size`: of what was read."""
        return f"{fmt.size(size)}: all bytes match their checksums{f', written to {path}' if path else ''}"

    def _read(self, path: Path | None) -> int:
        """Read the target; return its size. Runs in a thread."""
        library, opener = self.source.require_library("reading"), self.source.tracking_opener(self.state)
        barcode, number, volume = self.target.barcode, self.target.number, self.target.volume
        self._total = extract.size_of(library, barcode, number, opener, volume=volume)

        def read_to(write: Callable[[memoryview], object]) -> int:
            return extract.extract(library, barcode, number, write, self._advance, opener, volume=volume)

        if path is None:
            return read_to(lambda _: None)
        with output_file.create(path) as write:
            return read_to(write)

    def _advance(self, size: int) -> None:
        """Count the bytes, and stop the thread if the person has cancelled."""
        self.bytes_done += size
        if self._cancel.is_set():
            raise ReadCancelled

    def _show_progress(self) -> None:
        if self.is_reading and self._total:
            self.query_one(ProgressBar).update(total=self._total, progress=self.bytes_done)
            if not self._cancel.is_set():
                rate = self.bytes_done / max(0.001, monotonic() - self._began)
                self.show_status(f"{fmt.size(self.bytes_done)} of {fmt.size(self._total)}, {fmt.rate(rate)}")


class VerifyDialog(ReadDialog):
    """Verifies all bytes of the target, as soon as the dialog opens."""

    def heading(self) -> str:
        """Return the title."""
        return f"Verify {self.target_name}"

    def on_mount(self) -> None:
        """Start to verify. Textual calls the `on_mount` of `ReadDialog` too."""
        self.start(None)


class ExtractDialog(ReadDialog):
    """Asks for a new file, then extracts the target to it."""

    def heading(self) -> str:
        """Return the title."""
        return f"Extract {self.target_name} to a new file"

    def compose_input(self) -> ComposeResult:
        """Yield the input for the file's path, filled in with a name made of barcode, tape file and snapshot."""
        number = "" if self.target.number is None else f"-{self.target.number:04d}"
        state = "" if self.state is NOW else f"-snapshot{self.state}"
        volume = "" if self.target.volume in (None, 1) else f"-volume{self.target.volume}"
        yield Input(str(Path.cwd() / f"{self.target.barcode}{volume}{number}{state}"), placeholder="file")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Start to extract, if the file can be created."""
        if self.is_reading:
            return
        try:
            path = output_file.resolve(self.source.require_library("extracting"), event.value.strip())
        except Exception as error:
            self.show_status(str(error))
        else:
            self.start(path)


class RestoreDialog(ReadDialog):
    """Asks for a directory, then restores an archive member to it, with all that lies in the member."""

    def __init__(self, source: Source, threads: DaemonThreads, member: MemberTarget, state: int | None) -> None:
        super().__init__(source, threads, member.file, state)
        self._member = member
        self._failures: list[str] = []
        self._restored = Restored()

    def heading(self) -> str:
        """Return the title."""
        return fmt.printable(f"Restore {self._member.path} of {self.target_name} beneath a directory")

    def compose_input(self) -> ComposeResult:
        """Yield the input for the directory, filled in with the current one."""
        yield Input(str(Path.cwd()), placeholder="directory")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Start to restore, if there is such a directory."""
        if self.is_reading:
            return
        try:
            directory = output_file.resolve_directory(self.source.require_library("restoring"), event.value.strip())
        except Exception as error:
            self.show_status(str(error))
        else:
            self._failures = []
            self.start(directory)

    def _read(self, path: Path | None) -> int:
        """Restore; return how many bytes were read. Runs in a thread."""
        assert path is not None
        library, opener = self.source.require_library("restoring"), self.source.tracking_opener(self.state)
        report = Report(failed=self._note_failure, progress=self._advance)
        self._restored = restoring.restore(library, Request(self._member.choose, path), opener, report)
        return self.bytes_done

    def _note_failure(self, path: str, why: str) -> None:
        if not self._failures:
            self._failures.append(f"{path}: {why}")

    def cancelled(self, path: Path | None) -> str:
        """Return what to say once the person has cancelled."""
        return "cancelled; the files that were whole by then are there"

    def finished(self, size: int, path: Path | None) -> str:
        """Return what was restored, and the first failure."""
        done = self._restored
        directories = f"{done.directories:,} director{'y' if done.directories == 1 else 'ies'}"
        said = f"restored {fmt.count(done.files, 'file')}, {directories} beneath {path}"
        return f"{said}; {fmt.count(done.failed, 'failure')}: {self._failures[0]}" if self._failures else said
