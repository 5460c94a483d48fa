"""Pictures of the ledger: how much each disagreement moves, and which claims hold."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vigorlib.figures.ablation_plots import GREY
from vigorlib.figures.style import BLUE, INK, ORANGE, note, styled


@styled
def effects(table: pd.DataFrame, spread: float | None = None, text: str = "") -> Figure:
    """Effects of disagreements in points with 95 % intervals, the largest on top.

    table: as :func:`vigorlib.ledger.picture` makes it. spread: how many points two seeds of one
    recipe lie apart in top-1, a grey band that concerns what was trained anew.
    """
    figure, axes = plt.subplots(figsize=(9.2, 1.5 + 0.29 * max(len(table), 1)))
    if table.empty:
        axes.text(0.5, 0.5, "no effect was measured in this profile", ha="center", va="center")
        axes.set_axis_off()
        note(figure, text)
        return figure
    if spread is not None:
        axes.axvspan(-spread, spread, color="#eceff2", zorder=0)
    axes.axvline(0, color=INK, lw=1)
    for place, row in enumerate(table.to_dict("records")):
        colour = (ORANGE if row["trained"] else BLUE) if row["differs"] else GREY
        marker = "o" if row["trained"] else "s"
        axes.plot([row["low"], row["high"]], [place, place], color=colour, lw=1.6)
        axes.plot([row["difference"]], [place], marker, color=colour, ms=6)
    labels = [f"{row.way} ({row.measure})" for row in table.itertuples()]
    axes.set(yticks=range(len(table)), yticklabels=labels)
    axes.set_xlabel("the other way less the released code's (points)")
    axes.grid(axis="y", visible=False)
    axes.margins(y=0.03)
    axes.invert_yaxis()
    axes.legend(handles=_legend(), loc="lower right")
    note(figure, text)
    return figure


def _legend() -> list[Line2D]:
    def dot(marker: str, colour: str, label: str) -> Line2D:
        return Line2D([], [], marker=marker, color=colour, ls="", label=label)

    return [
        dot("s", BLUE, "same network, counted another way"),
        dot("o", ORANGE, "trained another way, one seed"),
        dot("o", GREY, "interval holds zero"),
    ]
