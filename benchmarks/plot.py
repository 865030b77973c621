"""The plot: a panel a case, a bar a peer with its median, and the range of its runs as whiskers. Needs matplotlib."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.summary import SUBJECT, Summaries, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS_A_ROW = 2
WIDTH, MARGIN, BAR = 6.0, 1.0, 0.3  # in inches, of a panel, of what is above and below its bars, and of a bar
PADDING = 0.1  # around a panel
OURS, THEIRS = "tab:orange", "tab:blue"
BETTER = {"MB/s": "MB/s, more is better", "s": "seconds, less is better"}


def draw(found: Summaries, path: Path) -> None:
    """Write the plot as SVG. Raises ImportError where there is no matplotlib."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = -(-len(found) // PANELS_A_ROW)
    most = max(len(peers) for peers in found.values())
    figure = Figure(
        figsize=(PANELS_A_ROW * WIDTH, rows * (MARGIN + BAR * most)),
        layout=ConstrainedLayoutEngine(h_pad=PADDING, w_pad=PADDING),
    )
    panels = figure.subplots(rows, PANELS_A_ROW, squeeze=False).flat
    for (case, peers), panel in zip(found.items(), panels, strict=False):
        _panel(panel, case, peers)
    for panel in panels:
        panel.set_axis_off()  # nothing is left to be in it
    figure.savefig(path, format="svg", metadata={"Date": None})


def _panel(panel: "Axes", case: str, peers: Mapping[str, Summary]) -> None:
    names, each = list(peers), list(peers.values())
    medians = [one.median for one in each]
    whiskers = [[one.median - one.least for one in each], [one.most - one.median for one in each]]
    colours = [OURS if name.startswith(SUBJECT) else THEIRS for name in names]
    panel.barh(names, medians, xerr=whiskers, color=colours, ecolor="0.3", capsize=3)
    panel.invert_yaxis()  # in the order of the table
    panel.set_title(f"{case}: {BETTER.get(each[0].unit, each[0].unit)}")
    panel.set_xlim(left=0)
    panel.spines[["top", "right"]].set_visible(False)
