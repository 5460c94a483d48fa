"""Maps of heat on pictures, and whether they mean anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vigorlib import explain
from vigorlib.evaluation import bootstrap_interval
from vigorlib.figures.style import CYCLE, INK, QUERY, note, photo, styled

Image = NDArray[np.uint8]
Array = NDArray[np.float64]
Estimate = tuple[float, float, float]
"""Mean, and the ends of its interval."""


@dataclass(frozen=True)
class Explained:
    """A row of the gallery: two pictures, a colour for the tile's frame, and each variant's heat.

    heats: name -> (heat of the panorama, heat of the tile), (h, w) in [0, 1].
    """

    title: str
    panorama: Image
    tile: Image
    frame: str
    heats: Mapping[str, tuple[Array, Array]]


@styled
def explained_pairs(rows: Sequence[Explained], text: str = "") -> Figure:
    """Pairs as they are and under their heat, a row each: the panorama's side, then the tile's."""
    names = list(rows[0].heats)
    columns = 1 + len(names)
    figure, panels = plt.subplots(
        len(rows), 2 * columns, figsize=(9.4, 1.22 * len(rows) + 0.45), squeeze=False,
        width_ratios=[2] * columns + [1] * columns,
    )  # fmt: skip
    for k, row in enumerate(rows):
        ground, satellite = panels[k, :columns], panels[k, columns:]
        photo(ground[0], row.panorama)
        photo(satellite[0], row.tile, frame=row.frame)
        for j, name in enumerate(names, start=1):
            photo(ground[j], explain.overlay(row.panorama, row.heats[name][0]))
            photo(satellite[j], explain.overlay(row.tile, row.heats[name][1]), frame=row.frame)
        ground[0].set_title(row.title, fontsize=8.5)
    for j, name in enumerate(names, start=1):
        panels[0, j].set_title(name, fontsize=8.5, weight="normal", loc="right")
        panels[0, columns + j].set_title(name, fontsize=8.5, weight="normal")
    note(figure, text)
    return figure


@styled
def both_position_maps(
    panorama: Image, tile: Image, ground: Array, satellite: Array, text: str = ""
) -> Figure:
    """SAFA's heads on both views: weights (heads, h, w) each, zero where the colour is neutral."""
    heads = len(ground)
    rows = -(-heads // 4)
    figure, panels = plt.subplots(
        rows, 8, figsize=(9.4, 1.3 * rows + 0.3), squeeze=False, width_ratios=[2, 1] * 4
    )
    for axes in panels.flat[2 * heads :]:
        axes.set_visible(False)
    for k in range(heads):
        left, right = panels.flat[2 * k], panels.flat[2 * k + 1]
        for axes, image, weights in ((left, panorama, ground[k]), (right, tile, satellite[k])):
            _under_weights(axes, image, weights)
        left.set_title(f"head {k + 1}", fontsize=8.5)
    note(figure, text)
    return figure


def _under_weights(axes: Axes, image: Image, weights: Array) -> None:
    height, width = image.shape[:2]
    reach = float(np.abs(weights).max()) or 1.0
    photo(axes, np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8))
    axes.imshow(
        weights, cmap="PuOr_r", vmin=-reach, vmax=reach, alpha=0.62, interpolation="bicubic",
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )  # fmt: skip


@styled
def heat_steps(
    panorama: Image,
    tile: Image,
    steps: Mapping[str, Mapping[str, tuple[Array, Array]]],
    text: str = "",
) -> Figure:
    """One pair's maps while the network forgets: variant -> step -> (panorama's, tile's heat)."""
    count = len(next(iter(steps.values())))
    height = 1.15 * len(steps) + 0.35
    figure, panels = plt.subplots(
        2 * len(steps), count, figsize=(9.4, 1.75 * height), squeeze=False,
        height_ratios=[1, 1.7] * len(steps),
    )  # fmt: skip
    for k, (variant, maps) in enumerate(steps.items()):
        for j, (step, (ground, satellite)) in enumerate(maps.items()):
            photo(panels[2 * k, j], explain.overlay(panorama, ground))
            photo(panels[2 * k + 1, j], explain.overlay(tile, satellite))
            if k == 0:
                panels[0, j].set_title(step, fontsize=8.5, weight="normal")
        panels[2 * k, 0].set_ylabel(variant, fontsize=8.5)
    note(figure, text)
    return figure


@styled
def likeness_curves(
    panels: Mapping[str, Mapping[str, Sequence[Estimate]]],
    references: Mapping[str, Mapping[str, float]],
    labels: Sequence[str],
    text: str = "",
) -> Figure:
    """How much maps stay what they were while layers are drawn afresh: view -> variant -> a step each.

    references: view -> variant -> what another pair's map has in common with this pair's.
    """
    figure, drawn = plt.subplots(1, len(panels), figsize=(9.4, 3.5), squeeze=False, sharey=True)
    at = np.arange(len(labels))
    for axes, (view, variants) in zip(drawn[0], panels.items(), strict=True):
        for k, (name, points) in enumerate(variants.items()):
            mean, low, high = np.array(points).T
            axes.fill_between(at, low, high, color=CYCLE[k], alpha=0.2, lw=0)
            axes.plot(at, mean, "o-", ms=4, color=CYCLE[k], label=name)
            axes.axhline(references[view][name], color=CYCLE[k], ls=":", lw=1.4)
        axes.axhline(0, color=INK, lw=0.8)
        axes.set(title=view, xlabel="layers drawn afresh, from the last to the first")
        axes.set_xticks(at, labels)
    drawn[0][0].set_ylabel("rank correlation with\nthe trained network's map")
    drawn[0][-1].plot([], [], ":", color=INK, lw=1.4, label="another pair's map, trained")
    drawn[0][-1].legend()
    note(figure, text)
    return figure


@styled
def removal_curves(
    panels: Mapping[str, Mapping[str, tuple[Array, Array]]], shares: Array, text: str = ""
) -> Figure:
    """A pair's similarity while a view is taken apart: view -> order -> (deletion, insertion), (B, S).

    Bands: 95 % bootstrap intervals of the mean over pairs.
    """
    figure, drawn = plt.subplots(
        2, len(panels), figsize=(9.4, 5.6), squeeze=False, sharex=True, sharey=True
    )
    for column, (view, orders) in enumerate(panels.items()):
        for row, direction in enumerate(("taken out", "put back")):
            axes = drawn[row][column]
            for k, (name, curves) in enumerate(orders.items()):
                mean = curves[row].mean(axis=0)
                band = np.array([bootstrap_interval(v, resamples=400) for v in curves[row].T]).T
                axes.fill_between(shares, *band, color=CYCLE[k], alpha=0.15, lw=0)
                axes.plot(shares, mean, color=CYCLE[k], label=name)
            axes.set(title=f"{view}, hottest {direction} first")
            axes.set_xlabel(f"share of the pixels {direction}")
            axes.set_ylabel("similarity of the pair")
            axes.xaxis.set_major_formatter("{x:.0%}")
    drawn[0][-1].legend()
    note(figure, text)
    return figure


@styled
def estimates(
    panels: Mapping[str, Mapping[str, Mapping[str, Estimate]]],
    xlabel: str,
    neutral: float = 0.0,
    text: str = "",
) -> Figure:
    """Means with their intervals, side by side: panel -> what -> whose -> (mean, low, high).

    neutral: the value that says "no more than chance".
    """
    names = list(dict.fromkeys(n for p in panels.values() for row in p.values() for n in row))
    tall = max(sum(len(row) + 1 for row in rows.values()) for rows in panels.values())
    figure, drawn = plt.subplots(1, len(panels), figsize=(9.4, 0.95 + 0.19 * tall), squeeze=False)
    for axes, (title, rows) in zip(drawn[0], panels.items(), strict=True):
        height, ticks = 0.0, []
        for row in rows.values():
            start = height
            for name, (mean, low, high) in row.items():
                colour = CYCLE[names.index(name) % len(CYCLE)]
                spread = [[max(mean - low, 0)], [max(high - mean, 0)]]  # rounding
                axes.errorbar(mean, height, xerr=spread, fmt="o", ms=5, color=colour, capsize=2.5)
                height += 1
            ticks.append((start + height - 1) / 2)
            height += 1
        axes.axvline(neutral, color=INK, lw=1)
        axes.set(title=title, xlabel=xlabel)
        axes.set_yticks(ticks, list(rows))
        axes.grid(axis="y", visible=False)
        axes.set_ylim(height - 0.5, -0.7)  # the first on top
    for k, name in enumerate(names):
        drawn[0][0].plot([], [], "o", color=CYCLE[k % len(CYCLE)], label=name)
    if len(names) > 1:
        figure.legend(*drawn[0][0].get_legend_handles_labels(), loc="outside upper left", ncol=4)
    note(figure, text)
    return figure


@styled
def shared_views(
    panorama: Image,
    tile: Image,
    panorama_shared: NDArray[np.bool_],
    tile_seen: NDArray[np.bool_],
    query: Sequence[float],
    text: str = "",
) -> Figure:
    """What both views show, in colour; what only one of them shows is dim.

    panorama_shared, tile_seen: masks of any size; query: (row, column) of the camera as shares of
    the tile's side.
    """
    figure, panels = plt.subplots(2, 2, figsize=(7.2, 4.7), width_ratios=[2, 1])
    for column, (image, mask, title) in enumerate(
        ((panorama, panorama_shared, "panorama"), (tile, tile_seen, "tile"))
    ):
        photo(panels[0, column], image, title)
        photo(panels[1, column], _dimmed(image, mask), "what the other view shows, too")
    side = tile.shape[0]
    for axes in panels[:, 1]:
        axes.plot(query[1] * side - 0.5, query[0] * side - 0.5, "+", color=QUERY, ms=11, mew=2.5)
    note(figure, text)
    return figure


def _dimmed(image: Image, mask: NDArray[np.bool_]) -> Image:
    large = explain.upsampled(mask.astype(np.float32), *image.shape[:2])[..., None]
    pale = 0.25 * image.mean(axis=2, keepdims=True) + 175
    return np.rint(image * large + pale * (1 - large)).clip(0, 255).astype(np.uint8)
