"""`vtlfs recover`."""

import json

from unmounted import Done, Run, Shelf

from vtlfs.model import Access


def test_nothing_to_recover(done: Done, shelf: Shelf) -> None:
    assert done("recover", shelf.path).startswith("nothing to recover")
    assert done("recover", shelf.path, "--json") == "[]\n"


def test_open_sessions_of_a_dead_mount_are_closed(done: Done, run: Run, shelf: Shelf) -> None:
    mount = shelf.mount()
    shelf.open("A00001L9", b"x" * 10_000, mount=mount)
    shelf.open("A00002L9", mount=mount, host="beta")
    assert done("recover", shelf.path).splitlines() == [
        "session 1 of alpha on A00001L9: 9.77 KiB kept as tape file 0000",
        "session 2 of beta on A00002L9: ended, no bytes were recorded",
    ]
    assert run("extract", shelf.path, "A00001L9").stdout == "x" * 10_000
    assert done("recover", shelf.path).startswith("nothing to recover")


def test_recovered_sessions_as_json(done: Done, shelf: Shelf) -> None:
    shelf.open("A00001L9", b"x" * 5000)
    shelf.open("A00001L9", access=Access.READ)
    found = json.loads(done("recover", shelf.path, "--json"))
    assert [(session["id"], session["state"], session["tape_file"]) for session in found] == [
        (1, "recovered", 0),
        (2, "recovered", None),
    ]
    assert json.loads(done("sessions", shelf.path, "--json")) == found


def test_live_mount_is_left_alone(done: Done, shelf: Shelf) -> None:
    mount = shelf.mount()
    shelf.open("A00001L9", b"x" * 5000, mount=mount)
    lease = shelf.library.leases.take(mount)
    try:
        assert done("recover", shelf.path).startswith("nothing to recover")
    finally:
        lease.let_go()
    assert json.loads(done("sessions", shelf.path, "--json"))[0]["state"] == "open"
