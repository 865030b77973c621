"""`vtlfs media export`, `import` and `copy`: media that leave a library, and come into another one."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING

import click

from vtlfs.cli import params, show
from vtlfs.cli.progress import follow
from vtlfs.errors import NoSuchMedium, UsageError, VtlfsError
from vtlfs.model import choose_barcodes

if TYPE_CHECKING:
    from vtlfs.engine.library import Library
    from vtlfs.engine.reading.extract import Opening
    from vtlfs.engine.tracking.database import Tracking
    from vtlfs.engine.transfer.result import Moved
    from vtlfs.engine.transfer.tar import TarReader

STANDARD_INPUT = "standard input"


class Interrupted(VtlfsError):
    """A signal has stopped the command; what was moved so far is kept."""

    def __init__(self, number: Signals) -> None:
        super().__init__("interrupted; the same command goes on")
        self.exit_status = 128 + number


@click.command(
    "export",
    short_help="Write media as plain files that describe themselves.",
    epilog=params.example(
        "vtlfs media export /srv/vtl A00001L9..A00020L9 -o /mnt/carried-away",
        "vtlfs media export /srv/vtl 'A*' --snapshot 3 -o media.tar",
        "vtlfs media export /srv/vtl A00001L9 -o - | ssh far vtlfs media import /srv/vtl -",
    ),
)
@params.library_argument
@click.argument("barcodes", metavar="BARCODE...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="DIR|FILE",
    required=True,
    help="A directory; or for a tar stream a file whose name ends in .tar, a pipe, or `-`.",
)
@click.option(
    "--snapshot", metavar="ID|NAME|latest", type=params.text, help="Export the media as this snapshot shows them."
)
@params.json_option
def export_media(library: Path, barcodes: tuple[str, ...], output: str, snapshot: str | None, as_json: bool) -> None:
    """Export media to a directory, or as a tar stream.

    Each medium is a directory of its own: its tape files, the manifest medium.json, and b3sums, with which
    `b3sum --check b3sums` verifies them. Every extent is checked before it is written. An export to a directory that
    was interrupted goes on where it was, and one that is repeated adds what is new. BARCODE may be a range such as
    A00001L9..A00020L9, or a pattern such as 'A*'. The library need not be mounted.
    """
    from vtlfs.cli.output import open_output
    from vtlfs.engine.library import Library
    from vtlfs.engine.tracking.repositories.events import this_command
    from vtlfs.engine.transfer import exporting

    opened = Library.open(library)
    number = None if snapshot is None else _number_of(opened, snapshot)
    opening = None if number is None else partial(_open_view, opened, number)
    chosen = _chosen(opened, barcodes, opening)
    with _shown("exporting") as progress:
        export = exporting.Export(opened, chosen, this_command(), progress, opening, number)
        if not _is_tar(output):
            _check_not_mounted(Path(output))
            stopped = exporting.to_directory(export, Path(os.path.abspath(output)))
        else:
            with open_output(output) as target:
                stopped = exporting.to_tar(export, target.write, target.name)
                if stopped is not None:
                    raise Interrupted(stopped)
    _conclude(export.moved, stopped, "exported", as_json, quiet=output == "-")


@click.command(
    "import",
    short_help="Take exported media into a library.",
    epilog=params.example(
        "vtlfs media import /srv/vtl /mnt/carried-away",
        "vtlfs media import /srv/vtl /mnt/carried-away/A00001L9 --as B00001L9",
    ),
)
@params.library_before_paths
@click.argument("sources", metavar="DIR|FILE|-...", nargs=-1, required=True)
@click.option("--as", "under", metavar="BARCODE", type=params.barcode, help="Take the medium in under this barcode.")
@params.json_option
def import_media(library: Path, sources: tuple[str, ...], under: str | None, as_json: bool) -> None:
    """Take media into a library that `vtlfs media export` has written.

    The library must not have the medium, or have the first of its tape files and nothing else: what is missing is
    added. Who wrote each tape file, when, and how that ended stays known. Retention is kept, and never made shorter. A
    tape file is on its medium only when all its bytes are there and their BLAKE3 is the one in the export. An import
    that was interrupted goes on where it was. The library may be mounted.
    """
    from vtlfs.engine.library import Library
    from vtlfs.engine.tracking.repositories.events import this_command
    from vtlfs.engine.transfer import importing

    if under is not None and len(sources) > 1:
        raise UsageError("only one medium can have the barcode of --as; import them one by one")
    opened = Library.open(library)
    with _shown("importing") as progress:
        wanted = importing.Import(opened, this_command(), progress, under)
        directories = [Path(source) for source in sources if source != "-" and Path(source).is_dir()]
        stopped = importing.from_directories(wanted, directories) if directories else None
        for source in sources:
            if stopped is None and (source == "-" or not Path(source).is_dir()):
                with _stream(source) as reader:
                    stopped = importing.from_tar(wanted, reader)
    _conclude(wanted.moved, stopped, "imported", as_json)


@click.command(
    "copy",
    short_help="Copy media to another library.",
    epilog=params.example("vtlfs media copy /srv/vtl 'A*' /srv/other"),
)
@params.library_argument
@click.argument("barcodes", metavar="BARCODE...", nargs=-1, required=True)
@click.argument("other", metavar="OTHER-LIBRARY", type=params.library)
@click.option("--as", "under", metavar="BARCODE", type=params.barcode, help="Give the copy this barcode.")
@params.json_option
def copy_media(library: Path, barcodes: tuple[str, ...], other: Path, under: str | None, as_json: bool) -> None:
    """Copy media to another library in a stream, as export and import do; only what is missing there is copied.

    A medium there that has something else is left as it is: that is an error. Both libraries may be mounted.
    """
    from vtlfs.engine.library import Library
    from vtlfs.engine.tracking.repositories.events import this_command
    from vtlfs.engine.transfer import copying, importing

    opened, target = Library.open(library), Library.open(other)
    chosen = _chosen(opened, barcodes, None)
    with _shown("copying") as progress:
        wanted = importing.Import(target, this_command(), progress, under)
        stopped = copying.copy(opened, chosen, wanted)
    _conclude(wanted.moved, stopped, "copied", as_json)


def register(group: click.Group) -> None:
    """Add the commands to `vtlfs media`."""
    for command in (export_media, import_media, copy_media):
        group.add_command(command)


# --- what is asked for ----------------------------------------------------------------------------------------------


def _chosen(library: "Library", words: Sequence[str], opening: "Opening | None") -> list[str]:
    """Return the barcodes that words name: barcodes, ranges and patterns. Raises UsageError, NoSuchMedium."""
    with closing(library.tracking(read_only=True) if opening is None else opening()) as tracking:
        known = [medium.barcode for medium in tracking.media.all()]
    chosen = choose_barcodes(words, known)
    if missing := [barcode for barcode in chosen if barcode not in known]:
        raise NoSuchMedium(missing[0])
    return chosen


def _number_of(library: "Library", snapshot: str) -> int:
    from vtlfs.snap import store

    return store.number_of(library, snapshot)


def _open_view(library: "Library", snapshot: int) -> "Tracking":
    from vtlfs.snap.view import open_view

    return open_view(library, snapshot)


def _is_tar(output: str) -> bool:
    """Tell whether the output is a tar stream: a name that ends so, standard output, a pipe or a device."""
    path = Path(output)
    return output == "-" or (not path.is_dir() and (output.endswith(".tar") or (path.exists() and not path.is_file())))


def _check_not_mounted(path: Path) -> None:
    """Raise UsageError where a directory lies in a mount of a library, which has no directories for others."""
    from vtlfs.mount_table import mount_point_of, mounted_at

    if mounted_at(mount_point_of(path)) is not None:
        raise UsageError(f"{path}: lies in a mount of a library; export to another directory")


@contextmanager
def _stream(source: str) -> Iterator["TarReader"]:
    from vtlfs.engine.transfer.tar import PIECE, TarReader

    if source == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError(f"{STANDARD_INPUT} is a terminal, or closed; give a directory or a file")
        yield TarReader(sys.stdin.buffer, STANDARD_INPUT)
        return
    with open(source, "rb", buffering=PIECE) as file:
        yield TarReader(file, source)


# --- what is shown ----------------------------------------------------------------------------------------------------


class _Bar:
    """The progress bar of all media together."""

    def __init__(self, show_sum: Callable[[int, int], None]) -> None:
        self._show = show_sum
        self._done = self._total = 0

    def expect(self, size: int) -> None:
        """See `result.Progress`."""
        self._total += size

    def advance(self, size: int) -> None:
        """See `result.Progress`."""
        self._done += size
        self._show(self._done, self._total)


@contextmanager
def _shown(what: str) -> Iterator[_Bar]:
    with follow(what) as show_sum:
        yield _Bar(show_sum)


def _conclude(moved: "list[Moved]", stopped: Signals | None, done: str, as_json: bool, *, quiet: bool = False) -> None:
    """Print what was moved; raise Interrupted where that is not all."""
    if as_json and not quiet:
        show.as_json([asdict(one) for one in moved])
    for one in moved:
        if not as_json and not quiet:
            show.line(_line(one, done))
    if stopped is not None:
        raise Interrupted(stopped)


def _line(moved: "Moved", done: str) -> str:
    name = moved.barcode if moved.target == moved.barcode else f"{moved.barcode} as {moved.target}"
    files = show.count(moved.new_files, "tape file")
    if moved.new_files < moved.tape_files:
        return f"{name}: {files} {done}, {show.human(moved.new_bytes)}; {moved.tape_files - moved.new_files} not needed"
    return f"{name}: {files} {done}, {show.human(moved.new_bytes)}"
