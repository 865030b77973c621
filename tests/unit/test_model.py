"""Names, sizes and times."""

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtlfs.errors import UsageError
from vtlfs.model import (
    BARCODE,
    MAX_RANGE,
    MAX_SIZE,
    Medium,
    check_barcode,
    check_host,
    epoch_ns,
    expand_barcodes,
    format_size,
    parse_size,
    utc_now,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64K", 65536),
        ("64k", 65536),
        ("64KiB", 65536),
        ("64KB", 64000),
        ("512B", 512),
        ("1MiB", 1 << 20),
        ("1 MiB", 1 << 20),
        (" 1m ", 1 << 20),
        ("2.5G", 5 << 29),
        ("12TB", 12 * 10**12),
        ("1.5kib", 1536),
        ("3P", 3 << 50),
        ("1pb", 10**15),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "K", "-1", "+1", "1e3", "1.", ".5", "1KiBB", "1 2", "0x10", "1,5G", "\u0661", "many", "1E", "1_000", "\n"],
)
def test_what_is_no_size_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["9" * 30, "9" * 5000, "9" * 5000 + ".5T", "99999999P", str(MAX_SIZE + 1)])
def test_a_size_that_no_medium_can_have_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="size"):
        parse_size(text)
    assert parse_size(str(MAX_SIZE)) == MAX_SIZE


@given(st.text(max_size=12))
def test_a_size_is_read_or_refused(text: str) -> None:
    with suppress(UsageError):
        assert 0 <= parse_size(text) <= MAX_SIZE


@given(st.integers(0, MAX_SIZE))
def test_a_size_for_people_has_three_figures_and_is_near(size: int) -> None:
    text = format_size(size)
    number, suffix = text.split(" ")
    assert len(number.replace(".", "").lstrip("0")) <= 4
    assert "e" not in number
    factor = 1024 ** ("B", "KiB", "MiB", "GiB", "TiB", "PiB").index(suffix)
    assert float(number) * factor == pytest.approx(size, rel=0.006)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "0.977 KiB"), (1 << 20, "1 MiB"), (1536, "1.5 KiB"), (5 << 50, "5 PiB")],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize("barcode", ["A", "7", "A00001L9", "a_b-c.d", "x" * 32, "LOADED", "0."])
def test_barcodes(barcode: str) -> None:
    assert check_barcode(barcode) == barcode


@pytest.mark.parametrize(
    "barcode",
    ["", ".", "..", ".A", "-A", "_A", "x" * 33, "A/B", "A B", "A\n", "A\0", "Ä", "loaded", "\uff21", "\u0663"],
)
def test_what_is_no_barcode_is_refused(barcode: str) -> None:
    with pytest.raises(UsageError):
        check_barcode(barcode)


@given(st.text(max_size=34))
def test_a_barcode_is_a_safe_file_name(text: str) -> None:
    try:
        check_barcode(text)
    except UsageError:
        return
    assert 1 <= len(text) <= 32
    assert text.isascii()
    assert not set(text) & set("/\0\n ")
    assert text not in (".", "..")


def test_a_range_of_barcodes() -> None:
    assert expand_barcodes(["A00009L9..A00011L9"]) == ["A00009L9", "A00010L9", "A00011L9"]
    assert expand_barcodes(["X", "B1..B3"]) == ["X", "B1", "B2", "B3"]
    assert expand_barcodes(["A1..A1"]) == ["A1"]


@pytest.mark.parametrize(
    "word",
    [
        "A1..B1",
        "A2..A1",
        "A1..A10",
        "A1B1..A2B2",
        "A..B",
        "A1..",
        "..A1",
        "A1...A3",
        "A1..A3..A5",
        "A0000001..A9999999",
        "A1..A1B",
    ],
)
def test_what_is_no_range_is_refused(word: str) -> None:
    with pytest.raises(UsageError):
        expand_barcodes([word])


def test_a_barcode_that_is_named_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="A2 is named twice"):
        expand_barcodes(["A1..A3", "A2"])


@given(
    st.from_regex(r"[A-Z]{0,4}", fullmatch=True),
    st.integers(0, 99_000),
    st.integers(0, 60),
    st.from_regex(r"(L[0-9])?", fullmatch=True),
)
def test_a_range_has_every_barcode_once_in_order(prefix: str, low: int, more: int, suffix: str) -> None:
    wanted = [f"{prefix}{number:06d}{suffix}" for number in range(low, low + more + 1)]
    assert expand_barcodes([f"{wanted[0]}..{wanted[-1]}"]) == wanted
    assert all(BARCODE.fullmatch(barcode) for barcode in wanted)


def test_the_longest_range() -> None:
    assert len(expand_barcodes([f"A000000..A{MAX_RANGE - 1:06d}"])) == MAX_RANGE


@pytest.mark.parametrize("host", ["alpha", "10.0.0.1", "fe80::1%eth0", "::1", "a_b.example-1.org", "9"])
def test_host_names(host: str) -> None:
    assert check_host(host) == host


@pytest.mark.parametrize("host", ["", "a b", "a,b", "a/b", "-a", ".a", "a\n", "ä", "x" * 256])
def test_what_is_no_host_name_is_refused(host: str) -> None:
    with pytest.raises(UsageError):
        check_host(host)


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)))
def test_times_become_nanoseconds_exactly(moment: datetime) -> None:
    text = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    since = moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    assert epoch_ns(text) == (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def test_times_sort_as_text() -> None:
    times = [utc_now() for _ in range(100)]
    assert times == sorted(times)
    assert all(len(time) == len("2026-01-31T09:30:00.000000Z") for time in times)


@pytest.mark.parametrize(
    ("capacity", "size", "reserved", "left"),
    [(None, 5, 5, None), (10, 0, 0, 10), (10, 4, 3, 3), (10, 10, 0, 0), (10, 12, 0, 0)],
)
def test_what_is_left_of_a_medium(capacity: int | None, size: int, reserved: int, left: int | None) -> None:
    assert Medium(1, "A1", capacity, size, 1, reserved, "", None).left == left
