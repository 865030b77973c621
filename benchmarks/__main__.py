"""Run the benchmarks, print a table of medians and ratios, and write every sample to a JSON file, with a plot."""

import argparse
import tempfile
from pathlib import Path

from benchmarks import cases, report
from benchmarks.measuring import Sample
from benchmarks.peers import Peer, Place, available


def main() -> None:
    """Parse the command line and run what it asks for."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where to work; 12 GB are needed there")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each case with each peer")
    parser.add_argument("--case", action="append", default=[], help="only cases whose name has this in it; repeat for more")
    parser.add_argument("--peer", action="append", default=[], help="only peers whose name has this in it, and vtlfs")
    parser.add_argument("--mib", type=int, default=1000, help="of a single stream; others are in proportion")
    parser.add_argument("--output", type=Path, default=Path("benchmark.json"), help="the plot goes beside it, as .svg")
    arguments = parser.parse_args()
    chosen = [case for case in cases.CASES if _wanted(case.name, arguments.case)]
    peers = [peer for peer in available() if peer.name == "vtlfs" or _wanted(peer.name, arguments.peer)]
    share = arguments.mib / 1000
    sizes = cases.Sizes(
        *(int(share * size) // cases.MIB * cases.MIB for size in (1000 << 20, 200 << 20, 250 << 20)),
        files=int(50_000 * share),
        sessions=int(2000 * share),
    )
    with tempfile.TemporaryDirectory(prefix="vtlfs-bench.", dir=arguments.directory) as temporary:
        root = Path(temporary) / "run"
        root.mkdir()
        place = Place(root, (root / "disk0", root / "disk1"))
        results = measure(place, chosen, peers, sizes, arguments.rounds)
    report.write(results, arguments.output)
    print(report.table(results))


def measure(
    place: Place, chosen: list[cases.Case], peers: list[Peer], sizes: cases.Sizes, rounds: int
) -> dict[str, dict[str, list[Sample]]]:
    """Run every case with every peer in turn, round after round; return the samples by case and peer."""
    results: dict[str, dict[str, list[Sample]]] = {}
    for case in chosen:
        fit = [peer for peer in peers if not case.only or peer.name.startswith(case.only)]
        found = results[case.name] = {peer.name: [] for peer in fit}
        for number in range(rounds):
            for turn in range(len(fit)):
                peer = fit[(turn + number) % len(fit)]  # each is first once
                sample = case.run(place, peer, sizes)
                found[peer.name].append(sample)
                print(report.line(case, peer.name, sample), flush=True)
    place.empty()
    return results


def _wanted(name: str, parts: list[str]) -> bool:
    return not parts or any(part in name for part in parts)


if __name__ == "__main__":
    main()
