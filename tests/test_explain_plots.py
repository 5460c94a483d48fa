"""Figures of explanations: drawn, labelled, and true to their numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure
from of_figures import check_drawn, drawn_by

from vigorlib import figures
from vigorlib.figures import explain_plots

RNG = np.random.default_rng(0)
PANORAMA = RNG.integers(0, 256, (24, 48, 3), dtype=np.uint8)
TILE = RNG.integers(0, 256, (24, 24, 3), dtype=np.uint8)
HEATS = {name: (RNG.random((3, 6)), RNG.random((3, 3))) for name in ("Grad-CAM", "rectified")}
CURVES = {"heat": (RNG.random((5, 3)), RNG.random((5, 3)))}
ESTIMATES = {"sky": {"Grad-CAM": (0.8, 0.7, 1.0), "average": (1.1, 1.0, 1.2)}}

CASES: dict[str, Callable[[], Figure]] = {
    "explained_pairs": lambda: figures.explained_pairs(
        [figures.Explained("right", PANORAMA, TILE, figures.GREEN, HEATS)] * 2, "note"
    ),
    "both_position_maps": lambda: figures.both_position_maps(
        PANORAMA, TILE, RNG.normal(size=(8, 3, 6)), RNG.normal(size=(8, 3, 3)), "note"
    ),
    "heat_steps": lambda: figures.heat_steps(
        PANORAMA, TILE, {"Grad-CAM": HEATS, "rectified": HEATS}, "note"
    ),
    "likeness_curves": lambda: figures.likeness_curves(
        {"panorama": {"Grad-CAM": [(1, 1, 1), (0.2, 0.1, 0.4)]}},
        {"panorama": {"Grad-CAM": 0.3}}, ["0", "1"], "note",
    ),
    "removal_curves": lambda: figures.removal_curves(
        {"panorama": CURVES, "tile": CURVES}, np.array([0, 0.5, 1]), "note"
    ),
    "estimates": lambda: figures.estimates({"panorama": ESTIMATES}, "lift", 1.0, "note"),
    "shared_views": lambda: figures.shared_views(
        PANORAMA, TILE, RNG.random((12, 24)) > 0.5, RNG.random((12, 12)) > 0.5, (0.25, 0.75), "note"
    ),
}  # fmt: skip
CHARTS = ("likeness_curves", "removal_curves", "estimates")

pytestmark = pytest.mark.usefixtures("no_window")


def test_every_figure_of_explanations_is_tried_and_offered():
    assert drawn_by(explain_plots) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_figure_is_drawn_with_small_print_and_leaves_nothing_behind(name, tmp_path, no_trace):
    figure = CASES[name]()
    check_drawn(figure, tmp_path)


@pytest.mark.parametrize("name", CHARTS)
def test_charts_have_labelled_axes(name):
    for axes in CASES[name]().axes:
        assert axes.get_xlabel()


def test_likeness_begins_at_one_and_shows_its_reference():
    (axes,) = CASES["likeness_curves"]().axes
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [1, 0.2])
    assert axes.lines[1].get_ydata()[0] == 0.3


def test_an_estimate_stands_at_its_mean_and_chance_is_marked():
    (axes,) = CASES["estimates"]().axes
    places = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata())]
    assert {0.8, 1.1, 1.0} <= set(places)
    assert [t.get_text() for t in axes.get_yticklabels()] == ["sky"]


def test_the_camera_stands_where_the_label_says():
    figure = CASES["shared_views"]()
    marks = [line for axes in figure.axes for line in axes.lines]
    assert [(m.get_xdata()[0], m.get_ydata()[0]) for m in marks] == [(17.5, 5.5)] * 2
