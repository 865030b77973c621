"""The details of one session, drive or disk, as texts for the details screen; `medium_details` has those of a medium.

Worker threads call the functions, which query the tracking database and so may block.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

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
    """A row of a table below the fields. `target`: the stored data of the row, if it has any.

    `details` queries what the details screen shows of the row, if there is more to show.
    """

    cells: tuple[str, ...]
    target: Target | None = None
    details: "Callable[[Tracking], Details] | None" = None


@dataclass(frozen=True, slots=True)
class DetailsTable:
    """A table. `columns` pairs a heading with a width; width 0 takes the space that is left. `name` is its tab's."""

    name: str
    columns: list[tuple[str, int]]
    rows: list[DetailsRow]


@dataclass(frozen=True, slots=True)
class Details:
    """Fields, and tables: several of them have a tab each. `target`: the stored data of what is shown."""

    title: str
    fields: list[tuple[str, str]]
    target: Target | None = None
    tables: list[DetailsTable] = field(default_factory=list)


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
        ("tape file", _tape_file(session)),
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
    table = DetailsTable("Extents", columns, rows)
    return printable(Details(f"session {number}", fields, target_of(session), [table]))


def _cells(extent: Extent) -> tuple[str, ...]:
    """Return the row of an extent; that of parity says so in the place of the offset."""
    offset = "parity" if extent.is_parity else f"{extent.offset}"
    return offset, f"{extent.stored}", f"{extent.stripe}", f"{extent.disk}", f"{extent.position}", extent.blake3.hex()


def target_of(session: Session) -> Target | None:
    """Return the tape file of the session; None for a session that reads, is still open, or whose bytes are deleted."""
    if session.tape_file is None or session.reclaimed:
        return None
    return Target(session.medium, session.tape_file, session.volume)


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
    table = DetailsTable("Sessions", columns, rows)
    return printable(Details(f"drive {number}: its latest sessions", fields, None, [table]))


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
    return printable(Details(f"disk {disk.number}", fields))


def _tape_file(session: Session) -> str:
    if session.tape_file is None:
        return "-"
    deleted = ", its bytes are deleted" if session.reclaimed else ""
    return f"{session.tape_file:04d} of volume {session.volume}{deleted}"


def printable(details: Details) -> Details:
    """Return the details with every character escaped that would steer a terminal."""
    fields = [(name, fmt.printable(value)) for name, value in details.fields]
    tables = [
        replace(
            table,
            rows=[replace(row, cells=tuple(fmt.printable(cell) for cell in row.cells)) for row in table.rows],
        )
        for table in details.tables
    ]
    return Details(fmt.printable(details.title), fields, details.target, tables)
