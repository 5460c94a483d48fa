"""Losses, training, retrieval and the metre level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from numpy.typing import NDArray

from vigorlib.figures.style import BLUE, GREEN, INK, ORANGE, RED, note, photo, styled

Image = NDArray[np.uint8]
Array = NDArray[np.float64]


@styled
def triplet_curves(alphas: Sequence[float] = (5.0, 10.0, 20.0)) -> Figure:
    """Soft-margin triplet loss and its slope over d_pos - d_neg."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.3))
    gap = np.linspace(-1.5, 1.5, 301)
    for alpha in alphas:
        left.plot(gap, np.logaddexp(0, alpha * gap), label=f"α = {alpha:g}")
        right.plot(gap, alpha / (1 + np.exp(-alpha * gap)), label=f"α = {alpha:g}")
    left.set(xlabel="$d_{pos} - d_{neg}$ (squared distances)", ylabel="loss", ylim=(-0.5, 16))
    right.set(xlabel="$d_{pos} - d_{neg}$ (squared distances)", ylabel="slope of the loss")
    left.legend()
    return figure


@styled
def sign_slip(alpha: float = 10.0) -> Figure:
    """What the printed sum would do: the loss over d_neg for a fixed positive."""
    figure, axes = plt.subplots(figsize=(6.2, 3.2))
    negative = np.linspace(0, 2, 201)
    for positive, style in ((0.4, "-"), (0.8, "--")):
        right = np.logaddexp(0, alpha * (positive - negative))
        slip = np.logaddexp(0, alpha * (positive + negative))
        axes.plot(
            negative, right, style, color=GREEN,
            label=f"$d_{{pos}} - d_{{neg}}$, $d_{{pos}}$ = {positive}",
        )  # fmt: skip
        axes.plot(
            negative, slip, style, color=RED,
            label=f"$d_{{pos}} + d_{{neg}}$, $d_{{pos}}$ = {positive}",
        )  # fmt: skip
    axes.set(xlabel="distance of the negative $d_{neg}$ (squared)", ylabel="loss")
    axes.legend()
    return figure


@styled
def iou_loss_curve(
    iou_positive: float = 49 / 79, iou_semi: Sequence[float] = (0.2, 0.34)
) -> Figure:
    """The IOU loss over the semi-positive's similarity, for a positive of similarity 0.8."""
    figure, axes = plt.subplots(figsize=(6.2, 3.2))
    similarity = np.linspace(-0.2, 1, 241)
    for k, iou in enumerate(iou_semi):
        axes.plot(
            similarity, (similarity / 0.8 - iou / iou_positive) ** 2,
            label=f"IOU of the semi-positive {iou:.2f}",
        )  # fmt: skip
        axes.axvline(0.8 * iou / iou_positive, ls=":", color=(BLUE, ORANGE)[k], lw=1.2)
    axes.axvline(0.8, color=INK, lw=1)
    axes.annotate("$s_{pos}$", (0.8, 0.9), (4, 0), textcoords="offset points")
    axes.set(xlabel="similarity of the semi-positive $s_{semi}$", ylabel="IOU loss")
    axes.legend()
    return figure


@styled
def training_curves(
    losses: Sequence[Mapping[str, float]], watched: Sequence[Mapping[str, float]], text: str = ""
) -> Figure:
    """Parts of the loss and watched recall over steps (a run's history)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.3))
    for part in ("triplet", "iou", "offset"):
        points = [(entry["step"], entry[part]) for entry in losses if part in entry]
        if points:
            steps, values = np.array(points).T
            left.plot(steps, values, label=part, alpha=0.9)
    left.set(xlabel="step", ylabel="loss (unweighted)", yscale="log")
    left.legend()
    if watched:
        steps = [entry["step"] for entry in watched]
        for name, label in (("top1", "top-1"), ("top5", "top-5")):
            right.plot(steps, [entry[name] for entry in watched], "o-", ms=4, label=label)
        sample = f"{watched[0]['queries']:g} test queries among {watched[0]['tiles']:g} tiles"
        right.set(xlabel="step", ylabel="recall on a sample", title=sample, ylim=(0, 1))
        right.legend()
    note(figure, text)
    return figure


@styled
def compare_curves(
    histories: Mapping[str, Sequence[Mapping[str, float]]], value: str = "top1", text: str = ""
) -> Figure:
    """One watched number of several runs over steps: name -> watched history."""
    figure, axes = plt.subplots(figsize=(6.8, 3.4))
    for name, watched in histories.items():
        axes.plot([w["step"] for w in watched], [w[value] for w in watched], "o-", ms=4, label=name)
    axes.set(xlabel="step", ylabel="top-1 on a sample of the test set", ylim=(0, None))
    axes.legend()
    note(figure, text)
    return figure


@styled
def photo_row(
    panorama: Image,
    tiles: Sequence[Image],
    titles: Sequence[str],
    frames: Sequence[str] = (),
    title: str = "",
    text: str = "",
) -> Figure:
    """A panorama over a row of tiles with a title each; frames: a colour each, or "" for none."""
    columns = len(tiles)
    figure = plt.figure(figsize=(9.2, 2.6 + 9.2 / columns))
    grid = figure.add_gridspec(2, columns, height_ratios=[2.5, 9.2 / columns])
    photo(figure.add_subplot(grid[0, :]), panorama, title)
    for k, tile in enumerate(tiles):
        axes = figure.add_subplot(grid[1, k])
        photo(axes, tile, frame=frames[k] if frames else "")
        axes.set_title(titles[k], fontsize=8.5, weight="normal")
    note(figure, text)
    return figure


@styled
def recall_curves(
    curves: Mapping[str, Mapping[str, Mapping[int, float]]], text: str = ""
) -> Figure:
    """Recall over k: panel -> method -> {k: share}."""
    figure, panels = plt.subplots(
        1, len(curves), figsize=(4.6 * len(curves), 3.5), squeeze=False, sharey=True
    )
    for axes, (panel, methods) in zip(panels[0], curves.items(), strict=True):
        for name, points in methods.items():
            axes.plot(list(points), list(points.values()), "o-", ms=3, label=name)
        axes.set(xscale="log", xlabel="k (best tiles looked at)", title=panel, ylim=(0, 1))
        axes.yaxis.set_major_formatter("{x:.0%}")
    panels[0][0].set_ylabel("recall at k")
    panels[0][-1].legend(loc="upper left")
    note(figure, text)
    return figure


@styled
def share_bars(
    rows: Mapping[str, Mapping[str, float]],
    intervals: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
    text: str = "",
) -> Figure:
    """Shares with 95 % intervals: measurement -> method -> share."""
    figure, panels = plt.subplots(1, len(rows), figsize=(9.2, 3.2), squeeze=False)
    for axes, (measure, methods) in zip(panels[0], rows.items(), strict=True):
        names = list(methods)
        values = np.array([methods[n] for n in names])
        axes.barh(names, values, color=BLUE, height=0.62)
        if intervals and measure in intervals:
            bounds = np.array([intervals[measure][n] for n in names])
            spread = np.abs(bounds.T - values)
            axes.errorbar(values, names, xerr=spread, fmt="none", ecolor=INK, capsize=3, lw=1.2)
        axes.set(title=measure, xlim=(0, None), xlabel="share of queries")
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        if axes is not panels[0][0]:
            axes.set_yticklabels([])
    note(figure, text)
    return figure


@styled
def metre_curves(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    thresholds_m: Array,
    reach_m: float = 100.0,
    text: str = "",
) -> Figure:
    """Accuracy over the distance threshold (the paper's Figure 9): panel -> method -> shares."""
    figure, drawn = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 3.5), squeeze=False)
    shown = thresholds_m <= reach_m
    for axes, (panel, methods) in zip(drawn[0], panels.items(), strict=True):
        for name, shares in methods.items():
            axes.plot(thresholds_m[shown], np.asarray(shares)[shown], label=name)
        axes.axvline(10, color=INK, lw=1, ls=":")
        axes.set(xlabel="distance threshold (m)", title=panel, xlim=(0, reach_m), ylim=(0, None))
        axes.yaxis.set_major_formatter("{x:.0%}")
    drawn[0][0].set_ylabel("queries placed closer than that")
    drawn[0][0].legend()
    note(figure, text)
    return figure


@styled
def error_histogram(groups: Mapping[str, Array], reach_m: float = 60.0, text: str = "") -> Figure:
    """Errors of queries whose tile was found, with and without the offset: name -> (Q,) metres."""
    figure, axes = plt.subplots(figsize=(6.8, 3.3))
    bins = np.linspace(0, reach_m, 41)
    for k, (name, errors) in enumerate(groups.items()):
        style: dict[str, Any] = {"alpha": 0.35} if k == 0 else {"histtype": "step", "lw": 2}
        label = f"{name} (median {np.median(errors):.1f} m)" if len(errors) else name
        axes.hist(errors, bins, color=(ORANGE, BLUE, GREEN)[k], label=label, **style)
    axes.set(xlabel="error (m)", ylabel="queries")
    axes.legend()
    note(figure, text)
    return figure


@styled
def network_diagram(rows: Sequence[Sequence[tuple[str, str]]], head: tuple[str, str]) -> Figure:
    """Boxes of the two branches, left to right, and the offset head. A box is (name, shape)."""
    figure, axes = plt.subplots(figsize=(9.4, 2.9))
    columns = max(len(row) for row in rows)

    def box(x: float, y: float, name: str, shape: str, colour: str) -> None:
        axes.add_patch(
            FancyBboxPatch((x, y), 0.82, 0.62, boxstyle="round,pad=0.03", fc=colour, ec=INK, lw=1)
        )
        axes.text(x + 0.41, y + 0.40, name, ha="center", va="center", fontsize=9, weight="bold")
        axes.text(x + 0.41, y + 0.16, shape, ha="center", va="center", fontsize=8)

    def arrow(start: tuple[float, float], end: tuple[float, float]) -> None:
        axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=INK))

    for r, row in enumerate(rows):
        y = 1.1 * (len(rows) - 1 - r)
        for c, (name, shape) in enumerate(row):
            box(c, y, name, shape, ("#dcecf7", "#dff2ea")[r % 2])
            if c:
                arrow((c - 0.15, y + 0.31), (c - 0.04, y + 0.31))
        arrow((columns - 0.15, y + 0.31), (columns + 0.06, 0.55 + 0.31 + 0.1 * (1 - 2 * r)))
    box(columns + 0.12, 0.55, *head, "#fdeedd")
    axes.set(xlim=(-0.1, columns + 1.1), ylim=(-0.15, 1.9))
    axes.axis("off")
    return figure


@styled
def position_maps(image: Image, maps: Array, title: str = "", text: str = "") -> Figure:
    """Where each SAFA head looks: image (H, W, 3), maps (heads, h, w)."""
    heads = len(maps)
    columns = 4
    rows = -(-heads // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(9.4, 1.35 * rows + 0.3), squeeze=False)
    for axes in panels.flat[heads:]:
        axes.set_visible(False)
    height, width = image.shape[:2]
    for k, weights in enumerate(maps):
        axes = panels.flat[k]
        photo(axes, image)
        axes.imshow(
            weights, cmap="inferno", alpha=0.6, extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            interpolation="bicubic",
        )  # fmt: skip
        axes.set_title(f"head {k + 1}", fontsize=9)
    if title:
        figure.suptitle(title, fontsize=10.5, weight="bold", x=0.01, ha="left")
    note(figure, text)
    return figure
