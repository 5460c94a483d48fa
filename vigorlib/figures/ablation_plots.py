"""Pictures of ablations: what each choice reaches, and whether it differs from the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vigorlib.figures.style import BLUE, INK, ORANGE, note, styled

GREY = "#9aa2ab"


@styled
def ablation(
    shares: pd.DataFrame,
    differences: pd.DataFrame,
    base: str,
    outcomes: Sequence[str] = (),
    text: str = "",
) -> Figure:
    """Shares of a question's rows, a panel an outcome, with 95 % intervals.

    shares, differences: as :class:`vigorlib.ablations.Answer` holds them. The base is drawn in ink;
    another row in colour where it differs from the base on the same queries, grey where not.
    """
    shown = list(outcomes or dict.fromkeys(shares["outcome"]))
    titles = list(dict.fromkeys(shares["title"]))
    if not titles:
        return _nothing("no run of this question in this profile", text)
    figure, panels = plt.subplots(
        1, len(shown), figsize=(9.2, 1.25 + 0.36 * len(titles)), squeeze=False, sharey=True
    )
    for axes, outcome in zip(panels[0], shown, strict=True):
        rows = shares[shares["outcome"] == outcome]
        differs = differences[differences["outcome"] == outcome].set_index("recipe")["differs"]
        for row in rows.to_dict("records"):
            is_base = row["recipe"] == base
            colour = (
                INK if is_base else (_coloured(row, rows, base) if differs[row["recipe"]] else GREY)
            )
            _interval(
                axes, titles.index(row["title"]), row["share"], row["low"], row["high"], colour
            )
            if is_base:
                axes.axvline(row["share"], color=INK, lw=0.9, ls=":", zorder=0)
        axes.set(title=_without_unit(outcome), yticks=range(len(titles)), yticklabels=titles)
        axes.set_xlabel("queries (%)")
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.12, y=0.12)
    panels[0][0].invert_yaxis()
    note(figure, text)
    return figure


@styled
def forest(
    differences: pd.DataFrame, outcomes: Sequence[str], spread: dict[str, float], text: str = ""
) -> Figure:
    """Every variant's difference from its base in points, with 95 % intervals, sorted by the first.

    spread: outcome -> how many points two seeds of one recipe lie apart; drawn as a grey band.
    """
    if differences.empty:
        return _nothing("no run of any question in this profile", text)
    first = differences[differences["outcome"] == outcomes[0]].sort_values("difference")
    titles = list(first["title"])
    figure, panels = plt.subplots(
        1, len(outcomes), figsize=(9.2, 1.2 + 0.27 * len(titles)), squeeze=False, sharey=True
    )
    for axes, outcome in zip(panels[0], outcomes, strict=True):
        if outcome in spread:
            axes.axvspan(-spread[outcome], spread[outcome], color="#eceff2", zorder=0)
        axes.axvline(0, color=INK, lw=1)
        for row in differences[differences["outcome"] == outcome].to_dict("records"):
            colour = (BLUE if row["difference"] > 0 else ORANGE) if row["differs"] else GREY
            _interval(
                axes, titles.index(row["title"]), row["difference"], row["low"], row["high"], colour
            )
        axes.set(title=_without_unit(outcome), yticks=range(len(titles)), yticklabels=titles)
        axes.set_xlabel("points from the base")
        axes.grid(axis="y", visible=False)
        axes.margins(y=0.02)
    note(figure, text)
    return figure


@styled
def share_over(
    shares: Mapping[float, float],
    intervals: Mapping[float, tuple[float, float]],
    xlabel: str,
    ylabel: str,
    text: str = "",
) -> Figure:
    """A share of queries over something that is turned up, with 95 % intervals."""
    figure, axes = plt.subplots(figsize=(6.4, 3.3))
    places = list(shares)
    values = np.array([shares[p] for p in places])
    low, high = np.array([intervals[p] for p in places]).T
    axes.errorbar(places, values, yerr=(values - low, high - values), fmt="o-", capsize=3)
    axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, None))
    axes.yaxis.set_major_formatter("{x:.0%}")
    note(figure, text)
    return figure


def _interval(axes: Axes, place: int, value: float, low: float, high: float, colour: str) -> None:
    axes.plot([low, high], [place, place], color=colour, lw=1.6, solid_capstyle="butt")
    axes.plot([value], [place], "o", color=colour, ms=6)


def _coloured(row: dict[Any, Any], rows: pd.DataFrame, base: str) -> str:
    """Blue for better than the base, orange for worse."""
    reference = float(rows.loc[rows["recipe"] == base, "share"].iloc[0])
    return BLUE if row["share"] > reference else ORANGE


def _without_unit(outcome: str) -> str:
    return outcome.removesuffix(" (%)")


def _nothing(message: str, text: str) -> Figure:
    figure, axes = plt.subplots(figsize=(9.2, 1.1))
    axes.text(0.5, 0.5, message, ha="center", va="center", color=INK)
    axes.set_axis_off()
    note(figure, text)
    return figure
