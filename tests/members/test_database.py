"""The member index's own database: what is filled in is found, and what is forgotten is gone."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtlfs.errors import IndexDamaged, NoIndex
from vtlfs.members import filling, finding
from vtlfs.members.database import FILE_NAME, MemberIndex, parent, split
from vtlfs.members.filling import FoundArchive, FoundMember, StreamFiller
from vtlfs.members.pattern import compile_pattern
from vtlfs.members.values import Kind, StreamState

UUID = "11111111-2222-3333-4444-555555555555"
PATHS = st.lists(st.sampled_from(["a", "b", "..", ".", "", "\udcff", "ü"]), min_size=1, max_size=6).map("/".join)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[MemberIndex]:
    with closing(MemberIndex.make(tmp_path, UUID)) as opened:
        yield opened


def found(path: str, start: int = 0, kind: Kind = Kind.FILE) -> FoundMember:
    return FoundMember(path, kind, 7, 1_700_000_000, None, start, start + 512)


def fill(index: MemberIndex, session: int, *paths: str, archives: int = 1) -> None:
    """Have a stream with these paths, in each of some archives."""
    while filling.forget_some(index, session):
        pass
    filler = StreamFiller(index, session)
    for number in range(archives):
        filler.begin_archive(FoundArchive(number, "tar", "none"))
        filler.add([found(path, place) for place, path in enumerate(paths)])
    filler.end(StreamState.INDEXED, 100, None)


def forget(index: MemberIndex, session: int) -> None:
    while filling.forget_some(index, session):
        pass


def rows(index: MemberIndex) -> dict[str, int]:
    """Return how many rows each table has."""
    names = ("stream", "archive", "directory", "path", "member", "occurrence")
    return {name: next(index.rows(f"SELECT count(*) FROM {name}"))[0] for name in names}


def paths_like(index: MemberIndex, pattern: str, *, ignore_case: bool = False) -> list[str]:
    compiled = compile_pattern(pattern, ignore_case=ignore_case)
    return [member.path for member in finding._members(index, compiled)]


@given(
    st.text("abB/.*?[]!é", max_size=5),
    st.lists(st.lists(st.text("abB.é", min_size=1, max_size=3), min_size=1, max_size=3).map("/".join), max_size=6),
    st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_found_through_the_index_is_what_comparing_each_path_would_find(
    tmp_path: Path, pattern: str, paths: list[str], ignore_case: bool
) -> None:
    compiled = compile_pattern(pattern, ignore_case=ignore_case)
    with closing(MemberIndex.make(tmp_path, UUID, anew=True)) as index:
        fill(index, 1, *paths)
        assert sorted(paths_like(index, pattern, ignore_case=ignore_case)) == sorted(filter(compiled.matches, paths))


def test_members_are_found_by_their_path_and_by_letters_in_it(index: MemberIndex) -> None:
    fill(index, 1, "etc", "etc/passwd", "etc/ssh/sshd_config", "caf\udce9/x", "ÜBER/maß", 'quo"te')
    fill(index, 2, "etc/passwd")
    assert paths_like(index, "passwd") == ["etc/passwd", "etc/passwd"]
    assert paths_like(index, "*_config") == ["etc/ssh/sshd_config"]
    assert paths_like(index, "SSHD") == []
    assert paths_like(index, "SSHD", ignore_case=True) == ["etc/ssh/sshd_config"]
    assert paths_like(index, "maß") == ["ÜBER/maß"]
    assert paths_like(index, "ü", ignore_case=True) == ["ÜBER/maß"]
    assert paths_like(index, "caf\udce9") == ["caf\udce9/x"]
    assert paths_like(index, 'quo"te') == ['quo"te']
    assert paths_like(index, "x") == ["caf\udce9/x"]
    assert [one.start for one in index.named(1, "etc/passwd")] == [1]


@settings(max_examples=60, deadline=None)
@given(streams=st.lists(st.lists(PATHS, max_size=12), min_size=1, max_size=4), gone=st.integers(0, 3))
def test_what_is_filled_is_there_until_it_is_forgotten(
    streams: list[list[str]], gone: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with closing(MemberIndex.make(tmp_path_factory.mktemp("index"), UUID)) as index:
        for session, paths in enumerate(streams):
            fill(index, session, *paths, archives=2)
        kept = {session: paths for session, paths in enumerate(streams) if session != gone}
        forget(index, gone)
        for session, paths in kept.items():
            there = [member.path for member in index.members(session)]
            assert there == [directory + name for directory, name in map(split, paths)] * 2
        distinct = {split(path) for paths in kept.values() for path in paths}
        assert rows(index)["path"] == len(distinct)
        known = {directory + name for directory, name in distinct}
        for path in (path for paths in streams for path in paths):
            grams = [path[place : place + 3] for place in range(len(path) - 2)]
            for gram in (gram for gram in grams if "\udcff" not in gram):
                indexed = list(index.rows("SELECT rowid FROM trigram WHERE trigram MATCH ?", f'"{gram}"'))
                assert len(indexed) == sum(gram in f"/{one}" for one in known)
        for session in kept:
            forget(index, session)
        assert rows(index) == {**dict.fromkeys(rows(index), 0), "directory": 1}


def test_a_directory_is_listed_with_what_lies_in_it(index: MemberIndex) -> None:
    fill(index, 1, "a", "a/b/c", "a/d", "/e", "./f", "top")
    fill(index, 2, "a/other")
    assert [(one.path, one.is_directory) for one in index.listing(1)] == [
        *(("", True), (".", True), ("/", True), ("a", True), ("top", False))
    ][1:]
    assert [(one.path, one.is_directory) for one in index.listing(1, "a")] == [("a/b", True), ("a/d", False)]
    assert [one.path for one in index.listing(1, "a/b")] == ["a/b/c"]
    assert [one.path for one in index.listing(1, "/")] == ["/e"]
    assert [one.path for one in index.listing(1, ".")] == ["./f"]
    assert index.listing(1, "nothing") == []
    assert [one.path for one in index.below(1, "a")] == ["a", "a/b/c", "a/d"]
    assert [one.path for one in index.below(1, "a/b")] == ["a/b/c"]


def test_of_members_with_the_same_path_the_last_one_is_listed(index: MemberIndex) -> None:
    fill(index, 1, "same", "other", "same")
    assert [(one.path, one.member and one.member.start) for one in index.listing(1)] == [("other", 1), ("same", 2)]


def test_a_path_of_very_many_components_costs_no_more_than_its_length(index: MemberIndex) -> None:
    fill(index, 1, "x/" * 2000 + "y")
    assert rows(index)["directory"] <= filling.MAX_DEPTH + 2
    assert paths_like(index, "*y") == ["x/" * 2000 + "y"]
    place = ""
    for _ in range(filling.MAX_DEPTH + 5):
        entry = index.listing(1, place)[0]
        place = entry.path
        if not entry.is_directory:
            break
    assert place == "x/" * 2000 + "y"


def test_a_stream_that_becomes_longer_is_pending_again(index: MemberIndex) -> None:
    fill(index, 5, "a")
    filling.add_pending(index, {5: False, 6: False}, 2, 6)
    assert index.pending() == [6]
    filling.add_pending(index, {5: True}, 3, 7)
    assert index.pending() == [5, 6]
    assert index.position()[:2] == (3, 7)


def test_every_column_is_documented(index: MemberIndex) -> None:
    text = (Path(__file__).parents[2] / "docs" / "find.md").read_text()
    tables = [
        row[0] for row in index.rows("SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%STRICT%'")
    ]
    assert len(tables) == 7
    for table in tables:
        assert f"`{table}`" in text
        for column in [row[1] for row in index.rows(f"PRAGMA table_info({table})")]:
            assert f"`{column}`" in text or f"`{table}.{column}`" in text, f"{table}.{column}"


def test_the_index_is_private(index: MemberIndex, tmp_path: Path) -> None:
    assert os.stat(tmp_path / FILE_NAME).st_mode & 0o777 == 0o600


def test_no_index_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(NoIndex, match="vtlfs index"):
        MemberIndex.open(tmp_path, UUID)


@pytest.mark.parametrize("damage", ["garbage", "empty", "other version", "other library", "no table"])
def test_a_damaged_index_is_told_as_such_and_made_anew(damage: str, index: MemberIndex, tmp_path: Path) -> None:
    fill(index, 1, "a")
    index.close()
    path = tmp_path / FILE_NAME
    if damage in ("garbage", "empty"):
        path.write_bytes(b"garbage" * 1000 if damage == "garbage" else b"")
    else:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                {
                    "other version": "PRAGMA user_version = 77",
                    "other library": "UPDATE catalogue SET uuid = 'other'",
                    "no table": "DROP TABLE catalogue",
                }[damage]
            )
    with pytest.raises(IndexDamaged, match="--anew"):
        MemberIndex.open(tmp_path, UUID)
    with closing(MemberIndex.make(tmp_path, UUID)) as made:
        assert rows(made)["member"] == 0


@pytest.mark.parametrize(
    ("sql", "read"),
    [
        ("UPDATE stream SET state = 'x'", lambda index: index.counts()),
        ("UPDATE stream SET state = 'x'", lambda index: list(index.streams())),
        ("UPDATE member SET kind = 'x'", lambda index: list(index.members(1))),
    ],
)
def test_a_value_that_can_not_be_is_told_as_damage(
    sql: str, read: Callable[[MemberIndex], object], index: MemberIndex, tmp_path: Path
) -> None:
    fill(index, 1, "a")
    index.close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(sql)
    with closing(MemberIndex.open(tmp_path, UUID)) as opened, pytest.raises(IndexDamaged):
        read(opened)


def test_a_page_that_is_damaged_later_is_told_as_such(index: MemberIndex, tmp_path: Path) -> None:
    fill(index, 1, *(f"some/{number}/path" for number in range(5000)))
    index.close()
    path = tmp_path / FILE_NAME
    size = path.stat().st_size
    with open(path, "r+b") as file:
        for page in range(size // 8192, size // 4096):
            file.seek(page * 4096)
            file.write(b"\xa5" * 4096)
    with closing(MemberIndex.open(tmp_path, UUID)) as opened, pytest.raises(IndexDamaged):
        list(opened.members(1))


@pytest.mark.parametrize(
    ("path", "directory", "above"),
    [("a", "", None), ("a/b", "a/", ""), ("/a", "/", ""), ("/a/b", "/a/", "/"), ("a//b", "a//", "a/"), ("/", "/", "")],
)
def test_a_path_is_split_so_that_both_parts_make_it_up(path: str, directory: str, above: str | None) -> None:
    assert split(path)[0] == directory
    assert "".join(split(path)) == path
    assert above is None or directory == "/" or parent(directory) in (above, "", "a/", "/")
