"""What the localization system answers: matches in order, on the map, in large; headings and circles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from numpy.typing import NDArray

from vigorlib import explain
from vigorlib.figures.style import (
    CYCLE,
    INK,
    ORANGE,
    POSITIVE,
    QUERY,
    SEMI_POSITIVE,
    note,
    photo,
    styled,
)
from vigorlib.geometry import query_pixel
from vigorlib.headings import HeadingSearch
from vigorlib.located import Match, Result, metres
from vigorlib.maps import CityMap, Overlay, overlay

Image = NDArray[np.uint8]
Array = NDArray[np.float64]
Estimate = tuple[float, float, float]
"""Value, and the ends of its interval."""

FRAMES = {"positive": (POSITIVE, "right"), "semi-positive": (SEMI_POSITIVE, "covers")}
PREDICTED: Mapping[str, Any] = {"marker": "o", "ms": 14, "mfc": "none", "mec": ORANGE, "mew": 2.4}
TRUE: Mapping[str, Any] = {"marker": "+", "ms": 12, "mec": "white", "mew": 2.4}
HALO = [patheffects.withStroke(linewidth=4.4, foreground=INK)]


@dataclass(frozen=True)
class Step:
    """A picture on its way into a panorama. heading_deg: of its centre; None draws no compass."""

    title: str
    image: Image
    heading_deg: float | None = None


@dataclass(frozen=True)
class Compared:
    """A query and what methods answered: (tile, its reference, words to stand beneath) a method."""

    title: str
    panorama: Image
    right_tile: Image
    first: Sequence[tuple[Image, str, str]]


@styled
def matches(
    panorama: Image, result: Result, tiles: Sequence[Image], title: str = "", text: str = ""
) -> Figure:
    """The panorama, and the first matches in order: rank, distance to the truth, what they are.

    tiles: pictures of the first of ``result.matches``, in rows of ten.
    """
    rows = -(-len(tiles) // 10)
    figure = plt.figure(figsize=(9.4, 2.85 + 1.16 * rows))
    grid = figure.add_gridspec(1 + rows, 10, height_ratios=[2.6] + [1.05] * rows)
    top = figure.add_subplot(grid[0, :])
    photo(top, panorama, title)
    _compass(top, panorama, 0.0)
    for k, (tile, match) in enumerate(zip(tiles, result.matches, strict=False)):
        axes = figure.add_subplot(grid[1 + k // 10, k % 10])
        colour, word = FRAMES.get(match.reference, ("", ""))
        photo(axes, tile, frame=colour)
        if match.distance_m is not None:
            axes.set_xlabel(metres(match.distance_m), fontsize=8.5, labelpad=3)
        _corner(axes, str(match.rank), (0.04, 0.96), INK, "left", "top")
        if word:
            _corner(axes, word, (0.96, 0.05), colour, "right", "bottom")
    note(figure, text)
    return figure


@styled
def answers_compared(rows: Sequence[Compared], methods: Sequence[str], text: str = "") -> Figure:
    """Queries, their right tile, and the tile that each method put first."""
    figure, panels = plt.subplots(
        len(rows), 2 + len(methods), figsize=(8.4, 1.98 * len(rows) + 0.2), squeeze=False,
        width_ratios=[2] + [1] * (1 + len(methods)),
    )  # fmt: skip
    for line, row in zip(panels, rows, strict=True):
        photo(line[0], row.panorama, row.title)
        _compass(line[0], row.panorama, 0.0)
        photo(line[1], row.right_tile, frame=POSITIVE)
        for axes, (tile, reference, below) in zip(line[2:], row.first, strict=True):
            photo(axes, tile, frame=FRAMES.get(reference, (INK, ""))[0])
            axes.set_xlabel(below, fontsize=8.5)
    for axes, name in zip(panels[0, 1:], ("the right tile", *methods), strict=True):
        axes.set_title(name)
    note(figure, text)
    return figure


@styled
def answer_on_map(result: Result, chart: CityMap, reach_m: float = 60.0, text: str = "") -> Figure:
    """The matches on their city; from near the first of them, or the circle that was searched.

    reach_m: how far the near view goes from the first match, where no circle was searched.
    """
    figure, (city, near) = plt.subplots(1, 2, figsize=(8.2, 4.15))
    on, scale = overlay(result, chart), chart.px_per_metre
    height, width = chart.image.shape[:2]
    if on.circle is not None:
        row, column, reach = on.circle[0], on.circle[1], 1.06 * on.circle[2]
    else:
        row, column = on.predicted[0] if len(on.ranks) else (height / 2, width / 2)
        reach = reach_m * scale
    photo(city, _paler(chart.image), chart.city or "the area")
    photo(near, chart.image if on.circle is None else _paler(chart.image), "from near")
    city.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    near.set(xlim=(column - reach, column + reach), ylim=(row + reach, row - reach))
    for axes, large in ((city, 0.75), (near, 1.0)):
        axes.images[0].set_interpolation("antialiased")
        _draw_answer(axes, on, large)
    _number_boxes(near, on)
    _scale_bar(city, scale, 200)
    _scale_bar(near, scale, 100 if reach > 150 * scale else 20)
    note(figure, text)
    return figure


@styled
def pair_in_large(
    panorama: Image, tile: Image, match: Match, heat: tuple[Array, Array], text: str = ""
) -> Figure:
    """A pair as it is and under its heat; on the tile the predicted place and the true one.

    heat: of the panorama and of the tile, (h, w) in [0, 1].
    """
    figure, panels = plt.subplots(2, 2, figsize=(9.0, 6.2), width_ratios=[2, 1])
    photo(panels[0, 0], panorama, "from the street")
    photo(panels[0, 1], tile, "from above")
    photo(panels[1, 0], explain.overlay(panorama, heat[0]), "what made them similar")
    photo(panels[1, 1], explain.overlay(tile, heat[1]))
    for axes in panels[:, 0]:
        _compass(axes, panorama, 0.0)
    for axes in panels[:, 1]:
        for offset, style in ((match.offset_px, PREDICTED), (match.true_offset_px, TRUE)):
            if offset is not None:
                row, column = query_pixel(np.array(offset), tile.shape[0])
                _mark(axes, (row - 0.5, column - 0.5), style)
        axes.set(xlim=(-0.5, tile.shape[1] - 0.5), ylim=(tile.shape[0] - 0.5, -0.5))
    note(figure, text)
    return figure


@styled
def found_by_radius(
    circles: Sequence[str],
    shares: Mapping[str, Sequence[Estimate]],
    median_error_m: Sequence[float],
    text: str = "",
) -> Figure:
    """What a circle to search in is worth: who is found, and how far off the answers are.

    circles: in words, the smallest first. shares: outcome -> (share, low, high) a circle.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.7))
    at = np.arange(len(circles))
    for k, (name, points) in enumerate(shares.items()):
        mean, low, high = np.array(points).T
        left.fill_between(at, low, high, color=CYCLE[k], alpha=0.18, lw=0)
        left.plot(at, mean, "o-", ms=5, color=CYCLE[k], label=name)
    left.set(ylabel="share of queries", ylim=(0, 1), title="the first tile is ...")
    left.yaxis.set_major_formatter("{x:.0%}")
    left.legend()
    right.plot(at, median_error_m, "o-", ms=5, color=CYCLE[2])
    for place, error in zip(at, median_error_m, strict=True):
        right.annotate(
            metres(error), (place, error), (0, 7), textcoords="offset points", ha="center",
            fontsize=8.5,
        )  # fmt: skip
    right.set(yscale="log", ylabel="median error (m)", title="how far off the answer is")
    right.margins(y=0.15)
    for axes in (left, right):
        axes.set_xticks(at, list(circles), fontsize=8)
        axes.set_xlabel("radius searched, and tiles in it on average")
    note(figure, text)
    return figure


@styled
def picture_steps(rows: Sequence[Sequence[Step]], text: str = "") -> Figure:
    """Pictures of one's own, each row one on its way into a panorama with north in the centre."""
    figure = plt.figure(figsize=(9.4, 2.6 * len(rows) + 0.2))
    for line, steps in zip(figure.subfigures(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        panels = line.subplots(1, len(steps), squeeze=False)[0]
        for axes, step in zip(panels, steps, strict=True):
            photo(axes, step.image, step.title)
            if step.heading_deg is not None:
                _compass(axes, step.image, step.heading_deg)
    note(figure, text)
    return figure


@styled
def heading_curves(
    searches: Mapping[str, HeadingSearch], true_deg: float, text: str = ""
) -> Figure:
    """Similarity of the best tile under each heading; the heading found, and the true one."""
    figure, panels = plt.subplots(1, len(searches), figsize=(9.4, 3.0), squeeze=False, sharey=True)
    for k, (axes, (name, search)) in enumerate(zip(panels[0], searches.items(), strict=True)):
        round_deg = np.append(search.heading_deg, search.heading_deg[0] + 360)
        similarity = np.append(search.similarity, search.similarity[0])
        axes.plot(round_deg, similarity, color=CYCLE[k])
        axes.plot(search.best_deg, search.similarity[search.best], "o", ms=9, color=CYCLE[k])
        axes.axvline(true_deg, color=QUERY, ls="--", lw=1.6)
        axes.annotate(
            f"true: {true_deg:.0f}°", (true_deg, 0), (4, 4), color=QUERY, fontsize=8.5,
            xycoords=("data", "axes fraction"), textcoords="offset points",
        )  # fmt: skip
        axes.set(title=f"{name}: {search.best_deg:.0f}° fits best", xlim=(0, 360))
        axes.set_xlabel("heading of the picture's centre (°)")
        axes.set_xticks(range(0, 361, 90), ["0\nN", "90\nE", "180\nS", "270\nW", "360\nN"])
    panels[0][0].set_ylabel("similarity of the best tile")
    note(figure, text)
    return figure


@styled
def heading_errors(
    errors_deg: Mapping[str, Array], limit_deg: float = 15.0, text: str = ""
) -> Figure:
    """How often the heading is found to within a number of degrees: what -> (Q,) in 0..180."""
    figure, axes = plt.subplots(figsize=(6.8, 3.6))
    for k, (name, errors) in enumerate(errors_deg.items()):
        order = np.concatenate([[0.0], np.sort(errors), [180.0]])
        share = np.concatenate([[0.0], np.arange(1, len(errors) + 1) / len(errors), [1.0]])
        within = float((errors <= limit_deg).mean())
        axes.step(order, share, where="post", color=CYCLE[k], label=f"{name}: {within:.0%}")
    axes.plot([0, 180], [0, 1], "--", color=INK, lw=1.2, label=f"chance: {limit_deg / 180:.0%}")
    axes.axvline(limit_deg, color=INK, lw=1, ls=":")
    axes.annotate(f"{limit_deg:.0f}°", (limit_deg, 0.97), (4, 0), textcoords="offset points")
    axes.set(xlim=(0, 180), ylim=(0, 1), xlabel="error of the heading (°)")
    axes.set_ylabel("share of pictures below that")
    axes.set_xticks(range(0, 181, 30))
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend(loc="lower right", title=f"within {limit_deg:.0f}°", alignment="left", fontsize=8.5)
    note(figure, text)
    return figure


# -- parts -----------------------------------------------------------------------------------


def _compass(axes: Axes, image: Image, heading_deg: float) -> None:
    """N, E, S, W beneath a panorama whose centre column looks at ``heading_deg``."""
    height, width = image.shape[:2]
    for name, azimuth in (("N", 0), ("E", 90), ("S", 180), ("W", 270)):
        share = ((azimuth - heading_deg) / 360 + 0.5) % 1
        for place in {share, 1.0} if share == 0 else {share}:
            axes.annotate(
                name, (place * width - 0.5, height - 0.5), (0, -4), textcoords="offset points",
                ha="center", va="top", fontsize=8.5, color=QUERY if name == "N" else INK,
                weight="bold" if name == "N" else "normal",
            )  # fmt: skip


def _corner(
    axes: Axes, text: str, place: tuple[float, float], colour: str, side: str, edge: str
) -> None:
    axes.text(
        *place, text, transform=axes.transAxes, ha=side, va=edge, fontsize=7.5, color="white",
        bbox={"boxstyle": "round,pad=0.18", "fc": colour, "ec": "none", "alpha": 0.9},
    )  # fmt: skip


def _mark(
    axes: Axes, place: Sequence[float] | Array, style: Mapping[str, Any], large: float = 1.0
) -> None:
    """A mark at [row, column], with a dark edge that shows on any ground."""
    row, column = place
    axes.plot(column, row, ls="none", path_effects=HALO, **{**style, "ms": large * style["ms"]})


def _draw_answer(axes: Axes, on: Overlay, large: float) -> None:
    """Boxes of the matches, the predicted place of the first, the true place, the circle."""
    for rank, (top, left, bottom, right) in zip(on.ranks, on.boxes, strict=True):
        axes.add_patch(
            Rectangle((left, top), right - left, bottom - top, fill=False, ec=ORANGE,
                      lw=3.2 * large if rank == 1 else 1.3)
        )  # fmt: skip
    if on.circle is not None:
        row, column, radius = on.circle
        ring = Circle((column, row), radius, fill=False, ec="white", lw=1.8, ls="--")
        ring.set_path_effects([patheffects.withStroke(linewidth=3.4, foreground=INK)])
        axes.add_patch(ring)
    first = on.predicted[0] if len(on.ranks) and on.ranks[0] == 1 else None
    if first is not None and on.truth is not None:
        axes.plot([first[1], on.truth[1]], [first[0], on.truth[0]], color="white", lw=1.4)
    if first is not None:
        _mark(axes, first, PREDICTED, large)
    if on.truth is not None:
        _mark(axes, on.truth, TRUE, large)


def _number_boxes(axes: Axes, on: Overlay) -> None:
    """Ranks in the corners of the matches whose corner is in sight."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for rank, (row, column, _, _) in zip(on.ranks, on.boxes, strict=True):
        if left <= column < 0.93 * right + 0.07 * left and top <= row < 0.93 * bottom + 0.07 * top:
            axes.annotate(
                str(rank), (column, row), (4, -4), textcoords="offset points", va="top",
                fontsize=8, color="white",
                bbox={"boxstyle": "round,pad=0.2", "fc": INK, "ec": "none", "alpha": 0.9},
            )  # fmt: skip


def _paler(image: Image) -> Image:
    """For lines to be drawn on."""
    return np.rint(0.66 * image + 0.34 * 255).astype(np.uint8)


def _scale_bar(axes: Axes, px_per_metre: float, length_m: float) -> None:
    """In the lower left corner, on any ground."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    x, y = left + 0.04 * (right - left), bottom + 0.05 * (top - bottom)
    length = length_m * px_per_metre
    axes.plot(
        [x, x + length], [y, y], color="white", lw=2.5, path_effects=HALO, solid_capstyle="butt"
    )
    axes.annotate(
        f"{length_m:.0f} m", (x + length / 2, y), (0, 5), textcoords="offset points", ha="center",
        color="white", fontsize=8.5, path_effects=HALO,
    )  # fmt: skip
