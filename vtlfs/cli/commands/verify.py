"""`vtlfs verify`: reads all media, or some, and compares the bytes with their recorded checksums."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vtlfs.cli import params, show
from vtlfs.cli.progress import progress
from vtlfs.errors import UsageError, VtlfsError
from vtlfs.model import expand_barcodes, format_size, utc_now

if TYPE_CHECKING:
    from vtlfs.engine.library import Library
    from vtlfs.engine.scrub.defects import Defect
    from vtlfs.engine.scrub.mending import Mending
    from vtlfs.engine.scrub.verification import Verification
    from vtlfs.engine.tracking.database import Tracking

EXIT_DAMAGED, EXIT_UNREADABLE, EXIT_METADATA = 3, 4, 5


class DefectsFound(VtlfsError):
    """The verification has found defects, or was interrupted."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


@click.command(
    epilog=params.example(
        "vtlfs verify /srv/vtl",
        "vtlfs verify /srv/vtl A00001L9..A00020L9 --limit 100MB/s --json",
        "vtlfs verify /srv/vtl --resume",
    )
)
@params.library_argument
@click.argument("barcodes", metavar="[BARCODE]...", nargs=-1)
@click.option(
    "--limit", metavar="SPEED", type=params.rate, help="The fastest that all disks together are read, such as 100MB/s."
)
@click.option("--resume", is_flag=True, help="Go on with the last verification, if it was interrupted.")
@click.option("--repair", is_flag=True, help="Mend damaged stripes as they are found, if their parity suffices.")
@params.json_option
def verify(
    library: Path, barcodes: tuple[str, ...], limit: int | None, resume: bool, repair: bool, as_json: bool
) -> None:
    """Read all bytes of media, compare them with their recorded BLAKE3, and the headers and records with the database.

    Without BARCODE, all media are verified; A..B is a range. The library may be mounted. Streams that are open when the
    verification begins, or are opened later, are left out and named at the end. Each defect is printed as one line, and
    the verification goes on. At the end, each tape file that has lost bytes is printed as one line. --resume goes on
    with an interrupted verification.

    Damaged stripes are noted in the tracking database, and the next repair mends them: that of a mount, or `vtlfs disk
    repair`. With --repair, the verification itself mends them as it finds them.

    \b
    Exit status:
      0    no defect was found; with --repair: all defects that were found are mended
      1    the verification could not run; 2: an argument or option is wrong
      3    extents are damaged: flipped, truncated, missing, replaced, swapped, foreign or unmapped
      4    no damaged extent was found, but some could not be read: a disk reports errors or is missing
      5    all extents are right, but headers or records on the disks are wrong, which `vtlfs rebuild` needs
      130  interrupted; by SIGTERM 143

    If the rest of a stripe can replace its damaged extent, no byte of the tape file is lost, and the line of the defect
    says so; so does the line of a missing disk. With --resume, the exit status also covers the defects that were found
    before the interruption.
    """
    from vtlfs.care.turn import before_mounts
    from vtlfs.engine.library import Library
    from vtlfs.engine.scrub import verification as verifications

    if resume and barcodes:
        raise UsageError("--resume verifies the media of the interrupted verification; leave the barcodes out")
    media = expand_barcodes(barcodes)
    opened = Library.open(library)
    busy = "another process is verifying it; wait for its end, or stop it"
    with closing(opened.tracking()) as tracking, before_mounts(opened, busy):
        found = verifications.resume(tracking) if resume else verifications.begin(tracking, media, utc_now())
        counts = verifications.extent(tracking, found)
        name = "verifying" if found.media is None or len(found.media) > 1 else found.media[0]
        with progress(name, counts[2], found.bytes) as advance, _output(as_json, tracking, found) as report:
            from vtlfs.engine.scrub.mending import Mending
            from vtlfs.engine.scrub.verify import verify as run

            mending = Mending(opened, tracking, limit) if repair else None
            stopped = run(opened, tracking, found, report, advance, limit, mending=mending)
        if not as_json and found.ended_at is not None:
            for hurt in verifications.hurt(tracking, found):
                show.line(f"hurt: {hurt}")
    _conclude(opened, found, counts, stopped, mending, quiet=as_json)


@contextmanager
def _output(as_json: bool, tracking: "Tracking", found: "Verification") -> Iterator[Callable[["Defect"], None]]:
    """Yield a function that prints a defect at once, as there may be many. As JSON, all make up one document."""
    if not as_json:
        yield lambda defect: show.line(str(defect))
        return
    separator = ""

    def one(defect: "Defect") -> None:
        nonlocal separator
        click.echo(f"{separator}\n{json.dumps(defect.as_json())}", nl=False)
        separator = ","

    click.echo('{"defects": [', nl=False)
    yield one
    from vtlfs.engine.scrub import verification as verifications

    click.echo('\n], "hurt": [', nl=False)
    for number, hurt in enumerate(verifications.hurt(tracking, found)):
        click.echo(f"{',' if number else ''}\n{json.dumps(asdict(hurt))}", nl=False)
    click.echo(f'\n], "summary": {json.dumps(found.as_json())}}}')


def _conclude(
    library: "Library",
    found: "Verification",
    extent: tuple[int, int, int],
    stopped: signal.Signals | None,
    mending: "Mending | None",
    quiet: bool,
) -> None:
    """Say the result in one line. Raises DefectsFound if defects are left, or the verification was interrupted."""
    size = format_size(found.bytes)
    if found.ended_at is None and stopped is not None:
        again = f"`vtlfs verify {show.word(library.path)} --resume` goes on"
        raise DefectsFound(
            f"interrupted after {size} of {format_size(extent[2])}{_defects(found, ' so far')}; {again}", 128 + stopped
        )
    if not quiet:
        for line in _left_out(found):
            show.line(line)
    extents = f"{show.count(extent[1], 'tape file')} on {show.count(extent[0], 'medium').replace('mediums', 'media')}"
    said = f"{size} in {extents} verified{_defects(found, '')}{_mended(found, mending)}"
    if found.left:
        raise DefectsFound(said, _status(found))
    if not quiet:
        show.line(said if any(found.defects.values()) else f"{said}: all is as it should be")


def _mended(found: "Verification", mending: "Mending | None") -> str:
    """Return in words how many defects --repair has mended; nothing without --repair or without defects."""
    if mending is None or not any(found.defects.values()):
        return ""
    if not found.left:
        return "; all are whole again"
    busy = "; another process is repairing the library, and mends the rest" if mending.was_busy else ""
    why = f" ({mending.result.in_words()})" if not mending.result.is_whole and not busy else ""
    return f"; {found.mended:,} are whole again, and {found.left:,} are not{why}{busy}"


def _status(found: "Verification") -> int:
    from vtlfs.engine.scrub.defects import Severity

    statuses = (EXIT_DAMAGED, EXIT_UNREADABLE, EXIT_METADATA)
    return next(status for severity, status in zip(Severity, statuses, strict=True) if found.defects[severity])


def _left_out(found: "Verification") -> Iterator[str]:
    """Yield a line on the streams that were not verified, if there are any."""
    count, first = found.left_out or (0, [])
    if count:
        more = f" and {count - len(first):,} more" if count > len(first) else ""
        named = ", ".join(map(str, first))
        yield f"left out, open or released later: {show.count(count, 'stream')}: {named}{more}"


def _defects(found: "Verification", when: str) -> str:
    """Return how many defects there are, in words."""
    from vtlfs.engine.scrub.defects import Severity

    words = {
        Severity.DAMAGED: "damaged",
        Severity.UNREADABLE: "unreadable",
        Severity.METADATA: "right, but wrongly described",
    }
    replaceable = f", of which stripes can replace {found.replaceable:,}" if found.replaceable else ""
    told = [f"{found.defects[severity]:,} {text}" for severity, text in words.items() if found.defects[severity]]
    return f": {', '.join(told)}{replaceable}{when}" if told else ""
