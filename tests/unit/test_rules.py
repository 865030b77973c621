"""The rules of library.toml for the lives of media and for pools: what is read, what is refused, which one counts."""

import tomllib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtlfs.config import parse_duration
from vtlfs.errors import UsageError
from vtlfs.model import RetainMode, parse_size
from vtlfs.permissions import RuleError
from vtlfs.rules import NO_RULE, MediaRule, OnTruncate, PoolRule, Reuse, read_media, read_pools, rule_for


def duration(value: Any) -> float:
    if not isinstance(value, str):
        raise UsageError("the value must be a text")
    return parse_duration(value)


def size(value: Any) -> int:
    return parse_size(str(value))


def media(text: str) -> dict[str, MediaRule]:
    return read_media(tomllib.loads(text)["media"], duration)


def pools(text: str) -> dict[str, PoolRule]:
    return read_pools(tomllib.loads(text)["pools"], size)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('retain = "90d"', MediaRule(RetainMode.GOVERNANCE, 90 * 86400)),
        ('retain = "1h"\nmode = "governance"', MediaRule(RetainMode.GOVERNANCE, 3600)),
        ('retain = "30d"\nmode = "compliance"', MediaRule(RetainMode.COMPLIANCE, 30 * 86400)),
        ("worm = true", MediaRule(RetainMode.WORM, None)),
        ('worm = false\nretain = "1d"', MediaRule(RetainMode.GOVERNANCE, 86400)),
        ("worm = false", NO_RULE),
        ('on_truncate = "erase"', MediaRule(on_truncate=OnTruncate.ERASE)),
        ('on_truncate = "append"', NO_RULE),
        ("", NO_RULE),
    ],
)
def test_what_a_section_means(text: str, wanted: MediaRule) -> None:
    assert media(f'[media."A*"]\n{text}') == {"A*": wanted}


@pytest.mark.parametrize(
    ("text", "where", "wanted"),
    [
        ("media = 3", (), "the value must be a table"),
        ("media = []", (), "the value must be a table"),
        ('[media]\n"A*" = "90d"', ("A*",), "the value must be a table"),
        ('[media."A*"]\nretian = "90d"', ("A*", "retian"), "unknown key; there are retain, mode, worm, on_truncate"),
        ('[media."A*"]\nretain = 90', ("A*", "retain"), "the value must be a text"),
        ('[media."A*"]\nretain = "ninety"', ("A*", "retain"), "is not a duration"),
        ('[media."A*"]\nretain = "-1d"', ("A*", "retain"), "is not a duration"),
        ('[media."A*"]\nretain = "999999999999d"', ("A*", "retain"), "is too long"),
        ('[media."A*"]\nmode = "compliance"', ("A*", "mode"), "it needs retain"),
        ('[media."A*"]\nretain = "1d"\nmode = "worm"', ("A*", "mode"), "for ever is worm = true"),
        ('[media."A*"]\nretain = "1d"\nmode = "Compliance"', ("A*", "mode"), "the value must be 'governance' or"),
        ('[media."A*"]\nretain = "1d"\nmode = ["compliance"]', ("A*", "mode"), "the value must be 'governance' or"),
        ('[media."A*"]\nretain = "1d"\nmode = {}', ("A*", "mode"), "the value must be 'governance' or"),
        ('[media."A*"]\nworm = 1', ("A*", "worm"), "the value must be true or false"),
        ('[media."A*"]\nworm = "yes"', ("A*", "worm"), "the value must be true or false"),
        ('[media."A*"]\nworm = true\nretain = "1d"', ("A*", "worm"), "it retains for ever"),
        ('[media."A*"]\non_truncate = "delete"', ("A*", "on_truncate"), "the value must be 'append' or 'erase'"),
        ('[media."A*"]\non_truncate = true', ("A*", "on_truncate"), "the value must be 'append' or 'erase'"),
        ('[media."A*"]\nretain = "0.5s"', ("A*", "retain"), "the value must be 1s or more"),
        ('[media.""]\nretain = "1d"', ("",), "pattern"),
    ],
)
def test_section_that_is_refused_names_the_key(text: str, where: tuple[str, ...], wanted: str) -> None:
    with pytest.raises(RuleError) as caught:
        media(text)
    assert wanted in str(caught.value)
    assert caught.value.keys == where


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('[pools.nightly]\nmedia = "N*"', PoolRule("N*")),
        (
            '[pools.p]\nmedia = "N*"\nreuse = "oldest expired"\ncapacity = "1GiB"\ngrow = true\nspan = true',
            PoolRule("N*", Reuse.OLDEST_EXPIRED, 1 << 30, grow=True, span=True),
        ),
    ],
)
def test_what_a_pool_means(text: str, wanted: PoolRule) -> None:
    assert list(pools(text).values()) == [wanted]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("pools = 1", "the value must be a table"),
        ("[pools.p]", "media is missing"),
        ('[pools.p]\nmedia = "N*"\nspam = 1', "unknown key"),
        ("[pools.p]\nmedia = 3", "pattern|text"),
        ('[pools.p]\nmedia = "N*"\nreuse = "always"', "the value must be 'never' or 'oldest expired'"),
        ('[pools.p]\nmedia = "N*"\ncapacity = "plenty"', "is not a size"),
        ('[pools.p]\nmedia = "N*"\ngrow = "yes"', "the value must be true or false"),
        ('[pools."../p"]\nmedia = "N*"', "a pool's name has"),
        ('[pools."p.files"]\nmedia = "N*"', "a pool's name has"),
        (f'[pools.{"p" * 33}]\nmedia = "N*"', "a pool's name has"),
    ],
)
def test_pool_that_is_refused(text: str, wanted: str) -> None:
    with pytest.raises(RuleError, match=wanted):
        pools(text)


def test_the_first_section_that_matches_counts() -> None:
    rules = media('[media.A1]\nworm = true\n[media."A*"]\nretain = "1d"\n[media."*"]\non_truncate = "erase"')
    assert rule_for(rules, "A1").mode is RetainMode.WORM
    assert rule_for(rules, "A2").mode is RetainMode.GOVERNANCE
    assert rule_for(rules, "B1") == MediaRule(on_truncate=OnTruncate.ERASE)
    assert rule_for({}, "A1") == NO_RULE
    assert rule_for(media('[media."a*"]\nworm = true'), "A1") == NO_RULE, "barcodes are told apart by case"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
keys = st.sampled_from(["retain", "mode", "worm", "on_truncate", "media", "reuse", "capacity", "grow", "span"])


@given(st.dictionaries(st.text(max_size=8), st.dictionaries(keys | st.text(max_size=8), values, max_size=4) | values))
def test_whatever_stands_in_a_section_is_a_rule_or_a_rule_error(tables: dict[str, Any]) -> None:
    for read in (lambda: read_media(tables, duration), lambda: read_pools(tables, size)):
        with suppress(RuleError):
            assert set(read()) == set(tables)
