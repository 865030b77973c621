"""Run the benchmarks, print a table of medians and ratios, and write every sample to a JSON file, with a plot.

After an interruption, the file and the table have the samples that were measured so far, and the exit status is 130.
"""

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from benchmarks import plot, report
from benchmarks.cases import CASES, Case, Sizes
from benchmarks.conditions import conditions, headline
from benchmarks.interruptions import patience, take_others_for_ctrl_c
from benchmarks.measuring import Sample
from benchmarks.peers import Peer, Place, available, run
from benchmarks.summary import SUBJECT, Results, summarize

PLOT = ".svg"
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with the message alone, without the usage."""
        self.exit(2, f"{self.prog}: {message}\n")


def main(words: Sequence[str] | None = None) -> int:
    """Parse the command line and run the cases that it names; return the exit status."""
    parser = _parser()
    arguments = parser.parse_args(words)
    if why := _nonsense(arguments):
        parser.error(why)
    directory = arguments.directory.resolve()
    chosen = [case for case in CASES if _wanted(case.name, arguments.case)]
    present = available(directory)
    peers = [peer for peer in present if peer.name == SUBJECT or _wanted(peer.name, arguments.peer)]
    if missing := _unknown(arguments.peer, [peer.name for peer in present]):
        parser.error(missing)
    sizes = Sizes.in_proportion(arguments.mib)
    about = conditions(directory) | {"mib": arguments.mib, "rounds": arguments.rounds}
    results: Results = {}

    def keep() -> None:
        report.write(results, arguments.output, about)

    with tempfile.TemporaryDirectory(prefix="vtlfs-bench.", dir=directory) as temporary:
        root = Path(temporary) / "run"
        root.mkdir()
        place = Place(root, (root / "disk0", root / "disk1"))
        status = _run(lambda case: measure(place, case, peers, sizes, arguments.rounds, results), chosen, keep)
        if place.mountpoint.is_mount():  # left by a second Ctrl-C, which does not wait for the unmount
            run("umount", place.mountpoint)
    keep()
    _draw(results, arguments.output.with_suffix(PLOT))
    print(f"\n{headline(about, sizes, arguments.rounds)}\n\n{report.table(results)}")
    return status


def measure(place: Place, case: Case, peers: Sequence[Peer], sizes: Sizes, rounds: int, results: Results) -> None:
    """Run the case with every peer in turn, round after round; add each sample to the results at once."""
    if why := case.why_not():
        print(f"{case.name}: left out: {why}", file=sys.stderr)
        return
    fit = case.chosen(peers)
    found: dict[str, list[Sample]] = {peer.name: [] for peer in fit}
    results[case] = found
    for number in range(rounds):
        for peer in random.Random(f"{case.name} {number}").sample(
            fit, len(fit)
        ):  # random, so that no peer always follows the same one
            with patience():
                found[peer.name].append(case.run(place, peer, sizes))
            print(report.line(case, peer.name, found[peer.name][-1]), flush=True)


def _run(one: Callable[[Case], None], chosen: Sequence[Case], keep: Callable[[], None]) -> int:
    """Measure one case after the other, keeping the results after each; return the exit status."""
    try:
        for case in chosen:
            one(case)
            keep()
    except KeyboardInterrupt:
        print("\ninterrupted; these are the samples measured so far", file=sys.stderr)
        return INTERRUPTED
    except (RuntimeError, OSError) as error:  # the samples measured before the error are kept
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    return 0


def _draw(results: Results, path: Path) -> None:
    """Draw the plot, if there are measurements, and matplotlib is installed."""
    found = summarize(results)
    try:
        if found:
            plot.draw(found, path)
    except ImportError as error:
        print(f"no plot was drawn: {error}; run pip install 'vtlfs[bench]'", file=sys.stderr)


def _parser() -> Parser:
    parser = Parser(prog="benchmarks", description=__doc__)
    add = parser.add_argument
    add("--directory", type=Path, default=Path("/var/tmp"), help="where to work; it needs 20 GB of free space")
    add("--rounds", type=int, default=5, help="runs of each case with each peer")
    add("--case", action="append", default=[], help="run only cases whose name contains this; repeat for more")
    add("--peer", action="append", default=[], help="run only vtlfs, and peers whose name contains this")
    add("--mib", type=int, default=1000, help="size of a single stream; all other sizes are in proportion")
    add("--output", type=Path, default=Path("benchmark.json"), help="the JSON file; the plot goes beside it, as .svg")
    return parser


def _nonsense(arguments: argparse.Namespace) -> str | None:
    """Return what is wrong with the arguments; None if nothing is."""
    output: Path = arguments.output
    reasons = {
        "--rounds: at least 1 is needed": arguments.rounds < 1,
        "--mib: at least 1 is needed": arguments.mib < 1,
        f"--directory: {arguments.directory} is no directory": not arguments.directory.is_dir(),
        f"--output: {output.parent} is no directory": not output.parent.is_dir(),
        f"--output: {output} is a directory": output.is_dir(),
        f"--output: {output} is no regular file": output.exists() and not output.is_file(),
        f"--output: {output} is the name of the plot; give the JSON file another name": output.suffix == PLOT,
        "the benchmarks mount, and drop the kernel's caches; run them as root": os.geteuid() != 0,
    }
    return _unknown(arguments.case, [case.name for case in CASES]) or next(
        (reason for reason, applies in reasons.items() if applies), None
    )


def _unknown(parts: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the error for the first part that no name contains; None if there is none."""
    unmatched = (part for part in parts if not any(part in name for name in names))
    return next((f"no name contains {part!r}; there are: {', '.join(names)}" for part in unmatched), None)


def _wanted(name: str, parts: Sequence[str]) -> bool:
    return not parts or any(part in name for part in parts)


if __name__ == "__main__":
    take_others_for_ctrl_c()
    sys.exit(main())
