"""The process dies at each failpoint. Acknowledged bytes are kept, and the tracking database is sound.

The runs that die are `scenario.py`; `scenario_of_disks.py`, where disks come and go; and `scenario_of_media.py`, where
media are erased. Every durable step of the product must have a failpoint, which is checked here, too.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from aftermath import Aftermath
from aftermath_of_disks import AftermathOfDisks
from aftermath_of_media import AftermathOfMedia
from serving import OF_DISKS, OF_MEDIA, SCENARIO, Server

import vtlfs
from vtlfs import failpoints

COMMITTED = ">transaction.committed"
# Failpoints that are reached often: at which further occurrences the process dies, too.
LATER = {
    "directory.synced": (12, 30),
    "member.made": (9, 17),
    "member.synced": (13, 29, 41),
    "extent.written": (12, 31),
    "parity.written": (7, 15),
    "member.cut": (5, 11),
    "member.finished": (6, 15, 23),
    "lease.made": (2,),
    "lease.removed": (2, 3, 4),
    "tracking.mount_ended": (2, 3),
    "tracking.progress_recorded": (9, 18),
    "tracking.session_released": (3, 6, 7, 9),
    "transaction.commit": (6, 17, 38, 59),
    "transaction.committed": (6, 17, 38, 59),
}
# Failpoints that only `scenario_of_disks.py` reaches.
NAMES_OF_DISKS = [
    *(name for name in failpoints.NAMES if name.startswith("repair.")),
    *("label.removed", "disk.synced", "header.restored", "tracking.disk_added", "tracking.retiring_begun"),
    *(
        "tracking.disk_retired",
        "tracking.disks_noted",
        "tracking.lack_noted",
        "tracking.damage_noted",
        "tracking.extents_replaced",
    ),
    *(
        "tracking.lack_mended",
        "tracking.lack_removed",
        "tracking.job_begun",
        "tracking.job_advanced",
        "tracking.job_ended",
    ),
]
# Failpoints that `scenario_of_media.py` gets to; no other run does.
NAMES_OF_MEDIA = [
    *(name for name in failpoints.NAMES if name.startswith(("cartridge.", "tracking.retention_", "tracking.medium_"))),
    *("tracking.volume_ended", "tracking.retained", "tracking.held", "tracking.hold_released", "tracking.capacity_set"),
    "tracking.slot_set",
    *("tracking.event_added", "tracking.session_reclaimed", "tracking.extents_reclaimed", "tracking.volume_reclaimed"),
    *("member.removed", "tracking.leftovers_removed"),
]
# Failpoints that no run can reach, and why they exist.
OF_TRANSFER = [*(name for name in failpoints.NAMES if name.startswith("transfer.")), "tracking.import_forgotten"]
OF_INDEX = [name for name in failpoints.NAMES if name.startswith("members.")]
OF_POOLS = ["tracking.pool_moved", "tracking.pool_full", "tracking.part_added"]
OF_CARE = [
    *("tracking.telling_begun", "tracking.incident_told", "tracking.telling_failed", "care.told"),
]
UNREACHED = {
    "tracking.program_noted": "the runs open no file by a shell; a program that is not noted is that of the shell",
    **dict.fromkeys(OF_CARE, "tests/care/test_notify.py has mounts die there"),
    **dict.fromkeys(OF_INDEX, "tests/members/test_indexing.py has a command die there"),
    **dict.fromkeys(OF_POOLS, "tests/mount/test_mount_pools.py has mounts die there"),
    "tracking.extents_forgotten": "no session ends so today: one that has extents has a tape file",
    "tracking.extents_given_up": "tests/cli/test_cli_disk.py has a command die there",
    **dict.fromkeys(OF_TRANSFER, "tests/cli/test_cli_transfer.py has exports, imports and copies die there"),
}
# Other failpoints of reclaiming: tests/engine/test_reclaim.py has the process die at each.
ELSEWHERE = {"tracking.leftovers_forgotten", "reserve.made", "reserve.given_up"}
# tests/care/test_notify.py has mounts die there: incidents come with faults of disks, and with refusals.
ELSEWHERE |= {"tracking.incident_added", "tracking.incident_ended"}
NAMES = [
    name
    for name in failpoints.NAMES
    if name not in {*NAMES_OF_DISKS, *NAMES_OF_MEDIA, *UNREACHED, *ELSEWHERE} or name == "label.removed"
]
WHERE = [
    *NAMES,
    *(f"{name}:{count}" for name, counts in LATER.items() for count in counts),
    *(f"{name}{COMMITTED}" for name in NAMES if name.startswith("tracking.")),
    *(f"tracking.session_released:{count}{COMMITTED}" for count in (3, 6, 7, 9)),
    *(f"tracking.progress_recorded:{count}{COMMITTED}" for count in (9, 18)),
]
# Failpoints in code that a repair or a command on disks shares with other work: where the process dies after the key.
FROM = {
    "tracking.disk_added": ("file.written", "file.named", "directory.synced"),
    "tracking.retiring_begun": (
        *("file.written", "file.named", "directory.synced", "member.directory_made", "member.made", "member.described"),
        *("extent.written:7", "parity.written:5", "member.synced", "mark.written", "transaction.committed:3"),
    ),
    "repair.discarded": ("extent.written:3", "parity.written:3", "transaction.commit", "transaction.committed:2"),
    "tracking.disk_retired": ("file.written", "file.named", "directory.synced", "label.removed"),
    "tracking.lack_noted": ("parity.written:30", "repair.written", "repair.recorded>transaction.committed"),
}
WHERE_OF_DISKS = [
    *NAMES_OF_DISKS,
    *(f"{name}{COMMITTED}" for name in NAMES_OF_DISKS if name.startswith("tracking.disk")),
    *("repair.written:3", "repair.synced:5", "repair.recorded:2", f"tracking.retiring_begun{COMMITTED}"),
    *(f"{start}>{step}" for start, steps in FROM.items() for step in steps),
    *("tracking.retiring_begun:2>repair.written", "tracking.retiring_begun:2>repair.recorded>transaction.committed"),
    *("tracking.disk_retired:2>transaction.committed", "tracking.disk_retired:2>file.named"),
]
# Where an act on media dies in what others do as well.
OF_ACTS = {
    "tracking.volume_ended": ("tracking.event_added:1", "tracking.volume_ended", "transaction.commit"),
    "tracking.volume_ended:2": ("tracking.volume_ended", "tracking.event_added", "tracking.event_added:2"),
    "tracking.medium_state_set:2": ("transaction.commit", "transaction.committed", "tracking.media_added"),
    "tracking.retained": ("tracking.session_released", "transaction.commit", "member.finished"),
}
WHERE_OF_MEDIA = [
    *(name for name in NAMES_OF_MEDIA if name != "tracking.event_added"),  # the first tells that media are added
    *(
        f"{name}{COMMITTED}"
        for name in NAMES_OF_MEDIA
        if name.startswith("tracking.") and name != "tracking.event_added"
    ),
    *(f"{start}>{step}" for start, steps in OF_ACTS.items() for step in steps),
    *(f"tracking.volume_ended:{count}{COMMITTED}" for count in (2, 3, 4, 5)),
    *(f"tracking.event_added:{count}" for count in (5, 8, 11, 14, 17)),
    *("tracking.snapshots_removed", f"tracking.snapshots_removed{COMMITTED}", "tracking.session_reclaimed:2"),
    *(
        "member.removed:4",
        f"member.removed:2{COMMITTED}",
        "tracking.volume_reclaimed:2",
        "tracking.extents_reclaimed:3",
    ),
]


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty directory, in memory if there is enough: only processes die here, not the machine."""
    roomy = Path("/dev/shm")
    is_roomy = roomy.is_dir() and shutil.disk_usage(roomy).free > 1 << 30
    path = Path(tempfile.mkdtemp(prefix="vtlfs-crash-", dir=roomy if is_roomy else None))
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("where", WHERE)
def test_nothing_is_lost_when_the_process_dies(server: Server, place: Path, where: str) -> None:
    status = server.run(SCENARIO, place, failpoint=where)
    said = (place / "output").read_text()
    assert status == failpoints.STATUS, f"status {status}; a run does not get to {where}, or fails before:\n{said}"
    server.examine(SCENARIO, place, by_mount=bool(WHERE.index(where) % 2))


@pytest.mark.parametrize("where", WHERE_OF_DISKS)
def test_disks_come_and_go_although_the_process_dies(server: Server, place: Path, where: str) -> None:
    status = server.run(OF_DISKS, place, failpoint=where)
    said = (place / "output").read_text()
    assert status == failpoints.STATUS, f"status {status}; a run does not get to {where}, or fails before:\n{said}"
    server.examine(OF_DISKS, place, by_mount=bool(WHERE_OF_DISKS.index(where) % 2))


def test_run_that_is_not_disturbed_gets_to_every_failpoint(server: Server, place: Path) -> None:
    assert server.run(SCENARIO, place, counted=str(place / "counted")) == 0, (place / "output").read_text()
    reached = json.loads((place / "counted").read_text())
    assert set(reached) >= set(NAMES)
    assert Aftermath(place).of("end")
    server.examine(SCENARIO, place)


def test_run_of_disks_that_is_not_disturbed_gets_to_every_failpoint_of_theirs(server: Server, place: Path) -> None:
    assert server.run(OF_DISKS, place, counted=str(place / "counted")) == 0, (place / "output").read_text()
    reached = json.loads((place / "counted").read_text())
    assert set(reached) >= set(NAMES_OF_DISKS)
    assert not set(reached) & set(UNREACHED)
    assert AftermathOfDisks(place).of("end")
    server.examine(OF_DISKS, place, "check_rebuilt", "check")


@pytest.mark.parametrize("where", WHERE_OF_MEDIA)
def test_acts_on_media_are_done_or_not_although_the_process_dies(server: Server, place: Path, where: str) -> None:
    status = server.run(OF_MEDIA, place, failpoint=where)
    said = (place / "output").read_text()
    assert status == failpoints.STATUS, f"status {status}; a run does not get to {where}, or fails before:\n{said}"
    server.examine(OF_MEDIA, place, by_mount=bool(WHERE_OF_MEDIA.index(where) % 2))


def test_run_of_media_that_is_not_disturbed_gets_to_every_failpoint_of_theirs(server: Server, place: Path) -> None:
    assert server.run(OF_MEDIA, place, counted=str(place / "counted")) == 0, (place / "output").read_text()
    reached = json.loads((place / "counted").read_text())
    assert set(reached) >= set(NAMES_OF_MEDIA)
    assert not set(reached) & set(UNREACHED)
    assert AftermathOfMedia(place).of("end")
    server.examine(OF_MEDIA, place, "check", "check_rebuilt")


def test_failpoint_that_does_not_exist_is_an_error() -> None:
    environment = os.environ | {failpoints.ENVIRONMENT: "nonsense"}
    words = [sys.executable, "-m", "vtlfs", "status", "/nowhere"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no failpoint 'nonsense'" in done.stderr


# --- the list against the code --------------------------------------------------------------------------------------

PACKAGE = Path(vtlfs.__file__).parent
CALLS = {
    "pwrite",
    "pwritev",
    "posix_fallocate",
    "ftruncate",
    "truncate",
    "rename",
    "link",
    "symlink",
    "unlink",
    "mkdir",
}
CALLS |= {"makedirs", "rmdir", "chmod", "fchmod", "write_text", "write_bytes", "touch"}
OF_OS = {"fsync", "fdatasync", "write", "replace", "remove"}  # which other things have, too
CHANGING = re.compile(r"\s*(INSERT|UPDATE|DELETE|CREATE (?!TEMP)|DROP|ALTER|COMMIT\b)")
# Functions that need no failpoint, and why.
WITHOUT = {
    "vtlfs/cli/default_library.py": "a list of libraries for convenience: a library is found without it",
    "vtlfs/cli/commands/install.py": "changes the system, not a library",
    "vtlfs/cli/output.py": "writes files of the user's, not of a library",
    "vtlfs/cli/robot.py:_ask": "writes a request to a mount",
    "vtlfs/daemon.py:_serve_in_background": "writes to a pipe",
    "vtlfs/daemon.py:_tune": "sets the kernel's limits",
    "vtlfs/disks/aside.py:answer": "writes to a pipe",
    "vtlfs/disks/discovery.py:reopen": "undoes what a library that was not finished has changed",
    "vtlfs/disks/local/member.py:_write_all": "its callers have one for each of its uses",
    "vtlfs/engine/tracking/repositories/volumes.py:note_time": "is in transactions of acts on media, which have one",
    "vtlfs/engine/tracking/repositories/media.py:give_slots": "is in transactions of its callers, which have one",
    "vtlfs/fs/operations.py:setattr": "calls `WriteHandle.truncate`, which changes the catalogue only",
    "vtlfs/engine/rebuild/seed.py": "changes a database that is not in its place yet",
    "vtlfs/engine/lease.py:reading": "removes it",
    "vtlfs/engine/lease.py:readers": "removes it, after a process that was killed",
    "vtlfs/engine/tracking/repositories/lacks.py:forget": "its caller has one",
    "vtlfs/engine/tracking/repositories/sessions.py:_add_tape_file": "is in the transaction of `release`",
    "vtlfs/engine/tracking/repositories/retentions.py:_retain_as": "is in the transaction of `release`, which has one",
    "vtlfs/engine/transfer/directory.py:root_directory": "makes an empty directory, which the next export takes",
    "vtlfs/engine/transfer/directory.py:write": "its caller has one for the whole file",
    "vtlfs/engine/lease.py:_make": "makes the directory of the locks, which nobody misses after a crash",
    "vtlfs/engine/lease.py:_opened": "makes a file of which only the lock counts, and that dies with the process",
    "vtlfs/engine/live.py": "live figures mean nothing after a crash",
    "vtlfs/engine/tasks/publishing.py": "live figures mean nothing after a crash",
    "vtlfs/engine/tracking/history.py": "returns SQL, which schema/steps.py runs",
    "vtlfs/engine/tracking/repositories/extents.py:add": "is in `record_progress`, which has one, or in a rebuild",
    "vtlfs/engine/tracking/repositories/extents.py:_count_stored": "its callers have one",
    "vtlfs/engine/tracking/repositories/extents.py:forget": "its callers have one",
    "vtlfs/engine/tracking/repositories/library_row.py:count_move": "is in the transaction of a repair, which has one",
    "vtlfs/engine/tracking/repositories/verifications.py:add_hurt": "is in the transaction of `save`, which has one",
    "vtlfs/engine/tracking/repositories/reclaiming.py:forget_extents": "`Extents.forget_last`, which it calls, has one",
    "vtlfs/disks/local/opening.py:kept": "its callers have one for each of its uses",
    "vtlfs/disks/local/cartridges.py:_write": "its caller has one for all files that it writes",
    "vtlfs/engine/tracking/repositories/rebuild/rejoined.py": "changes a database that is not in its place yet",
    "vtlfs/engine/tracking/repositories/rebuild/relived.py": "changes a database that is not in its place yet",
    "vtlfs/engine/tracking/repositories/rebuild/rebuilding.py": "changes a database that is not in its place yet",
    "vtlfs/engine/tracking/repositories/rebuild/found_extents.py": "changes a database that is not in its place yet",
    "vtlfs/engine/tracking/repositories/rebuild/late_files.py": "changes a database that is not in its place yet",
    "vtlfs/engine/tracking/repositories/rebuild/scanned.py": "changes a database that is not in its place yet",
    "vtlfs/engine/tracking/repositories/library_row.py:count_commit": "is in a transaction, whose commit has one",
    "vtlfs/engine/tracking/files.py:count_copies_on": "changes a database that is not in its place yet",
    "vtlfs/logs.py": "a log is not promised",
    "vtlfs/cli/commands/find.py": "changes nothing: a member has a `link`",
    "vtlfs/members/filling.py": "is in transactions of the member index, whose commit has one",
    "vtlfs/members/database.py:note_event": "what is forgotten twice is forgotten",
    "vtlfs/members/frames.py": "changes nothing: a member has a `link`",
    "vtlfs/members/worker.py": "writes to a pipe",
    "vtlfs/restore/destination.py": "writes files of the user's, not of a library",
    "vtlfs/restore/restoring.py": "writes files of the user's, not of a library",
    "vtlfs/restore/wanted.py": "changes nothing: a member has a `link`",
    "vtlfs/snap/export.py:_copy": "is in the transaction of `export`",
    "vtlfs/tui/contents.py": "changes nothing: a member has a `link`",
    "vtlfs/tui/output_file.py": "writes files of the user's, not of a library",
}


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield every function of the product and its name."""
    for path in sorted(PACKAGE.rglob("*.py")):
        file = str(path.relative_to(PACKAGE.parent))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{file}:{node.name}", node


def own(function: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function without those of functions inside it."""
    for child in ast.iter_child_nodes(function):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from own(child)


def is_durable(node: ast.AST) -> bool:
    """Tell whether a call changes anything durable."""
    if isinstance(node, ast.Attribute):
        is_of_os = isinstance(node.value, ast.Name) and node.value.id == "os"
        return node.attr in CALLS or node.attr == "O_CREAT" or (is_of_os and node.attr in OF_OS)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
        modes = [word.value for word in node.args[1:2] if isinstance(word, ast.Constant)]
        return any(set("wax+") & set(str(mode)) for mode in modes)
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(CHANGING.match(node.value))


def reached_in(function: ast.AST) -> list[str]:
    """Return the names of the failpoints in a function."""
    return [
        str(node.args[0].value)
        for node in own(function)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "reached"
        and isinstance(node.args[0], ast.Constant)
    ]


def needs_none(name: str) -> bool:
    return name in WITHOUT or name.split(":")[0] in WITHOUT


def test_every_durable_step_has_a_failpoint() -> None:
    """For a new step: name it in vtlfs/failpoints.py, call `reached` after it, and make scenario.py reach it."""
    without = [
        f"{name}, line {node.lineno}"
        for name, function in functions()
        for node in own(function)
        if isinstance(node, ast.expr) and is_durable(node) and not reached_in(function) and not needs_none(name)
    ]
    assert without == []


def test_every_failpoint_is_registered_once_and_stands_in_the_code_once() -> None:
    found = [name for _, function in functions() for name in reached_in(function)]
    assert sorted(found) == sorted(failpoints.NAMES)


def test_no_exception_is_left_for_what_is_gone() -> None:
    durable = {name for name, function in functions() if any(is_durable(node) for node in own(function))}
    files = {name.split(":")[0] for name in durable}
    assert set(WITHOUT) <= durable | files


def test_every_failpoint_is_described_in_one_line() -> None:
    assert all(description and "\n" not in description for description in failpoints.NAMES.values())
