"""The programs that write and read, as command lines."""

from pathlib import Path

from benchmarks.measuring import together


def writing(path: Path, block: int, size: int, *flags: str, program: str = "dd") -> list[str]:
    """Return a dd that writes so many bytes, and ends with fsync()."""
    words = [program, "if=/dev/zero", f"of={path}", f"bs={block}", f"count={size // block}", "conv=fsync"]
    return [*words, "status=none", *flags]


def reading_back(path: Path, block: int) -> list[str]:
    """Return a dd that reads a file."""
    return ["dd", f"if={path}", "of=/dev/null", f"bs={block}", "status=none"]


def read_whole(path: Path, block: int, size: int) -> int:
    """Have a dd read a file, which must have so many bytes; return that."""
    if (found := path.stat().st_size) != size:
        raise RuntimeError(f"{path}: {found} bytes are there to be read, {size} were written")
    together([reading_back(path, block)])
    return size


def side_by_side(commands: list[list[str]], size: int) -> tuple[int, tuple[float, ...]]:
    """Run programs at the same time that write so many bytes each; return all their bytes, and the rate of each."""
    return len(commands) * size, tuple(size / seconds for seconds in together(commands))
