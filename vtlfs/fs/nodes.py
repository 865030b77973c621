"""Nodes: what each name in the mounted tree stands for, with its inode number and its time. Pure; no FUSE here.

A node is a frozen value. A medium's node has the medium's length at the moment of the look-up: an open() by this node
reads the medium as it stood then. A tape file of a snapshot is the node of the tape file in /files, by a further name.
"""

from dataclasses import dataclass
from typing import NamedTuple

from vtlfs.model import Medium, Snapshot, Stream, TapeFile, epoch_ns


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of which there is one: the root, /drives, /media, /files, /sessions, /snapshots or /pools."""

    name: str


@dataclass(frozen=True, slots=True)
class DriveDirectory:
    """/drives/N"""

    drive: int


@dataclass(frozen=True, slots=True)
class FilesDirectory:
    """/files/BARCODE"""

    medium: Medium


@dataclass(frozen=True, slots=True)
class MediumNode:
    """/drives/N/BARCODE, or /media/BARCODE where `drive` is None."""

    medium: Medium
    drive: int | None


@dataclass(frozen=True, slots=True)
class TapeFileNode:
    """/files/BARCODE/NNNN"""

    medium: Medium
    tape_file: TapeFile


@dataclass(frozen=True, slots=True)
class SessionNode:
    """/sessions/ID. `uid`: that of the opener."""

    session: int
    text: bytes
    changed_at: str
    medium: str = ""
    uid: int = 0


@dataclass(frozen=True, slots=True)
class LoadedLink:
    """/drives/N/loaded"""

    drive: int
    target: str
    loaded_at: str


@dataclass(frozen=True, slots=True)
class SnapshotDirectory:
    """/snapshots/ID where `part` is empty, /snapshots/ID/media or /snapshots/ID/files"""

    snapshot: Snapshot
    part: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotLink:
    """/snapshots/NAME, and /snapshots/latest where `is_latest`: a symbolic link to the directory of the snapshot."""

    snapshot: Snapshot
    is_latest: bool

    @property
    def target(self) -> str:
        """Where it points to."""
        return str(self.snapshot.id)


@dataclass(frozen=True, slots=True)
class PastFilesDirectory:
    """/snapshots/ID/files/BARCODE"""

    snapshot: Snapshot
    medium: Medium


@dataclass(frozen=True, slots=True)
class PastMediumNode:
    """/snapshots/ID/media/BARCODE. It never changes."""

    snapshot: Snapshot
    medium: Medium


@dataclass(frozen=True, slots=True)
class PoolNode:
    """/pools/NAME, the medium on which the pool is. `place`: of the pool in library.toml, from 0.

    `medium`: None while the pool is on none. `target`: barcode of the medium to which a stream would go; empty: none.
    """

    name: str
    place: int
    medium: Medium | None
    target: str


@dataclass(frozen=True, slots=True)
class PoolFilesDirectory:
    """/pools/NAME.files"""

    name: str
    place: int


@dataclass(frozen=True, slots=True)
class PoolFileNode:
    """/pools/NAME.files/ID: a stream with all its parts. It never changes."""

    file: Stream


@dataclass(frozen=True, slots=True)
class ChangerNode:
    """/changer"""


PastNode = SnapshotDirectory | SnapshotLink | PastFilesDirectory | PastMediumNode
OfPools = PoolNode | PoolFilesDirectory | PoolFileNode
OfMedia = FilesDirectory | MediumNode | TapeFileNode | LoadedLink
Node = Directory | DriveDirectory | OfMedia | SessionNode | PastNode | OfPools | ChangerNode


class Entry(NamedTuple):
    """A directory's entry. `place` is above 0, ascends, and never changes while the entry exists."""

    place: int
    name: str
    node: Node


ROOT = Directory("")
DRIVES, MEDIA, FILES, SESSIONS = (Directory(name) for name in ("drives", "media", "files", "sessions"))
SNAPSHOTS, POOLS = Directory("snapshots"), Directory("pools")
TOP = {directory.name: directory for directory in (DRIVES, MEDIA, FILES, SESSIONS, SNAPSHOTS, POOLS)}
PARTS = ("media", "files")  # of a snapshot

_KINDS = {"": 1, "drives": 2, "media": 3, "files": 4, "sessions": 5, "snapshots": 12, "pools": 15}
_SHIFT = 56
_HALF = 28  # bits each for the numbers of a snapshot or a volume, and a medium: 268 million of both
FRESH = 31 << _SHIFT  # each number from here on is given to one look-up


def stable_number(node: Node) -> int:
    """Return the inode number that stat() shows for the path; below FRESH, above all session identifiers."""
    match node:
        case Directory(name):
            return _KINDS[name] << _SHIFT
        case DriveDirectory(drive):
            return 6 << _SHIFT | drive
        case FilesDirectory(medium):
            return 7 << _SHIFT | medium.volume << _HALF | medium.id  # the kernel forgets the names of an erased volume
        case MediumNode(medium, drive):
            return 8 << _SHIFT | (0 if drive is None else drive + 1) << 32 | medium.id
        case TapeFileNode(_, tape_file):  # a number of the medium would be that of another tape file after an erasure
            return 9 << _SHIFT | tape_file.session
        case SessionNode(session):
            return 10 << _SHIFT | session
        case LoadedLink(drive):
            return 11 << _SHIFT | drive
        case PoolNode() | PoolFilesDirectory() | PoolFileNode():
            return _number_in_pools(node)
        case ChangerNode():
            return 20 << _SHIFT
        case _:
            return _number_in_snapshots(node)


def _number_in_snapshots(node: PastNode) -> int:
    match node:
        case SnapshotDirectory(snapshot, part):  # above the number of /snapshots, since snapshots count from 1
            return 12 << _SHIFT | snapshot.id << 2 | ("", *PARTS).index(part)
        case PastFilesDirectory(snapshot, medium):
            return 13 << _SHIFT | snapshot.id << _HALF | medium.id
        case PastMediumNode(snapshot, medium):
            return 14 << _SHIFT | snapshot.id << _HALF | medium.id
        case SnapshotLink(snapshot, is_latest):
            return 19 << _SHIFT | (0 if is_latest else snapshot.id)


def _number_in_pools(node: OfPools) -> int:
    match node:
        case PoolNode(_, place):
            return 16 << _SHIFT | place
        case PoolFilesDirectory(_, place):
            return 17 << _SHIFT | place
        case PoolFileNode(file):
            return 18 << _SHIFT | file.session


def mtime_ns(node: Node, otherwise: int) -> int:
    """Return when the node last changed, in nanoseconds since 1970; `otherwise` if the database has no such time.

    The time is for people and their programs. The kernel drops cached pages when the time or the size of a file
    changes. If a clock that jumps gives two states the same time, their sizes differ; and bytes that have once appeared
    never change.
    """
    match node:
        case SnapshotDirectory(snapshot) | SnapshotLink(snapshot):
            return epoch_ns(snapshot.taken_at)
        case MediumNode(medium) | FilesDirectory(medium) | PastMediumNode(_, medium) | PastFilesDirectory(_, medium):
            return epoch_ns(medium.written_at or medium.begun_at)
        case TapeFileNode(_, tape_file):
            return epoch_ns(tape_file.released_at)
        case PoolNode(_, _, Medium() as medium):
            return epoch_ns(medium.written_at or medium.begun_at)
        case PoolFileNode(file):
            return epoch_ns(file.released_at)
        case SessionNode() if node.changed_at:
            return epoch_ns(node.changed_at)
        case LoadedLink():
            return epoch_ns(node.loaded_at)
        case _:
            return otherwise
