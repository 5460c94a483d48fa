"""What searching a gallery costs, how that grows, and what an approximate search gives for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from vigorlib.figures.style import CYCLE, INK, RED, note, styled

Points = Mapping[int, float]


@styled
def growth(
    panels: Mapping[str, Mapping[str, tuple[Points, Points]]],
    limits: Mapping[str, tuple[float, str]],
    sizes: Mapping[str, int],
    text: str = "",
) -> Figure:
    """Costs over the size of the gallery, both logarithmic.

    panels: label of the y axis with its unit -> method -> (measured, continued), {tiles: cost} each;
    measured are dots, continued is a dashed line. limits: label -> (budget, its words). sizes: name
    -> tiles of galleries to mark.
    """
    figure, drawn = plt.subplots(1, len(panels), figsize=(4.7 * len(panels), 3.7), squeeze=False)
    names = list(dict.fromkeys(name for methods in panels.values() for name in methods))
    for axes, (label, methods) in zip(drawn[0], panels.items(), strict=True):
        for name, (measured, continued) in methods.items():
            colour = CYCLE[names.index(name) % len(CYCLE)]  # the same in every panel
            axes.plot(list(continued), list(continued.values()), "--", color=colour, lw=1.3)
            axes.plot(list(measured), list(measured.values()), "o", ms=5, color=colour, label=name)
        axes.set(xscale="log", yscale="log", xlabel="tiles in the gallery", ylabel=label)
        if label in limits:
            budget, words = limits[label]
            axes.axhline(budget, color=RED, lw=1.4)
            axes.annotate(
                words, (0, budget), (4, 3), color=RED, fontsize=8.5,
                xycoords=("axes fraction", "data"), textcoords="offset points",
            )  # fmt: skip
        for name, size in sizes.items():
            axes.axvline(size, color=INK, lw=1, ls=":")
            axes.annotate(
                name, (size, 0), (-3, 4), rotation=90, fontsize=8, ha="right",
                xycoords=("data", "axes fraction"), textcoords="offset points",
            )  # fmt: skip
    figure.legend(*drawn[0][0].get_legend_handles_labels(), loc="outside upper left", ncol=4)
    note(figure, text)
    return figure


@styled
def trade_off(
    curves: Mapping[str, Sequence[tuple[float, float, str]]], ylabel: str, text: str = ""
) -> Figure:
    """What is found over the time it takes: method -> (milliseconds a query, share, label) points."""
    figure, axes = plt.subplots(figsize=(6.8, 3.6))
    for name, points in curves.items():
        x, y, labels = zip(*points, strict=True)
        (line,) = axes.plot(x, y, "o-", ms=5, label=name)
        for i, (place, label) in enumerate(zip(zip(x, y, strict=True), labels, strict=True)):
            axes.annotate(  # below and above in turn: neighbours are often close
                label, place, (3, 5 if i % 2 else -11), fontsize=8, color=line.get_color(),
                textcoords="offset points",
            )  # fmt: skip
    least = min(share for points in curves.values() for _, share, _ in points)
    room = max(1 - least, 0.01)
    axes.set(xscale="log", xlabel="time a query (ms)", ylabel=ylabel)
    axes.set(ylim=(least - 0.25 * room, 1 + 0.15 * room))
    axes.margins(x=0.12)
    axes.xaxis.set_minor_formatter(LogFormatter())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:.1%}" if least > 0.95 else "{x:.0%}")
    axes.legend(loc="lower right")
    note(figure, text)
    return figure
