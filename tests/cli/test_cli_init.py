"""`vtlfs init`."""

import json
import os
from pathlib import Path

import pytest
from unmounted import Done, Refused

Words = list[str | bytes | Path]


@pytest.fixture
def disks(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "disk0", tmp_path / "disk1"]
    for path in paths:
        path.mkdir()
    return paths


@pytest.fixture
def words(tmp_path: Path, disks: list[Path]) -> Words:
    return ["init", tmp_path / "library", "--disk", disks[0], "--disk", disks[1]]


def test_init_says_what_was_made_and_what_comes_next(done: Done, words: Words, tmp_path: Path) -> None:
    text = done(*words)
    assert f"made library {tmp_path}/library: 2 disks, 4 drives, stripe unit 1 MiB, parity 0\n" in text
    assert "\na disk that dies takes what lies on it along; --parity 1 mirrors\n" in text
    assert f"vtlfs media add {tmp_path}/library" in text
    found = json.loads(done("status", tmp_path / "library", "--json"))
    assert [disk["path"] for disk in found["disks"]] == [str(tmp_path / "disk0"), str(tmp_path / "disk1")]
    assert [disk["problem"] for disk in found["disks"]] == [None, None]
    assert [drive["number"] for drive in found["drives"]] == [0, 1, 2, 3]
    assert found["stripe_unit"] == 1 << 20


def test_init_with_options_and_a_third_disk(done: Done, words: Words, tmp_path: Path) -> None:
    (tmp_path / "disk2").mkdir()
    done(*words, "--disk", tmp_path / "disk2", "--drives", 9, "--stripe-unit", "64K")
    found = json.loads(done("status", tmp_path / "library", "--json"))
    assert (len(found["disks"]), len(found["drives"]), found["stripe_unit"]) == (3, 9, 65536)


def test_init_takes_relative_paths(done: Done, tmp_path: Path, disks: list[Path]) -> None:
    disk0, disk1, library = (os.path.relpath(path) for path in (*disks, tmp_path / "library"))
    done("init", library, "--disk", disk0, "--disk", disk1, cwd=None)
    found = json.loads(done("status", tmp_path / "library", "--json"))
    assert [disk["path"] for disk in found["disks"]] == [str(disk) for disk in disks]


def test_disk_that_others_may_write_to_is_told_of(done: Done, words: Words, disks: list[Path]) -> None:
    for disk in disks:
        disk.chmod(0o777)
    (disks[1] / "photo").touch()
    said = done(*words)
    assert f"note: other users can remove what lies on {disks[1]} (mode 0777)" in said
    assert said.count("note: other users") == 1
    assert (disks[0].stat().st_mode & 0o777, disks[1].stat().st_mode & 0o777) == (0o700, 0o777)


@pytest.mark.parametrize(
    ("parity", "worth"), [(0, "they die together\n"), (1, "they die together, which parity does not make up for; ")]
)
def test_directories_of_one_device_are_told_of(
    done: Done, words: Words, disks: list[Path], parity: int, worth: str
) -> None:
    assert f"note: {disks[0]} and {disks[1]} share a device: {worth}" in done(*words, "--parity", parity)


def test_library_that_exists_is_left_alone(refused: Refused, done: Done, words: Words, tmp_path: Path) -> None:
    done(*words)
    assert "there is a library here already" in refused(1, *words)


def test_directory_that_is_not_empty_is_left_alone(refused: Refused, words: Words, tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library/photo").touch()
    assert "not empty" in refused(1, *words)


def test_library_in_no_directory(refused: Refused, words: Words, tmp_path: Path) -> None:
    words[1] = tmp_path / "no/library"
    assert "no is not a directory" in refused(1, *words)


def test_too_few_disks(refused: Refused, words: Words) -> None:
    assert "missing option '--disk'" in refused(2, *words[:2])
    assert "two or more disks" in refused(2, *words[:4])


def test_same_disk_twice(refused: Refused, words: Words, tmp_path: Path) -> None:
    words[-1] = tmp_path / "disk0/../disk0"
    assert "the same as" in refused(2, *words)


def test_same_disk_twice_through_a_symbolic_link(
    refused: Refused, words: Words, disks: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(disks[0])
    words[-1] = tmp_path / "link"
    assert "the same as" in refused(2, *words)


def test_disk_of_another_library(refused: Refused, done: Done, words: Words, tmp_path: Path) -> None:
    done(*words)
    (tmp_path / "disk2").mkdir()
    assert "belongs to another library" in refused(
        1, "init", tmp_path / "second", "--disk", tmp_path / "disk2", "--disk", tmp_path / "disk1"
    )


def test_missing_disk(refused: Refused, words: Words, disks: list[Path]) -> None:
    disks[1].rmdir()
    assert f"disk {disks[1]}: no such directory" in refused(1, *words)


def test_disk_that_is_a_file(refused: Refused, words: Words, disks: list[Path]) -> None:
    disks[1].rmdir()
    disks[1].touch()
    assert f"disk {disks[1]}: not a directory" in refused(1, *words)


def test_disk_that_is_not_writable(refused: Refused, words: Words, disks: list[Path]) -> None:
    disks[1].chmod(0o500)
    assert f"disk {disks[1]}: not writable" in refused(1, *words, rights=False)


def test_disk_that_is_full(refused: Refused, words: Words, full_disk: Path) -> None:
    words[-1] = full_disk
    assert f"disk {full_disk}: No space left on device" in refused(1, *words)


def test_disk_whose_name_is_not_utf8(refused: Refused, words: Words, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/disk\xff"
    os.mkdir(odd)
    words[-1] = odd
    assert "is not UTF-8" in refused(2, *words)


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("--stripe-unit", "much", "'much' is not a size"),
        ("--stripe-unit", "5000", "stripe unit of 5000 bytes"),
        ("--stripe-unit", "0", "stripe unit of 0 bytes"),
        ("--stripe-unit", "1GiB", "stripe unit of 1073741824 bytes"),
        ("--stripe-unit", "9" * 5000, "invalid value for '--stripe-unit'"),
        ("--drives", "0", "0 drives"),
        ("--drives", "100000", "100000 drives"),
        ("--drives", "-1", "'-1' is not a number"),
        ("--drives", "four", "'four' is not a number"),
        ("--drives", "9" * 5000, "is not a number"),
        ("--disk", "", "the name of the directory is empty"),
    ],
)
def test_values_that_will_not_do(refused: Refused, words: Words, option: str, value: str, wanted: str) -> None:
    assert wanted in refused(2, *words, option, value)


@pytest.mark.parametrize(
    ("count", "words", "parity", "promise"),
    [
        (2, [], 0, "a disk that dies takes what lies on it along; --parity 1 mirrors"),
        (2, ["--parity", 1], 1, "any one disk may die without loss"),
        (3, [], 1, "any one disk may die without loss"),
        (3, ["--parity", 0], 0, "a disk that dies takes what lies on it along"),
        (3, ["--parity", 2], 2, "any two disks may die without loss"),
    ],
)
def test_init_says_what_may_die(
    done: Done, tmp_path: Path, count: int, words: list[str | int], parity: int, promise: str
) -> None:
    disks: list[str | Path] = []
    for number in range(count):
        (tmp_path / f"disk{number}").mkdir()
        disks += ["--disk", tmp_path / f"disk{number}"]
    assert f", parity {parity}\n{promise}\n" in done("init", tmp_path / "library", *disks, *words)
    assert f"\nparity = {parity}  #" in (tmp_path / "library/library.toml").read_text()


@pytest.mark.parametrize(("parity", "why"), [("2", "parity 2 needs 3 disks or more"), ("3", "0 to 2"), ("x", "x")])
def test_parity_that_the_disks_can_not_have_is_refused(refused: Refused, words: Words, parity: str, why: str) -> None:
    assert why in refused(2, *words, "--parity", parity)
    assert not Path(os.fsdecode(words[1])).exists()
