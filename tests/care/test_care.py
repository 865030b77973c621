"""`[care]` on real mounts: all data is verified once in so long, and tape files are rehearsed; findings are told."""

import json
import os
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from faked_clock import as_words, faked, require_faketime, set_offset
from filling import flip_at
from mounting import PROGRAM, OnDisks, random_bytes, require_fuse, shell, wait_until
from telling import Command, by_command, configure

from vtlfs.care.pace import GivenWay, Pace
from vtlfs.care.schedule import interrupted, is_rehearsal_due, is_verification_due
from vtlfs.care.turn import before_mounts
from vtlfs.care_rules import CareRule
from vtlfs.disks.local.opening import member_path
from vtlfs.disks.records import BLOCK
from vtlfs.engine import lease
from vtlfs.engine.library import Library
from vtlfs.engine.scrub import verification as verifications
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.jobs import JobRow
from vtlfs.errors import LibraryError
from vtlfs.model import MIB, later, utc_now

DAY = 86_400.0
WITHOUT_INDEX = "background = false"  # libfaketime's sleep fails in the process that starts the indexer


def read(library: OnDisks, do: Callable[[Tracking], Any]) -> Any:
    """Ask the catalogue."""
    with closing(Library.open(library.path).tracking(read_only=True)) as tracking:
        return do(tracking)


def job(library: OnDisks, name: str) -> JobRow | None:
    found: JobRow | None = read(library, lambda tracking: tracking.jobs.get(name))
    return found


def wait_ended(library: OnDisks, name: str) -> JobRow:
    """Wait until a job has ended."""

    def ended() -> JobRow | None:
        found = job(library, name)
        return found if found is not None and found.ended_at is not None else None

    found = wait_until(ended, f"the end of {name}")
    assert isinstance(found, JobRow)
    return found


def count_verifications(library: OnDisks) -> int:
    last = read(library, lambda tracking: tracking.verifications.last())
    return 0 if last is None else int(last.id)


def damage(library: OnDisks, barcode: str, number: int) -> None:
    """Flip a bit of a tape file on its disk."""
    extent = library.extents(barcode, number)[0]
    flip_at(member_path(library.disks[extent.disk], extent.session), extent.position + BLOCK + 100)


def write(library: OnDisks, path: Path, size: int) -> None:
    """Write a tape file, and wait for its release."""
    before = len(library.tape_files(path.name))
    path.write_bytes(random_bytes(size, size))
    wait_until(lambda: len(library.tape_files(path.name)) > before, "a release")


def test_mount_verifies_all_data_and_again_after_so_long(tmp_path: Path) -> None:
    require_fuse()
    require_faketime()
    library = OnDisks(tmp_path)
    clock = tmp_path / "clock"
    set_offset(clock, "+0")
    library.serving = [*as_words(faked(FAKETIME_TIMESTAMP_FILE=str(clock), FAKETIME_NO_CACHE="1")), *PROGRAM]
    configure(library, 'verify = "30d"\nlimit = "none"', "care")
    configure(library, WITHOUT_INDEX, "index")
    with library.mounted() as mounted:
        write(library, mounted.medium("T1"), 3 * MIB)
        found = wait_ended(library, "verify")
        assert found.by.startswith("mount ")
        assert found.result is not None
        assert found.result.endswith("verified: all is as it should be")
        assert (found.done, found.total) == (3 * MIB, 3 * MIB)
        assert count_verifications(library) == 1
        set_offset(clock, "+29d")
        write(library, mounted.medium("T2"), MIB)
        set_offset(clock, "+31d")
        wait_until(lambda: count_verifications(library) == 2, "the next verification")
        wait_until(lambda: wait_ended(library, "verify").total == 4 * MIB, "its end")
        status = json.loads(library.vtlfs("status", library.path, "--json"))
        assert status["care"]["verify"]["ended_at"] is not None
        assert "all is as it should be" in library.vtlfs("status", library.path)


def test_verification_is_resumed_by_the_next_mount(library: OnDisks) -> None:
    """So slow that it can't end: it is interrupted by kill -9, and then by an unmount."""
    with library.mounted() as mounted:
        for number in range(1, 5):
            write(library, mounted.medium(f"T{number}"), 4 * MIB)
    configure(library, 'verify = "30d"\nlimit = "1MiB/s"', "care")

    def bytes_so_far() -> int:
        last = read(library, lambda tracking: tracking.verifications.last())
        return 0 if last is None else int(last.bytes)

    with library.mounted(checked=False) as mounted:
        wait_until(bytes_so_far, "some progress")
        mounted.kill()
        library.vtlfs("umount", mounted.path)
    with library.mounted(allows=[" died; "]):
        before = bytes_so_far()
        wait_until(lambda: bytes_so_far() > before, "more progress")
    so_far = bytes_so_far()
    assert so_far < 16 * MIB, "it can't have ended"
    interrupted_job = job(library, "verify")
    assert interrupted_job is not None
    assert interrupted_job.ended_at is None
    assert "interrupted" in library.vtlfs("status", library.path)
    text = (library.path / "library.toml").read_text()
    (library.path / "library.toml").write_text(text.replace("1MiB/s", "none"))
    with library.mounted():
        found = wait_ended(library, "verify")
        assert found.total == 16 * MIB
    last = read(library, lambda tracking: tracking.verifications.last_of_all())
    assert (last.id, last.bytes) == (1, 16 * MIB), "one verification, which went on"


def test_one_of_several_mounts_verifies(library: OnDisks) -> None:
    with library.mounted() as mounted:
        write(library, mounted.medium("T1"), 2 * MIB)
    configure(library, 'verify = "30d"\nlimit = "none"', "care")
    second = library.root / "second"
    with library.mounted("host=one"), library.mounted("host=two", at=second):
        wait_ended(library, "verify")
        shell(f"cat {second}/media/T1 > /dev/null")
    assert count_verifications(library) == 1


def test_finding_is_told_mended_and_reported(tmp_path: Path) -> None:
    require_fuse()
    library, command = OnDisks(tmp_path, 3, parity=1), Command(tmp_path)
    with library.mounted() as mounted:
        write(library, mounted.medium("T1"), 3 * MIB)
    damage(library, "T1", 0)
    configure(library, f'{by_command(command)}\ngather = "1s"\nspace = "never"\nkinds = ["verification"]')
    configure(library, 'verify = "30d"\nlimit = "none"', "care")
    with library.mounted(allows=["all data: ", "damage", "degraded", "computed from the rest"], checked=False):
        found = wait_ended(library, "verify")
        assert found.result is not None
        assert found.result.endswith("1 defects")
        (told, *_) = wait_until(command.heard, "a message")
        assert told["kind"] == "verification found"
        report = json.loads(library.vtlfs("report", library.path, "--json", status=None))
        assert report["verified"]["damaged"] == 1


def test_command_that_wants_to_verify_comes_first(library: OnDisks) -> None:
    with library.mounted() as mounted:
        write(library, mounted.medium("T1"), 4 * MIB)
    configure(library, 'verify = "30d"\nlimit = "10KiB/s"', "care")
    with library.mounted():
        wait_until(lambda: count_verifications(library) == 1, "the mount's own verification")
        assert "all is as it should be" in library.vtlfs("verify", library.path)
        assert read(library, interrupted) is None, "the command's is newer, and has verified all"


def test_rehearsal_restores_tape_files_by_both_ways(library: OnDisks) -> None:
    with library.mounted() as mounted:
        for number in range(1, 5):
            write(library, mounted.medium(f"T{number}"), MIB + number)
    configure(library, 'rehearse = "weekly"\nlimit = "none"\nfiles = 2', "care")
    with library.mounted("host=alpha"):
        found = wait_ended(library, "rehearse")
        assert found.result is not None
        assert found.result.startswith("2 tape files with ")
        assert found.result.endswith("restored by both ways: all are whole")
        readers = [one for one in library.listed() if one["access"] == "read" and one["host"] == "alpha"]
        assert len(readers) == 2, "through the mount"
        assert "rehearsed" in library.vtlfs("report", library.path)
        assert "restored by both ways" in library.vtlfs("status", library.path)
    events = json.loads(library.vtlfs("events", library.path, "--json"))
    (event,) = [one for one in events if one["what"] == "rehearsed"]
    assert (event["details"]["tape_files"], event["details"]["failed"]) == (2, {})


def test_rehearsal_that_fails_is_told_and_that_the_next_one_passes(tmp_path: Path) -> None:
    require_fuse()
    require_faketime()
    library, command = OnDisks(tmp_path), Command(tmp_path)
    clock = tmp_path / "clock"
    set_offset(clock, "+0")
    with library.mounted() as mounted:
        write(library, mounted.medium("T1"), MIB)
    damage(library, "T1", 0)
    library.serving = [*as_words(faked(FAKETIME_TIMESTAMP_FILE=str(clock), FAKETIME_NO_CACHE="1")), *PROGRAM]
    configure(library, f'{by_command(command)}\ngather = "1s"\nspace = "never"\nkinds = ["rehearsal"]')
    configure(library, 'rehearse = "weekly"\nlimit = "none"', "care")
    configure(library, WITHOUT_INDEX, "index")
    with library.mounted(allows=["rehearsal: ", "damaged", "BLAKE3", "session", "extent"], checked=False):
        (told, *_) = wait_until(command.heard, "a message")
        assert (told["kind"], told["severity"], told["lasts"]) == ("rehearsal failed", "error", True)
        assert "1 failed, the first T1/0000: " in told["what"]
        damage(library, "T1", 0)  # the bit is as it was
        set_offset(clock, "+8d")
        wait_until(lambda: command.heard()[-1]["kind"] == "rehearsal passed", "that it passed")


# --- without a mount --------------------------------------------------------------------------------------------------


def test_verification_is_due_once_in_so_long(tmp_path: Path) -> None:
    library, rule, at = OnDisks(tmp_path), CareRule(verify=30 * DAY), utc_now()

    def is_due(when: str) -> bool:
        return bool(read(library, lambda tracking: is_verification_due(tracking, rule, when)))

    assert not is_due(at), "nothing is stored"
    opened = Library.open(library.path)
    with closing(opened.tracking()) as tracking, tracking.transaction():
        tracking.sql.execute("UPDATE library SET tape_files = 1")
    assert is_due(at)
    with closing(opened.tracking()) as tracking:
        begun = verifications.begin(tracking, [], at)
        assert interrupted(tracking) is not None
        assert is_verification_due(tracking, rule, at)
        begun.ended_at = later(at, DAY)
        verifications.save(tracking, begun)
    assert not is_due(later(at, 30 * DAY - 1))
    assert is_due(later(at, 30 * DAY))
    assert is_due(later(at, -1)), "a clock that was set back"
    assert not read(library, lambda tracking: is_verification_due(tracking, CareRule(), later(at, 99 * DAY)))
    with closing(opened.tracking()) as tracking:
        verifications.begin(tracking, ["T1"], later(at, 2 * DAY))
        assert interrupted(tracking) is None, "it is not of all media"


def test_rehearsal_is_due_once_in_so_long(tmp_path: Path) -> None:
    library, rule, at = OnDisks(tmp_path), CareRule(rehearse=7 * DAY), utc_now()
    with closing(Library.open(library.path).tracking()) as tracking:
        assert not is_rehearsal_due(tracking, rule, at), "nothing is stored"
        with tracking.transaction():
            tracking.sql.execute("UPDATE medium SET tape_files = 1 WHERE barcode = 'T1'")
        assert is_rehearsal_due(tracking, rule, at)
        with tracking.transaction():
            tracking.jobs.begin("rehearse", "mount 1", 0, at)
        assert is_rehearsal_due(tracking, rule, at), "it was interrupted"
        with tracking.transaction():
            tracking.jobs.end("rehearse", "x", at)
        assert not is_rehearsal_due(tracking, rule, later(at, 7 * DAY - 1))
        assert is_rehearsal_due(tracking, rule, later(at, 7 * DAY))


def test_wait_ends_when_it_is_to_stop(tmp_path: Path) -> None:
    library = Library.open(OnDisks(tmp_path).path)
    stop = threading.Event()
    pace = Pace(library, 1, stop=stop)
    stop.set()
    with pytest.raises(GivenWay):
        pace.take(1 << 40)
    Pace(library, None).take(1 << 40)  # no limit: no wait


def test_command_waits_for_nobody_but_a_mount(tmp_path: Path) -> None:
    library = Library.open(OnDisks(tmp_path).path)
    read_end, write_end = os.pipe()
    if (child := os.fork()) == 0:
        with lease.alone(library.path, "x"):
            os.close(write_end)
            os.read(read_end, 1)
        os._exit(0)
    os.close(read_end)
    try:

        def is_taken() -> bool:
            try:
                with lease.alone(library.path, "x"):
                    return False
            except LibraryError:
                return True

        wait_until(is_taken, "the other process")
        with pytest.raises(LibraryError, match="another one verifies"), before_mounts(library, "another one verifies"):
            pass
    finally:
        os.close(write_end)
        os.waitpid(child, 0)
