"""The real Bacula, with a device of files in /media: its labels, volumes that are full, recycling, restores.

Its volumes are media of the same barcodes. `on_truncate` and retention are those of `library.toml`.
"""

import filecmp
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from bacula import Bacula, require_bacula, termination
from mounting import SECONDS, Mounted, OnDisks, random_bytes, require_fuse

from vtlfs.engine.library import Library

FULL = 2_000_000  # bytes of a volume: a backup and a third fit
SIZE = 1_500_000


@contextmanager
def backing_up(root: Path, rule: str, expects: Sequence[str] = ()) -> Iterator[tuple[Bacula, Mounted, OnDisks]]:
    """Have Bacula run on a mount whose media have a rule of `library.toml`."""
    require_fuse()
    require_bacula()
    library = OnDisks(root, media="VOL0001..VOL0002")
    with open(library.path / "library.toml", "a") as file:
        file.write(f'\n[media."VOL*"]\n{rule}\n')
    with library.mounted(expects=expects) as mounted:
        bacula = Bacula(root / "bacula", mounted.path / "media", volume_bytes=FULL)
        with bacula.running():
            yield bacula, mounted, library


def change(bacula: Bacula, number: int) -> None:
    """Have the source be another."""
    (bacula.source / "data").write_bytes(random_bytes(number, SIZE))
    (bacula.source / f"small file {number}").write_bytes(random_bytes(number, 100 * number))


def want_same(left: Path, right: Path) -> None:
    """Want two directories to have the same files with the same bytes."""
    names = sorted(path.name for path in left.iterdir())
    assert names == sorted(path.name for path in right.iterdir())
    assert filecmp.cmpfiles(left, right, names, shallow=False) == (names, [], [])


def back_up_and_restore(bacula: Bacula, number: int) -> str:
    """Back a new state up, and restore it; return the report of the backup."""
    change(bacula, number)
    report = bacula.back_up()
    assert termination(report) == "Backup OK", report
    restored = bacula.restore()
    assert termination(restored) == "Restore OK", restored
    want_same(bacula.source, bacula.what_was_restored())
    return report


def erasures(library: OnDisks) -> list[tuple[str, int, str, str]]:
    """Return which volumes were erased, by whom and by what call."""
    with closing(Library.open(library.path).tracking(read_only=True)) as tracking:
        events = [event for event in tracking.events.find() if event.what == "erased"]
    return [(str(one.medium), one.volume or 0, one.program, str(one.details["by"])) for one in events]


def test_bacula_labels_fills_recycles_and_restores(tmp_path: Path) -> None:
    with backing_up(tmp_path, 'on_truncate = "erase"') as (bacula, mounted, library):
        said = bacula.console("label storage=sd volume=VOL0001 pool=Vols slot=0 drive=0")
        assert '3000 OK label. VolBytes=203 VolABytes=0 VolType=1 Volume="VOL0001"' in said
        first = back_up_and_restore(bacula, 1)
        assert 'Wrote label to prelabeled Volume "VOL0001"' in first
        assert erasures(library) == [("VOL0001", 1, "bacula-sd", "a write at the medium's beginning")]

        second = back_up_and_restore(bacula, 2)
        assert 'End of medium on Volume "VOL0001"' in second
        assert 'Labeled new Volume "VOL0002"' in second
        assert mounted.medium("VOL0001").stat().st_size <= FULL
        assert len(library.tape_files("VOL0001")) == 2

        third = back_up_and_restore(bacula, 3)
        assert 'Recycled volume "VOL0001"' in third
        assert "all previous data lost" in third
        assert erasures(library)[1:] == [("VOL0001", 2, "bacula-sd", "ftruncate")]
        assert [file.volume for file in library.tape_files("VOL0001")] == [3]

        bacula.console("purge volume=VOL0002", "update volume=VOL0002 actiononpurge=truncate")
        said = bacula.console("truncate storage=sd volume=VOL0002 pool=Vols drive=0")
        assert 'The volume "VOL0002" has been truncated' in said
        assert mounted.medium("VOL0002").stat().st_size == 203  # the label
        assert "Purged" in bacula.console("list volumes")
        assert erasures(library)[2:] == [("VOL0002", 1, "bacula-sd", "ftruncate")]
    shown = json.loads(library.vtlfs("sessions", library.path, "--json", "--medium", "VOL0001"))
    assert {one["error"] for one in shown} == {None}


@pytest.mark.parametrize(
    ("rule", "alarms", "line"),
    [
        (
            'on_truncate = "erase"\nretain = "1d"\nmode = "compliance"',
            ["medium VOL0001 can't be erased: it is retained until "],
            "medium VOL0001 can't be erased: it is retained until ",
        ),
        ('on_truncate = "append"', [], "refusing bacula-sd to truncate medium VOL0001"),
    ],
)
def test_bacula_cannot_recycle_what_the_rule_keeps(tmp_path: Path, rule: str, alarms: list[str], line: str) -> None:
    with backing_up(tmp_path, rule, expects=alarms) as (bacula, mounted, library):
        reports = []
        for number in (1, 2):
            change(bacula, number)
            reports.append(bacula.back_up())
        kept = shutil.copytree(bacula.source, tmp_path / "kept")
        before = mounted.medium("VOL0001").read_bytes()
        change(bacula, 3)
        report = bacula.back_up()
        assert "Truncate error on File device" in report
        assert "ERR=Operation not permitted" in report
        assert termination(report) == "*** Backup Error ***"
        assert mounted.said().count(line) == 1
        assert mounted.medium("VOL0001").read_bytes() == before
        assert erasures(library) == []
        want_same(kept, extracted(bacula, reports[1], tmp_path / "extracted"))


def extracted(bacula: Bacula, report: str, folder: Path) -> Path:
    """Extract a backup from the volumes without a catalogue; return where `source` is then. `report`: of the backup."""
    folder.mkdir()
    session, began = re.findall(r"Volume Session (?:Id|Time): +([0-9]+)", report)
    (folder / "bsr").write_text(
        f'Volume = "VOL0001|VOL0002"\nMediaType = File\nVolSessionId = {session}\nVolSessionTime = {began}\n'
    )
    words = ["bextract", "-c", f"{bacula.root}/bacula-sd.conf", "-b", f"{folder}/bsr", "Tape", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert "files restored" in done.stdout, done
    return folder / bacula.source.relative_to("/")


def tool(bacula: Bacula, *words: object) -> str:
    """Run a program that reads volumes; return what it says."""
    first, *rest = map(str, words)
    done = subprocess.run(
        [first, "-c", f"{bacula.root}/bacula-sd.conf", *rest],
        capture_output=True, text=True, timeout=SECONDS, check=False, cwd=bacula.root,
    )  # fmt: skip
    assert done.returncode == 0, done
    return done.stdout + done.stderr


def test_bacula_reads_its_volumes_without_its_catalogue_and_makes_that_anew(tmp_path: Path) -> None:
    with backing_up(tmp_path, 'on_truncate = "erase"') as (bacula, _, _):
        for number in (1, 2):  # the second one goes on on the second volume
            change(bacula, number)
            assert termination(bacula.back_up()) == "Backup OK"
        listed = tool(bacula, "bls", "-V", "VOL0001|VOL0002", "Tape")
        for number, times in ((1, 2), (2, 1)):
            assert listed.count(f"{bacula.source}/small file {number}\n") == times
        for volume in ("VOL0001", "VOL0002"):
            bacula.console(f"delete volume={volume} yes")
        assert "VOL000" not in bacula.console("list volumes")
        words = ("-v", "-s", "-m", "-n", "bacula", "-w", bacula.root / "work", "-V", "VOL0001|VOL0002", "Tape")
        assert "2 Media" in tool(bacula, "bscan", *words)
        report = bacula.restore()
        assert termination(report) == "Restore OK", report
        want_same(bacula.source, bacula.what_was_restored())


def test_bacula_relabels_a_purged_volume(tmp_path: Path) -> None:
    """The new name stands on the old medium: Bacula renames no file, on a plain directory either."""
    with backing_up(tmp_path, 'on_truncate = "erase"') as (bacula, mounted, library):
        back_up_and_restore(bacula, 1)
        bacula.console("purge volume=VOL0001")
        said = bacula.console("relabel storage=sd oldvolume=VOL0001 volume=VOL0002 pool=Vols slot=0 drive=0")
        assert '3000 OK label. VolBytes=203 VolABytes=0 VolType=1 Volume="VOL0002"' in said
        assert b"VOL0002\0" in mounted.medium("VOL0001").read_bytes()
        assert mounted.medium("VOL0001").stat().st_size == 203
        assert mounted.medium("VOL0002").stat().st_size == 0
        assert erasures(library) == [("VOL0001", 1, "bacula-sd", "ftruncate")]
