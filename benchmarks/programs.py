"""The command lines of the programs that write and read."""

from pathlib import Path

from benchmarks.measuring import together


def writing(path: Path, block: int, size: int, *flags: str, program: str = "dd") -> list[str]:
    """Return the dd command that writes `size` bytes, and ends with fsync()."""
    words = [program, "if=/dev/zero", f"of={path}", f"bs={block}", f"count={size // block}", "conv=fsync"]
    return [*words, "status=none", *flags]


def reading_back(path: Path, block: int) -> list[str]:
    """Return the dd command that reads a file."""
    return ["dd", f"if={path}", "of=/dev/null", f"bs={block}", "status=none"]


def read_whole(path: Path, block: int, size: int) -> int:
    """Let dd read a file, which must have `size` bytes; return `size`."""
    if (found := path.stat().st_size) != size:
        raise RuntimeError(f"{path}: the file has {found} bytes, but {size} were written")
    together([reading_back(path, block)])
    return size


def side_by_side(commands: list[list[str]], size: int) -> tuple[int, tuple[float, ...]]:
    """Run programs at the same time that write `size` bytes each; return their bytes together, and the rate of each."""
    return len(commands) * size, tuple(size / seconds for seconds in together(commands))
