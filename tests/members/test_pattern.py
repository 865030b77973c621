"""Patterns of paths."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtlfs.members.pattern import ENDS, compile_pattern


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
    ("pattern", "literals", "grams", "short"),
    [
        ("passwd", ("passwd",), ["pas", "ass", "ssw", "swd"], []),
        ("/etc/*.conf", ("/etc/", f".conf{ENDS}"), None, []),
        ("ab", ("ab",), [], ["ab"]),
        ("*ab[cd]ef?ghi*", ("ab", "ef", "ghi"), ["ghi"], ["ab", "ef"]),
        ("*.c", (f".c{ENDS}",), [".c\x01", "c\x01\x01"], []),
        ("*~", (f"~{ENDS}",), ["~\x01\x01"], []),
        ("a*", ("/a",), [], ["/a"]),
        ("*A*", ("A",), [], ["a"]),
        ("*é*", ("é",), [], []),
        ("*ß日*", ("ß日",), [], []),
        ("*日*", ("日",), [], ["日"]),
        ("*", (), [], []),
        ("??", (), [], []),
        ("caf\udce9/menu", ("caf", "/menu"), ["caf", "/me", "men", "enu"], []),
        ("[]abc]xyz", (f"xyz{ENDS}",), None, []),
    ],
)
def test_literals_are_what_each_path_that_is_like_it_has(
    pattern: str, literals: tuple[str, ...], grams: list[str] | None, short: list[str]
) -> None:
    compiled = compile_pattern(pattern)
    assert (compiled.literals, compiled.short) == (literals, short)
    assert grams is None or compiled.grams == grams


@given(st.text("ab/.*?[]!", max_size=10), st.lists(st.text("ab.[]", min_size=1, max_size=4), min_size=1, max_size=4))
def test_a_path_that_is_like_a_pattern_has_its_literals(pattern: str, parts: list[str]) -> None:
    path, compiled = "/".join(parts), compile_pattern(pattern)
    if compiled.matches(path):
        assert all(literal in f"/{path}{ENDS}" for literal in compiled.literals)
        assert compiled.longest in path


def test_no_pattern_takes_for_ever() -> None:
    compiled = compile_pattern("*a" * 30 + "b")
    assert not compiled.matches("a" * 4000)
    assert isinstance(compiled._regex, re.Pattern)
