"""`vtlfs metrics`: the metrics of a library for Prometheus, by the textfile collector of its node_exporter."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vtlfs.cli import params
from vtlfs.cli.output import open_output
from vtlfs.model import utc_now

if TYPE_CHECKING:
    from vtlfs.engine.library import Library
    from vtlfs.metrics.values import Values


@click.command(
    epilog=params.example(
        "vtlfs metrics /srv/vtl -o /var/lib/prometheus/node-exporter/vtlfs.prom", "vtlfs metrics /srv/vtl"
    ),
)
@params.library_argument
@click.option(
    "-o",
    "output",
    metavar="FILE",
    type=params.text,
    help="Write to FILE, which is replaced when the new one is complete; default: standard output.",
)
def metrics(library: Path, output: str | None) -> None:
    """Print the metrics of a library for Prometheus: its condition, disks, space, snapshots, copies and verifications.

    A mount serves these and its own by the mount option metrics=ADDRESS:PORT. Does not wait for a disk that hangs.
    """
    from vtlfs.engine.library import Library
    from vtlfs.metrics.exposition import text

    found = _look(Library.open(library))
    with open_output("-" if output is None else output) as target:
        target.write(memoryview(text(lambda: [found])))


def _look(library: "Library") -> "Values":
    from vtlfs.metrics.library import Space, look
    from vtlfs.report import looking

    probes = looking.probe_disks(library)
    with closing(library.tracking(read_only=True)) as tracking:
        seen = looking.examine(library, tracking, probes, utc_now())
        spaces = [
            Space(number, probe.free or 0, probe.total, probe.device or 0)
            for number, probe in seen.probes.items()
            if probe.total is not None
        ]
        return look(library, tracking, seen.facts, spaces)
