"""Values as texts for the terminal UI: sizes, times, rates and bars for people. Pure functions."""

from vtlfs.model import format_size

BAR_COLUMNS = 10


def printable(value: object) -> str:
    """Return the value as text, with every character escaped that would steer a terminal; a dash for None."""
    if value is None:
        return "-"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


def time(value: str | None) -> str:
    """Return a time of the tracking database, to the second."""
    return "-" if value is None else f"{value[:10]} {value[11:19]}Z"


def minute(value: str | None) -> str:
    """Return a time of the tracking database, to the minute."""
    return "-" if value is None else f"{value[:10]} {value[11:16]}Z"


def size(value: int | None) -> str:
    """Return bytes in a binary unit."""
    return "-" if value is None else format_size(value)


def rate(value: float) -> str:
    """Return bytes per second in a binary unit; a dash for none."""
    return f"{format_size(int(value))}/s" if value else "-"


def delta(value: int, *, in_bytes: bool = False) -> str:
    """Return a difference with its sign; an empty text for zero."""
    if value == 0:
        return ""
    shown = format_size(abs(value)) if in_bytes else f"{abs(value):,}"
    return f"{'+' if value > 0 else '-'}{shown}"


def count(number: int, noun: str) -> str:
    """Return `1 disk` or `2 disks`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def bar(part: int | None, whole: int | None) -> str:
    """Return a bar that shows how full something is, and the percentage; a dash if the whole is unknown or zero."""
    if not whole or part is None:
        return "-"
    share = min(1.0, max(0.0, part / whole))
    full = round(share * BAR_COLUMNS)
    if part and not full:  # a little is not the same as nothing
        return f"▏{' ' * (BAR_COLUMNS - 1)} {share:4.0%}"
    return f"{'█' * full}{'░' * (BAR_COLUMNS - full)} {share:4.0%}"
