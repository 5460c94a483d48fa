"""What work costs in multiples of the bare arithmetic, and what it keeps in memory."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from vigorlib.figures.style import BLUE, CYCLE, INK, ORANGE, RED, note, styled


@styled
def price_bars(
    panels: Mapping[str, Mapping[str, tuple[float, float]]],
    unit: str,
    allowed: float | None = None,
    text: str = "",
    quantity: str = "time",
) -> Figure:
    """CPU time (bars) and wall time (marks) as multiples of a unit of work.

    panels: title -> way -> (CPU ratio, wall ratio), the ways from top to bottom. unit: what costs 1.
    allowed: a limit to mark. quantity: "speed", if the ratios are those of 1 / time.
    """
    counts = [len(ways) for ways in panels.values()]
    figure, drawn = plt.subplots(
        len(panels), 1, figsize=(7.4, 0.55 * len(panels) + 0.36 * sum(counts) + 0.5), squeeze=False,
        sharex=True, height_ratios=counts,
    )  # fmt: skip
    longest = max(max(pair) for ways in panels.values() for pair in ways.values())
    for axes, (title, ways) in zip(drawn[:, 0], panels.items(), strict=True):
        cpu, wall = np.array(list(ways.values())).T
        place = np.arange(len(ways))
        axes.barh(place, cpu, height=0.62, color=BLUE, label="CPU time")
        axes.plot(wall, place, "D", ms=5, color=ORANGE, mec=INK, mew=0.6, label="wall time")
        for y, pair in zip(place, zip(cpu, wall, strict=True), strict=True):
            fits = pair[0] > 0.08 * longest
            axes.annotate(
                f"{pair[0]:.2f}", (0 if fits else max(pair), y), (5 if fits else 8, 0),
                color="white" if fits else INK, fontsize=8.5, va="center",
                textcoords="offset points",
            )  # fmt: skip
        axes.axvline(1, color=INK, lw=1)
        if allowed is not None:
            axes.axvline(allowed, color=RED, lw=1.2, ls="--", label=f"allowed: {allowed:g}")
        axes.set(yticks=place, yticklabels=list(ways), title=title, xlim=(0, 1.06 * longest))
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
    drawn[-1, 0].set_xlabel(f"{quantity}, as a multiple of {unit}")
    figure.legend(*drawn[0, 0].get_legend_handles_labels(), loc="outside upper right", ncol=3)
    note(figure, text)
    return figure


@styled
def memory_lines(
    ways: Mapping[str, tuple[Mapping[int, float], Mapping[int, float]]],
    marks: Mapping[str, int],
    limit_gb: float,
    text: str = "",
) -> Figure:
    """Memory over the number of queries, both logarithmic.

    ways: name -> (measured, counted), {queries: GB} each; measured are dots, counted a dashed line.
    marks: name -> queries to mark. limit_gb: a limit to mark.
    """
    figure, axes = plt.subplots(figsize=(6.8, 3.7))
    for (name, (measured, counted)), colour in zip(ways.items(), CYCLE, strict=False):
        axes.plot(list(counted), list(counted.values()), "--", lw=1.4, color=colour, label=name)
        axes.plot(list(measured), list(measured.values()), "o", ms=6, color=colour)
    axes.axhline(limit_gb, color=RED, lw=1.2)
    axes.annotate(
        f"{limit_gb:g} GB", (0, limit_gb), (4, 3), color=RED, fontsize=8.5,
        xycoords=("axes fraction", "data"), textcoords="offset points",
    )  # fmt: skip
    for name, queries in marks.items():
        axes.axvline(queries, color=INK, lw=1, ls=":")
        axes.annotate(
            name, (queries, 0), (-3, 4), rotation=90, fontsize=8, ha="right",
            xycoords=("data", "axes fraction"), textcoords="offset points",
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="queries", ylabel="memory in all (GB)")
    axes.yaxis.set_minor_formatter(LogFormatter())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(loc="upper left")
    note(figure, text)
    return figure


@styled
def time_shares(panels: Mapping[str, Mapping[str, float]], text: str = "") -> Figure:
    """What a whole is made of: title -> part -> share of the whole, the parts from top to bottom."""
    counts = [len(parts) for parts in panels.values()]
    figure, drawn = plt.subplots(
        len(panels), 1, figsize=(6.8, 0.6 * len(panels) + 0.3 * sum(counts) + 0.3), squeeze=False,
        sharex=True, height_ratios=counts,
    )  # fmt: skip
    for axes, (title, parts) in zip(drawn[:, 0], panels.items(), strict=True):
        place, values = np.arange(len(parts)), 100 * np.array(list(parts.values()))
        bars = axes.barh(place, values, height=0.66, color=BLUE)
        axes.bar_label(bars, fmt="%.1f", padding=4, fontsize=8.5)
        axes.set(yticks=place, yticklabels=list(parts), title=title)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
    drawn[-1, 0].set(xlabel="share of the time (%)", xlim=(0, 100))
    note(figure, text)
    return figure


@styled
def scaling(
    panels: Mapping[str, tuple[str, Mapping[float, float]]], text: str = "", first: str = ""
) -> Figure:
    """How costs grow, each from zero: measured, and what they were in proportion.

    panels: label of the y axis with its unit -> (label of the x axis, {x: cost}). The dashed line runs
    through the largest x, or through the smallest for the label that is ``first``.
    """
    lines, columns = -(-len(panels) // 2), min(len(panels), 2)
    size = (3.7 * columns, 2.8 * lines)
    figure, drawn = plt.subplots(lines, columns, figsize=size, squeeze=False)
    for axes in drawn.flat[len(panels) :]:
        axes.remove()
    for axes, (label, (below, points)) in zip(drawn.flat, panels.items(), strict=False):
        x, y = np.array(list(points.items()), dtype=float).T
        through = 0 if label == first else -1
        axes.plot([0, x[-1]], [0, y[through] / x[through] * x[-1]], "--", color=ORANGE, lw=1.4)
        axes.plot(x, y, "o-", color=BLUE, ms=5)
        axes.set(xlabel=below, ylabel=label, xlim=(0, 1.06 * x[-1]), ylim=(0, None))
    figure.legend(
        handles=[
            plt.Line2D([], [], color=BLUE, marker="o", ms=5, label="measured"),
            plt.Line2D([], [], color=ORANGE, ls="--", lw=1.4, label="in proportion"),
        ],
        loc="outside upper left", ncol=2,
    )  # fmt: skip
    note(figure, text)
    return figure
