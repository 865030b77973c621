"""`vtlfs status`: what it shows and advises, and the exit status, which tells the condition of the library."""

import json
import os
import pwd
import shutil
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mounting import OnDisks, require_fuse
from unmounted import Done, Run, Shelf

from vtlfs.disks.local.disk import LocalDisk
from vtlfs.disks.missing import MissingDisk
from vtlfs.engine import lease, live
from vtlfs.engine.live import LiveStats
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.lacks import HEADERS
from vtlfs.errors import LibraryError

FINE, FAILED, DEGRADED = 0, 3, 4
AT = "2026-11-20T03:00:00.000000Z"
DATA = bytes(range(256)) * 200

Status = Callable[..., Any]


@pytest.fixture
def status(run: Run) -> Status:
    """Return a function that runs `vtlfs status --json`, asserts the exit status, and returns the JSON."""

    def call(shelf: Shelf, expected: int = FINE) -> Any:
        result = run("status", shelf.path, "--json")
        assert (result.returncode, result.stderr) == (expected, ""), result.stdout
        return json.loads(result.stdout)

    return call


def change(shelf: Shelf, *changes: Callable[[Tracking], object]) -> None:
    """Change the tracking database."""
    with closing(shelf.library.tracking()) as tracking, tracking.transaction():
        for one in changes:
            one(tracking)


def told(found: Any) -> list[tuple[str, str, str]]:
    """Return the troubles."""
    return [(trouble["condition"], trouble["what"], trouble["advice"]) for trouble in found["troubles"]]


def test_status_as_json(status: Status, shelf: Shelf) -> None:
    lock = shelf.library.leases.take(mount := shelf.mount())
    try:
        shelf.write("A00001L9", bytes(10_000), mount=mount)
        shelf.open("A00001L9", drive=3, mount=mount)
        found = status(shelf)
    finally:
        lock.let_go()
    assert (found["library"], found["uuid"]) == (shelf.path, shelf.library.config.uuid)
    assert (found["condition"], found["troubles"], found["repair"]) == ("fine", [], None)
    assert found["sessions"] == {"total": 2, "open": 1}
    assert (found["media"], found["bytes"], found["tape_files"]) == (2, 10_000, 1)
    assert [drive["open_sessions"] for drive in found["drives"]] == [0, 0, 0, 1]
    disk = found["disks"][1]
    assert (disk["number"], disk["path"], disk["problem"]) == (1, str(shelf.disks[1]), None)
    assert (disk["state"], disk["state_at"], disk["successor"]) == ("in use", None, None)
    assert 0 < disk["free"] <= disk["total"]
    assert [one["stored"] for one in found["disks"]] == [{"extents": 2, "bytes": 5904}, {"extents": 1, "bytes": 4096}]


def test_status_for_people(done: Done, shelf: Shelf) -> None:
    mount = shelf.mount("alpha", "/mnt/here", "host=alpha,io=direct")
    lock = shelf.library.leases.take(mount)
    try:
        text = done("status", shelf.path)
    finally:
        lock.let_go()
    assert "condition fine\n" in text
    assert "sessions  0, of which 0 open" in text
    user = pwd.getpwuid(os.getuid()).pw_name
    (line,) = [line for line in text.splitlines() if "/mnt/here" in line]
    words = line.split()
    assert (words[:4], words[6:]) == (["alpha", "/mnt/here", "4711", user], ["alive", "host=alpha,io=direct"])


def test_dead_mount_is_told_from_a_live_one(status: Status, shelf: Shelf) -> None:
    shelf.mount("alpha", "/mnt/dead")
    lock = shelf.library.leases.take(shelf.mount("beta", "/mnt/alive"))
    try:
        found = status(shelf, DEGRADED)
    finally:
        lock.let_go()
    assert [(mount["mountpoint"], mount["alive"]) for mount in found["mounts"]] == [
        ("/mnt/dead", False),
        ("/mnt/alive", True),
    ]
    advice = f"vtlfs recover {shelf.path} ends its sessions"
    assert told(found) == [("degraded", "the mount at /mnt/dead is dead", advice)]


def test_two_live_mounts_of_one_host_name_are_noted(status: Status, done: Done, shelf: Shelf) -> None:
    mounts = [shelf.mount(host, f"/mnt/{place}") for place, host in enumerate([None, "machine", "beta"])]
    leases = [shelf.library.leases.take(mount) for mount in mounts]
    try:
        found, text = status(shelf), done("status", shelf.path)
    finally:
        for lock in leases:
            lock.let_go()
    assert [mount["host"] for mount in found["mounts"]] == ["machine", "machine", "beta"]
    (note,) = [note for note in found["notes"] if "live mounts" in note]
    assert note.startswith("2 live mounts have the host name machine")
    assert f"note: {note}\n" in text


# --- disks ----------------------------------------------------------------------------------------------------------


def written(tmp_path: Path, disks: int, parity: int) -> Shelf:
    """Return a library with a tape file, and no mount that died."""
    shelf = Shelf(tmp_path, disks, parity)
    shelf.write("A00001L9", DATA, mount=shelf.mount())
    change(shelf, lambda tracking: tracking.mounts.end(1, "unmounted", AT))
    return shelf


@pytest.mark.parametrize(
    ("disks", "parity", "dead", "expected"),
    [
        (2, 0, 0, FINE),
        (2, 0, 1, FAILED),
        (2, 1, 0, FINE),
        (2, 1, 1, FAILED),  # everything can be read, and nothing written
        (3, 0, 1, FAILED),
        (3, 1, 0, FINE),
        (3, 1, 1, DEGRADED),
        (3, 1, 2, FAILED),
        (3, 2, 1, DEGRADED),
        (3, 2, 2, FAILED),
        (4, 2, 2, DEGRADED),
    ],
)
def test_exit_status_with_disks_away(
    status: Status, tmp_path: Path, disks: int, parity: int, dead: int, expected: int
) -> None:
    shelf = written(tmp_path, disks, parity)
    for disk in shelf.disks[:dead]:
        shutil.rmtree(disk)
    found = status(shelf, expected)
    assert [disk["problem"] for disk in found["disks"]] == ["no such directory"] * dead + [None] * (disks - dead)
    away = [trouble for trouble in told(found) if "no such directory" in trouble[1]]
    assert [advice for _, _, advice in away] == [
        f"bring it back, or vtlfs disk replace {shelf.path} {number} NEWPATH" for number in range(dead)
    ]
    stored = sum(disk["stored"]["bytes"] for disk in found["disks"][:dead])
    assert found["computed"] == (stored if dead <= parity else 0)
    assert all(("computed from parity" in what) == (dead <= parity) for _, what, _ in away)
    assert any("can't be read" in what for _, what, _ in told(found)) == (dead > parity)
    assert any("no stream can be" in what for _, what, _ in told(found)) == (disks - dead < 2)


def test_disk_that_dies_after_a_repair_has_moved_what_lay_on_another_dead_one(
    status: Status, run: Run, tmp_path: Path
) -> None:
    shelf = written(tmp_path, 4, 1)
    shutil.rmtree(shelf.disks[1])
    assert run("disk", "repair", shelf.path).returncode == 0
    shutil.rmtree(shelf.disks[2])
    found = status(shelf, DEGRADED)
    assert not any("can't be read" in what for _, what, _ in told(found))
    assert [type(disk) for disk in shelf.library.disks()] == [LocalDisk, MissingDisk, MissingDisk, LocalDisk]
    shutil.rmtree(shelf.disks[3])
    assert any("can't be read" in what for _, what, _ in told(status(shelf, FAILED)))
    with pytest.raises(LibraryError, match="no such directory"):
        shelf.library.disks()


def test_missing_disk_is_told_to_people(run: Run, tmp_path: Path) -> None:
    shelf = written(tmp_path, 3, 1)
    shelf.disks[0].rename(tmp_path / "else where")
    change(shelf, lambda tracking: tracking.disks.record_fault(0, "is missing", AT))
    text = run("status", shelf.path).stdout
    assert "condition degraded\n" in text
    lines = text.splitlines()
    (place,) = [place for place, line in enumerate(lines) if line.startswith("degraded: disk 0")]
    assert lines[place].startswith(
        f"degraded: disk 0 ({shelf.disks[0]}): no such directory since 2026-11-20 03:00:00; "
    )
    assert lines[place + 1] == f"    bring it back, or vtlfs disk replace {shelf.path} 0 NEWPATH"


def test_command_that_is_advised_can_be_typed(status: Status, tmp_path: Path) -> None:
    (tmp_path / "my tapes").mkdir()
    shelf = written(tmp_path / "my tapes", 3, 1)
    shutil.rmtree(shelf.disks[2])
    assert f"vtlfs disk replace '{shelf.path}' 2 NEWPATH" in told(status(shelf, DEGRADED))[0][2]


def test_disk_that_lost_its_label_is_told(status: Status, shelf: Shelf) -> None:
    (shelf.disks[1] / "vtlfs-disk.json").unlink()
    assert "not labelled" in status(shelf, FAILED)["disks"][1]["problem"]


def test_disks_are_known_by_their_labels(status: Status, shelf: Shelf) -> None:
    spare = shelf.root / "spare"
    shelf.disks[0].rename(spare)
    shelf.disks[1].rename(shelf.disks[0])
    spare.rename(shelf.disks[1])
    disks = status(shelf)["disks"]
    assert [(disk["number"], disk["path"]) for disk in disks] == [(0, str(shelf.disks[1])), (1, str(shelf.disks[0]))]


@pytest.mark.parametrize(
    ("fault", "said", "advised"),
    [
        ("Input/output error", "computed from parity", "disk replace {} 1 NEWPATH"),
        ("it does not answer", "computed from parity", "disk replace {} 1 NEWPATH"),
        ("No space left on device", "mounts write to the other disks", "disk add {} NEWPATH"),
    ],
)
def test_fault_that_a_mount_has_recorded(status: Status, tmp_path: Path, fault: str, said: str, advised: str) -> None:
    shelf = written(tmp_path, 3, 1)
    change(shelf, lambda tracking: tracking.disks.record_fault(1, fault, AT))
    lock = shelf.library.leases.take(shelf.mount())
    found = status(shelf, DEGRADED)
    ((_, what, advice),) = told(found)
    assert what.startswith(f"disk 1 ({shelf.disks[1]}): {fault} since 2026-11-20 03:00:00; ")
    assert said in what
    assert f"vtlfs {advised.format(shelf.path)}" in advice
    change(shelf, lambda tracking: tracking.disks.record_fault(1, None, AT))
    assert status(shelf)["troubles"] == []
    lock.let_go()


def test_disks_that_have_come_back_after_the_mount_are_not_away(status: Status, run: Run, tmp_path: Path) -> None:
    shelf = written(tmp_path, 3, 1)
    fault = "its label is not there; is the right device mounted?"
    change(
        shelf, *(lambda tracking, number=number: tracking.disks.record_fault(number, fault, AT) for number in (0, 1))
    )
    found = status(shelf, DEGRADED)
    assert found["space"]["available"]
    assert told(found) == [
        (
            "degraded",
            f"disk {number} ({shelf.disks[number]}) is there; the last mount could not use it since"
            f" 2026-11-20 03:00:00: {fault}",
            f"vtlfs disk repair {shelf.path} tries it out, and so does a mount",
        )
        for number in (0, 1)
    ]
    assert run("disk", "repair", shelf.path).returncode == 0
    assert told(status(shelf)) == []


def test_full_library_has_failed(status: Status, tmp_path: Path) -> None:
    shelf = written(tmp_path, 2, 0)
    change(shelf, lambda tracking: tracking.disks.record_fault(1, "No space left on device", AT))
    (first, _) = told(status(shelf, FAILED))
    assert "no stream can be" in first[1]
    assert f"vtlfs disk add {shelf.path} NEWPATH" in first[2]


def test_disk_that_retires(status: Status, run: Run, tmp_path: Path) -> None:
    shelf = written(tmp_path, 3, 0)
    change(shelf, lambda tracking: tracking.disks.begin_retiring(0, AT, successor=2))
    found = status(shelf, DEGRADED)
    disk = found["disks"][0]
    assert (disk["state"], disk["state_at"], disk["successor"]) == ("retiring", AT, 2)
    ((_, what, advice),) = told(found)
    assert f"is retiring since 2026-11-20 03:00:00; {disk['stored']['extents']} extents with " in what
    assert advice == f"vtlfs disk repair {shelf.path}"
    assert "retiring, for disk 2" in run("status", shelf.path).stdout
    change(shelf, lambda tracking: tracking.disks.retire(0, AT))
    assert [one["number"] for one in status(shelf)["disks"]] == [1, 2]


def test_gap_in_the_numbers_of_disks(status: Status, tmp_path: Path) -> None:
    """A missing disk is named with its last path, whatever its number."""
    shelf = written(tmp_path, 4, 0)
    change(shelf, lambda tracking: tracking.disks.retire(0, AT))
    shutil.rmtree(shelf.disks[2])
    found = status(shelf, FAILED)
    assert [(one["number"], one["problem"]) for one in found["disks"]] == [
        (1, None),
        (2, "no such directory"),
        (3, None),
    ]
    assert f"disk replace {shelf.path} 2 NEWPATH" in told(found)[-1][2]


# --- stripes --------------------------------------------------------------------------------------------------------


def lack(tracking: Tracking, stripes: int = 1) -> None:
    """Note that the first stripes of the tape file lack a parity extent."""
    rows = [row for row in tracking.extents.of(1, 0, 1000) if row.stripe < stripes]
    tracking.lacks.note_written(1, rows, 1, AT)


def test_stripes_with_too_little_parity(status: Status, tmp_path: Path) -> None:
    shelf = written(tmp_path, 3, 2)
    change(shelf, lambda tracking: lack(tracking, 2))
    found = status(shelf, DEGRADED)
    assert found["degraded"] == [{"parity": 1, "stripes": 2, "bytes": 8192, "since": AT}]
    what = "8 KiB in 2 stripes lack 1 extent of parity since 2026-11-20 03:00:00"
    assert told(found) == [("degraded", what, f"vtlfs disk repair {shelf.path}")]


def test_stripes_of_which_a_rebuild_has_not_found_all_extents(status: Status, tmp_path: Path) -> None:
    shelf = written(tmp_path, 3, 1)
    lacking = [(1, stripe, 8192, 0, False, True) for stripe in (0, 1)]
    change(shelf, lambda tracking: tracking.lacks.note_mended([], lacking, AT))
    ((_, what, advice),) = told(status(shelf, DEGRADED))
    assert what == "16 KiB in 2 stripes have lost extents since 2026-11-20 03:00:00"
    assert advice == f"vtlfs disk repair {shelf.path}"


def test_stripes_that_lack_parity_and_a_disk_for_it(status: Status, tmp_path: Path) -> None:
    shelf = written(tmp_path, 3, 2)
    change(shelf, lack)
    shutil.rmtree(shelf.disks[0])
    advice = told(status(shelf, DEGRADED))[-1][2]
    assert advice == f"vtlfs disk add {shelf.path} NEWPATH: parity 2 wants 3 usable disks"


def test_damage_that_nothing_has_mended(status: Status, tmp_path: Path) -> None:
    shelf = written(tmp_path, 3, 1)
    change(shelf, lambda tracking: tracking.lacks.note_damaged(1, [0, HEADERS], AT))
    found = status(shelf, DEGRADED)
    assert found["damaged"] == {"stripes": 1, "bytes": 8192, "headers": 1, "since": AT}
    ((_, what, advice),) = told(found)
    assert what.endswith("which is not mended: 8 KiB in 1 stripe and headers of 1 session")
    assert advice == f"vtlfs disk repair {shelf.path}; vtlfs verify {shelf.path} names the tape files"
    change(shelf, lambda tracking: tracking.lacks.remove(1, [0, HEADERS]))
    assert status(shelf)["damaged"] is None


# --- repair ---------------------------------------------------------------------------------------------------------


def test_repair_under_way_interrupted_and_ended(status: Status, run: Run, tmp_path: Path) -> None:
    shelf = written(tmp_path, 3, 1)
    begin, advance = (
        lambda tracking: tracking.jobs.begin("repair", "mount 3", 4 << 30, AT),
        lambda tracking: tracking.jobs.advance("repair", 1 << 30),
    )
    change(shelf, lack, begin, advance)
    with lease.work(shelf.library.path, "repair") as is_mine:
        assert is_mine
        found, text = status(shelf, DEGRADED), run("status", shelf.path).stdout
    assert (found["repair"]["is_running"], found["repair"]["done"]) == (True, 1 << 30)
    assert "repair    under way: 1 GiB of 4 GiB (25 %) since 2026-11-20 03:00:00, by mount 3\n" in text
    assert [advice for _, _, advice in told(found)] == ["wait for the repair"]
    found = status(shelf, DEGRADED)
    assert not found["repair"]["is_running"]
    goes_on = f"vtlfs disk repair {shelf.path} goes on with it"
    assert [advice for _, _, advice in told(found)] == [f"vtlfs disk repair {shelf.path}", goes_on]
    result = "1 stripes need another disk: add one with `vtlfs disk add`"
    change(shelf, lambda tracking: tracking.jobs.end("repair", result, AT))
    assert [advice for _, _, advice in told(status(shelf, DEGRADED))] == [
        f"vtlfs disk repair {shelf.path}; the last one: {result}"
    ]
    change(
        shelf,
        lambda tracking: tracking.lacks.remove(1, [0]),
        lambda tracking: tracking.jobs.end("repair", "mended 4 GiB", AT),
    )
    assert status(shelf)["repair"]["result"] == "mended 4 GiB"
    assert "repair    mended 4 GiB; ended 2026-11-20 03:00:00, by mount 3\n" in run("status", shelf.path).stdout


def test_interrupted_repair_that_has_nothing_left_to_do_ends_with_the_command_that_is_advised(
    status: Status, run: Run, tmp_path: Path
) -> None:
    shelf = written(tmp_path, 3, 1)
    change(shelf, lambda tracking: tracking.jobs.begin("repair", "mount 3", 4 << 30, AT))
    assert [advice for _, _, advice in told(status(shelf, DEGRADED))] == [
        f"vtlfs disk repair {shelf.path} goes on with it"
    ]
    assert run("disk", "repair", shelf.path).returncode == 0
    assert told(status(shelf)) == []


def test_extents_computed_for_readers_are_those_of_all_live_mounts(status: Status, done: Done, shelf: Shelf) -> None:
    mounts = [shelf.mount("alpha", "/mnt/a"), shelf.mount("beta", "/mnt/b")]
    leases = [shelf.library.leases.take(mount) for mount in mounts]
    for mount in mounts:
        path = live.path_of(shelf.library.path, mount)
        path.touch()
        with path.open("r+b") as file:
            live.write(file.fileno(), LiveStats(1.0, {}, {0: (0, 0), 1: (0, 0)}, {0: 0, 1: 1200}))
    try:
        assert [disk["computed_extents"] for disk in status(shelf)["disks"]] == [0, 2400]
        assert "computed  2,400 extents for readers" in done("status", shelf.path)
    finally:
        for lock in leases:
            lock.let_go()


# --- space ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("disks", "parity", "worth"),
    [
        (2, 0, "they die together"),
        (3, 1, "they die together, which parity does not make up for"),
        (3, 2, "they die together, which parity does not make up for"),
    ],
)
def test_device_that_disks_share_counts_once(
    status: Status, tmp_path: Path, disks: int, parity: int, worth: str
) -> None:
    shelf = Shelf(tmp_path, disks, parity)
    found = status(shelf)
    device = os.statvfs(tmp_path)
    space = found["space"]
    assert space["total"] == device.f_blocks * device.f_frsize
    assert space["free"] == pytest.approx(device.f_bavail * device.f_frsize, rel=0.1)
    assert space["available"] == pytest.approx(space["free"] * (disks - parity) / disks, rel=0.01)
    (note,) = found["notes"]
    names = "disk 0 and disk 1" if disks == 2 else "disk 0, disk 1 and disk 2"
    assert note.startswith(f"{names} share a device: {worth}")


def test_disk_that_is_away_has_no_room(status: Status, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 3, 1)
    shutil.rmtree(shelf.disks[0])
    space = status(shelf, DEGRADED)["space"]
    assert space["available"] == pytest.approx(space["free"] / 2, rel=0.01)


def test_disk_that_hangs_does_not_hang_status(status: Status, shelf: Shelf, tmp_path: Path) -> None:
    """The disk is a file system whose serving process is stopped, so it answers nothing."""
    require_fuse()
    (tmp_path / "other").mkdir()
    for file in ("vtlfs-disk.json", "vtlfs-disk.mark"):
        (shelf.disks[0] / file).unlink()
    with OnDisks(tmp_path / "other").mounted(at=shelf.disks[0]) as mounted:
        os.kill(mounted.pid, signal.SIGSTOP)
        try:
            found = status(shelf, FAILED)
        finally:
            os.kill(mounted.pid, signal.SIGCONT)
    assert [disk["problem"] for disk in found["disks"]] == ["does not answer", None]
    assert len(found["drives"]) == 4
