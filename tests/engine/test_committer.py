"""The committer: changes in order, many in one commit, and a failure that takes nothing else with it."""

import errno
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from scripted import held, make_library

from vtlfs.engine.library import Library
from vtlfs.engine.tracking.committer import GroupCommitter
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import NoSuchMedium, TrackingError, UsageError
from vtlfs.model import utc_now


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return make_library(tmp_path)


@pytest.fixture
async def committer(library: Library) -> AsyncIterator[GroupCommitter]:
    committer = GroupCommitter(library.tracking)
    yield committer
    await committer.close()


def barcodes(library: Library) -> list[str]:
    with closing(library.tracking(read_only=True)) as tracking:
        return [medium.barcode for medium in tracking.media.all() if medium.barcode.startswith("R")]


def sqlite_error(code: int) -> sqlite3.OperationalError:
    """Return what the sqlite3 module raises with a code of SQLite's."""
    error = sqlite3.OperationalError("from SQLite")
    error.sqlite_errorcode = code
    return error


def add(barcode: str) -> Callable[[Tracking], object]:
    return lambda tracking: tracking.media.add([barcode], None, utc_now())


async def test_change_is_committed_when_call_returns(committer: GroupCommitter, library: Library) -> None:
    assert await committer.call(lambda tracking: tracking.library.take_sessions(5)) == range(1, 6)
    await committer.call(add("R1"))
    assert barcodes(library) == ["R1"]


async def test_failed_change_is_rolled_back_alone(committer: GroupCommitter, library: Library) -> None:
    def half(tracking: Tracking) -> None:
        tracking.media.add(["R2"], None, utc_now())
        tracking.media.add(["T1"], None, utc_now())

    outcomes: dict[str, BaseException | None] = {}

    async def call(name: str, change: Callable[[Tracking], object]) -> None:
        try:
            await committer.call(change)
            outcomes[name] = None
        except UsageError as error:
            outcomes[name] = error

    async with trio.open_nursery() as nursery:
        for name, change in (("R1", add("R1")), ("half", half), ("R3", add("R3"))):
            nursery.start_soon(call, name, change)
    assert barcodes(library) == ["R1", "R3"]
    assert [name for name, error in outcomes.items() if error] == ["half"]


async def test_error_of_a_change_is_raised_where_it_was_called(committer: GroupCommitter) -> None:
    with pytest.raises(NoSuchMedium):
        await committer.call(lambda tracking: tracking.media.get("NONE"))
    with pytest.raises(ZeroDivisionError):
        await committer.call(lambda _: 1 // 0)
    assert await committer.call(lambda _: 7) == 7


async def test_what_waits_together_is_one_durable_commit(
    committer: GroupCommitter, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[bool] = []
    transaction = Tracking.transaction

    @contextmanager
    def watched(tracking: Tracking, *, durable: bool = True) -> Iterator[None]:
        if not tracking._connection.in_transaction:
            commits.append(durable)
        with transaction(tracking, durable=durable):
            yield

    async def write(number: int) -> None:
        await committer.call(add(f"R{number}"), durable=number == 5)

    monkeypatch.setattr(Tracking, "transaction", watched)
    async with trio.open_nursery() as nursery, held(committer, 9):
        committer.post(add("R0"))
        for number in range(1, 9):
            nursery.start_soon(write, number)
    assert barcodes(library) == [f"R{number}" for number in range(9)]
    assert commits == [False, True]


async def told(committer: GroupCommitter, changes: list[Callable[[Tracking], object]]) -> list[Exception | None]:
    """Make the changes in one transaction; return the result or error of each."""
    outcomes: list[Exception | None] = [None] * len(changes)

    async def call(number: int) -> None:
        try:
            await committer.call(changes[number])
        except Exception as error:
            outcomes[number] = error

    async with trio.open_nursery() as nursery, held(committer, len(changes)):
        for number in range(len(changes)):
            nursery.start_soon(call, number)
    return outcomes


async def test_failed_commit_is_told_to_everybody_as_what_it_is(
    committer: GroupCommitter, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit(name: str) -> None:
        if name == "transaction.commit":
            raise sqlite_error(sqlite3.SQLITE_FULL)

    def begin(_: Tracking) -> None:
        monkeypatch.setattr("vtlfs.engine.tracking.database.reached", commit)

    outcomes = await told(committer, [begin, add("R1"), add("R2")])
    assert [type(error) for error in outcomes] == [TrackingError] * 3
    assert [error.errno for error in outcomes if isinstance(error, TrackingError)] == [errno.ENOSPC] * 3
    monkeypatch.undo()
    assert barcodes(library) == []
    await committer.call(add("R4"))
    assert barcodes(library) == ["R4"]


async def test_transaction_that_sqlite_takes_back_is_told_to_everybody(
    committer: GroupCommitter, library: Library
) -> None:
    def lost(tracking: Tracking) -> None:
        tracking.sql.execute("ROLLBACK")  # as SQLite itself rolls back when it has no room for its pages
        raise TrackingError("database or disk is full", errno.ENOSPC)

    outcomes = await told(committer, [add("R1"), lost, add("R2")])
    assert [error.errno for error in outcomes if isinstance(error, TrackingError)] == [errno.ENOSPC] * 3
    assert barcodes(library) == []
    await committer.call(add("R3"))
    assert barcodes(library) == ["R3"]


async def test_changes_are_made_in_the_order_of_the_calls(committer: GroupCommitter) -> None:
    seen: list[int] = []

    def note(number: int) -> Callable[[Tracking], None]:
        return lambda _: seen.append(number)

    for number in range(600):
        committer.post(note(number))
    await committer.call(lambda _: seen.append(600))
    assert seen == list(range(601))


async def test_failed_post_is_logged(committer: GroupCommitter, caplog: pytest.LogCaptureFixture) -> None:
    committer.post(lambda tracking: tracking.media.get("NONE"))
    await committer.call(lambda _: None)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "NONE" in caplog.text


async def test_cancelled_call_waits_for_its_commit(committer: GroupCommitter, library: Library) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await committer.call(add("R1"))
    assert barcodes(library) == ["R1"]


async def test_close_commits_what_was_posted(library: Library) -> None:
    committer = GroupCommitter(library.tracking)
    for number in range(1, 6):
        committer.post(add(f"R{number}"))
    await committer.close()
    assert barcodes(library) == [f"R{number}" for number in range(1, 6)]


async def test_two_committers_take_turns(committer: GroupCommitter, library: Library) -> None:
    other = GroupCommitter(library.tracking)
    leased: list[range] = []

    async def lease(one: GroupCommitter) -> None:
        for _ in range(30):
            leased.append(await one.call(lambda tracking: tracking.library.take_sessions(3)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lease, committer)
        nursery.start_soon(lease, other)
    await other.close()
    numbers = [number for some in leased for number in some]
    assert len(set(numbers)) == len(numbers) == 180
