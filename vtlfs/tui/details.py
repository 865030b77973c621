"""The details of one session, medium, drive or disk, as texts for the details screen.

Worker threads call the functions, which query the tracking database and so may block.
"""

from dataclasses import dataclass, field

from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.disks import Stored
from vtlfs.model import DiskRecord, Extent, Session
from vtlfs.snap import browse
from vtlfs.tui import format as fmt
from vtlfs.tui.source import Target

MAX_EXTENTS = 200
MAX_SESSIONS = 50


@dataclass(frozen=True, slots=True)
class DetailsRow:
    """A row of the table below the fields. `target`: the stored data of the row, if it has any."""

    cells: tuple[str, ...]
    target: Target | None = None


@dataclass(frozen=True, slots=True)
class Details:
    """Fields, and a table. `columns` pairs a heading with a width; width 0 takes the space that is left."""

    title: str
    fields: list[tuple[str, str]]
    target: Target | None = None
    columns: list[tuple[str, int]] = field(default_factory=list)
    rows: list[DetailsRow] = field(default_factory=list)


def of_session(tracking: Tracking, number: int) -> Details:
    """Return a session's write command, stripe layout and checksums. Raises NoSuchSession."""
    session = tracking.sessions.get(number)
    mount = {mount.id: mount for mount in tracking.mounts.all()}.get(session.mount)
    disks = "; ".join(
        f"disk {one.disk}: {one.extents:,}{f' ({one.parity:,} parity)' if one.parity else ''}, {fmt.size(one.stored)}"
        for one in browse.by_disk(tracking, number)
    )
    fields = [
        ("state", f"{session.state}{f', error returned to the program: {session.error}' if session.error else ''}"),
        ("command", f"{session.access} to drive {session.drive}, medium {session.medium}, by host {session.host}"),
        ("program", f"{session.program}, pid {session.pid}, uid {session.uid}, gid {session.gid}"),
        ("opened", fmt.time(session.opened_at)),
        ("released", fmt.time(session.released_at)),
        ("bytes", f"{fmt.size(session.bytes)} ({session.bytes:,}) in {fmt.count(session.requests, 'request')}"),
        ("tape file", "-" if session.tape_file is None else f"{session.tape_file:04d}"),
        ("striping", f"{fmt.size(session.stripe_unit)} stripe units, parity {session.parity}"),
        ("extents", disks or "none"),
        ("mount", f"{mount.mountpoint} on {mount.machine}, {mount.state}" if mount else str(session.mount)),
    ]
    columns = [("OFFSET", 12), ("STORED", 9), ("STRIPE", 7), ("DISK", 5), ("POSITION", 12), ("BLAKE3", 0)]
    extents = tracking.extents.of(number, 0, MAX_EXTENTS)
    parity = tracking.extents.parity_of(extents)
    rows = [DetailsRow(_cells(one)) for one in extents] + [DetailsRow(_cells(one)) for one in parity]
    if len(extents) == MAX_EXTENTS:
        rows.append(DetailsRow(("…", *[""] * 4, f"only the first {MAX_EXTENTS} extents are listed")))
    return _printable(Details(f"session {number}", fields, target_of(session), columns, rows))


def _cells(extent: Extent) -> tuple[str, ...]:
    """Return the row of an extent; that of parity says so in the place of the offset."""
    offset = "parity" if extent.is_parity else f"{extent.offset}"
    return offset, f"{extent.stored}", f"{extent.stripe}", f"{extent.disk}", f"{extent.position}", extent.blake3.hex()


def target_of(session: Session) -> Target | None:
    """Return the tape file of the session; None for a session that reads, and for one that is still open."""
    return None if session.tape_file is None else Target(session.medium, session.tape_file)


def of_medium(tracking: Tracking, barcode: str) -> Details:
    """Return a medium and its tape files. Raises NoSuchMedium."""
    medium = tracking.media.get(barcode)
    fields = [
        ("capacity", fmt.size(medium.capacity) if medium.capacity is not None else "no limit"),
        ("bytes", f"{fmt.size(medium.bytes)} ({medium.bytes:,})"),
        ("fill", fmt.bar(medium.bytes, medium.capacity)),
        ("reserved", fmt.size(medium.reserved)),
        ("tape files", f"{medium.tape_files:,}"),
        ("added", fmt.time(medium.added_at)),
        ("written", fmt.time(medium.written_at)),
    ]
    rows = [
        DetailsRow(
            (f"{f.number:04d}", fmt.time(f.released_at), f.host, fmt.size(f.bytes), f"{f.start}", f"{f.session}"),
            Target(barcode, f.number),
        )
        for f in tracking.tape_files.of(barcode)
    ]
    columns = [("FILE", 5), ("RELEASED", 20), ("HOST", 0), ("BYTES", 9), ("START", 14), ("SESSION", 9)]
    return _printable(Details(f"medium {barcode}", fields, Target(barcode, None), columns, rows))


def of_drive(tracking: Tracking, number: int) -> Details:
    """Return a drive and its latest sessions. Raises NoSuchDrive."""
    drive = tracking.drives.get(number)
    fields = [
        ("loaded", drive.loaded or "-"),
        ("since", fmt.time(drive.loaded_at)),
        ("open", fmt.count(tracking.sessions.count_open_by_drive().get(number, 0), "session")),
    ]
    sessions = browse.sessions_page(tracking, browse.SessionQuery(drive=number), 0, MAX_SESSIONS)
    columns = [("SESSION", 9), ("HOST", 0), ("PROGRAM", 10), ("MEDIUM", 12), ("STATE", 9), ("BYTES", 9)]
    rows = [
        DetailsRow((f"{s.id}", s.host, s.program, s.medium, str(s.state), fmt.size(s.bytes)), target_of(s))
        for s in sessions
    ]
    return _printable(Details(f"drive {number}: its latest sessions", fields, None, columns, rows))


def of_disk(disk: DiskRecord, health: str, stored: Stored | None) -> Details:
    """Return a disk. `stored`: what lies on it, if that is known."""
    since = "" if disk.state_at is None else f" since {fmt.time(disk.state_at)}"
    successor = "" if disk.successor is None else f", for disk {disk.successor}"
    lies = "-" if stored is None else f"{fmt.count(stored.extents, 'extent')}, {fmt.size(stored.bytes)}"
    fields = [
        ("path", disk.path),
        ("health", health),
        ("state", f"{disk.state}{since}{successor}"),
        ("fault", "none" if disk.fault is None else f"{disk.fault}, since {fmt.time(disk.fault_at)}"),
        ("stored", lies),
        ("uuid", disk.uuid),
        ("added", fmt.time(disk.added_at)),
        ("size", fmt.size(disk.total)),
        ("free", fmt.size(disk.free)),
        ("fill", fmt.bar(None if disk.free is None else (disk.total or 0) - disk.free, disk.total)),
        ("last seen", fmt.time(disk.seen_at)),
    ]
    return _printable(Details(f"disk {disk.number}", fields))


def _printable(details: Details) -> Details:
    """Return the details with every character escaped that would steer a terminal."""
    fields = [(name, fmt.printable(value)) for name, value in details.fields]
    rows = [DetailsRow(tuple(fmt.printable(cell) for cell in row.cells), row.target) for row in details.rows]
    return Details(fmt.printable(details.title), fields, details.target, details.columns, rows)
