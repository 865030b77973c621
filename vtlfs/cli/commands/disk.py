"""`vtlfs disk`: lists, adds, replaces and retires the disks of a library, and repairs its stripes."""

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vtlfs.cli import params, show
from vtlfs.cli.progress import follow
from vtlfs.cli.show import Column
from vtlfs.errors import VtlfsError
from vtlfs.model import DiskRecord, DiskState, format_size, utc_now

if TYPE_CHECKING:
    from vtlfs.disks.probe import Probe
    from vtlfs.engine.library import Library
    from vtlfs.engine.repair.result import RepairResult
    from vtlfs.engine.tracking.repositories.disks import Stored

FSTAB = Path("/etc/fstab")
EXIT_LACKING = 4  # the same status as that of `vtlfs status` for a degraded library
STATUSES = """

\b
Exit status:
  0    done: no stripe lacks anything, as far as is known
  1    the command could not run, or the disk can't leave; 2: an argument or option is wrong
  4    some stripes still lack something, or a disk could not be emptied yet; a line says why
  130  interrupted; by SIGTERM 143
"""


class RepairIncomplete(VtlfsError):
    """The repair was interrupted, or something is left to do after it; the message says how to go on."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


@click.group(
    no_args_is_help=False,
    epilog=params.example("vtlfs disk list /srv/vtl", "vtlfs disk replace /srv/vtl 2 /mnt/new"),
)
def disk() -> None:
    """List, add, replace and retire the disks of a library, and repair its stripes.

    These commands also work while the library is mounted and streams run. The number of a retired disk is never used
    again.
    """


# --- list -------------------------------------------------------------------------------------------------------------


@disk.command(
    "list",
    short_help="List the disks, their states and their space.",
    epilog=params.example("vtlfs disk list /srv/vtl --json"),
)
@params.library_argument
@click.option("--all", "ever", is_flag=True, help="Also the disks that have left the library.")
@params.json_option
def list_disks(library: Path, ever: bool, as_json: bool) -> None:
    """List the disks: path, state, size of the extents (HELD), free space and size.

    SINCE and WHY say since when a disk is away, retiring or retired, and why. The command does not wait for a disk that
    hangs.
    """
    from vtlfs.engine.tracking.repositories.disks import Stored

    opened = _opened(library)
    with closing(opened.tracking(read_only=True)) as tracking:
        records = tracking.disks.ever() if ever else tracking.disks.all()
        stored = tracking.disks.stored()
    found = _probed(opened, records)
    shown = [(record, found[record.number], stored.get(record.number, Stored(0, 0))) for record in records]
    if as_json:
        show.as_json([_document(*one) for one in shown])
        return
    figures = [Column(text, figures=True) for text in ("HELD", "FREE", "TOTAL")]
    columns = [Column("DISK", figures=True), Column("PATH"), Column("STATE"), *figures]
    show.table([*columns, Column("SINCE", folds=False), Column("WHY")], [_row(*one) for one in shown])


def _probed(library: "Library", records: list[DiskRecord]) -> "dict[int, Probe]":
    """Probe each disk: at the path where its label is now, else at the path where the disk was last."""
    from vtlfs.disks.probe import probe

    paths = dict.fromkeys([*library.config.disks, *(Path(record.path) for record in records)])
    probes = probe(library.config.uuid, list(paths))
    by_path = {one.path: one for one in probes}
    by_number = {one.number: one for one in probes if one.number is not None}
    return {record.number: by_number.get(record.number) or _away(by_path[record.path]) for record in records}


def _away(here: "Probe") -> "Probe":
    """Return the probe of a disk that is away; `here` is the probe of the path where the disk was last."""
    from vtlfs.disks.probe import Probe

    return Probe(here.path, problem=here.problem or f"disk {here.number} lies there now")


def _document(record: DiskRecord, found: "Probe", stored: "Stored") -> dict[str, object]:
    sizes = {"free": found.free, "total": found.total, "device": found.device}
    document = asdict(record) | sizes | {"path": found.path, "stored": asdict(stored)}
    return document | {"problem": None if record.state is DiskState.RETIRED else found.problem}


def _row(record: DiskRecord, found: "Probe", stored: "Stored") -> tuple[object, ...]:
    why = found.problem or record.fault
    since = record.fault_at
    if record.state is not DiskState.IN_USE:
        why = None if record.state is DiskState.RETIRED else why
        since = record.state_at
        after = None if record.successor is None else f"replaced by disk {record.successor}"
        why = "; ".join(text for text in (after, why) if text) or None
    sizes = (format_size(stored.bytes), show.human(found.free), show.human(found.total))
    return (record.number, found.path, str(record.state), *sizes, show.seconds(since), why)


# --- coming and going -------------------------------------------------------------------------------------------------


@disk.command(short_help="Add a directory as a disk.", epilog=params.example("vtlfs disk add /srv/vtl /mnt/disk4"))
@params.library_before_paths
@click.argument("path", metavar="PATH", type=params.directory)
@params.json_option
def add(library: Path, path: Path, as_json: bool) -> None:
    """Add the directory PATH, best on a device of its own, to the library as a disk.

    Mounts of the library use the new disk within seconds for new stripes. Extents on the other disks stay there.
    """
    from vtlfs.engine.roster import roster

    opened = _opened(library)
    added = roster.add(opened, path, utc_now())
    if as_json:
        _print_disk(opened, added.number)
    else:
        _tell_added(opened, added)
        _remind_of_fstab(opened)


@disk.command(
    short_help="Replace a disk by a new one.",
    epilog=params.example(
        "vtlfs disk replace /srv/vtl 2 /mnt/new", "vtlfs disk replace /srv/vtl 2 /mnt/disk2   # a new device lies there"
    )
    + STATUSES,
)
@params.library_argument
@click.argument("number", metavar="N", type=params.number)
@click.argument("path", metavar="PATH", type=params.directory)
@click.option("--background", is_flag=True, help="Leave the work to the mounts of the library.")
@params.limit_option
@params.json_option
def replace(library: Path, number: int, path: Path, background: bool, limit: int | None, as_json: bool) -> None:
    """Replace disk N, dead or alive, by a new disk in the directory PATH.

    Extents that disk N still has are copied; lost extents are computed from the other disks. Afterwards every stripe
    has its parity again, and disk N has left the library. If the replacement is interrupted, `vtlfs disk repair` goes
    on with it.
    """
    from vtlfs.engine.roster import roster

    opened = _opened(library)
    added = roster.replace(opened, number, path, utc_now())
    if not as_json:
        _tell_added(opened, added)
    _empty(opened, number, background, limit, as_json)


@disk.command(
    short_help="Empty a disk, and take it out of the library.",
    epilog=params.example("vtlfs disk retire /srv/vtl 2") + STATUSES,
)
@params.library_argument
@click.argument("number", metavar="N", type=params.number)
@click.option("--background", is_flag=True, help="Leave the work to the mounts of the library.")
@params.limit_option
@params.json_option
def retire(library: Path, number: int, background: bool, limit: int | None, as_json: bool) -> None:
    """Move the extents of disk N to the other disks; when disk N is empty, it leaves the library.

    Refused if the other disks are too few, or have no room. If the move is interrupted, `vtlfs disk repair` goes on
    with it.
    """
    from vtlfs.engine.roster import roster

    opened = _opened(library)
    roster.retire(opened, number, utc_now())
    _empty(opened, number, background, limit, as_json)


@disk.command(
    short_help="Mend the stripes that lack something.",
    epilog=params.example("vtlfs disk repair /srv/vtl --limit 100MB/s") + STATUSES,
)
@params.library_argument
@click.option("--give-up-lost", is_flag=True, help="Have retiring disks leave with the bytes that are lost for good.")
@params.limit_option
@params.json_option
def repair(library: Path, give_up_lost: bool, limit: int | None, as_json: bool) -> None:
    """Mend every stripe that lacks something, and empty the disks that are retiring.

    A stripe lacks something if extents of it are on a disk that is dead or away, if there were too few disks for its
    parity when it was written, or if `vtlfs verify` has found it damaged. A disk that is away now counts as lost. If a
    mount is already repairing the library, the command shows that repair, and then does what is left.

    A retiring disk on which lie extents that can neither be read nor computed stays. --give-up-lost has it leave: these
    bytes are lost for good then, also if the disk should work again. `vtlfs verify` names the tape files.
    """
    opened = _opened(library)
    result = _repaired(opened, limit)
    given_up = _given_up(opened, result) if give_up_lost else {}
    left = _retiring(opened)
    if as_json:
        show.as_json(_result_document(result) | {"retiring": left, "given_up": given_up})
    elif result.interrupted is None:
        show.line(result.in_words())
        for number, lost in given_up.items():
            show.line(f"disk {number} has retired with {show.human(lost)} that are lost for good")
    _conclude(opened, result, left)


def _given_up(library: "Library", result: "RepairResult") -> dict[int, int]:
    """Have the retiring disks leave with what is lost; return how many bytes each has lost.

    None leaves where something could still be moved, had it a place or more time.
    """
    from vtlfs.engine.roster import roster

    if result.needs_disk or result.no_room or result.postponed or result.interrupted:
        return {}
    return {number: roster.give_up(library, number, utc_now()) for number in _retiring(library)}


# --- doing the work ---------------------------------------------------------------------------------------------------


def _opened(library: Path) -> "Library":
    """Open the library, after finishing what an earlier `vtlfs disk` command left undone when it was killed."""
    from vtlfs.engine.library import Library
    from vtlfs.engine.roster import roster

    opened = Library.open(library)
    roster.tidy(opened)
    return Library.open(library)


def _empty(library: "Library", number: int, background: bool, limit: int | None, as_json: bool) -> None:
    """Empty a disk that has begun to retire; with `background`, say which mount will."""
    if not as_json:
        _remind_of_fstab(library)
    if background:
        if as_json:
            _print_disk(library, number)
        else:
            show.line(f"disk {number} is retiring; {_who_empties(library)}")
        return
    if not as_json and _is_written_to(library, number):
        command = f"`vtlfs sessions {show.word(library.path)} --open` lists them"
        show.line(f"open streams have extents on disk {number}; the disk leaves after these have ended ({command})")
    result = _repaired(library, limit)
    left = _retiring(library)
    if as_json:
        show.as_json(_result_document(result) | {"retiring": left})
    elif result.interrupted is None:
        show.line(result.in_words())
        if number not in left and number not in result.emptied:  # a mount did it
            show.line(f"disk {number} has retired")
    _conclude(library, result, left)


def _is_written_to(library: "Library", number: int) -> bool:
    with closing(library.tracking(read_only=True)) as tracking:
        return tracking.session_disks.is_written_to(number)


def _who_empties(library: "Library") -> str:
    with closing(library.tracking(read_only=True)) as tracking:
        is_mounted = any(library.leases.is_alive(mount.id) for mount in tracking.mounts.live())
    if is_mounted:
        return "a mount empties it in the background: `vtlfs disk list` and `vtlfs status` show the progress"
    return "the next mount empties it in the background, or `vtlfs disk repair` now"


def _repaired(library: "Library", limit: int | None) -> "RepairResult":
    from vtlfs.engine.repair.foreground import repair as run

    with _resumable(library), follow("repairing") as progress:
        return run(library, limit=limit, progress=progress)


@contextmanager
def _resumable(library: "Library") -> Iterator[None]:
    """Turn Ctrl-C into an error that says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise _interrupted(library, signal.SIGINT) from None


def _interrupted(library: "Library", number: signal.Signals) -> RepairIncomplete:
    return RepairIncomplete(f"interrupted; `vtlfs disk repair {show.word(library.path)}` goes on", 128 + number)


def _conclude(library: "Library", result: "RepairResult", left: list[int]) -> None:
    """Raise RepairIncomplete if something is left to do. `left`: disks that are still retiring."""
    if result.interrupted is not None:
        raise _interrupted(library, result.interrupted)
    again = f"`vtlfs disk repair {show.word(library.path)}` tries again, and so do mounts"
    if left:
        if result.lost:
            again += "; --give-up-lost has it leave with what is lost"
        why = "; ".join(_why_not_empty(library, number) for number in left)
        raise RepairIncomplete(f"{why}; {again}", EXIT_LACKING)
    if not result.is_whole:
        raise RepairIncomplete(f"some stripes still lack something: {result.in_words()}", EXIT_LACKING)


def _why_not_empty(library: "Library", number: int) -> str:
    with closing(library.tracking(read_only=True)) as tracking:
        stored = tracking.disks.stored().get(number)
    left = show.count(stored.extents if stored else 0, "extent")
    return f"disk {number} has not retired: {left} could not be moved from it"


def _retiring(library: "Library") -> list[int]:
    with closing(library.tracking(read_only=True)) as tracking:
        return [record.number for record in tracking.disks.all() if record.state is DiskState.RETIRING]


# --- output -----------------------------------------------------------------------------------------------------------


def _tell_added(library: "Library", added: DiskRecord) -> None:
    from vtlfs.engine.condition import sharing

    with closing(library.tracking(read_only=True)) as tracking:
        records = tracking.disks.all()
    found = _probed(library, records)
    new = found[added.number]
    show.line(f"disk {added.number}: {added.path}, {show.human(new.free)} free of {show.human(new.total)}")
    devices = {f"disk {number}": one.device for number, one in found.items() if one.device is not None}
    for note in sharing(devices, library.config.parity):
        if f"disk {added.number} " in note:
            show.line(f"note: {note}")


def _remind_of_fstab(library: "Library") -> None:
    from vtlfs.cli.commands.fstab import has_line

    with suppress(OSError):
        if has_line(FSTAB.read_text(errors="surrogateescape"), library.path):
            show.line(
                "note: the library's line in /etc/fstab names mounts of the old disks; `vtlfs fstab` prints a new one"
            )


def _print_disk(library: "Library", number: int) -> None:
    from vtlfs.engine.tracking.repositories.disks import Stored

    with closing(library.tracking(read_only=True)) as tracking:
        record = next(one for one in tracking.disks.ever() if one.number == number)
        stored = tracking.disks.stored().get(number, Stored(0, 0))
    show.as_json(_document(record, _probed(library, [record])[number], stored))


def _result_document(result: "RepairResult") -> dict[str, object]:
    interrupted = None if result.interrupted is None else result.interrupted.name
    return asdict(result) | {"is_whole": result.is_whole, "interrupted": interrupted}
