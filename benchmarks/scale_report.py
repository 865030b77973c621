"""The report of `benchmarks.scale`: a table of the measurements, the verdicts on the targets, and a plot."""

import statistics
from collections.abc import Mapping
from pathlib import Path

Results = Mapping[int, Mapping[str, list[float]]]

MOUNT_SECONDS = 2.0
OPEN_RATIO = 1.5  # of the time with the largest library to that with the empty one
LISTING_RATIO = 1.5  # of the time for an entry, largest to second size: with the first, the start of `ls` dominates
ENTRY_SECONDS = 100e-6
COMMAND_SECONDS = 0.2
MEMORY_BYTES = 50 << 20
COMMANDS = ("status", "sessions --medium", "snapshot take")
OPEN = "open and first write"


def _scale(name: str) -> tuple[float, str]:
    if name.startswith("memory"):
        return 1 / (1 << 20), "MiB"
    if name == "stat" or name.startswith(("open", "close", "stat ")) or name.endswith("entry"):
        return 1e6, "µs"
    return 1e3, "ms"


def medians(results: Results, name: str) -> dict[int, float]:
    """Return the median of a measurement for each size that has it."""
    return {size: statistics.median(samples[name]) for size, samples in results.items() if name in samples}


def _names(results: Results) -> list[str]:
    return list(dict.fromkeys(name for samples in results.values() for name in samples))


def table(results: Results) -> str:
    """Return a line for each measurement, with a column for each size and a ratio.

    The ratio is that of the largest size to the smallest size that has sessions.
    """
    lines = [f"{'medians; sessions:':32}" + "".join(f"{size:>11,}" for size in results) + f"{'ratio':>8}"]
    for name in _names(results):
        factor, unit = _scale(name)
        found = medians(results, name)
        cells = [f"{found[size] * factor:11.1f}" if size in found else f"{'-':>11}" for size in results]
        sizes = [size for size in found if size]
        ratio = f"{found[sizes[-1]] / found[sizes[0]]:8.2f}" if sizes else f"{'-':>8}"
        lines.append(f"{f'{name}, {unit}':32}{''.join(cells)}{ratio}")
    return "\n".join(lines)


def verdicts(results: Results) -> list[str]:
    """Return a line for each target: whether it is met, the target, and the measurement with the largest library."""
    largest = max(results)

    def at(name: str, size: int = largest) -> float:
        return medians(results, name)[size]

    grown = (at("memory idle") - at("memory idle", 0)) / (1 << 20)
    entries = {size: value for size, value in medians(results, "ls -l, per entry").items() if size}
    listing = at("ls -l, per entry")
    linear = listing / list(entries.values())[min(1, len(entries) - 1)]
    found = [
        (f"mounting takes under {MOUNT_SECONDS:.0f} s", f"{at('mount'):.2f} s", at("mount") < MOUNT_SECONDS),
        (
            f"open and first byte at most {OPEN_RATIO} x an empty library's",
            f"{at(OPEN) / at(OPEN, 0):.2f} x",
            at(OPEN) <= OPEN_RATIO * at(OPEN, 0),
        ),
        (
            "ls of a drive is linear and quick",
            f"{listing * 1e6:.0f} µs an entry, {linear:.2f} x that of a shorter list",
            listing < ENTRY_SECONDS and linear <= LISTING_RATIO,
        ),
        *(
            (f"{name} in under {COMMAND_SECONDS} s", f"{at(name):.3f} s", at(name) < COMMAND_SECONDS)
            for name in COMMANDS
        ),
        ("memory of an idle mount grows by less than 50 MiB", f"{grown:.1f} MiB", grown * (1 << 20) < MEMORY_BYTES),
    ]
    return [f"{'met    ' if met else 'NOT MET'}  {target}: {value}" for target, value, met in found]


def plot(results: Results, path: Path) -> None:
    """Draw a curve for each measurement, in the panel of its unit."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 6), layout="constrained")
    axes = dict(zip(("ms", "µs", "MiB"), figure.subplots(1, 3), strict=True))
    for name in _names(results):
        factor, unit = _scale(name)
        found = {size: value for size, value in medians(results, name).items() if size}
        if len(found) > 1:
            axes[unit].plot(list(found), [value * factor for value in found.values()], marker="o", label=name)
    for unit, axis in axes.items():
        axis.set(xscale="log", xlabel="sessions", ylabel=unit, ylim=(0, None))
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(fontsize="x-small")
    figure.savefig(path)
