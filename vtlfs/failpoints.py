"""Failpoints: named steps behind which something durable has changed, where the tests have the process die.

`VTLFS_FAILPOINT=NAME` in the environment kills the process when it gets there, without any tidying up, as a crash
does; `NAME:3` when it gets there the third time; `NAME>OTHER` when it has been at NAME and then gets to OTHER. Without
it `reached` is one look at a global. Every step of the product that makes something durable has a failpoint, which a
test checks against the code; another test kills the process at each of them.
"""

import os
import threading
from collections.abc import Callable

ENVIRONMENT = "VTLFS_FAILPOINT"
STATUS = 86  # exit status of a process that died at a failpoint

_FILES = {
    "file.written": "a small file is written under a temporary name, and not synced",
    "file.synced": "... and synced",
    "file.linked": "... and has its own name too",
    "file.named": "... and has its own name only; the directory is not synced",
    "directory.synced": "the entries of a directory are durable",
    "label.removed": "a disk's label is taken off: an init has failed, or the disk has retired",
    "member.directory_made": "a directory for member files is made",
    "member.made": "a member file is made, and empty",
    "member.given_up": "... and removed again, for its header could not be written",
    "member.described": "... and has its header",
    "extent.allocated": "the room for extents is set aside",
    "extent.written": "a data extent and its record are written",
    "parity.written": "a parity extent and its record are written",
    "disk.synced": "the file system of a disk is synced, for many member files at once",
    "member.synced": "a member file is synced, and its directories are not",
    "member.cut": "what does not count of a member file is cut off",
    "trial.made": "a disk that has failed takes a file",
    "trial.removed": "... which is removed again",
    "mark.written": "a disk knows how far the tracking database has come",
    "mark.synced": "... and would after a power cut",
    "cartridge.directory_made": "a disk's directory for the cartridge memory is made",
    "cartridge.written": "what a disk is to remember of media is written under temporary names, and synced",
    "cartridge.named": "... and has its own names; the directory is not synced",
    "cartridge.kept": "... and is durable",
    "member.finished": "how the session ended is in the member file's header",
    "member.removed": "the member file of a reclaimed session is removed; its directory is not synced",
    "header.restored": "the header of a member file is written anew",
}
_REPAIR = {
    "repair.written": "extents of a repair are written to some members, and not synced",
    "repair.synced": "... and synced, and nothing tells of them yet",
    "repair.recorded": "... and their rows are in the place of the old ones, in a transaction",
    "repair.discarded": "... and the room of the old extents is given back",
}
_TRANSFER = {
    "transfer.directory_made": "a directory for an exported medium is made",
    "transfer.begun": "... and says of which volume it is to be",
    "transfer.written": "a tape file is exported under a temporary name, and not synced",
    "transfer.synced": "... and synced",
    "transfer.named": "... and has its own name; the directory is not synced",
    "transfer.noted": "... and its BLAKE3 is noted",
    "transfer.listed": "the manifest of an exported medium and its sums are there",
    "transfer.ended": "... and the notes are removed: the export is finished",
    "transfer.unrecorded": "a tape file that is imported is on the disks, whole and right, and not on its medium",
    "transfer.recorded": "... and on its medium",
}
_LIBRARY = {
    "reserve.made": "room is set aside for what must work when the library's file system is full",
    "reserve.given_up": "... and some of it is given up, for a commit that found no room",
    "init.directory_made": "a new library's directory is made",
    "init.announced": "... and says what is to become of it",
    "init.disk_closed": "a disk is labelled, and its directory is its owner's only",
    "init.labelled": "all disks are labelled",
    "init.locks_made": "the directory of the leases is made",
    "create.made": "the tracking database is an empty file",
    "create.tables": "its tables are being made, in a transaction",
    "create.slots": "... and the media have their slots, in the same transaction",
    "create.openings": "... and sessions are numbered in the order of opening, in the same transaction",
    "create.incidents": "... and the failures of sessions are incidents, in the same transaction",
    "create.noted": "... and the database knows of which version it is, in the same transaction",
    "create.steps_taken": "... which is committed",
    "create.described": "... and are all made",
    "create.filled": "its first rows are written, in a transaction",
    "create.committed": "... and committed",
    "init.named": "library.toml is there, so this is a library; the directory is not synced",
    "init.emptied": "a file of a library that was not finished is removed",
    "rebuild.directory_made": "a directory is made for a library that is to be rebuilt",
    "rebuild.begun": "a new database is begun under a temporary name",
    "rebuild.locks_made": "... and is whole; the directory of the leases is made",
    "rebuild.synced": "... and is synced",
    "rebuild.put_aside": "the old database, or its log, has another name",
    "rebuild.named": "the new one has its name; the directory is not synced",
    "lease.directory_made": "the directory of the leases is made for a library that lacks it",
    "lease.made": "the file of a mount's lease is there",
    "lease.finished_noted": "... and says up to which tape file the mount has finished headers",
    "lease.closed_noted": "... and has closed its member files",
    "lease.figures_removed": "the live figures of a mount that ended are removed",
    "lease.removed": "... and so is its lease",
    "export.made": "a file for an exported snapshot is made under a temporary name",
    "export.copied": "... and filled",
    "export.named": "... and has its own name too",
    "export.tidied": "... and has its own name only",
    "copy.directory_made": "a disk's directory for copies of the tracking database is made",
    "copy.begun": "a copy is made under a temporary name, and empty",
    "copy.synced": "... and filled and synced",
    "copy.named": "... and has its own name; the directory is not synced",
    "copy.kept": "... and is durable",
    "copy.removed": "a copy that is no longer wanted is removed",
}
_TRACKING = {  # inside a transaction, which is not committed yet
    "tracking.sessions_taken": "session identifiers are given to a mount",
    "tracking.sessions_returned": "a mount gives back those that it did not use",
    "tracking.sessions_skipped": "identifiers that a database which went back does not know of are left out",
    "tracking.mount_added": "a mount is recorded",
    "tracking.mount_ended": "the end of a mount is recorded",
    "tracking.disk_moved": "where a disk is now is recorded",
    "tracking.fill_recorded": "how full a disk is is recorded",
    "tracking.fault_recorded": "what keeps a disk from being used is recorded",
    "tracking.disk_added": "a new disk is recorded",
    "tracking.volume_ended": "the current volume of a medium has ended, and an empty one has begun",
    "tracking.retention_begun": "a rule of retention holds for what is written to a volume from now on",
    "tracking.retained": "a volume is retained for longer, since it has got a tape file",
    "tracking.retention_extended": "a volume is retained more strictly, or for longer, as somebody has asked for",
    "tracking.held": "a legal hold is placed on a medium",
    "tracking.hold_released": "a legal hold has ended",
    "tracking.medium_state_set": "a medium is out of use, in use again, or removed",
    "tracking.medium_protected": "the write-protect tab of a medium is set, or taken off",
    "tracking.capacity_set": "a medium has another capacity",
    "tracking.event_added": "an event is recorded",
    "tracking.extents_given_up": "what lay on a dead disk is recorded as lost for good",
    "tracking.pool_moved": "a pool is on another medium",
    "tracking.pool_full": "the medium of a pool is recorded as full",
    "tracking.part_added": "a session is recorded as a part of a pool's stream",
    "tracking.import_forgotten": "what is recorded of an imported stream that was not whole is forgotten",
    "tracking.session_reclaimed": "sessions of a volume that nothing holds are marked as reclaimed",
    "tracking.extents_reclaimed": "... and some of their extents are forgotten",
    "tracking.volume_reclaimed": "... and all are: their volume is recorded as reclaimed",
    "tracking.leftovers_removed": "members that were left of reclaimed sessions are recorded as removed",
    "tracking.leftovers_forgotten": "... and those on a disk that has left the library as none of its business",
    "tracking.extents_forgotten": "extents of a session that left nothing on its medium are forgotten",
    "tracking.retiring_begun": "a disk is recorded as one that is to be emptied",
    "tracking.disk_retired": "... and as one that has left the library",
    "tracking.lack_noted": "stripes with too little parity are recorded as such",
    "tracking.damage_noted": "stripes that a verification found damaged are recorded as such",
    "tracking.disks_noted": "on which disks a session lies now is recorded, after a repair",
    "tracking.lack_mended": "stripes that a repair has mended are recorded as whole, and what others still lack",
    "tracking.extents_replaced": "rows of extents that lie elsewhere are in the place of others",
    "tracking.lack_removed": "... and as whole again",
    "tracking.incident_added": "something that went wrong by itself, or is well again, is recorded",
    "tracking.incident_ended": "... and that it has ended",
    "tracking.telling_begun": "people are to be told of incidents from now on",
    "tracking.incident_told": "that people were told of an incident is recorded",
    "tracking.telling_failed": "... and that they could not be",
    "tracking.job_begun": "the beginning of long work is recorded",
    "tracking.job_advanced": "how far it is is recorded",
    "tracking.job_ended": "... and its end",
    "tracking.drives_set": "drives are added, if there are new ones",
    "tracking.loaded": "a medium is loaded",
    "tracking.unloaded": "a drive is unloaded",
    "tracking.media_added": "media are added",
    "tracking.slot_set": "a medium gets another slot",
    "tracking.space_reserved": "room on a medium is reserved for a session",
    "tracking.session_opened": "a session is recorded",
    "tracking.program_noted": "which program writes, where another one has opened the file, is recorded",
    "tracking.progress_recorded": "stripes of a session are recorded",
    "tracking.close_announced": "an announcement of a close() is recorded",
    "tracking.close_withdrawn": "... and withdrawn, for the stream has gone on",
    "tracking.session_released": "a session is ended, and its tape file is on the medium",
    "tracking.reader_released": "a session that read is ended",
    "tracking.snapshot_taken": "a snapshot is taken",
    "tracking.snapshots_removed": "snapshots are removed, and the history that only they show",
    "tracking.copy_claimed": "a mount is to make a copy of the tracking database",
    "tracking.copy_noted": "the end of a copy is recorded",
    "tracking.verification_begun": "a verification is recorded",
    "tracking.verification_saved": "how far a verification is is recorded",
}
_INDEX = {
    "members.removed": "a member index that is damaged, or is to be made anew, is removed",
    "members.made": "... and a new one is there, and empty",
    "members.committed": "the member index has taken in, or forgotten, some members or streams; not synced",
}
_CARE = {
    "care.told": "people were told of an incident, and nothing tells of that yet",
}
_COMMITS = {
    "transaction.commit": "a transaction is about to be committed",
    "transaction.committed": "... and is",
    "log.synced": "the write-ahead log is synced",
}
NAMES = _FILES | _REPAIR | _TRANSFER | _LIBRARY | _TRACKING | _INDEX | _CARE | _COMMITS
"""Every failpoint: its name, and what has just happened there."""

_observer: Callable[[str], None] | None = None


def reached(name: str) -> None:
    """Say that the process has got to a failpoint."""
    if _observer is not None:
        _observer(name)


def observe(observer: Callable[[str], None] | None) -> None:
    """Have a function called with the name of each failpoint that is reached, in the thread that reaches it."""
    global _observer
    _observer = observer


def arm(where: str) -> None:
    """Have the process die at a failpoint: `NAME`, `NAME:COUNT`, or several of these with `>` between them.

    Raises ValueError where there is none of that name.
    """
    steps = [_step(word) for word in where.split(">")]
    lock = threading.Lock()

    def observer(name: str) -> None:
        with lock:
            if steps[0][0] != name:
                return
            steps[0] = name, steps[0][1] - 1
            if steps[0][1] > 0:
                return
            if len(steps) == 1:
                os._exit(STATUS)
            del steps[0]

    observe(observer)


def _step(word: str) -> tuple[str, int]:
    name, _, count = word.partition(":")
    if name not in NAMES:
        raise ValueError(f"{ENVIRONMENT}: no failpoint {name!r}")
    return name, int(count or 1)


if ENVIRONMENT in os.environ:
    arm(os.environ[ENVIRONMENT])
