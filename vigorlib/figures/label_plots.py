"""Label systems: what they assume, how far they are apart, and what a tile shows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from vigorlib.figures.style import BLUE, CYCLE, GREEN, INK, ORANGE, RED, note, photo, styled
from vigorlib.geometry import HALF_TILE_PX, query_pixel

Image = NDArray[np.uint8]
Array = NDArray[np.float64]
SYSTEM_COLOURS = {"original": RED, "corrected": BLUE, "mercator": GREEN}
"""A system has one colour wherever it is drawn."""


@styled
def resolutions(resolution_m: Mapping[str, float], assumed_m: float, text: str = "") -> Figure:
    """True metres per pixel of each city beside the one that was assumed, with its error."""
    figure, axes = plt.subplots(figsize=(7.4, 2.5))
    cities, values = list(resolution_m), np.array(list(resolution_m.values()))
    axes.hlines(cities, assumed_m, values, color=ORANGE, lw=5, zorder=1)
    axes.plot(values, cities, "o", ms=9, color=INK)
    axes.axvline(assumed_m, color=RED, lw=1.6)
    axes.annotate(
        f"assumed everywhere: {assumed_m:g}", (assumed_m, 1), (4, 2), color=RED, fontsize=9,
        xycoords=("data", "axes fraction"), textcoords="offset points",
    )  # fmt: skip
    for city, value in resolution_m.items():
        side = 1 if value >= assumed_m else -1
        axes.annotate(
            f"{assumed_m / value - 1:+.1%}", (value, city), (9 * side, 0), va="center",
            ha="left" if side > 0 else "right", textcoords="offset points",
        )  # fmt: skip
    axes.set(xlabel="true ground resolution (m a pixel)", ylabel="city")
    axes.set_ylim(len(cities) - 0.5, -0.5)
    axes.margins(x=0.16)
    axes.grid(axis="y", visible=False)
    note(figure, text)
    return figure


@styled
def strips(panels: Mapping[str, Mapping[str, Mapping[str, Array]]], text: str = "") -> Figure:
    """Middle half (thick), 5 to 95 % (thin) and median (dot) of many values.

    panels: label of the x axis with its unit -> row -> name -> (N,) values. A name that is a label
    system has its colour.
    """
    rows = list(next(iter(panels.values())))
    names = list(next(iter(panels.values()))[rows[0]])
    height = 1.1 + 0.24 * len(rows) * (len(names) + 0.8)
    figure, drawn = plt.subplots(1, len(panels), figsize=(9.2, height), squeeze=False)
    for axes, (label, groups) in zip(drawn[0], panels.items(), strict=True):
        for k, name in enumerate(names):
            colour = SYSTEM_COLOURS.get(name, CYCLE[k % len(CYCLE)])
            at = np.arange(len(rows)) + (k - (len(names) - 1) / 2) * 0.8 / len(names)
            spread = np.array(
                [np.nanpercentile(groups[r][name], (5, 25, 50, 75, 95)) for r in rows]
            )
            axes.hlines(at, spread[:, 0], spread[:, 4], color=colour, lw=1.4)
            axes.hlines(at, spread[:, 1], spread[:, 3], color=colour, lw=5, alpha=0.45)
            axes.plot(spread[:, 2], at, "o", ms=6, color=colour, label=name)
        axes.set_yticks(range(len(rows)), rows if axes is drawn[0][0] else [""] * len(rows))
        axes.set(xlabel=label, xlim=(0, None), ylim=(len(rows) - 0.5, -0.5))
        axes.grid(axis="y", visible=False)
    if len(names) > 1:
        figure.legend(*drawn[0][0].get_legend_handles_labels(), loc="outside upper left", ncol=4)
    note(figure, text)
    return figure


@styled
def jumping_dot(
    tiles: Sequence[Image],
    true_px: Array,
    marks_px: Mapping[str, Array],
    window_px: float = 120,
    text: str = "",
) -> Figure:
    """One query on its tiles, and below each the same piece of ground, enlarged.

    true_px: (K, 2) offsets of where the query is on the photographs; marks_px: label system ->
    (K, 2) offsets; window_px: side of the piece, pixels of the 640 px tile.
    """
    figure, panels = plt.subplots(2, len(tiles), figsize=(9.2, 5.0), squeeze=False)
    for k, tile in enumerate(tiles):
        side = tile.shape[0]
        centre, half = query_pixel(true_px[k], side)[::-1] - 0.5, window_px / 1280 * side
        photo(panels[0][k], tile, "positive" if k == 0 else f"semi-positive {k}")
        photo(panels[1][k], tile)
        panels[0][k].add_patch(
            Rectangle(centre - half, 2 * half, 2 * half, fc="none", ec="white", lw=1.4)
        )
        for axes, size in zip(panels[:, k], (5, 13), strict=True):
            for name, offsets in marks_px.items():
                row, column = query_pixel(offsets[k], side)
                axes.plot(
                    column - 0.5, row - 0.5, "o", ms=size, mec="white", mew=size / 7,
                    mfc=SYSTEM_COLOURS.get(name, INK), label=name,
                )  # fmt: skip
        panels[0][k].set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))
        panels[1][k].set(xlim=centre[0] + (-half, half), ylim=centre[1] + (half, -half))
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside upper right", ncol=3)
    note(figure, text)
    return figure


@styled
def difference_fields(
    fields: Mapping[str, tuple[Array, Array]], enlarged: float = 25, text: str = ""
) -> Figure:
    """How one label system moves the places of another on a tile: panel -> (offsets, differences).

    offsets, differences: (N, 2) pixels [north, east]; arrows are drawn ``enlarged`` times as long.
    """
    figure, panels = plt.subplots(1, len(fields), figsize=(9.4, 3.1), squeeze=False, sharey=True)
    for axes, (name, (offsets, differences)) in zip(panels[0], fields.items(), strict=True):
        (north, east), (up, right) = -offsets.T, -enlarged * differences.T
        axes.quiver(
            east, north, right, up, color=BLUE, angles="xy", scale_units="xy", scale=1, width=0.009
        )
        half, reach = HALF_TILE_PX, 1.3 * HALF_TILE_PX
        axes.add_patch(Rectangle((-half, -half), 2 * half, 2 * half, fc="none", ec=INK, lw=1.2))
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=name)
        axes.set(xlabel="east of the centre (px)", xticks=(-half, 0, half), yticks=(-half, 0, half))
    panels[0][0].set_ylabel("north of it (px)")
    note(figure, f"arrows {enlarged:g} times their length" + (f"; {text}" if text else ""))
    return figure
