"""The header of a member file is checked before anything believes it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtlfs.disks import headers
from vtlfs.model import Opener, RetainMode, Retention, State

AT = "2026-01-31T09:30:00.000000Z"
GOOD: dict[str, Any] = {
    "medium": "T1",
    "drive": 0,
    "host": "alpha",
    "pid": 1,
    "uid": 0,
    "gid": 0,
    "program": "tar",
    "opened_at": "2026-01-31T09:30:00.000000Z",
    "stripe_unit": 65536,
    "parity": 1,
    "volume": 1,
    "codec": "none",
}
ENDED = GOOD | {
    "state": "released",
    "error": None,
    "released_at": "2026-01-31T09:31:00.000000Z",
    "tape_file": 3,
    "start": 10,
    "bytes": 20,
    "requests": 4,
}
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def test_headers_of_a_session_agree() -> None:
    opening, ending, strangers = headers.agreed([(0, GOOD), (1, ENDED)])
    assert opening is not None
    assert (opening.medium, opening.opener.host, opening.stripe_unit) == ("T1", "alpha", 65536)
    assert (opening.parity, opening.volume, opening.codec) == (1, 1, "none")
    assert ending == headers.Ending(State.RELEASED, None, "2026-01-31T09:31:00.000000Z", 3, 10, 20, 4)
    assert strangers == []


numbers = st.integers(0, 1 << 40)
texts = st.text(min_size=1, max_size=20)
endings = st.builds(
    headers.Ending,
    state=st.sampled_from([State.RELEASED, State.FAILED, State.RECOVERED]),
    error=st.none() | st.sampled_from(["ENOSPC", "EIO"]),
    released_at=st.just(AT),
    tape_file=numbers,
    start=numbers,
    bytes=numbers.map(lambda number: number + 1),
    requests=st.none() | numbers,
)
nothing_left = endings.map(lambda ending: replace(ending, tape_file=None, start=None, bytes=None))
openings = st.builds(
    headers.Opening,
    medium=st.just("T1"),
    drive=st.integers(0, 7),
    opener=st.builds(Opener, texts, numbers, numbers, numbers, texts),
    opened_at=st.just(AT),
    stripe_unit=st.sampled_from([4096, 1 << 20]),
    parity=st.integers(0, 2),
    volume=st.integers(1, headers.MAX_VOLUMES),
)


@given(opening=openings, ending=st.none() | endings | nothing_left)
def test_what_is_written_into_a_header_is_read(opening: headers.Opening, ending: headers.Ending | None) -> None:
    said = headers.read({"library": "l", "disk": 1, "session": 2} | headers.document(opening, ending))
    assert said == headers.Header("l", 1, 2, opening, ending)


def test_header_of_another_session_is_a_stranger() -> None:
    opening, _, strangers = headers.agreed([(0, GOOD), (1, ENDED | {"medium": "T2"}), (2, {})])
    assert opening is not None
    assert strangers == [1, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"parity": 3},
        {"parity": -1},
        {"parity": True},
        {"volume": 0},
        {"volume": headers.MAX_VOLUMES + 1},
        {"codec": "zstd"},
        {"codec": None},
    ],
)
def test_header_with_what_nobody_writes_is_a_stranger(change: dict[str, Any]) -> None:
    assert headers.agreed([(0, GOOD), (1, GOOD | change)])[2] == [1]


RULE = {"retain_mode": "compliance", "retain_seconds": 86400}
KEPT = {"retain": "compliance", "retain_until": "2026-03-01T09:31:00.000000Z"}


def test_retention_is_read() -> None:
    opening, ending = headers.opening(ENDED | RULE), headers.ending(ENDED | KEPT)
    assert opening is not None
    assert (opening.retain_mode, opening.retain_seconds) == (RetainMode.COMPLIANCE, 86400)
    assert ending is not None
    assert ending.retention == Retention(RetainMode.COMPLIANCE, "2026-03-01T09:31:00.000000Z")
    assert headers.opening(headers.document(opening)) == opening
    again = headers.opening(headers.document(opening, ending))
    assert again is not None
    assert (again.retain_mode, again.retain_seconds) == (RetainMode.COMPLIANCE, 86400)


def test_headers_agree_whose_rule_was_lost_when_they_were_mended() -> None:
    assert headers.agreed([(0, ENDED), (1, ENDED | RULE)])[2] == []


@pytest.mark.parametrize(
    "change",
    [
        {"retain": "for ever"},
        {"retain": None},
        {"retain": "worm"},
        {"retain_until": None},
        {"retain_until": "soon"},
        {"retain_until": "3000-01-01T00:00:00.000000Z"},
        {"retain_until": "9999-99-99T00:00:00.000000Z"},
    ],
)
def test_end_with_a_retention_that_cannot_be_is_not_believed(change: dict[str, Any]) -> None:
    assert headers.ending(ENDED | KEPT | change) is None


@pytest.mark.parametrize("change", [{"retain_mode": 7}, {"retain_seconds": -1}, {"retain_seconds": 1 << 60}])
def test_rule_that_cannot_be_is_none_and_the_rest_of_the_header_counts(change: dict[str, Any]) -> None:
    opening = headers.opening(GOOD | RULE | change)
    assert opening is not None
    assert opening.retain_mode is None


PART = {"pool": "NIGHTLY", "stream": 17, "place": 1, "start": 4096, "commits": 99}


def test_part_of_a_stream_is_read_and_headers_without_it_agree() -> None:
    opening = headers.opening(ENDED | {"part": PART})
    assert opening is not None
    assert opening.part == headers.PartOf("NIGHTLY", 17, 1, 4096, 99)
    again = headers.opening(headers.document(opening))
    assert again is not None
    assert again.part == opening.part
    mended = replace(opening, part=replace(opening.part, commits=None))
    assert "commits" not in headers.document(mended)["part"]
    assert headers.agreed([(0, ENDED), (1, ENDED | {"part": PART}), (2, headers.document(mended))])[2] == []


@pytest.mark.parametrize(
    "part", [None, 7, [], {}, PART | {"pool": 7}, PART | {"start": -1}, PART | {"place": True}, PART | {"commits": "x"}]
)
def test_part_that_cannot_be_is_none_and_the_rest_of_the_header_counts(part: Any) -> None:
    opening = headers.opening(GOOD | {"part": part})
    assert opening is not None
    assert opening.part is None


@given(key=st.sampled_from(sorted(ENDED)), value=anything)
def test_any_value_is_taken_as_what_it_is_or_refused(key: str, value: Any) -> None:
    document = ENDED | {key: value}
    for found in (headers.opening(document), headers.ending(document)):
        assert found is None or key not in found.__slots__ or getattr(found, key) == value or isinstance(value, str)


@given(st.dictionaries(st.sampled_from(sorted(ENDED)) | st.text(), anything))
def test_no_header_is_an_error(document: dict[str, Any]) -> None:
    headers.agreed([(0, document), (1, ENDED), (2, document)])
