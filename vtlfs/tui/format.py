"""How values look in the window. Pure."""

from vtlfs.model import format_size

BAR = 10  # columns of a bar that shows how full something is


def printable(value: object) -> str:
    """Return the value's text with everything escaped that would steer a terminal; None is a dash."""
    if value is None:
        return "-"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


def time(value: str | None) -> str:
    """Return a time of the product to the second."""
    return "-" if value is None else f"{value[:10]} {value[11:19]}Z"


def minute(value: str | None) -> str:
    """Return a time of the product to the minute."""
    return "-" if value is None else f"{value[:10]} {value[11:16]}Z"


def size(value: int | None) -> str:
    """Return a size for people."""
    return "-" if value is None else format_size(value)


def rate(value: float) -> str:
    """Return bytes per second for people."""
    return f"{format_size(int(value))}/s" if value else "-"


def gain(value: int, *, sized: bool = False) -> str:
    """Return a difference with its sign, empty for none."""
    if value == 0:
        return ""
    shown = format_size(abs(value)) if sized else f"{abs(value):,}"
    return f"{'+' if value > 0 else '-'}{shown}"


def count(number: int, noun: str) -> str:
    """Return `1 disk` or `2 disks`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def bar(part: int | None, whole: int | None) -> str:
    """Return a bar and the percentage; a dash where there is no whole."""
    if not whole or part is None:
        return "-"
    share = min(1.0, max(0.0, part / whole))
    full = round(share * BAR)
    if part and not full:
        return f"▏{' ' * (BAR - 1)} {share:4.0%}"
    return f"{'█' * full}{'░' * (BAR - full)} {share:4.0%}"
