"""`vtlfs disk` on a library that is not mounted: its output, its effects and its errors."""

import errno
import json
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from filling import fill, tracked
from unmounted import PROGRAM, PROJECT, Done, Refused, Run, Shelf

from vtlfs import failpoints
from vtlfs.disks import discovery
from vtlfs.disks.local import label as labels
from vtlfs.disks.local.label import Label
from vtlfs.engine.library import Library
from vtlfs.engine.roster import roster
from vtlfs.model import DiskRecord, utc_now

DATA = random.Random(15).randbytes(400_000)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """A library of three disks with parity 1 and a tape file."""
    shelf = Shelf(tmp_path, disks=3, parity=1)
    shelf.write("A00001L9", DATA)
    unmount(shelf)
    return shelf


def unmount(shelf: Shelf) -> None:
    with closing(tracked(shelf.library)) as tracking, tracking.transaction():
        tracking.mounts.end(1, "unmounted", utc_now())


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return made(tmp_path / "new")


def made(path: Path) -> Path:
    path.mkdir()
    return path


def listed(done: Done, shelf: Shelf, *options: str) -> dict[int, dict[str, Any]]:
    return {disk["number"]: disk for disk in json.loads(done("disk", "list", shelf.path, "--json", *options))}


def paths(shelf: Shelf) -> set[str]:
    """Return the disks of library.toml."""
    return {str(path) for path in Library.open(shelf.library.path).config.disks}


def content(run: Run, shelf: Shelf) -> bytes:
    return bytes(run("extract", shelf.path, "A00001L9", text=False).stdout)


# --- list -------------------------------------------------------------------------------------------------------------


def test_list_shows_what_lies_on_each_disk(done: Done, shelf: Shelf) -> None:
    lines = done("disk", "list", shelf.path).splitlines()
    assert lines[0].split() == ["DISK", "PATH", "STATE", "HELD", "FREE", "TOTAL", "SINCE", "WHY"]
    assert [line.split()[:2] for line in lines[1:]] == [[str(n), str(path)] for n, path in enumerate(shelf.disks)]
    disks = listed(done, shelf)
    assert sum(disk["stored"]["bytes"] for disk in disks.values()) >= len(DATA) * 3 // 2
    assert all(disk["state"] == "in use" and disk["problem"] is None and disk["free"] > 0 for disk in disks.values())


def test_list_says_why_a_disk_is_away(done: Done, shelf: Shelf) -> None:
    shelf.disks[1].rename(shelf.root / "away")
    assert "no such directory" in done("disk", "list", shelf.path).splitlines()[2]
    disk = listed(done, shelf)[1]
    assert (disk["problem"], disk["free"], disk["path"]) == ("no such directory", None, str(shelf.disks[1]))


# --- add --------------------------------------------------------------------------------------------------------------


def test_add_labels_records_and_lists_the_new_disk(done: Done, shelf: Shelf, new: Path) -> None:
    said = done("disk", "add", shelf.path, new)
    assert re.match(rf"disk 3: {new}, .* free of ", said)
    assert "share a device" in said.splitlines()[1]
    label = labels.read(new)
    assert label is not None
    assert (label.library, label.number) == (shelf.library.config.uuid, 3)
    assert new.stat().st_mode & 0o777 == 0o700
    assert paths(shelf) == {*map(str, shelf.disks), str(new)}
    assert [disk.path for disk in Library.open(shelf.library.path).disks()] == [*map(str, shelf.disks), str(new)]
    assert json.loads(done("disk", "add", shelf.path, made(shelf.root / "more"), "--json"))["number"] == 4


def test_a_comment_in_library_toml_survives(done: Done, shelf: Shelf, new: Path) -> None:
    file = shelf.library.path / "library.toml"
    text = file.read_text().replace("[stripe]", "# of the night\n[stripe]")
    file.write_text(text)
    done("disk", "add", shelf.path, new)
    assert file.read_text() == text.replace(f'"{shelf.disks[2]}"]', f'"{shelf.disks[2]}", "{new}"]')


def test_add_refuses_what_can_not_be_a_disk(refused: Refused, shelf: Shelf, tmp_path: Path) -> None:
    other = Shelf(made(tmp_path / "other"))
    (made(tmp_path / "used") / "sessions").mkdir()
    (tmp_path / "link").symlink_to(shelf.disks[0])
    made(tmp_path / "gone")
    inside = made(shelf.library.path / "inside")
    for path, status, why in [
        (shelf.disks[1], 2, "is disk 1 of this library already"),
        (tmp_path / "link", 2, "is disk 0 of this library already"),
        (other.disks[0], 1, "belongs to another library"),
        (shelf.library.path, 2, "is the library's own directory"),
        (inside, 2, "is the library's own directory, or lies in it"),
        (tmp_path / "nowhere", 1, "no such directory"),
        (shelf.library.path / "library.toml", 1, "not a directory"),
        (tmp_path / "used", 1, "has member files already"),
    ]:
        assert why in refused(status, "disk", "add", shelf.path, path), path


def test_add_refuses_a_directory_that_can_not_be_written(refused: Refused, shelf: Shelf, new: Path) -> None:
    new.chmod(0o500)
    assert "not writable" in refused(1, "disk", "add", shelf.path, new, rights=False)


def test_add_where_a_disk_lay_says_what_was_meant(refused: Refused, shelf: Shelf) -> None:
    shelf.disks[1].rename(shelf.root / "away")
    made(shelf.disks[1])
    said = refused(2, "disk", "add", shelf.path, shelf.disks[1])
    assert "`vtlfs disk replace` puts a new disk in its place" in said


def test_add_where_library_toml_can_not_be_written_says_what_to_do(
    shelf: Shelf, new: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def label(record: DiskRecord, library: str, closed: dict[Path, int]) -> None:
        label_new(record, library, closed)
        monkeypatch.setattr(Path, "rename", full)

    label_new = discovery.label_new
    monkeypatch.setattr(discovery, "label_new", label)
    roster.add(shelf.library, new, utc_now())
    assert f"add {new} in its `disks` by hand" in caplog.text
    assert [disk.path for disk in Library.open(shelf.library.path).disks()][3] == str(new)


# --- replace ----------------------------------------------------------------------------------------------------------


def test_replace_of_a_disk_that_works(done: Done, run: Run, shelf: Shelf, new: Path) -> None:
    said = done("disk", "replace", shelf.path, 1, new)
    assert "disk 1 is empty and has retired" in said
    assert paths(shelf) == {str(shelf.disks[0]), str(shelf.disks[2]), str(new)}
    assert labels.read(shelf.disks[1]) is None
    assert set(listed(done, shelf)) == {0, 2, 3}
    gone = listed(done, shelf, "--all")[1]
    assert (gone["state"], gone["successor"], gone["stored"]) == ("retired", 3, {"extents": 0, "bytes": 0})
    shutil.rmtree(shelf.disks[1])
    shelf.disks[0].rename(shelf.root / "away")
    assert content(run, shelf) == DATA


def test_replace_of_a_dead_disk_by_a_new_device_in_its_place(done: Done, run: Run, shelf: Shelf) -> None:
    shutil.rmtree(shelf.disks[2])
    made(shelf.disks[2])
    result = run("disk", "replace", shelf.path, 2, shelf.disks[2])
    assert result.returncode == 0, result.stderr
    assert "disk 2 is empty and has retired" in result.stdout
    assert {disk["path"] for disk in listed(done, shelf).values()} == set(map(str, shelf.disks))
    assert paths(shelf) == set(map(str, shelf.disks))
    shelf.disks[0].rename(shelf.root / "away")
    assert content(run, shelf) == DATA
    (shelf.root / "away").rename(shelf.disks[0])
    done("check", shelf.path)


def test_replace_as_json(done: Done, shelf: Shelf, new: Path) -> None:
    document = json.loads(done("disk", "replace", shelf.path, 0, new, "--json"))
    assert (document["emptied"], document["is_whole"], document["retiring"]) == ([0], True, [])


def test_replace_is_refused_for_bad_numbers_and_paths(refused: Refused, done: Done, shelf: Shelf, new: Path) -> None:
    assert "no such disk" in refused(1, "disk", "replace", shelf.path, 9, new)
    assert "is disk 1 of this library already" in refused(2, "disk", "replace", shelf.path, 1, shelf.disks[1])
    assert "is disk 2 of this library already" in refused(2, "disk", "replace", shelf.path, 1, shelf.disks[2])
    done("disk", "replace", shelf.path, 1, new, "--background")
    again = made(shelf.root / "again")
    assert "disk 1: is retiring already" in refused(1, "disk", "replace", shelf.path, 1, again)
    done("disk", "repair", shelf.path)
    assert "disk 1: has retired" in refused(1, "disk", "replace", shelf.path, 1, again)


# --- retire -----------------------------------------------------------------------------------------------------------


def test_retire_moves_what_lies_there(done: Done, run: Run, shelf: Shelf, new: Path) -> None:
    done("disk", "add", shelf.path, new)
    assert "disk 0 is empty and has retired" in done("disk", "retire", shelf.path, 0)
    assert set(listed(done, shelf)) == {1, 2, 3}
    shutil.rmtree(shelf.disks[0])
    shelf.disks[1].rename(shelf.root / "away")
    assert content(run, shelf) == DATA


def test_retire_deals_anew_where_all_other_disks_have_something_of_a_stripe(
    done: Done, run: Run, tmp_path: Path
) -> None:
    shelf = Shelf(tmp_path, disks=4, parity=1)
    shelf.write("A00001L9", DATA)
    unmount(shelf)
    assert "disk 3 is empty and has retired" in done("disk", "retire", shelf.path, 3)
    for number in range(3):
        shelf.disks[number].rename(shelf.root / "away")
        assert content(run, shelf) == DATA
        (shelf.root / "away").rename(shelf.disks[number])
    done("check", shelf.path)


def test_retire_is_refused_where_too_few_disks_would_be_left(refused: Refused, tmp_path: Path) -> None:
    two = Shelf(made(tmp_path / "two"))
    assert "a library has two disks or more" in refused(1, "disk", "retire", two.path, 0)
    three = Shelf(made(tmp_path / "three"), disks=3, parity=2)
    said = refused(1, "disk", "retire", three.path, 0)
    assert "2 disks would be left, and parity 2 needs 3; `vtlfs disk add` adds one; or lower `parity`" in said


def test_retire_is_refused_for_numbers_that_are_none(refused: Refused, run: Run, shelf: Shelf) -> None:
    assert "disk 7: no such disk in this library" in refused(1, "disk", "retire", shelf.path, 7)
    assert "is not a number from 0" in refused(2, "disk", "retire", shelf.path, "one")


def test_retire_is_refused_where_the_rest_has_no_room(refused: Refused, shelf: Shelf) -> None:
    with closing(tracked(shelf.library)) as tracking, tracking.transaction():
        tracking.sql.execute("UPDATE stored SET bytes = ? WHERE disk = 1", 1 << 60)
    stale = made(shelf.root / "stale")
    labels.write(stale, Label(shelf.library.config.uuid, "of a crash", 3, utc_now()))
    assert "too little room" in refused(1, "disk", "replace", shelf.path, 1, stale)
    said = refused(1, "disk", "retire", shelf.path, 1)
    assert re.search(r"its extents take .* on the other disks, which have .* too little room", said)
    assert "`vtlfs disk add` adds one" in said


def test_work_that_is_left_to_mounts_is_said_to_be(done: Done, shelf: Shelf) -> None:
    said = done("disk", "retire", shelf.path, 1, "--background")
    assert said == "disk 1 is retiring; the next mount empties it in the background, or `vtlfs disk repair` now\n"
    disk = listed(done, shelf)[1]
    assert (disk["state"], disk["successor"]) == ("retiring", None)
    assert disk["state_at"]


# --- repair -----------------------------------------------------------------------------------------------------------


def test_repair_of_a_library_that_lacks_nothing(done: Done, shelf: Shelf) -> None:
    assert done("disk", "repair", shelf.path) == "0 stripes mended, 0 B written\n"


def test_repair_that_needs_another_disk_says_so(run: Run, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, disks=2, parity=1)
    shelf.write("A00001L9", DATA)
    shutil.rmtree(shelf.disks[1])
    result = run("disk", "repair", shelf.path)
    assert result.returncode == 4
    assert "need another disk" in result.stderr.splitlines()[-1]


def test_a_dead_disk_leaves_with_what_is_lost_where_it_is_given_up(
    run: Run, done: Done, tmp_path: Path, new: Path
) -> None:
    shelf = Shelf(made(tmp_path / "none"), disks=3, parity=0)
    shelf.write("A00001L9", DATA)
    unmount(shelf)
    shutil.rmtree(shelf.disks[1])
    stays = run("disk", "replace", shelf.path, 1, new)
    assert stays.returncode == 4
    assert "disk 1 has not retired" in stays.stderr
    assert "--give-up-lost" in stays.stderr
    told = run("disk", "repair", shelf.path, "--give-up-lost")
    assert (told.returncode, "disk 1 has retired with " in told.stdout) == (4, True)
    assert sorted(listed(done, shelf)) == [0, 2, 3]
    done("check", shelf.path)
    fill(Library.open(shelf.library.path), ("A00001L9", DATA[::-1]))
    assert run("extract", shelf.path, "A00001L9", 1, text=False).stdout == DATA[::-1]
    saved = run("extract", shelf.path, "A00001L9", 0, "--skip-damaged", text=False)
    assert saved.returncode == 3
    assert len(saved.stdout) == len(DATA)
    pairs = zip(saved.stdout, DATA, strict=True)
    assert all(byte in (0, wanted) for byte, wanted in pairs)
    assert b"bytes are lost" in saved.stderr
    again = run("disk", "repair", shelf.path, "--give-up-lost")
    assert (again.returncode, "has retired" in again.stdout) == (4, False)


@pytest.mark.parametrize("where", ["tracking.extents_given_up", "tracking.extents_given_up>transaction.committed"])
def test_a_crash_while_bytes_are_given_up_leaves_nothing_half_done(
    run: Run, done: Done, tmp_path: Path, new: Path, where: str
) -> None:
    shelf = Shelf(made(tmp_path / "none"), disks=3, parity=0)
    shelf.write("A00001L9", DATA)
    unmount(shelf)
    shutil.rmtree(shelf.disks[1])
    assert run("disk", "replace", shelf.path, 1, new).returncode == 4
    words = [*PROGRAM, "disk", "repair", shelf.path, "--give-up-lost"]
    died = subprocess.run(words, env=os.environ | {failpoints.ENVIRONMENT: where}, cwd=PROJECT, check=False)
    assert died.returncode == failpoints.STATUS
    run("disk", "repair", shelf.path, "--give-up-lost")
    assert sorted(listed(done, shelf)) == [0, 2, 3]
    assert paths(shelf) == {str(shelf.disks[0]), str(shelf.disks[2]), str(new)}
    done("check", shelf.path)


def test_interrupted_repair_says_how_to_go_on_and_goes_on(run: Run, done: Done, shelf: Shelf, new: Path) -> None:
    done("disk", "replace", shelf.path, 1, new, "--background")
    words = [*PROGRAM, "disk", "repair", shelf.path, "--limit", "1KB/s"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT) as slow:
        deadline = time.monotonic() + 60
        while not list(new.glob("sessions/*/*.member")) and time.monotonic() < deadline:
            time.sleep(0.01)
        slow.send_signal(signal.SIGINT)
        out, err = slow.communicate(timeout=60)
    assert (slow.returncode, out) == (130, "")
    assert err.splitlines()[-1] == f"vtlfs: interrupted; `vtlfs disk repair {shelf.path}` goes on"
    assert listed(done, shelf)[1]["state"] == "retiring"
    assert "disk 1 is empty and has retired" in done("disk", "repair", shelf.path)
    assert content(run, shelf) == DATA


def test_a_terminal_shows_a_bar_and_a_pipe_one_line(done: Done, shelf: Shelf, new: Path) -> None:
    leader, follower = pty.openpty()
    words = [*PROGRAM, "disk", "replace", shelf.path, "1", str(new)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=follower, text=True, cwd=PROJECT) as shown:
        os.close(follower)
        seen = b""
        try:
            while piece := os.read(leader, 4096):
                seen += piece
        except OSError:
            pass
        assert shown.stdout is not None
        said = shown.stdout.read()
    os.close(leader)
    assert shown.returncode == 0
    assert b"repairing" in seen
    assert said.count("\n") == 3  # the new disk, a note on its device, the result


# --- what a crash leaves ----------------------------------------------------------------------------------------------


def test_a_label_that_was_written_and_not_recorded_is_taken_over(done: Done, shelf: Shelf, new: Path) -> None:
    labels.write(new, Label(shelf.library.config.uuid, "of a crash", 3, utc_now()))
    done("disk", "add", shelf.path, new)
    assert listed(done, shelf)[3]["path"] == str(new)


def test_a_disk_that_library_toml_lacks_is_listed_there_by_the_next_command(
    done: Done, shelf: Shelf, new: Path
) -> None:
    before = (shelf.library.path / "library.toml").read_text()
    done("disk", "add", shelf.path, new)
    (shelf.library.path / "library.toml").write_text(before)
    assert [disk.path for disk in Library.open(shelf.library.path).disks()][3] == str(new)
    done("disk", "list", shelf.path)
    assert str(new) in paths(shelf)


@pytest.mark.parametrize("dead", [False, True])
def test_a_disk_that_has_retired_is_taken_out_by_the_next_command(
    done: Done, shelf: Shelf, new: Path, dead: bool
) -> None:
    done("disk", "add", shelf.path, new)
    with closing(tracked(shelf.library)) as tracking, tracking.transaction():
        tracking.disks.retire(3, utc_now())
    if dead:
        shutil.rmtree(new)
    done("disk", "list", shelf.path)
    assert paths(shelf) == set(map(str, shelf.disks))
    assert not (new / labels.FILE_NAME).exists()


def test_a_retired_disk_that_is_still_listed_is_passed_over(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    number = 3
    path = made(shelf.root / "third")
    roster.add(shelf.library, path, utc_now())
    with closing(tracked(shelf.library)) as tracking, tracking.transaction():
        tracking.disks.retire(number, utc_now())
    library = Library.open(shelf.library.path)
    assert [disk.number for disk in library.disks()] == [0, 1, 2]
    assert [disk.number for disk in library.disks_to_read()] == [0, 1, 2]
    assert f"{path}: was disk 3, which has retired; it is passed over" in caplog.text


def test_a_dead_disks_path_stays_listed(done: Done, shelf: Shelf) -> None:
    shutil.rmtree(shelf.disks[1])
    done("disk", "list", shelf.path)
    assert paths(shelf) == set(map(str, shelf.disks))


def test_a_disk_that_has_moved_stays_where_library_toml_says(done: Done, shelf: Shelf) -> None:
    moved = shelf.disks[1].rename(shelf.root / "moved")
    file = shelf.library.path / "library.toml"
    file.write_text(file.read_text().replace(f'"{shelf.disks[1]}"', '"../moved"'))
    before = file.read_text()
    assert Path(os.path.realpath(listed(done, shelf)[1]["path"])) == moved
    assert file.read_text() == before


def test_numbers_are_never_used_again(done: Done, shelf: Shelf) -> None:
    for number in range(3, 6):
        done("disk", "replace", shelf.path, number - 3, made(shelf.root / f"new{number}"))
        assert max(listed(done, shelf)) == number
    assert set(listed(done, shelf)) == {3, 4, 5}
    assert set(listed(done, shelf, "--all")) == set(range(6))
    done("check", shelf.path)
