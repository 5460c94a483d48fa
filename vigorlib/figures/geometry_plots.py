"""Photographs, tiles, coverage and overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from vigorlib.figures.style import (
    CYCLE,
    GREEN,
    INK,
    POSITIVE,
    QUERY,
    SEMI_POSITIVE,
    YELLOW,
    note,
    photo,
    styled,
)
from vigorlib.geometry import HALF_TILE_PX, TILE_PX, query_pixel, tile_iou

Image = NDArray[np.uint8]
Array = NDArray[np.float64]


def _star(axes: Axes, offset_px: Array, side_px: float, colour: str = QUERY) -> None:
    row, column = query_pixel(offset_px, side_px)
    if 0 <= row < side_px and 0 <= column < side_px:
        style = {"marker": "*", "ms": 14, "mfc": colour, "mec": "white", "mew": 1.0}
        axes.plot(column - 0.5, row - 0.5, **style)


@styled
def pair(panorama: Image, tile: Image, offset_px: Array, title: str = "") -> Figure:
    """A panorama above its compass and the tile that covers it, the query starred."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9.2, 3.0), gridspec_kw={"width_ratios": [2, 1]}
    )
    photo(left, panorama, title)
    height, width = panorama.shape[:2]
    for share, name in ((0.0, "S"), (0.25, "W"), (0.5, "N"), (0.75, "E"), (1.0, "S")):
        left.annotate(
            name, (share * (width - 1), height), (0, -11), textcoords="offset points", ha="center"
        )
    photo(right, tile)
    _star(right, offset_px, tile.shape[0])
    return figure


@styled
def query_and_tiles(
    panorama: Image, tiles: Sequence[Image], offsets_px: Array, title: str = "", text: str = ""
) -> Figure:
    """A panorama over its four tiles, positive first; IOU in the titles, the query starred."""
    figure = plt.figure(figsize=(9.2, 5.3))
    grid = figure.add_gridspec(2, 4, height_ratios=[1.55, 1])
    photo(figure.add_subplot(grid[0, :]), panorama, title)
    for k, (tile, offset) in enumerate(zip(tiles, offsets_px, strict=True)):
        axes = figure.add_subplot(grid[1, k])
        kind, colour = ("positive", POSITIVE) if k == 0 else ("semi-positive", SEMI_POSITIVE)
        photo(axes, tile, f"{kind}, IOU {tile_iou(offset):.2f}", colour)
        _star(axes, offset, tile.shape[0])
    note(figure, text)
    return figure


@styled
def coverage(tiles: Mapping[str, Array], queries: Mapping[str, Array], text: str = "") -> Figure:
    """Where tiles and panoramas are, one panel a city (the paper's Figure 2).

    tiles, queries: city -> (N, 2) degrees [lat, lon].
    """
    count = len(tiles)
    figure, panels = plt.subplots(
        1, count, figsize=(min(3.1 * count, 9.4) if count > 1 else 6.4, 3.9), squeeze=False
    )
    for axes, (city, latlon) in zip(panels[0], tiles.items(), strict=True):
        axes.scatter(latlon[:, 1], latlon[:, 0], s=2, c="#c5ccd4", lw=0, label="tile centres")
        where = queries[city]
        size = 1.6 if len(where) < 5000 else 0.35
        axes.scatter(where[:, 1], where[:, 0], s=size, c=QUERY, lw=0, label="panoramas")
        axes.set_title(f"{city}\n{len(latlon):,} tiles, {len(where):,} panoramas")
        axes.set_aspect(1 / np.cos(np.deg2rad(latlon[:, 0].mean())))
        axes.ticklabel_format(useOffset=False)
        axes.locator_params(nbins=3)
        axes.tick_params(labelsize=7.5)
        axes.set_xlabel("longitude (°)")
        axes.grid(visible=False)
    panels[0][0].set_ylabel("latitude (°)")
    note(figure, text)
    return figure


@styled
def mosaic(
    image: Image, queries_px: Mapping[str, Array] | None = None, title: str = "", text: str = ""
) -> Figure:
    """A city from above, with dots: name -> (Q, 2) pixels [row, column] of the image."""
    figure, axes = plt.subplots(figsize=(6.6, 6.4))
    photo(axes, image, title)
    colours = (YELLOW, QUERY, CYCLE[0])
    for colour, (name, px) in zip(colours, (queries_px or {}).items(), strict=False):
        axes.plot(px[:, 1], px[:, 0], "o", ms=2.2, mfc=colour, mec="black", mew=0.2, label=name)
    if queries_px:
        legend = axes.legend(loc="lower right", markerscale=2.5, framealpha=0.85, frameon=True)
        legend.get_frame().set_linewidth(0)
    note(figure, text)
    return figure


@styled
def four_tile_cover(query: tuple[float, float] = (0.18, -0.14)) -> Figure:
    """Why four tiles cover every query. query: place in units of a tile from the positive's centre
    [north, east]."""
    figure, (one, four) = plt.subplots(1, 2, figsize=(9.2, 4.5))
    one.add_patch(Rectangle((-0.5, -0.5), 1, 1, fc="#eef1f4", ec=INK, lw=1.6))
    one.add_patch(Rectangle((-0.25, -0.25), 0.5, 0.5, fc="#d7efe6", ec=POSITIVE, lw=1.6))
    one.text(0, 0.18, "positive", color=POSITIVE, ha="center", weight="bold")
    one.text(0, 0.37, "semi-positive", color=SEMI_POSITIVE, ha="center", weight="bold")
    one.set_title("One tile: what it is for a query here")
    north, east = query
    step_n, step_e = np.sign(north) or 1, np.sign(east) or 1
    for k, (n, e) in enumerate(
        ((0.5 * step_n, 0.5 * step_e), (0.5 * step_n, 0), (0, 0.5 * step_e))
    ):
        shade: dict[str, Any] = {"fc": "none", "ec": SEMI_POSITIVE, "lw": 1.8}
        label = "semi-positive tiles" if k == 0 else None
        four.add_patch(Rectangle((e - 0.5, n - 0.5), 1, 1, label=label, **shade))
    four.add_patch(Rectangle((-0.5, -0.5), 1, 1, fc="none", ec=POSITIVE, lw=2.6, label="positive"))
    four.add_patch(
        Rectangle((east - 0.5, north - 0.5), 1, 1, fc="#d55e0018", ec=QUERY, ls="--", lw=1.6,
                  label="tile aligned to the query")
    )  # fmt: skip
    four.plot(east, north, "*", ms=17, mfc=QUERY, mec="white")
    four.set_title("Four overlapping tiles around one query")
    four.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncol=3, fontsize=8.5)
    for axes, reach in ((one, 0.62), (four, 1.1)):
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        axes.set(xlabel="east (tile sides)", ylabel="north (tile sides)")
    return figure


@styled
def iou_surface() -> Figure:
    """IOU with the aligned tile, over the place of the query on a tile."""
    figure, axes = plt.subplots(figsize=(5.6, 4.6))
    side = np.linspace(-HALF_TILE_PX, HALF_TILE_PX, 161)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1)
    iou = tile_iou(grid)
    mesh = axes.contourf(side, side, iou, levels=np.linspace(0, 1, 21), cmap="cividis")
    lines = axes.contour(side, side, iou, levels=[1 / 7 + 1e-6, 9 / 23, 49 / 79], colors="white")
    axes.clabel(lines, fmt="%.2f", fontsize=9)
    quarter = HALF_TILE_PX / 2
    axes.add_patch(
        Rectangle((-quarter, -quarter), 2 * quarter, 2 * quarter, fc="none", ec=GREEN, lw=2.4)
    )
    figure.colorbar(mesh, ax=axes, label="IOU with the aligned tile", ticks=np.linspace(0, 1, 6))
    axes.set(xlabel="query east of the centre (px of 640)", ylabel="query north of it (px of 640)")
    axes.set(aspect="equal", title="Positive region (green) and lines of equal IOU")
    axes.grid(visible=False)
    return figure


@styled
def iou_histograms(groups: Mapping[str, tuple[Array, Array]], text: str = "") -> Figure:
    """Distribution of IOU: name -> (positives, semi-positives); the first drawn solid."""
    figure, axes = plt.subplots(figsize=(7.6, 3.4))
    bins = np.linspace(0, 1, 61)
    for k, (name, values) in enumerate(groups.items()):
        for iou, colour, kind in zip(
            values, (POSITIVE, SEMI_POSITIVE), ("positive", "semi-positive"), strict=True
        ):
            style = {"alpha": 0.35} if k == 0 else {"histtype": "step", "lw": 1.8}
            label = f"{kind}, {name} (mean {np.mean(iou):.2f})"
            axes.hist(iou, bins, density=True, color=colour, label=label, **style)
    for limit, label in ((1 / 7, "1/7"), (9 / 23, "9/23")):
        axes.axvline(limit, color=INK, lw=1, ls=":")
        axes.annotate(label, (limit, axes.get_ylim()[1]), ha="center", fontsize=9)
    axes.set(xlabel="IOU of a tile with the tile aligned to the query", ylabel="density")
    axes.legend()
    note(figure, text)
    return figure


@styled
def offsets_scatter(offsets_px: Array, text: str = "") -> Figure:
    """Offsets of the four tiles of many queries. offsets_px: (Q, 4, 2), positive first."""
    figure, axes = plt.subplots(figsize=(4.9, 4.7))
    semi, positive = offsets_px[:, 1:].reshape(-1, 2), offsets_px[:, 0]
    for values, colour, name in (
        (semi, SEMI_POSITIVE, "semi-positive"),
        (positive, POSITIVE, "positive"),
    ):
        axes.plot(values[:, 1], values[:, 0], ".", ms=1.6, color=colour, alpha=0.5, label=name)
    half = HALF_TILE_PX
    axes.add_patch(Rectangle((-half, -half), TILE_PX, TILE_PX, fc="none", ec=INK, lw=1.4))
    axes.add_patch(Rectangle((-half / 2, -half / 2), half, half, fc="none", ec=INK, ls="--"))
    axes.set(xlabel="offset east (px)", ylabel="offset north (px)", aspect="equal")
    axes.legend(markerscale=8, loc="upper center", bbox_to_anchor=(0.5, 1.12), ncol=2)
    note(figure, text)
    return figure


@styled
def balance_bars(counts: Mapping[str, Mapping[int, int]], text: str = "") -> Figure:
    """How many tiles have 0, 1, 2 positive panoramas: name -> {panoramas: tiles}."""
    figure, axes = plt.subplots(figsize=(6.4, 3.2))
    width = 0.8 / len(counts)
    for k, (name, histogram) in enumerate(counts.items()):
        total = sum(histogram.values())
        x = np.array(sorted(histogram)) + (k - (len(counts) - 1) / 2) * width
        axes.bar(x, [histogram[i] / total for i in sorted(histogram)], width * 0.92, label=name)
    axes.set(xlabel="panoramas a tile is positive for", ylabel="share of tiles")
    axes.set_xticks(sorted({i for h in counts.values() for i in h}))
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend()
    note(figure, text)
    return figure


@styled
def offset_arrows(
    tiles: Sequence[Image], true_px: Array, predicted_px: Array, error_m: Array, text: str = ""
) -> Figure:
    """Predicted against true places on retrieved tiles; arrows run from centre to prediction."""
    columns = min(len(tiles), 5)
    rows = -(-len(tiles) // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(9.4, 2.1 * rows + 0.4), squeeze=False)
    for axes in panels.flat[len(tiles) :]:
        axes.set_visible(False)
    for k, tile in enumerate(tiles):
        axes, side = panels.flat[k], tile.shape[0]
        photo(axes, tile, f"{error_m[k]:.1f} m")
        row, column = query_pixel(predicted_px[k], side)
        axes.annotate(
            "", (column, row), (side / 2, side / 2),
            arrowprops={"arrowstyle": "-|>", "color": YELLOW, "lw": 2},
        )  # fmt: skip
        _star(axes, true_px[k], side)
        axes.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))
    note(figure, text)
    return figure
