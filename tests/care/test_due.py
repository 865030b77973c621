"""When people are told, and again: pure functions; and which incidents begin and end."""

from collections.abc import Sequence

import pytest
from unmounted_care import disk

from vtlfs.care.conditions import Lasting, Space, lasting
from vtlfs.care.due import Due, due
from vtlfs.care_rules import NotifyRule
from vtlfs.config import Config
from vtlfs.engine.condition import Facts
from vtlfs.engine.tracking.repositories.incidents import Incident, Telling, Untold
from vtlfs.model import later
from vtlfs.report.night import CopyOfCatalogue

AT = "2026-11-28T03:00:00.000000Z"
HOUR, DAY = 3600.0, 86_400.0
RULE = NotifyRule(command=("/bin/true",), gather=300.0)
NEW = Untold("disk 1", 7, 7, 1)
BROKEN = Incident(7, AT, "disk failed", "disk 1", None, "disk 1: x", None, lasts=True)
FRESH = CopyOfCatalogue(AT, is_there=True, is_current=False)


def telling(told: int, ago: float | None, tries: int = 0, tried: float | None = None) -> Telling:
    """Return how far people were told, so many seconds ago."""
    told_at = None if ago is None else later(AT, -ago)
    return Telling("disk 1", told, told_at, None if tried is None else later(AT, -tried), tries, "x" if tries else None)


@pytest.mark.parametrize(
    ("known", "is_due"),
    [
        (None, True),
        (telling(3, 10.0), False),  # gathered
        (telling(3, 301.0), True),
        (telling(3, -10.0), True),  # a clock that was set back keeps nothing from being told
        (telling(0, None, 1, 5.0), False),  # has just failed
        (telling(0, None, 1, 11.0), True),
        (telling(0, None, 2, 11.0), False),  # twice as long
        (telling(0, None, 30, HOUR - 1), False),
        (telling(0, None, 30, HOUR + 1), True),  # never longer than an hour
    ],
)
def test_message_is_due(known: Telling | None, is_due: bool) -> None:
    tellings = {} if known is None else {"disk 1": known}
    assert due([NEW], [BROKEN], tellings, RULE, AT) == ([Due(NEW)] if is_due else [])


@pytest.mark.parametrize(
    ("known", "rule", "is_due"),
    [
        (telling(7, DAY - 1), RULE, False),
        (telling(7, DAY + 1), RULE, True),
        (telling(7, DAY + 1), NotifyRule(remind=None), False),
        (telling(7, DAY + 1), NotifyRule(kinds=("space",)), False),
        (telling(6, DAY + 1), RULE, False),  # it is yet to be told
        (telling(7, DAY + 1, 1, 5.0), RULE, False),
    ],
)
def test_reminder_is_due_after_a_day(known: Telling, rule: NotifyRule, is_due: bool) -> None:
    found = due([], [BROKEN], {"disk 1": known}, rule, AT)
    assert found == ([Due(Untold("disk 1", 7, 7, 1), is_reminder=True)] if is_due else [])


def found(
    rule: NotifyRule = RULE,
    *,
    facts: Facts | None = None,
    space: Space | None = None,
    copy: CopyOfCatalogue = FRESH,
    known: Sequence[str] = (),
) -> list[Lasting]:
    healthy = Facts("/srv/vtl", 1, tuple(disk(number) for number in range(3)))
    return lasting(facts or healthy, space, copy, Config("uuid", ()), rule, known, AT)


def test_level_of_space_has_some_play() -> None:
    share = NotifyRule(space=10, space_is_share=True)
    assert [one.kind for one in found(share, space=Space(1000, 99))] == ["space low"]
    assert found(share, space=Space(1000, 100)) == []
    assert [one.kind for one in found(share, space=Space(1000, 105), known=["space"])] == ["space low"]
    assert found(share, space=Space(1000, 110), known=["space"]) == []
    assert found(NotifyRule(space=None), space=Space(1000, 0)) == []
    assert [one.what for one in found(NotifyRule(space=500, space_is_share=False), space=Space(1000, 400))] == [
        "400 B of data still fit on the disks, less than 500 B"
    ]


def test_faults_of_disks_are_no_trouble_of_the_library_but_what_they_lead_to_is() -> None:
    one_away = Facts("/srv/vtl", 1, (disk(0), disk(1, "Input/output error"), disk(2)))
    assert found(facts=one_away) == []
    two_away = Facts("/srv/vtl", 1, (disk(0), disk(1, "Input/output error"), disk(2, "it does not answer")))
    (failed,) = found(facts=two_away)
    assert failed.kind == "library failed"
    assert failed.what.startswith("the library is failed: 2 disks away (1 and 2)")


@pytest.mark.parametrize(
    ("age", "is_current", "is_old"),
    [(DAY - 1, False, False), (DAY + 1, False, True), (DAY + 1, True, False), (-5.0, False, True)],
)
def test_copy_is_too_old(age: float, is_current: bool, is_old: bool) -> None:
    copy = CopyOfCatalogue(later(AT, -age), is_there=True, is_current=is_current)
    assert [one.kind for one in found(copy=copy)] == (["copy old"] if is_old else [])
