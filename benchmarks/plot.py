"""The plot: a panel for each case, with a bar for each peer's median, and whiskers for its range. Needs matplotlib."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.summary import SUBJECT, Summaries, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS_A_ROW = 2
WIDTH, MARGIN, BAR = 6.0, 1.0, 0.3  # inches: width of a panel, height of its space above and below the bars, of a bar
PADDING = 0.1  # around a panel
OURS, THEIRS = "tab:orange", "tab:blue"
BETTER = {"MB/s": "MB/s, more is better", "s": "seconds, less is better"}


def draw(found: Summaries, path: Path) -> None:
    """Write the plot as SVG. Raises ImportError if matplotlib is not installed."""
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
        panel.set_axis_off()  # more panels than cases
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
