"""Patterns of paths."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtlfs.members.pattern import compile_pattern, grams


@pytest.mark.parametrize(
    ("pattern", "path", "is_like"),
    [
        ("passwd", "etc/passwd", True),
        ("etc/pass", "./etc/passwd", True),
        ("/etc/passwd", "etc/passwd", True),
        ("/etc/passwd", "/etc/passwd", True),
        ("/etc/passwd", "./etc/passwd", True),
        ("/etc/passwd", "home/etc/passwd", True),  # it contains the text
        ("PASSWD", "etc/passwd", False),
        ("*.conf", "etc/a.conf", True),
        ("*.conf", "a.conf", True),
        ("*.conf", "a.conf/x", False),
        ("?.conf", "etc/a.conf", True),
        ("?.conf", "etc/aa.conf", False),
        ("[ab].conf", "etc/b.conf", True),
        ("[!ab].conf", "etc/b.conf", False),
        ("/etc/*", "etc/ssh/config", True),
        ("/etc/*", "home/etc/x", False),
        ("etc/*.conf", "home/etc/a.conf", True),
        ("etc/*.conf", "home/xetc/a.conf", False),
        ("*", "\udcff", True),
        ("a[", "xa[", False),
        ("*a[", "xa[", True),
        ("new*line", "new\nline", True),
        (".", "a.b", True),
    ],
)
def test_a_path_is_like_a_pattern_or_not(pattern: str, path: str, is_like: bool) -> None:
    assert compile_pattern(pattern).matches(path) is is_like


def test_capital_letters_are_ignored_if_that_is_wanted() -> None:
    assert compile_pattern("*.CONF", ignore_case=True).matches("a.conf")


@pytest.mark.parametrize(
    ("pattern", "literals"),
    [
        ("passwd", ("passwd",)),
        ("/etc/*.conf", ("etc/", ".conf")),
        ("ab", ()),
        ("*ab[cd]ef?ghi*", ("ghi",)),
        ("caf\udce9/menu", ("caf", "menu")),
        ("[]abc]xyz", ("xyz",)),
    ],
)
def test_literals_are_what_each_path_that_is_like_it_has(pattern: str, literals: tuple[str, ...]) -> None:
    assert compile_pattern(pattern).literals == literals


@given(st.text("ab/.*?[]!", max_size=10), st.lists(st.text("ab.[]", min_size=1, max_size=4), min_size=1, max_size=4))
def test_a_path_that_is_like_a_pattern_has_its_literals(pattern: str, parts: list[str]) -> None:
    path, compiled = "/".join(parts), compile_pattern(pattern)
    if compiled.matches(path):
        assert all(literal in path for literal in compiled.literals)


def test_grams_are_all_three_characters_in_a_row() -> None:
    assert grams(("abcd", "bcde")) == ["abc", "bcd", "cde"]


def test_no_pattern_takes_for_ever() -> None:
    compiled = compile_pattern("*a" * 30 + "b")
    assert not compiled.matches("a" * 4000)
    assert isinstance(compiled._regex, re.Pattern)
