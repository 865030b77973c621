"""The details of one medium, and of one of its volumes, as texts for the details screen.

Worker threads call the functions, which query the tracking database and so may block.
"""

from functools import partial

from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import Event, Hold, Medium, MediumState, Snapshot, Volume
from vtlfs.snap import store
from vtlfs.tui import format as fmt
from vtlfs.tui.details import Details, DetailsRow, DetailsTable, printable
from vtlfs.tui.source import Target

MAX_EVENTS = 500
MAX_SNAPSHOTS = 3  # that are named as those that show a volume


def of_medium(tracking: Tracking, barcode: str) -> Details:
    """Return a medium: its state, its current volume and tape files, all volumes, and events. Raises NoSuchMedium."""
    medium = tracking.media.get(barcode)
    volume = tracking.volumes.get(barcode, medium.volume)
    capacity = "no limit" if medium.capacity is None else f"{fmt.size(medium.capacity)}  {_fill(medium)}"
    fields = [
        ("state", condition_of(medium)),
        ("volume", f"{medium.volume}, begun {fmt.time(medium.begun_at)}"),
        ("retained", retained(volume)),
        ("holds", holds_of(tracking.volumes.holds(barcode))),
        ("capacity", f"{capacity}{f', {fmt.size(medium.reserved)} reserved' if medium.reserved else ''}"),
        ("bytes", f"{fmt.size(medium.bytes)} ({medium.bytes:,}) in {fmt.count(medium.tape_files, 'tape file')}"),
        ("added", fmt.time(medium.added_at)),
        ("written", fmt.time(medium.written_at)),
    ]
    tables = [_tape_files(tracking, volume), _volumes(tracking, medium), _events(tracking, barcode)]
    return printable(Details(f"medium {barcode}", fields, Target(barcode, None), tables))


def of_volume(tracking: Tracking, barcode: str, number: int) -> Details:
    """Return one volume, with its tape files. Raises NoSuchMedium."""
    volume = tracking.volumes.get(barcode, number)
    if volume.ended is None:
        return of_medium(tracking, barcode)
    fields = [
        ("begun", fmt.time(volume.begun_at)),
        ("ended", fmt.time(volume.ended_at)),
        ("retained", retained(volume)),
        ("bytes", f"{fmt.size(volume.bytes)} ({volume.bytes:,}) in {fmt.count(volume.tape_files, 'tape file')}"),
        ("shown by", _shown_by(tracking, volume)),
        ("stored", "yes" if volume.reclaimed_at is None else f"no, deleted {fmt.time(volume.reclaimed_at)}"),
    ]
    target = Target(barcode, None, number) if volume.reclaimed_at is None else None
    return printable(Details(f"volume {number} of medium {barcode}", fields, target, [_tape_files(tracking, volume)]))


def condition_of(medium: Medium) -> str:
    """Return whether a medium is in use, and whether its write-protect tab is set."""
    return f"{medium.state}, write-protected" if medium.protected else str(medium.state)


def short_condition(medium: Medium, held: bool) -> str:
    """Return in one word or two what keeps a medium from being written, or else from being erased."""
    if medium.state is not MediumState.IN_USE:
        return str(medium.state)
    return "protected" if medium.protected else "held" if held else str(medium.state)


def retained(volume: Volume) -> str:
    """Return until when a volume is retained, how strictly, and for how long its next tape file will be."""
    if volume.retain_mode is None:
        return "no"
    rule = "" if not volume.retain_seconds else f", {_duration(volume.retain_seconds)} for each file"
    if volume.retention is None:
        return f"nothing is written yet ({volume.retain_mode}{rule})"
    until = "for ever" if volume.retention.until is None else f"until {fmt.time(volume.retention.until)}"
    return f"{until} ({volume.retain_mode}{rule})"


def holds_of(holds: list[Hold]) -> str:
    """Return the legal holds of a medium."""
    return "; ".join(f"{hold.name} ({hold.reason}), since {fmt.time(hold.placed_at)}" for hold in holds) or "none"


def _fill(medium: Medium) -> str:
    return fmt.bar(medium.bytes, medium.capacity)


def _duration(seconds: int) -> str:
    return f"{seconds // 86_400} days" if seconds % 86_400 == 0 else f"{seconds:,} s"


def _shown_by(tracking: Tracking, volume: Volume) -> str:
    shown = [one for one in store.snapshots(tracking) if volume.begun <= one.id < (volume.ended or 0)]
    names = [_snapshot(one) for one in shown[-MAX_SNAPSHOTS:]]
    if len(shown) > MAX_SNAPSHOTS:
        names.insert(0, f"{len(shown) - MAX_SNAPSHOTS:,} more")
    return f"snapshot{'s' if len(shown) > 1 else ''} {', '.join(names)}" if shown else "no snapshot"


def _snapshot(snapshot: Snapshot) -> str:
    return f"{snapshot.id}" if snapshot.name is None else f"{snapshot.id} ({snapshot.name})"


def _tape_files(tracking: Tracking, volume: Volume) -> DetailsTable:
    is_stored = volume.reclaimed_at is None
    rows = [
        DetailsRow(
            (f"{f.number:04d}", fmt.time(f.released_at), f.host, fmt.size(f.bytes), f"{f.start}", f"{f.session}"),
            Target(volume.medium, f.number, volume.number) if is_stored else None,
        )
        for f in tracking.tape_files.of(volume.medium, volume=volume.number)
    ]
    columns = [("FILE", 5), ("RELEASED", 20), ("HOST", 0), ("BYTES", 9), ("START", 14), ("SESSION", 9)]
    return DetailsTable("Tape files", columns, rows)


def _volumes(tracking: Tracking, medium: Medium) -> DetailsTable:
    columns = [("VOLUME", 6), ("BEGUN", 20), ("ENDED", 20), ("FILES", 6), ("BYTES", 9), ("STORED", 0)]
    rows = [
        DetailsRow(
            (
                *(f"{one.number}", fmt.time(one.begun_at), fmt.time(one.ended_at)),
                *(f"{one.tape_files:,}", fmt.size(one.bytes)),
                "current" if one.ended is None else "ended" if one.reclaimed_at is None else "deleted",
            ),
            Target(medium.barcode, None, one.number) if one.reclaimed_at is None else None,
            partial(of_volume, barcode=medium.barcode, number=one.number),
        )
        for one in reversed(tracking.volumes.of(medium.barcode))
    ]
    return DetailsTable("Volumes", columns, rows)


def _events(tracking: Tracking, barcode: str) -> DetailsTable:
    columns = [("TIME", 20), ("WHAT", 12), ("VOLUME", 6), ("BY", 16), ("REASON", 0)]
    found = tracking.events.find(medium=barcode, limit=MAX_EVENTS)
    rows = [
        DetailsRow((fmt.time(one.at), one.what, fmt.printable(one.volume), _who(one), _why(one)))
        for one in reversed(found)
    ]
    return DetailsTable("Events", columns, rows)


def _who(event: Event) -> str:
    return f"{event.host} uid {event.uid}"


def _why(event: Event) -> str:
    details = [f"{name} {value}" for name, value in event.details.items() if value is not None]
    return ", ".join(([event.reason] if event.reason else []) + details)
