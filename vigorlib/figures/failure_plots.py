"""Where a method fails: kinds and causes of errors, who is found, where, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from vigorlib.figures.style import (
    BLUE,
    CYCLE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    note,
    photo,
    styled,
)  # fmt: skip

Image = NDArray[np.uint8]
Array = NDArray[np.float64]
Interval = tuple[float, float, float]
"""A share and the ends of its 95 % interval."""
PALE = "#d5dae0"
STACK = {
    "right tile": GREEN, "semi-positive": SKY, "next door": BLUE, "elsewhere in the city": ORANGE,
    "another city": RED, "placed": GREEN, "offset": SKY, "tile": ORANGE, "tile and offset": RED,
    "label": PURPLE,
}  # fmt: skip
"""A kind of answer or cause of an error has one colour wherever it is drawn; good ones are cool."""


@styled
def stacked_shares(rows: Mapping[str, Mapping[str, float]], text: str = "") -> Figure:
    """Exclusive shares that add up to 1, a bar a row: row -> part -> share."""
    figure, axes = plt.subplots(figsize=(9.2, 1.35 + 0.42 * len(rows)))
    parts = [p for p in next(iter(rows.values())) if any(row[p] for row in rows.values())]
    start = np.zeros(len(rows))
    for k, part in enumerate(parts):
        shares = np.array([row[part] for row in rows.values()])
        colour = STACK.get(part, CYCLE[k % len(CYCLE)])
        axes.barh(list(rows), shares, left=start, color=colour, label=part, height=0.68)
        for y, (left, width) in enumerate(zip(start, shares, strict=True)):
            if width >= 0.04:
                words = f"{width:.0%}"
                axes.text(left + width / 2, y, words, ha="center", va="center", fontsize=9)
        start = start + shares
    axes.set(xlim=(0, 1), xlabel="share of queries")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.invert_yaxis()
    axes.grid(visible=False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncol=5)
    note(figure, text)
    return figure


@styled
def shares_by_group(
    panels: Mapping[str, Mapping[str, Mapping[str, Interval]]],
    xlabel: str | Mapping[str, str],
    text: str = "",
) -> Figure:
    """Shares with 95 % intervals by group of queries: panel -> series -> group -> interval.

    xlabel: what the groups are, the same for all panels or one for each.
    """
    figure, drawn = plt.subplots(1, len(panels), figsize=(8.8, 3.1), squeeze=False)
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    for axes, (title, series) in zip(drawn[0], panels.items(), strict=True):
        groups = list(dict.fromkeys(group for points in series.values() for group in points))
        for name, points in series.items():
            k = names.index(name)
            shift = 0.16 * (list(series).index(name) - (len(series) - 1) / 2)
            at = [groups.index(group) + shift for group in points]
            value, low, high = np.array(list(points.values())).T
            axes.errorbar(
                at, value, yerr=(value - low, high - value), fmt="os^D"[k % 4], ms=6, capsize=3,
                lw=1.4, color=CYCLE[k % len(CYCLE)], label=name,
            )  # fmt: skip
        axes.set_xticks(range(len(groups)), groups, fontsize=9)
        axes.set(title=title, xlim=(-0.5, len(groups) - 0.5), ylim=(0, None))
        axes.set_xlabel(xlabel if isinstance(xlabel, str) else xlabel[title])
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(axis="x", visible=False)
    drawn[0][0].set_ylabel("share of queries")
    if len(names) > 1:
        handles = {
            label: handle
            for axes in drawn[0]
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncol=4)
    note(figure, text)
    return figure


@styled
def two_rules(
    panels: Mapping[str, Mapping[str, tuple[float, float]]],
    rules: Mapping[str, tuple[str, str]],
    text: str = "",
) -> Figure:
    """The same answers counted by two rules: panel -> row -> (by the first, by the second).

    rules: panel -> names of its two rules. The line between them is what the rule alone gives.
    """
    rows = list(next(iter(panels.values())))
    size = (9.2, 1.6 + 0.27 * len(rows))
    figure, drawn = plt.subplots(1, len(panels), figsize=size, squeeze=False, sharey=True)
    for axes, (title, values) in zip(drawn[0], panels.items(), strict=True):
        first, second = np.array(list(values.values())).T
        at = np.arange(len(rows))
        axes.hlines(at, first, second, color=PALE, lw=5, zorder=1)
        for k, (shares, rule) in enumerate(zip((first, second), rules[title], strict=True)):
            axes.plot(shares, at, "o^"[k], ms=7, color=(ORANGE, BLUE)[k], label=rule, alpha=0.9)
        axes.set(title=title, xlabel="share of queries", xlim=(0, None))
        axes.set_yticks(at, rows)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.08), ncol=2, fontsize=8.5)
        axes.grid(axis="y", visible=False)
    drawn[0][0].set_ylim(len(rows) - 0.5, -0.5)
    note(figure, text)
    return figure


@styled
def error_steps(
    errors_m: Mapping[str, Array], marks_m: Sequence[float] = (10.0,), text: str = ""
) -> Figure:
    """Share of queries below each error, on a logarithmic axis: step -> (Q,) metres."""
    figure, axes = plt.subplots(figsize=(8.2, 3.5))
    for k, (name, metres) in enumerate(errors_m.items()):
        ordered = np.maximum(np.sort(metres), 1e-3)  # an exact answer must not leave the axis
        share = np.arange(1, len(ordered) + 1) / len(ordered)
        colour = (GREEN, BLUE, RED, PURPLE)[k % 4]
        label = f"{name}: median {np.median(metres):.2g} m"
        if np.median(metres) >= 100:
            label = f"{name}: median {np.median(metres):.0f} m"
        axes.step(ordered, share, where="post", color=colour, label=label)
    for mark in marks_m:
        axes.axvline(mark, color=INK, lw=1, ls=":")
    axes.set(xscale="log", xlabel="error (m)", ylabel="queries placed closer", ylim=(0, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="lower right")
    note(figure, text)
    return figure


@styled
def error_maps(
    maps: Mapping[str, tuple[Image, Array, Array]], limits_m: tuple[float, float], text: str = ""
) -> Figure:
    """Errors on the cities' maps: city -> (map, (Q, 2) pixels [row, column], (Q,) metres)."""
    figure, panels = plt.subplots(1, len(maps), figsize=(9.4, 2.75), squeeze=False)
    norm, dots = LogNorm(*limits_m), None
    for axes, (city, (image, pixel, metres)) in zip(panels[0], maps.items(), strict=True):
        grey = 255 - (255 - image.mean(axis=-1)) * 0.35  # pale, so that the dots speak
        photo(axes, np.repeat(grey[..., None], 3, axis=-1).astype(np.uint8), city)
        worst_last = np.argsort(-metres)
        dots = axes.scatter(
            *pixel[worst_last, ::-1].T, c=metres[worst_last], s=7, cmap="viridis_r", norm=norm,
            linewidths=0,
        )  # fmt: skip
    bar = figure.colorbar(dots, ax=list(panels[0]), shrink=0.8, pad=0.01, extend="both")
    bar.set_label("error (m)")
    note(figure, text)
    return figure


@styled
def against_chance(
    panels: Mapping[str, tuple[float, Array]], xlabel: str, text: str = ""
) -> Figure:
    """What was observed, and what chance alone gives: panel -> (observed, (P,) of shuffled values)."""
    figure, drawn = plt.subplots(1, len(panels), figsize=(9.2, 2.7), squeeze=False)
    for axes, (title, (observed, shuffled)) in zip(drawn[0], panels.items(), strict=True):
        axes.hist(shuffled, 25, color=PALE, label="shuffled within each city")
        axes.axvline(observed, color=RED, lw=2.2, label="observed")
        axes.set(title=title, xlabel=xlabel)
    drawn[0][0].set_ylabel("shuffles")
    drawn[0][0].legend(loc="upper center")
    note(figure, text)
    return figure


@styled
def surest_first(
    curves: Mapping[str, tuple[Array, Array]], ylabel: str, least: int = 30, text: str = ""
) -> Figure:
    """Accuracy over the share of queries answered, the surest first: score -> (shares, accuracies).

    least: leave out what rests on fewer answers. The dotted line is the accuracy of answering all.
    """
    figure, axes = plt.subplots(figsize=(6.8, 3.4))
    for name, (share, accuracy) in curves.items():
        axes.plot(share[least - 1 :], accuracy[least - 1 :], label=name)
        axes.axhline(accuracy[-1], color=INK, lw=1, ls=":")
    axes.set(xlabel="share of queries answered", ylabel=ylabel, xlim=(0, 1), ylim=(0, None))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend()
    note(figure, text)
    return figure


@dataclass(frozen=True)
class WrongAnswer:
    """A query that failed: its panorama, its true tile, and (image, kind) of its best tiles."""

    title: str
    panorama: Image
    true_tile: Image
    top: Sequence[tuple[Image, str]]


@styled
def wrong_answers(rows: Sequence[WrongAnswer], text: str = "") -> Figure:
    """Query, true tile and best tiles of queries that failed; frames in the kind's colour."""
    columns = 2 + max(len(row.top) for row in rows)
    figure, panels = plt.subplots(
        len(rows), columns, figsize=(7.6, 1.75 * len(rows) + 0.2), squeeze=False,
        gridspec_kw={"width_ratios": [2.0] + [1.0] * (columns - 1)},
    )  # fmt: skip
    for line, row in zip(panels, rows, strict=True):
        photo(line[0], row.panorama, row.title)
        photo(line[1], row.true_tile, "true tile", GREEN)
        for rank, (axes, (image, kind)) in enumerate(zip(line[2:], row.top, strict=False), 1):
            photo(axes, image, f"{rank}.", STACK.get(kind, INK))
            axes.set_xlabel(kind, fontsize=7.5)
        for axes in line[1:]:
            axes.title.set_fontsize(9)
        for axes in line[2 + len(row.top) :]:
            axes.set_visible(False)
    note(figure, text)
    return figure
