"""The programs that write and read, as command lines."""

from pathlib import Path

from benchmarks.measuring import together


def writing(path: Path, block: int, size: int, *flags: str) -> list[str]:
    """Return a dd that writes so many bytes, and ends with fsync()."""
    words = ["dd", "if=/dev/zero", f"of={path}", f"bs={block}", f"count={size // block}", "conv=fsync", "status=none"]
    return [*words, *flags]


def reading_back(path: Path, block: int) -> list[str]:
    """Return a dd that reads a file."""
    return ["dd", f"if={path}", "of=/dev/null", f"bs={block}", "status=none"]


def side_by_side(commands: list[list[str]], size: int) -> tuple[int, tuple[float, ...]]:
    """Run programs at the same time that write so many bytes each; return all their bytes, and the rate of each."""
    return len(commands) * size, tuple(size / seconds for seconds in together(commands))
