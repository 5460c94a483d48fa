"""Figures of label systems from small made-up data: drawn, labelled, and true to their numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver
from of_figures import check_drawn, drawn_by

from vigorlib import figures
from vigorlib.figures import label_plots

RNG = np.random.default_rng(0)
TILES = list(RNG.integers(0, 255, (4, 64, 64, 3), dtype=np.uint8))
TRUE = np.array([[100.0, -100.0], [100, 220], [-220, -100], [-220, 220]])
MARKS = {"original": TRUE * 0.9, "corrected": TRUE}
SPREAD = {
    c: {"original": RNG.random(50) * k, "corrected": RNG.random(50)}
    for c, k in (("A", 9), ("B", 2))
}
FIELD = (np.array([[0.0, 160.0], [160, 0]]), np.array([[0.0, 1.0], [2, 0]]))

CASES: dict[str, Callable[[], Figure]] = {
    "resolutions": lambda: figures.resolutions({"A": 0.1, "B": 0.12}, 0.114, "note"),
    "strips": lambda: figures.strips({"apart (px)": SPREAD, "apart (m)": SPREAD}, "note"),
    "jumping_dot": lambda: figures.jumping_dot(TILES, TRUE, MARKS, 160, "note"),
    "difference_fields": lambda: figures.difference_fields({"A": FIELD, "B": FIELD}, 20, "note"),
}


pytestmark = pytest.mark.usefixtures("no_window")


def test_every_figure_of_label_systems_is_tried_and_offered():
    assert drawn_by(label_plots) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_figure_is_drawn_with_labelled_axes_and_small_print(name, tmp_path):
    figure = CASES[name]()
    for axes in figure.axes:
        assert axes.images or axes.get_xlabel()
    assert figure.axes[0].images or figure.axes[0].get_ylabel() or figure.axes[0].get_yticklabels()
    check_drawn(figure, tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_figure_leaves_no_setting_and_no_open_figure_behind(name, no_trace):
    CASES[name]()


def test_the_error_of_the_assumed_resolution_is_computed():
    (axes,) = CASES["resolutions"]().axes
    texts = {text.get_text() for text in axes.texts}
    assert {"+14.0%", "-5.0%"} <= texts


def test_strips_show_medians_and_percentiles_of_the_values():
    left, _ = CASES["strips"]().axes
    medians = {line.get_label(): line.get_xdata() for line in left.lines}
    for name in ("original", "corrected"):
        np.testing.assert_allclose(medians[name], [np.median(SPREAD[c][name]) for c in "AB"])
    thin = left.collections[0].get_segments()
    np.testing.assert_allclose(thin[0][:, 0], np.percentile(SPREAD["A"]["original"], (5, 95)))


def test_strips_leave_out_what_could_not_be_measured():
    (axes,) = figures.strips({"x (m)": {"A": {"one": np.array([1.0, np.nan, 3.0])}}}).axes
    assert axes.lines[0].get_xdata() == pytest.approx([2.0])
    assert not axes.figure.legends  # one name needs none


def test_a_label_system_has_one_colour_wherever_it_is_drawn():
    def colours(figure: Figure) -> dict[str, str]:
        lines = figure.axes[0].lines
        return {str(x.get_label()): to_hex(x.get_markerfacecolor()) for x in lines}

    dots, strips = colours(CASES["jumping_dot"]()), colours(CASES["strips"]())
    assert dots == strips and len(set(dots.values())) == 2


def test_dots_stand_where_the_labels_say_and_windows_show_the_same_ground():
    figure = CASES["jumping_dot"]()
    # row 320 + 100, column 320 + 100 of 640, on 64 px whose centres are whole numbers
    correct = figure.axes[0].lines[1]
    assert correct.get_xdata()[0] == correct.get_ydata()[0] == pytest.approx(41.5)
    middles = [
        (np.mean(axes.get_xlim()) + 0.5, np.mean(axes.get_ylim()) + 0.5) for axes in figure.axes[4:]
    ]
    expected = [((320 - east) / 10, (320 + north) / 10) for north, east in TRUE]
    np.testing.assert_allclose(middles, expected)
    assert np.ptp(figure.axes[4].get_xlim()) == pytest.approx(16)  # 160 of 640 px


def test_arrows_point_to_where_the_other_system_puts_the_query():
    axes = CASES["difference_fields"]().axes[0]
    (arrows,) = [c for c in axes.collections if isinstance(c, Quiver)]
    # an offset is tile centre minus query: an offset of 160 east is a place 160 west
    np.testing.assert_allclose(arrows.XY, [[-160, 0], [0, -160]])
    np.testing.assert_allclose(np.stack([arrows.U, arrows.V], axis=1), [[-20, 0], [0, -40]])
