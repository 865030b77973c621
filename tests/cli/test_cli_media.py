"""`vtlfs media add`, `vtlfs media list`, `vtlfs load` and `vtlfs unload`."""

import json
from pathlib import Path

import pytest
from unmounted import Done, Refused, Shelf


def barcodes(done: Done, shelf: Shelf) -> list[str]:
    return [medium["barcode"] for medium in json.loads(done("media", "list", shelf.path, "--json"))]


def test_add_a_range_and_single_media(done: Done, shelf: Shelf) -> None:
    text = done("media", "add", shelf.path, "B00009L9..B00011L9", "clean-1", "--capacity", "12TB")
    assert text == "added 4 media: B00009L9 to clean-1, capacity 10.9 TiB each\n"
    assert barcodes(done, shelf) == ["A00001L9", "A00002L9", "B00009L9", "B00010L9", "B00011L9", "clean-1"]


def test_add_is_tried_and_told_as_json(done: Done, shelf: Shelf) -> None:
    tried = done("media", "add", shelf.path, "B1..B2", "--capacity", "64KiB", "--dry-run")
    assert tried == "B1: would be added, capacity 64 KiB\nB2: would be added, capacity 64 KiB\n"
    assert barcodes(done, shelf) == ["A00001L9", "A00002L9"]
    told = json.loads(done("media", "add", shelf.path, "B1", "--json", "--reason", "more room"))
    assert [(one["barcode"], one["event"], one["details"]) for one in told] == [("B1", "added", {"capacity": None})]
    assert barcodes(done, shelf) == ["A00001L9", "A00002L9", "B1"]
    events = json.loads(done("events", shelf.path, "B1", "--json"))
    assert [event["reason"] for event in events] == ["more room"]


def test_list_as_json(done: Done, shelf: Shelf) -> None:
    done("media", "add", shelf.path, "B1", "--capacity", "64KiB")
    written = shelf.write("B1", bytes(10_000))
    (medium,) = [medium for medium in json.loads(done("media", "list", shelf.path, "--json")) if medium["capacity"]]
    assert medium.pop("added_at") == medium.pop("begun_at") < written.released_at
    assert medium == {
        "barcode": "B1",
        "state": "in use",
        "protected": False,
        "slot": 3,
        "capacity": 65536,
        "bytes": 10_000,
        "tape_files": 1,
        "reserved": 0,
        "left": 55_536,
        "written_at": written.released_at,
        "volume": 1,
        "retain_mode": None,
        "retain_seconds": None,
        "retain_until": None,
        "retained": False,
        "holds": [],
    }


def test_list_as_table(done: Done, shelf: Shelf) -> None:
    done("media", "add", shelf.path, "B1", "--capacity", "64KiB")
    shelf.write("B1", bytes(10_000))
    lines = done("media", "list", shelf.path).splitlines()
    assert lines[0].split() == [
        "BARCODE",
        "SLOT",
        "CAPACITY",
        "BYTES",
        "FILES",
        "FILL",
        "WRITTEN",
        "VOL",
        "STATE",
        "RETAINED",
    ]
    assert lines[1].split()[:6] == ["A00001L9", "1", "-", "0", "B", "0"]
    assert lines[3].split()[:8] == ["B1", "3", "64", "KiB", "9.77", "KiB", "1", "15%"]
    assert max(map(len, lines)) <= 80


def test_list_of_nothing(done: Done, tmp_path: Path) -> None:
    for disk in ("d0", "d1"):
        (tmp_path / disk).mkdir()
    done("init", tmp_path / "new", "--disk", tmp_path / "d0", "--disk", tmp_path / "d1")
    assert done("media", "list", tmp_path / "new", "--json") == "[]\n"
    assert done("media", "list", tmp_path / "new").startswith("no media; ")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["B1", "A00002L9"], "medium A00002L9 exists already; nothing was added"),
        (["B1", "B1"], "barcode B1 is named twice"),
        (["B1", "B 2"], "is not a barcode"),
        (["B1", "--", "-2"], "is not a barcode"),
        (["B1", ""], "is not a barcode"),
        (["B1", "B/2"], "is not a barcode"),
        (["B1", "x" * 33], "is not a barcode"),
        (["B1", "\u0661"], "is not a barcode"),
        (["B1", b"\xff"], "is not a barcode"),
        (["B1", "loaded"], "can't be a barcode"),
        (["B3..B1"], "is no range"),
        (["B1..C2"], "is no range"),
        (["B1.."], "is not a barcode"),
        (["B1", "--capacity", "plenty"], "'plenty' is not a size"),
        (["B1", "--capacity", "0"], "a capacity of 0 is not from 1 byte"),
        (["B1", "--capacity", "0.1"], "a capacity of 0.1 is not from 1 byte"),
        (["B1", "--capacity", "-1"], "'-1' is not a size"),
        (["B1", "--capacity", "999999999P"], "invalid value for '--capacity'"),
        (["B1", "--capacity", "9" * 400 + ".5"], "invalid value for '--capacity'"),
        (["B1", "--capacity"], "'--capacity' requires an argument"),
    ],
)
def test_media_that_can_not_be_added(refused: Refused, shelf: Shelf, words: list[str | bytes], wanted: str) -> None:
    assert wanted in refused(2, "media", "add", shelf.path, *words)


def test_load_and_unload(done: Done, shelf: Shelf) -> None:
    assert done("load", shelf.path, 2, "A00001L9") == "drive 2: A00001L9 loaded\n"
    done("load", shelf.path, 3, "A00001L9")
    drives = json.loads(done("status", shelf.path, "--json"))["drives"]
    assert [drive["loaded"] for drive in drives] == [None, None, "A00001L9", "A00001L9"]
    assert done("unload", shelf.path, 2) == "drive 2: A00001L9 unloaded\n"
    assert done("unload", shelf.path, 2) == "drive 2: was empty\n"
    drives = json.loads(done("status", shelf.path, "--json"))["drives"]
    assert [drive["loaded"] for drive in drives] == [None, None, None, "A00001L9"]


def test_drive_that_the_configuration_has_got_since_can_be_loaded(done: Done, shelf: Shelf) -> None:
    file = shelf.library.path / "library.toml"
    file.write_text(file.read_text().replace("drives = 4", "drives = 6"))
    assert done("load", shelf.path, 5, "A00001L9") == "drive 5: A00001L9 loaded\n"


@pytest.mark.parametrize(
    ("status", "words", "wanted"),
    [
        (1, ["load", 4, "A00001L9"], "no drive 4; this library has drives 0 to 3"),
        (1, ["load", 2**63 - 1, "A00001L9"], "no drive 9223372036854775807"),
        (2, ["load", 2**63, "A00001L9"], "is not a number"),
        (2, ["load", "first", "A00001L9"], "'first' is not a number"),
        (1, ["load", 0, "B1"], "no medium 'B1' in this library"),
        (2, ["load", 0, "B/1"], "is not a barcode"),
        (2, ["load", 0], "missing argument 'BARCODE'"),
        (1, ["unload", 4], "no drive 4"),
    ],
)
def test_load_that_can_not_be(refused: Refused, shelf: Shelf, status: int, words: list[str | int], wanted: str) -> None:
    command, *rest = words
    assert wanted in refused(status, command, shelf.path, *rest)
