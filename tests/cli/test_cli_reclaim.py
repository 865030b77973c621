"""`vtlfs reclaim`, `vtlfs snapshot delete`, names of snapshots, and what `vtlfs status` says of space."""

import json
import random
import subprocess
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
import trio
from filling import tracked
from mounting import PROGRAM
from unmounted import Done, Refused, Run, Shelf

from vtlfs.engine import lease
from vtlfs.engine.connections import connected
from vtlfs.engine.reclaim.forecast import forecast
from vtlfs.engine.reclaim.outlook import look
from vtlfs.engine.reclaim.reclaim import Reclaim
from vtlfs.model import Actor, format_time, utc_now, wall_clock
from vtlfs.snap import store

ONE, TWO = random.Random(7).randbytes(50_001), random.Random(8).randbytes(8192)


def erase(shelf: Shelf, barcode: str = "A00001L9") -> None:
    with closing(tracked(shelf.library)) as tracking, tracking.transaction():
        for mount in tracking.mounts.live():
            tracking.mounts.end(mount.id, "unmounted", utc_now())
        tracking.volumes.end_current(barcode, utc_now())


@pytest.fixture
def erased(done: Done, shelf: Shelf) -> Shelf:
    """A library with an erased volume that a snapshot `monday` holds, and one that nothing holds."""
    shelf.write("A00001L9", ONE)
    shelf.write("A00002L9", TWO)
    done("snapshot", "take", shelf.path, "--name", "monday")
    erase(shelf)
    shelf.write("A00001L9", TWO)
    erase(shelf)
    return shelf


def as_json(done: Done, *words: object) -> Any:
    return json.loads(done(*words, "--json"))


def files(shelf: Shelf) -> int:
    return sum(path.is_file() for disk in shelf.disks for path in disk.glob("sessions/*/*"))


def test_dry_run_says_what_would_come_back_and_what_holds_the_rest(done: Done, erased: Shelf) -> None:
    before = files(erased)
    said = done("reclaim", erased.path, "--dry-run")
    assert said.startswith("8 KiB can be reclaimed, of 1 erased volume\n")
    assert "48.8 KiB of 1 erased volume are held:\n" in said
    assert said.rstrip().endswith("snapshot 1 (monday)")
    found = as_json(done, "reclaim", erased.path, "--dry-run")
    assert (found["bytes"], found["held_bytes"]) == (len(TWO), len(ONE))
    assert [(one["medium"], one["number"]) for one in found["reclaimable"]] == [("A00001L9", 2)]
    assert [(one["number"], one["snapshots"]) for one in found["held"]] == [(1, [1])]
    assert files(erased) == before


def test_reclaim_gives_back_what_nothing_holds(done: Done, erased: Shelf) -> None:
    before = files(erased)
    assert "reclaimed 8" in done("reclaim", erased.path)
    assert files(erased) == before - 2
    found = as_json(done, "reclaim", erased.path)
    assert (found["bytes"], found["result"]["volumes"]) == (0, [])


def test_reclaim_with_a_disk_that_is_missing(done: Done, run: Run, erased: Shelf) -> None:
    erased.disks[1].rename(erased.root / "away")
    result = run("reclaim", erased.path)
    assert result.returncode == 4
    assert "not everything could be deleted: disk 1: " in result.stderr
    (erased.root / "away").rename(erased.disks[1])
    assert "members that an earlier run has left are to be removed from disk 1" in done("reclaim", erased.path)
    assert as_json(done, "reclaim", erased.path)["left_on_disks"] == []


def test_reclaim_says_that_somebody_else_has_done_it_meanwhile(erased: Shelf) -> None:
    """The command waits for a mount that is at it, and finds nothing left to do."""
    words = [*PROGRAM, "reclaim", str(erased.path)]
    with lease.work(erased.library.path, "repair") as mine:
        assert mine
        waiting = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert waiting.stderr
        assert "is under way; waiting for its end" in waiting.stderr.readline()
        trio.run(reclaim_as_a_mount, erased)
    said, errors = waiting.communicate(timeout=60)
    assert (waiting.returncode, errors) == (0, "")
    assert said.endswith("\n8 KiB of 1 erased volume were reclaimed meanwhile by a mount or another command\n")
    assert "reclaimed 0 B" not in said


async def reclaim_as_a_mount(shelf: Shelf) -> None:
    """Reclaim what there is, by somebody who holds the lease already."""
    library = shelf.library
    disks = {disk.number: disk for disk in library.disks_that_answer()}
    async with connected(library, list(disks.values())) as at:
        found = await at.catalogue.read(lambda tracking: look(library, tracking).reclaimable)
        work = (library, disks, at.catalogue, at.committer.call)
        at_work = Reclaim(*work, actor=Actor(0, "alpha", "vtlfs"), by="a mount")
        await at_work.run(found)
        at_work.close()


def test_reclaim_says_who_reads(done: Done, erased: Shelf) -> None:
    with lease.reading(erased.library.path, "A00001L9", 2):
        found = as_json(done, "reclaim", erased.path, "--dry-run")
        assert found["reclaimable"] == []
        assert [len(one["processes"]) for one in found["held"]] == [0, 1]
        assert "which reads it" in done("reclaim", erased.path, "--dry-run")


def test_delete_names_what_goes_and_asks_first(done: Done, refused: Refused, erased: Shelf) -> None:
    said = done("snapshot", "delete", erased.path, "monday", "--dry-run")
    assert said.startswith("would delete snapshot 1 (monday), taken ")
    assert said.endswith("48.8 KiB on the disks would be reclaimed\n")
    assert "no terminal to ask at; give --yes" in refused(2, "snapshot", "delete", erased.path, "monday")
    assert "no snapshot 'tuesday'" in refused(1, "snapshot", "delete", erased.path, "monday", "tuesday", "--yes")
    assert done("snapshot", "delete", erased.path, "latest", "--yes").startswith("deleted snapshot 1 (monday)")
    assert as_json(done, "snapshot", "list", erased.path) == []
    assert as_json(done, "reclaim", erased.path)["bytes"] == len(ONE) + len(TWO)
    assert files(erased) == 2


def test_scheduled_snapshot_is_deleted_by_its_number(done: Done, shelf: Shelf) -> None:
    with closing(tracked(shelf.library)) as tracking, tracking.transaction():
        store.take(tracking, utc_now(), scheduled=True)
    found = as_json(done, "snapshot", "delete", shelf.path, "1", "--yes")
    assert [one["id"] for one in found["snapshots"]] == [1]


def test_name_or_latest_will_do_wherever_a_snapshot_is_wanted(done: Done, run: Run, erased: Shelf) -> None:
    done("snapshot", "take", erased.path)
    assert as_json(done, "snapshot", "show", erased.path, "monday")["snapshot"]["id"] == 1
    assert as_json(done, "snapshot", "show", erased.path, "latest")["snapshot"]["id"] == 2
    by_name = as_json(done, "snapshot", "diff", erased.path, "monday", "latest")
    assert by_name == as_json(done, "snapshot", "diff", erased.path, "1", "2")
    assert as_json(done, "snapshot", "diff", erased.path, "latest", "now") is not None
    done("snapshot", "export", erased.path, "monday", erased.root / "monday.db")
    assert (erased.root / "monday.db").exists()
    out = run("extract", erased.path, "A00001L9", "--snapshot", "monday", "-o", "-", text=False)
    assert out.stdout == ONE


def test_name_that_another_snapshot_has_is_refused(done: Done, refused: Refused, shelf: Shelf) -> None:
    done("snapshot", "take", shelf.path, "--name", "monday")
    assert "has the name 'monday' already" in refused(2, "snapshot", "take", shelf.path, "--name", "monday")
    for name in ("7", "latest", "now"):
        assert "can't be the name" in refused(2, "snapshot", "take", shelf.path, "--name", name)


def test_status_tells_what_space_is_used_for(done: Done, erased: Shelf) -> None:
    use = as_json(done, "status", erased.path)["use"]
    assert (use["current"], use["held"], use["reclaimable"]) == (len(TWO), len(ONE), len(TWO))
    assert (use["daily"], use["full_at"]) == (None, None)
    said = done("status", erased.path)
    assert "used      8 KiB by what the media have now, 48.8 KiB by erased volumes that are held, 8 KiB" in said
    assert "full      unknown: too little history" in said


def test_forecast_goes_by_what_came_and_what_was_reclaimed(shelf: Shelf) -> None:
    shelf.write("A00001L9", ONE)
    at = format_time(wall_clock() + timedelta(days=10))
    with closing(shelf.library.tracking()) as tracking:
        found = forecast(tracking, 10 * len(ONE), at)
        assert found.daily == pytest.approx(len(ONE) / 10, rel=0.01)
        assert found.full_at is not None
        assert found.full_at[:10] == format_time(wall_clock() + timedelta(days=110))[:10]
        assert forecast(tracking, 1 << 60, at).full_at is None
        with tracking.transaction():
            tracking.events.add("reclaimed", Actor(0, "alpha", "vtlfs"), utc_now(), bytes=1, data=len(ONE))
        assert forecast(tracking, 10 * len(ONE), at).daily == 0
        assert forecast(tracking, 10 * len(ONE), utc_now()).daily is None
