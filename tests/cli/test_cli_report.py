"""`vtlfs report`: what it tells of last night, what needs attention, and the exit status."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from unmounted import Done, Refused, Run, Shelf

from vtlfs.care_rules import CareRule
from vtlfs.engine.condition import Condition
from vtlfs.engine.reclaim.forecast import Forecast
from vtlfs.engine.scrub.verification import Verification
from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import Actor, Medium, State, format_size, format_time, later, utc_now
from vtlfs.report import page
from vtlfs.report.attention import attention, condition_of
from vtlfs.report.night import last_night, soon_full
from vtlfs.report.report import make
from vtlfs.report.words import default_since

FINE, FAILED, DEGRADED = 0, 3, 4
WIDTH = 80

Report = Callable[..., Any]


@pytest.fixture
def mount(shelf: Shelf) -> Iterator[int]:
    """A mount of a process that lives: the test."""
    lease = shelf.library.leases.take(number := shelf.mount("alpha"))
    yield number
    lease.let_go()


@pytest.fixture
def report(run: Run) -> Report:
    """Return a function that runs `vtlfs report --json`, asserts the exit status, and returns the JSON."""

    def call(shelf: Shelf, expected: int = FINE, *words: str) -> Any:
        result = run("report", shelf.path, "--json", *words)
        assert (result.returncode, result.stderr) == (expected, ""), result.stdout
        return json.loads(result.stdout)

    return call


def change(shelf: Shelf, *changes: Callable[[Tracking], object]) -> None:
    """Change the tracking database."""
    with closing(shelf.library.tracking()) as tracking, tracking.transaction():
        for one in changes:
            one(tracking)


def end(shelf: Shelf, session: int, state: State, error: str | None, at: str | None = None) -> None:
    """End a session."""
    change(shelf, lambda tracking: tracking.sessions.release(session, state, error, at or utc_now()))


def test_streams_are_told_by_host_with_their_failures(shelf: Shelf, mount: int, report: Report) -> None:
    for host, number in {"web": 3, "mail": 1}.items():
        for _ in range(number):
            shelf.write("A00001L9", bytes(10_000), mount=mount, host=host)
    end(shelf, shelf.open("A00002L9", bytes(5000), mount=mount, host="web"), State.FAILED, "EIO")
    end(shelf, shelf.open("A00002L9", mount=mount, host="db"), State.RECOVERED, None)
    end(shelf, shelf.open("A00002L9", bytes(70), mount=mount, host="mail"), State.RELEASED, "ENOSPC")
    end(shelf, shelf.open("A00002L9", mount=mount, host="idle"), State.RELEASED, None)
    shelf.open("A00001L9", bytes(1), mount=mount, host="mail")
    found = report(shelf, DEGRADED)
    by_host = {one["host"]: one for one in found["hosts"]}
    assert list(by_host) == ["web", "mail", "db"], "the most bytes first"
    figures = ("streams", "bytes", "media", "failed", "open")
    assert [by_host["web"][key] for key in figures] == [4, 35_000, 2, 1, 0]
    assert (by_host["mail"]["open"], by_host["mail"]["failed"], by_host["db"]["streams"]) == (1, 1, 0)
    failures = [(one["host"], one["error"], one["bytes"], one["medium"]) for one in found["failures"]]
    assert failures == [
        ("web", "EIO", 5000, "A00002L9"),
        ("db", None, 0, "A00002L9"),
        ("mail", "ENOSPC", 70, "A00002L9"),
    ]
    assert (found["failed"], found["streams"]["streams"], found["streams"]["failed"]) == (3, 6, 3)
    assert sorted(found["new"]["hosts"]) == ["db", "mail", "web"]
    (what,) = [one["what"] for one in found["attention"] if one["condition"] == "degraded"]
    assert what.startswith("3 streams failed since")
    assert what.endswith("from mail to A00002L9: ENOSPC (No space left on device)")


def test_what_came_before_the_period_is_left_out(shelf: Shelf, mount: int, report: Report) -> None:
    shelf.write("A00001L9", bytes(10_000), mount=mount, host="web")
    end(shelf, shelf.open("A00002L9", bytes(5000), mount=mount, host="web"), State.FAILED, "EIO")
    change(shelf, lambda tracking: tracking.disks.record_fault(1, "Input/output error", utc_now()))
    change(shelf, lambda tracking: tracking.disks.record_fault(1, None, utc_now()))
    found = report(shelf, FINE, "--since", later(utc_now(), 1))
    assert (found["hosts"], found["failures"], found["failed"], found["incidents"]) == ([], [], 0, [])
    assert found["new"] == {"events": [], "hosts": [], "disks": [], "retired_disks": []}


def test_reader_that_got_an_error_needs_attention(shelf: Shelf, mount: int, report: Report) -> None:
    shelf.write("A00001L9", bytes(10_000), mount=mount)
    session = shelf.open("A00001L9", mount=mount)
    change(shelf, lambda tracking: tracking.sql.execute("UPDATE session SET access = 'read' WHERE id = ?", session))
    change(
        shelf,
        lambda tracking: tracking.sessions.release_reader(session, State.FAILED, "EIO", utc_now(), 7, 1),
    )
    found = report(shelf, DEGRADED)
    assert [(one["access"], one["error"]) for one in found["failures"]] == [("read", "EIO")]
    assert found["hosts"][0]["failed"] == 0, "it is no stream"
    (told,) = [one for one in found["attention"] if one["condition"] == "degraded"]
    assert told["what"] == "1 reader got an error, the last on A00001L9: EIO (Input/output error)"
    assert told["advice"] == f"vtlfs verify {shelf.path} A00001L9"


def test_disk_that_was_away_and_is_back_is_an_incident_and_no_trouble(shelf: Shelf, mount: int, report: Report) -> None:
    change(
        shelf,
        lambda tracking: tracking.disks.record_fault(1, "Input/output error", utc_now()),
        lambda tracking: tracking.disks.record_fault(1, "it does not answer", utc_now()),
        lambda tracking: tracking.disks.record_fault(1, "it does not answer", utc_now()),
        lambda tracking: tracking.disks.record_fault(1, None, utc_now()),
        lambda tracking: tracking.disks.record_fault(0, "No space left on device", utc_now()),
    )
    found = report(shelf, FAILED)  # for one disk is left that can be written to
    assert [(one["kind"], one["about"], one["lasts"]) for one in found["incidents"]] == [
        ("disk failed", "disk 1", False),
        ("disk hanging", "disk 1", False),
        ("disk back", "disk 1", False),
        ("disk full", "disk 0", True),
    ]
    assert all("disk 1" not in one["what"] for one in found["attention"])


def test_missing_disk_makes_the_library_fail(shelf: Shelf, report: Report) -> None:
    shelf.write("A00001L9", bytes(10_000))
    (shelf.disks[1] / "vtlfs-disk.json").rename(shelf.root / "away")
    found = report(shelf, FAILED)
    assert found["condition"] == "failed"
    assert found["attention"][0]["condition"] == "failed"


def test_events_are_what_is_new(shelf: Shelf, mount: int, done: Done, report: Report) -> None:
    done("media", "add", shelf.path, "B1..B9")
    done("media", "retire", shelf.path, "B1")
    done("snapshot", "take", shelf.path)
    found = report(shelf)
    events = [(one["what"], one["count"], one["media"]) for one in found["new"]["events"]]
    assert events == [("added", 9, ["B1", "B2", "B3", "B4", "B5"]), ("retired", 1, ["B1"])]
    assert (found["snapshots"]["count"], found["snapshots"]["taken"]) == (1, 1)
    said = done("report", shelf.path)
    assert "9 media added (B1, B2, B3, B4, B5, ...); 1 medium retired (B1)" in said


def test_page_fits_a_terminal_whatever_there_is(shelf: Shelf, mount: int, run: Run) -> None:
    for number in range(12):
        host = f"machine-{number:02d}.of-a-name.that-is-long.example.org"
        shelf.write("A00001L9", bytes(1000), mount=mount, host=host)
        end(shelf, shelf.open("A00002L9", bytes(50), mount=mount, host=host), State.FAILED, "ENOSPC")
    result = run("report", shelf.path)
    assert (result.returncode, result.stderr) == (DEGRADED, "")
    lines = result.stdout.splitlines()
    longest = [line for line in lines if len(line) > WIDTH and shelf.path not in line]
    assert longest == [], longest
    assert len(lines) < 50
    assert "... 6 more" in lines
    assert any("8 more sessions failed" in line for line in lines)


def test_names_of_hosts_and_programs_do_no_harm(shelf: Shelf, mount: int, run: Run) -> None:
    shelf.write("A00001L9", bytes(1000), mount=mount, host="web|x")
    session = shelf.open("A00001L9", bytes(50), mount=mount, host="web|x", program="a\x1b[31m|b*\nc")
    end(shelf, session, State.FAILED, "EIO")
    plain, marked = run("report", shelf.path).stdout, run("report", shelf.path, "--markdown").stdout
    assert "\x1b" not in plain + marked
    assert "\n# " not in marked[1:].replace("\n## ", "")
    assert "| web\\|x | 2 | 1 | 0 |" in marked
    assert "\\*" in marked


def test_markdown_has_all_hosts(shelf: Shelf, mount: int, done: Done) -> None:
    for number in range(12):
        shelf.write("A00001L9", bytes(1000), mount=mount, host=f"web{number}")
    said = done("report", shelf.path, "--markdown")
    assert said.startswith(f"# {shelf.path.replace('_', chr(92) + '_')}: fine\n")
    assert all(f"| web{number} | 1 | 0 | 0 | {format_size(1000)} | 1 |" in said for number in range(12))
    assert "| all | 12 | 0 | 0 |" in said


def test_two_forms_are_refused(shelf: Shelf, refused: Refused) -> None:
    assert "choose one" in refused(2, "report", shelf.path, "--json", "--markdown")


@pytest.mark.parametrize("word", ["yesterday-ish", "2027-13-01", "", "5x"])
def test_since_that_is_no_time_is_refused(shelf: Shelf, refused: Refused, word: str) -> None:
    refused(2, "report", shelf.path, "--since", word)


def test_report_of_a_library_that_is_empty_is_fine(shelf: Shelf, done: Done) -> None:
    said = done("report", shelf.path)
    assert "streams    none" in said
    assert "condition  fine" in said


# --- pure functions ---------------------------------------------------------------------------------------------------


@pytest.fixture
def berlin() -> Iterator[None]:
    """The time zone of Berlin, for the test."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "CET-1CEST,M3.5.0,M10.5.0/3"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("at", "since"),
    [
        ("2026-11-28T06:00:00Z", "2026-11-27T06:00:00.000000Z"),  # in the morning: 24 hours
        ("2026-11-28T18:30:00Z", "2026-11-27T17:00:00.000000Z"),  # in the evening: yesterday at 18:00, here UTC+1
        ("2026-07-28T17:00:00Z", "2026-07-27T16:00:00.000000Z"),  # in summer: UTC+2
    ],
)
def test_report_begins_a_day_ago_or_with_the_last_night(at: str, since: str) -> None:
    assert default_since(at) == since


def test_medium_that_fills_fast_is_told() -> None:
    def medium(barcode: str, left: int, **more: Any) -> Medium:
        return Medium(1, barcode, 1000, 1000 - left, 1, 0, "x", None, **more)

    media = [medium("soon", 300), medium("late", 900), medium("full", 0), medium("tab", 10, protected=True)]
    written = {"soon": 700, "late": 7, "full": 700, "tab": 700}
    assert [(one.barcode, one.daily, one.days) for one in soon_full(media, written, 7)] == [("soon", 100, 3.0)]


@pytest.mark.parametrize(("days", "level"), [(3, Condition.DEGRADED), (20, Condition.FINE), (200, None)])
def test_disks_that_will_be_full_soon_need_attention(shelf: Shelf, days: int, level: Condition | None) -> None:
    at = utc_now()
    made = make(shelf.library, later(at, -3600), at)
    forecast = Forecast(1 << 30, later(at, days * 86_400))
    found = attention(made.look.facts, made.night, shelf.library.config, forecast=forecast)
    assert [one.condition for one in found if "full" in one.what] == ([] if level is None else [level])
    assert condition_of(found) is (level or Condition.FINE)


@pytest.mark.parametrize(
    ("verify", "days", "is_late"), [(None, 50, False), (None, 91, True), (30.0, 50, False), (30.0, 61, True)]
)
def test_verification_is_late_as_library_toml_says(
    shelf: Shelf, verify: float | None, days: int, is_late: bool
) -> None:
    at = utc_now()
    made = make(shelf.library, later(at, -3600), at)
    ended = later(at, -days * 86_400.0)
    verified = Verification(1, ended, ended, None, 1, 0)
    care = CareRule(verify=None if verify is None else verify * 86_400)
    found = attention(
        made.look.facts, replace(made.night, verified=verified, bytes=1), replace(shelf.library.config, care=care)
    )
    told = [one.what for one in found if "verified" in one.what]
    assert told == ([f"all data was last verified {days} days ago"] if is_late else [])


def test_copy_of_the_catalogue_that_is_too_old_needs_attention(shelf: Shelf) -> None:
    at = utc_now()
    shelf.write("A00001L9", bytes(1000))

    def told(begun_at: str, state: str) -> list[str]:
        change(shelf, lambda tracking: tracking.sql.execute("UPDATE copy SET number = 1, begun_at = ?", begun_at))
        change(shelf, lambda tracking: tracking.sql.execute("UPDATE copy SET again_at = begun_at, state = ?", state))
        made = make(shelf.library, later(at, -3600), at)
        return [one.what for one in made.attention if "copy" in one.what and one.condition is Condition.DEGRADED]

    assert told(later(at, -3600), "of then") == []
    assert told(later(at, -3 * 86_400), "of then") == ["the last copy of the tracking database is of 3 days ago"]
    with closing(shelf.library.tracking(read_only=True)) as tracking:
        state = tracking.copies.library_state()
    assert told(later(at, -3 * 86_400), state) == [], "nothing has changed since"


def test_event_without_a_medium_is_told_in_words(shelf: Shelf) -> None:
    for _ in range(2):
        change(shelf, lambda tracking: tracking.events.add("snapshot deleted", Actor(0, "here", "vtlfs"), utc_now()))
    with closing(shelf.library.tracking(read_only=True)) as tracking:
        night = last_night(tracking, format_time(datetime(2020, 1, 1, tzinfo=UTC)), utc_now())
    assert page.news(night) == ["2 times snapshot deleted"]


def test_night_of_a_period_of_years_counts_all(shelf: Shelf) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=2000)
    end(shelf, shelf.open("A00001L9", bytes(50)), State.RELEASED, None, format_time(long_ago))
    with closing(shelf.library.tracking(read_only=True)) as tracking:
        assert last_night(tracking, later(utc_now(), -86_400), utc_now()).hosts == ()
        assert last_night(tracking, "2001-01-01T00:00:00.000000Z", utc_now()).streams.streams == 1
