"""The report of the measurements: a line for each run, tables, and a JSON file with every sample."""

import io
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.cases import Case
from benchmarks.measuring import Sample
from benchmarks.summary import SUBJECT, Results, Summaries, Summary, figure, per_gb, summarize
from benchmarks.targets import TARGETS, Target, Verdict, judge

COLUMNS = 120
MIB = 1 << 20
LEGEND = """\
Each figure is the median of all runs; "range" is the least and the most of them. MB is 10^6 bytes, GB is 10^9 bytes.
"ratio" is how many times as fast as this peer vtlfs is. "CPU" is processor time of the whole machine, "server" that of
the process that serves the file system, and "peak" the most memory of that process; "-" if the kernel serves.

A bound is no peer: it shows the best that can be reached. "the disks": several dd at once that write past the page
cache. "pyfuse3": a file system that answers the kernel and syncs as often as vtlfs, and does nothing else. "nothing
done": the same without any write or sync, so that all of its time is spent in the kernel and in pyfuse3.
"""


def line(case: Case, peer: str, sample: Sample) -> str:
    """Return the line that is printed after a run."""
    server = f"{per_gb(sample.server_cpu, sample):7.2f} s/GB {sample.memory / MIB:6.0f} MiB" if sample.memory else ""
    return (
        f"{case.name:18} {peer:20} {_amount(figure(case, sample)):>6} {case.unit:4}"
        f"  CPU {per_gb(sample.machine_cpu, sample):7.2f} s/GB  server {server or '-'}"
    )


def table(results: Results, targets: Iterable[Target] = TARGETS) -> str:
    """Return two tables, of the measurements and of the targets, as Markdown of at most 120 columns."""
    found = summarize(results)
    verdicts = judge(found, targets)
    parts = [_text(_measurements(found)), LEGEND] if found else ["Nothing was measured.\n"]
    return "\n".join([*parts, *([_text(_verdicts(verdicts))] if verdicts else [])])


def document(results: Results, conditions: Mapping[str, Any], targets: Iterable[Target] = TARGETS) -> dict[str, Any]:
    """Return the document for the JSON file: `conditions`, every sample, their summaries, and the verdicts."""
    found = summarize(results)
    cases = {
        case.name: {
            "unit": case.unit,
            "peers": {
                peer: asdict(found[case.name][peer])
                | {"ratio": _ratio(found[case.name], peer), "samples": [asdict(sample) for sample in samples]}
                for peer, samples in peers.items()
                if samples
            },
        }
        for case, peers in results.items()
        if case.name in found
    }
    verdicts = [asdict(verdict) | {"met": verdict.met} for verdict in judge(found, targets)]
    return {**conditions, "cases": cases, "targets": verdicts}


def write(results: Results, path: Path, conditions: Mapping[str, Any], targets: Iterable[Target] = TARGETS) -> None:
    """Write the JSON file. An older file is replaced in one step: an interruption leaves the old or the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(document(results, conditions, targets), indent=2) + "\n")
    os.replace(temporary, path)


def _measurements(found: Summaries) -> Table:
    rows = Table(box=box.MARKDOWN)
    for heading in ("case", "peer"):
        rows.add_column(heading)
    for heading in ("median", "range", "ratio", "CPU s/GB", "server s/GB", "peak MiB"):
        rows.add_column(heading, justify="right")
    for case, peers in found.items():
        for number, (peer, each) in enumerate(peers.items()):
            rows.add_row("" if number else case, peer, *_cells(each, _ratio(peers, peer)))
    return rows


def _cells(each: Summary, ratio: float | None) -> tuple[str, ...]:
    return (
        f"{_amount(each.median)} {each.unit}",
        f"{_amount(each.least)}-{_amount(each.most)}",
        "" if ratio is None else f"{ratio:.2f}",
        f"{each.machine_cpu:.2f}",
        f"{each.server_cpu:.2f}" if each.memory else "-",
        f"{each.memory / MIB:.0f}" if each.memory else "-",
    )


def _verdicts(verdicts: list[Verdict]) -> Table:
    rows = Table(box=box.MARKDOWN)
    rows.add_column("case")
    rows.add_column("vtlfs has")
    rows.add_column("to reach", justify="right")
    rows.add_column("")
    rows.add_column("bound has", justify="right")
    for verdict in verdicts:
        has, limit = f"{verdict.multiple()} x {verdict.of}", f"{verdict.sign} {verdict.limit}"
        bound = "" if verdict.bound is None else f"{verdict.bound:.2f}"
        rows.add_row(verdict.case, has, limit, "met" if verdict.met else "missed", bound)
    return rows


def _ratio(peers: Mapping[str, Summary], peer: str) -> float | None:
    """Return how many times as fast as the peer vtlfs is; None for vtlfs itself, or if vtlfs was not measured."""
    ours = peers.get(SUBJECT)
    return None if ours is None or peer == SUBJECT else ours.over(peers[peer])


def _amount(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _text(rows: Table) -> str:
    output = io.StringIO()
    Console(file=output, width=COLUMNS, color_system=None, highlight=False, markup=False).print(rows)
    lines = (text.rstrip() for text in output.getvalue().splitlines())
    return "\n".join(text for text in lines if text) + "\n"
