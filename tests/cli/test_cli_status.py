"""`vtlfs status`."""

import json
import os
import pwd
import signal
from pathlib import Path
from typing import Any

from mounting import OnDisks, require_fuse
from unmounted import Done, Shelf


def status(done: Done, shelf: Shelf) -> Any:
    return json.loads(done("status", shelf.path, "--json"))


def test_status_as_json(done: Done, shelf: Shelf) -> None:
    shelf.write("A00001L9", bytes(10_000))
    shelf.open("A00001L9", drive=3)
    found = status(done, shelf)
    assert (found["library"], found["uuid"]) == (shelf.path, shelf.library.config.uuid)
    assert found["sessions"] == {"total": 2, "open": 1}
    assert (found["media"], found["bytes"], found["tape_files"]) == (2, 10_000, 1)
    assert [drive["open_sessions"] for drive in found["drives"]] == [0, 0, 0, 1]
    disk = found["disks"][1]
    assert (disk["number"], disk["path"], disk["problem"]) == (1, str(shelf.disks[1]), None)
    assert 0 < disk["free"] <= disk["total"]


def test_status_for_people(done: Done, shelf: Shelf) -> None:
    mount = shelf.mount("alpha", "/mnt/here", "host=alpha,io=direct")
    lease = shelf.library.leases.take(mount)
    try:
        text = done("status", shelf.path)
    finally:
        lease.let_go()
    assert "sessions  0, of which 0 open" in text
    user = pwd.getpwuid(os.getuid()).pw_name
    (line,) = [line for line in text.splitlines() if "/mnt/here" in line]
    words = line.split()
    assert (words[:4], words[5:]) == (["alpha", "/mnt/here", "4711", user], ["alive", "host=alpha,io=direct"])


def test_dead_mount_is_told_from_a_live_one(done: Done, shelf: Shelf) -> None:
    shelf.mount("alpha", "/mnt/dead")
    lease = shelf.library.leases.take(shelf.mount("beta", "/mnt/alive"))
    try:
        found = status(done, shelf)
    finally:
        lease.let_go()
    assert [(mount["mountpoint"], mount["alive"]) for mount in found["mounts"]] == [
        ("/mnt/dead", False),
        ("/mnt/alive", True),
    ]
    (note,) = found["notes"]
    assert note == f"the mount at /mnt/dead is dead; vtlfs recover {shelf.path} ends its sessions"


def test_two_live_mounts_of_one_host_name_are_noted(done: Done, shelf: Shelf) -> None:
    mounts = [shelf.mount(host, f"/mnt/{place}") for place, host in enumerate([None, "machine", "beta"])]
    leases = [shelf.library.leases.take(mount) for mount in mounts]
    try:
        found, text = status(done, shelf), done("status", shelf.path)
    finally:
        for lease in leases:
            lease.let_go()
    assert [mount["host"] for mount in found["mounts"]] == ["machine", "machine", "beta"]
    (note,) = found["notes"]
    assert note.startswith("2 live mounts have the host name machine")
    assert f"note: {note}\n" in text


def test_missing_disk_is_told(done: Done, shelf: Shelf) -> None:
    shelf.disks[0].rename(shelf.root / "elsewhere")
    found = status(done, shelf)
    disk = found["disks"][0]
    assert (disk["number"], disk["free"], disk["problem"]) == (0, None, "no such directory")
    assert found["disks"][1]["problem"] is None
    assert f"note: disk 0 ({shelf.disks[0]}): no such directory\n" in done("status", shelf.path)


def test_disk_that_lost_its_label_is_told(done: Done, shelf: Shelf) -> None:
    (shelf.disks[1] / "vtlfs-disk.json").unlink()
    assert "not labelled" in status(done, shelf)["disks"][1]["problem"]


def test_disks_are_known_by_their_labels(done: Done, shelf: Shelf) -> None:
    spare = shelf.root / "spare"
    shelf.disks[0].rename(spare)
    shelf.disks[1].rename(shelf.disks[0])
    spare.rename(shelf.disks[1])
    disks = status(done, shelf)["disks"]
    assert [(disk["number"], disk["path"]) for disk in disks] == [(0, str(shelf.disks[1])), (1, str(shelf.disks[0]))]


def test_disk_that_hangs_does_not_hang_status(done: Done, shelf: Shelf, tmp_path: Path) -> None:
    """A file system whose process was stopped answers nobody."""
    require_fuse()
    (tmp_path / "other").mkdir()
    for file in ("vtlfs-disk.json", "vtlfs-disk.mark"):
        (shelf.disks[0] / file).unlink()
    with OnDisks(tmp_path / "other").mounted(at=shelf.disks[0]) as mounted:
        os.kill(mounted.pid, signal.SIGSTOP)
        try:
            found = status(done, shelf)
        finally:
            os.kill(mounted.pid, signal.SIGCONT)
    assert [disk["problem"] for disk in found["disks"]] == ["does not answer", None]
    assert len(found["drives"]) == 4
