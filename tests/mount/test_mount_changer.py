"""The file /changer of a mount: who may use the changer, and two who want the same medium or the same drive."""

import errno
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from mounting import OnDisks, shell
from test_mount_permissions import ALPHA, BACKUP, BETA, as_user

from vtlfs.cli.robot import OfLibrary, OfMount, changer_of
from vtlfs.engine.library import Library
from vtlfs.engine.media.changer import Changer, Loaded, Request
from vtlfs.errors import VtlfsError

RULE = f'\n[permissions.changer]\ngroup = {BACKUP}\nmode = "0660"\n'


@pytest.fixture
def library(open_library: OnDisks) -> OnDisks:
    """A library whose changer may be used by a group."""
    with open(open_library.path / "library.toml", "a") as file:
        file.write(RULE)
    return open_library


def said(act: Callable[[], object]) -> str:
    """Return what an act is refused with; empty where it is done."""
    try:
        act()
    except VtlfsError as error:
        return str(error)
    return ""


def test_only_users_of_the_group_may_use_the_changer_of_a_library_that_is_not_theirs(library: OnDisks) -> None:
    with library.mounted("allow_other,mode=0666") as mounted:
        load = Request("load", (3, 1))
        refused = as_user(ALPHA, (), lambda: said(lambda: changer_of(library.path)))
        assert "you may not open the library, and no mount of it here lets you use its changer" in refused
        assert as_user(ALPHA, (), lambda: os.access(mounted.path / "changer", os.R_OK)) is False
        assert as_user(BETA, (BACKUP,), lambda: said(lambda: changer_of(library.path).move(load))) == ""
        assert (mounted.path / "drives/1/loaded").readlink() == Path("T3")
        full = "Drive 1 Full (Storage Element 3 loaded)"
        assert as_user(BETA, (BACKUP,), lambda: said(lambda: changer_of(library.path).move(load))) == full
        found = as_user(BETA, (BACKUP,), lambda: len(changer_of(library.path).elements().slots))
        assert found == 9
        there = changer_of(mounted.path).elements()
        assert there == OfLibrary(Library.open(library.path)).elements()
        assert there.drives == (None, Loaded("T3", 3), None, None)
        assert said(lambda: changer_of(library.path).move(Request("transfer", (1, 3)))) != ""
        with closing(Library.open(library.path).tracking(read_only=True)) as tracking:
            (event,) = tracking.events.find(medium="T3")
        assert (event.what, event.uid, event.details) == ("loaded", BETA, {"drive": 1, "slot": 3})
    assert "you may not open the library" in as_user(BETA, (BACKUP,), lambda: said(lambda: changer_of(library.path)))


def test_what_else_can_be_done_with_the_file(library: OnDisks) -> None:
    with library.mounted() as mounted:
        file = mounted.path / "changer"
        assert "changer" not in os.listdir(mounted.path)
        shown = json.loads(file.read_text())["elements"]
        assert shown == {"drives": [None] * 4, "slots": [f"T{number}" for number in range(1, 10)]}
        shell(f"exec 3<>{file}; echo load 1 0 >&3")
        assert os.readlink(mounted.path / "drives/0/loaded") == "T1"
        for wrong in ("load", "load 1", "load 1 x", "load 1 -1", "erase 1 2", "elements 1", "", "load 1 " + "0" * 300):
            with open(file, "r+b", buffering=0) as opened, pytest.raises(OSError, match="Invalid argument") as refused:
                opened.write(wrong.encode() + b"\n")
            assert refused.value.errno == errno.EINVAL
        shell(f"rm -f {file} || truncate -s 7 {file} || chmod 777 {file}", status=1)
    with library.mounted("ro") as mounted, pytest.raises(OSError, match="Read-only"):
        os.open(mounted.path / "changer", os.O_RDWR)


@pytest.mark.parametrize(
    "requests", [("load 1 0", "load 1 1"), ("load 1 0", "load 2 0"), ("transfer 1 9", "transfer 2 9")]
)
def test_one_of_those_who_want_the_same_gets_it(library: OnDisks, requests: tuple[str, str]) -> None:
    """Whether they ask by a mount, by another one, or by the database."""
    library.vtlfs("media", "remove", library.path, "T9", "-y")
    library.vtlfs("media", "move", library.path, "T8", 10)
    asked = []
    for words in requests:
        what, *numbers = words.split()
        asked.append(Request(what, tuple(map(int, numbers))))

    def ask(one: tuple[Changer, Request]) -> str:
        return said(lambda: one[0].move(one[1]))

    with library.mounted() as first, library.mounted(at=library.root / "second") as second:
        changers = (OfMount(first.path / "changer"), OfMount(second.path / "changer"),
                    OfLibrary(Library.open(library.path)))  # fmt: skip
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(ask, [(changer, one) for changer in changers for one in asked]))
        assert answers.count("") == 1
        there = changers[0].elements()
        media = [one.barcode for one in there.drives if one] + [one for one in there.slots if one]
        assert sorted(media) == [f"T{number}" for number in range(1, 9)]
