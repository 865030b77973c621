"""`vtlfs check`: compares the tracking database with itself, and with the files on the disks."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vtlfs.cli import params, show
from vtlfs.errors import DamagedExtent

if TYPE_CHECKING:
    from vtlfs.engine.scrub.check import Report

EXIT_DAMAGED = DamagedExtent.exit_status


@click.command(epilog=params.example("vtlfs check /srv/vtl"))
@params.library_argument
@params.json_option
def check(library: Path, as_json: bool) -> None:
    """Check the tracking database against itself and against the files on the disks.

    A check takes seconds, because no data is read. The library may be mounted and written to meanwhile.

    Exit status: 0 if nothing is damaged, even if there are notes; 3 if anything is damaged; 1 if the check can't run.
    """
    from vtlfs.engine.library import Library
    from vtlfs.engine.scrub.check import check as run

    opened = Library.open(library)
    with _progress() as progress:
        report = run(opened, progress)
    if as_json:
        show.as_json(report.as_json())
    else:
        _print(report)
    if report.damaged:
        click.get_current_context().exit(EXIT_DAMAGED)


def _print(report: "Report") -> None:
    for finding in report.findings:
        show.line(str(finding))
    if report.more:
        show.line(f"and {report.more.total():,} more like these")
    damage = sum(finding.damage for finding in report.findings)
    notes = len(report.findings) - damage
    counts = [(report.sessions, "session"), (report.tape_files, "tape file"), (report.files, "member file")]
    what = ", ".join(show.count(number, noun) for number, noun in counts)
    verdict = f"{show.count(damage, 'problem')} found" if damage else "all is well"
    noted = f", {show.count(notes, 'note')}" if notes else ""
    show.line(f"checked {what} on {show.count(report.disks, 'disk')}: {verdict}{noted}")


@contextmanager
def _progress() -> Iterator[Callable[[float], object]]:
    """Show a progress bar on standard error, if it is a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda part: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("checking", total=1.0)
        yield lambda part: bar.update(task, completed=part)
