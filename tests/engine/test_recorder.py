"""The recorder: changes in order, many in one commit, and a failure that takes nothing else with it."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from scripted import make_library

from vtlfs.engine.library import Library
from vtlfs.engine.recorder import Recorder
from vtlfs.engine.tracking import Tracking
from vtlfs.errors import NoSuchMedium, UsageError
from vtlfs.model import utc_now


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return make_library(tmp_path)


@pytest.fixture
async def recorder(library: Library) -> AsyncIterator[Recorder]:
    recorder = Recorder(library.tracking)
    yield recorder
    await recorder.close()


def barcodes(library: Library) -> list[str]:
    with closing(library.tracking(read_only=True)) as tracking:
        return [medium.barcode for medium in tracking.media() if medium.barcode.startswith("R")]


def add(barcode: str):
    return lambda tracking: tracking.add_media([barcode], None, utc_now())


async def test_change_is_committed_when_call_returns(recorder: Recorder, library: Library):
    assert await recorder.call(lambda tracking: tracking.lease_sessions(5)) == range(1, 6)
    await recorder.call(add("R1"))
    assert barcodes(library) == ["R1"]


async def test_failed_change_is_rolled_back_alone(recorder: Recorder, library: Library):
    def half(tracking: Tracking) -> None:
        tracking.add_media(["R2"], None, utc_now())
        tracking.add_media(["T1"], None, utc_now())

    outcomes: dict[str, BaseException | None] = {}

    async def call(name: str, change) -> None:
        try:
            await recorder.call(change)
            outcomes[name] = None
        except UsageError as error:
            outcomes[name] = error

    async with trio.open_nursery() as nursery:
        for name, change in (("R1", add("R1")), ("half", half), ("R3", add("R3"))):
            nursery.start_soon(call, name, change)
    assert barcodes(library) == ["R1", "R3"]
    assert [name for name, error in outcomes.items() if error] == ["half"]


async def test_error_of_a_change_is_raised_where_it_was_called(recorder: Recorder):
    with pytest.raises(NoSuchMedium):
        await recorder.call(lambda tracking: tracking.medium("NONE"))
    with pytest.raises(ZeroDivisionError):
        await recorder.call(lambda _: 1 // 0)
    assert await recorder.call(lambda _: 7) == 7


async def test_what_waits_together_is_one_durable_commit(
    recorder: Recorder, library: Library, monkeypatch: pytest.MonkeyPatch
):
    commits: list[bool] = []
    transaction = Tracking.transaction

    @contextmanager
    def watched(tracking: Tracking, *, durable: bool = True) -> Iterator[None]:
        if not tracking._connection.in_transaction:
            commits.append(durable)
        with transaction(tracking, durable=durable):
            yield

    monkeypatch.setattr(Tracking, "transaction", watched)
    gate, begun = threading.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    def blocked(_: Tracking) -> None:
        token.run_sync_soon(begun.set)
        gate.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(recorder.call, blocked)
        await begun.wait()
        recorder.post(add("R0"))
        for number in range(1, 9):
            nursery.start_soon(lambda number=number: recorder.call(add(f"R{number}"), durable=number == 5))
        await trio.testing.wait_all_tasks_blocked()
        gate.set()
    assert barcodes(library) == [f"R{number}" for number in range(9)]
    assert commits == [True, True]


async def test_changes_are_made_in_the_order_of_the_calls(recorder: Recorder):
    seen: list[int] = []
    for number in range(600):
        recorder.post(lambda _, number=number: seen.append(number))
    await recorder.call(lambda _: seen.append(600))
    assert seen == list(range(601))


async def test_failed_post_is_logged(recorder: Recorder, caplog: pytest.LogCaptureFixture):
    recorder.post(lambda tracking: tracking.medium("NONE"))
    await recorder.call(lambda _: None)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "NONE" in caplog.text


async def test_cancelled_call_waits_for_its_commit(recorder: Recorder, library: Library):
    with trio.CancelScope() as scope:
        scope.cancel()
        await recorder.call(add("R1"))
    assert barcodes(library) == ["R1"]


async def test_close_commits_what_was_posted(library: Library):
    recorder = Recorder(library.tracking)
    for number in range(1, 6):
        recorder.post(add(f"R{number}"))
    await recorder.close()
    assert barcodes(library) == [f"R{number}" for number in range(1, 6)]


async def test_two_recorders_take_turns(recorder: Recorder, library: Library):
    other = Recorder(library.tracking)
    leased: list[range] = []

    async def lease(one: Recorder) -> None:
        for _ in range(30):
            leased.append(await one.call(lambda tracking: tracking.lease_sessions(3)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lease, recorder)
        nursery.start_soon(lease, other)
    await other.close()
    numbers = [number for some in leased for number in some]
    assert len(set(numbers)) == len(numbers) == 180
