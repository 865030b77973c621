"""Everything there is to know of one row: a session, a medium, a drive or a disk. May block."""

from dataclasses import dataclass, field

from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import DiskRecord, Medium, Session
from vtlfs.snap import browse
from vtlfs.tui import format as fmt
from vtlfs.tui.source import Target

UNITS_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the table below the fields."""

    cells: tuple[str, ...]
    target: Target | None = None


@dataclass(frozen=True, slots=True)
class Details:
    """What is known: fields, and a table. `headings` pairs a heading with its column's width, 0 for what is left."""

    title: str
    fields: list[tuple[str, str]]
    target: Target | None = None
    headings: list[tuple[str, int]] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


def of_session(tracking: Tracking, number: int) -> Details:
    """Return a session's write command, stripe layout and checksums. Raises NoSuchSession."""
    session = tracking.session(number)
    mounts = {mount.id: mount for mount in tracking.mounts(live_only=False)}
    mount = mounts.get(session.mount)
    disks = ", ".join(
        f"disk {disk}: {fmt.count(units, 'unit')}, {fmt.size(size)}"
        for disk, units, size in browse.units_by_disk(tracking, number)
    )
    fields = [
        ("state", f"{session.state}{f', the program was told {session.error}' if session.error else ''}"),
        ("command", f"{session.access} to drive {session.drive}, medium {session.medium}, by host {session.host}"),
        ("program", f"{session.program}, pid {session.pid}, uid {session.uid}, gid {session.gid}"),
        ("opened", fmt.time(session.opened_at)),
        ("released", fmt.time(session.released_at)),
        ("bytes", f"{fmt.size(session.bytes)} ({session.bytes:,}) in {fmt.count(session.requests, 'request')}"),
        ("tape file", "-" if session.tape_file is None else f"{session.tape_file:04d}"),
        ("striping", f"{fmt.size(session.stripe_unit)} units, {disks or 'none'}"),
        ("mount", f"{mount.mountpoint} on {mount.machine}, {mount.state}" if mount else str(session.mount)),
    ]
    units = tracking.stripe_units(number, 0, UNITS_SHOWN)
    headings = [("UNIT", 7), ("DISK", 5), ("SLOT", 7), ("BYTES", 10), ("BLAKE3", 0)]
    lines = [Line((f"{u.unit}", f"{u.disk}", f"{u.slot}", f"{u.bytes}", u.blake3.hex())) for u in units]
    if len(units) == UNITS_SHOWN:
        lines.append(Line(("…", "", "", "", f"the first {UNITS_SHOWN} stripe units are shown")))
    return _clean(Details(f"session {number}", fields, target_of(session), headings, lines))


def target_of(session: Session) -> Target | None:
    """Return the tape file that the session left; None for a reader, and before the release."""
    return None if session.tape_file is None else Target(session.medium, session.tape_file)


def of_medium(tracking: Tracking, barcode: str) -> Details:
    """Return a medium and its tape files. Raises NoSuchMedium."""
    medium: Medium = tracking.medium(barcode)
    fields = [
        ("capacity", fmt.size(medium.capacity) if medium.capacity is not None else "no limit"),
        ("bytes", f"{fmt.size(medium.bytes)} ({medium.bytes:,})"),
        ("fill", fmt.bar(medium.bytes, medium.capacity)),
        ("reserved", fmt.size(medium.reserved)),
        ("tape files", f"{medium.tape_files:,}"),
        ("added", fmt.time(medium.added_at)),
        ("written", fmt.time(medium.written_at)),
    ]
    lines = [
        Line(
            (f"{f.number:04d}", fmt.time(f.released_at), f.host, fmt.size(f.bytes), f"{f.start}", f"{f.session}"),
            Target(barcode, f.number),
        )
        for f in tracking.tape_files(barcode)
    ]
    headings = [("FILE", 5), ("RELEASED", 20), ("HOST", 0), ("BYTES", 9), ("START", 14), ("SESSION", 9)]
    return _clean(Details(f"medium {barcode}", fields, Target(barcode, None), headings, lines))


def of_drive(tracking: Tracking, number: int) -> Details:
    """Return a drive and its latest sessions. Raises NoSuchDrive."""
    drive = tracking.drive(number)
    fields = [
        ("loaded", drive.loaded or "-"),
        ("since", fmt.time(drive.loaded_at)),
        ("open", fmt.count(tracking.open_sessions_by_drive().get(number, 0), "session")),
    ]
    found = browse.sessions_page(tracking, browse.SessionQuery(drive=number), 0, 50)
    headings = [("SESSION", 9), ("HOST", 0), ("PROGRAM", 10), ("MEDIUM", 12), ("STATE", 9), ("BYTES", 9)]
    lines = [
        Line((f"{s.id}", s.host, s.program, s.medium, str(s.state), fmt.size(s.bytes)), target_of(s)) for s in found
    ]
    return _clean(Details(f"drive {number}: its latest sessions", fields, None, headings, lines))


def of_disk(disk: DiskRecord, health: str) -> Details:
    """Return a disk."""
    fields = [
        ("path", disk.path),
        ("health", health),
        ("uuid", disk.uuid),
        ("added", fmt.time(disk.added_at)),
        ("size", fmt.size(disk.total)),
        ("free", fmt.size(disk.free)),
        ("fill", fmt.bar(None if disk.free is None else (disk.total or 0) - disk.free, disk.total)),
        ("looked at", fmt.time(disk.seen_at)),
    ]
    return _clean(Details(f"disk {disk.number}", fields))


def _clean(details: Details) -> Details:
    """Return the details with nothing that would steer a terminal."""
    fields = [(name, fmt.printable(value)) for name, value in details.fields]
    lines = [Line(tuple(fmt.printable(cell) for cell in line.cells), line.target) for line in details.lines]
    return Details(fmt.printable(details.title), fields, details.target, details.headings, lines)
