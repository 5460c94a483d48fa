"""Figures of the localization system: drawn, labelled, and every mark where the answer says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from of_figures import check_drawn, drawn_by

from vigorlib import figures
from vigorlib.dataset import Places
from vigorlib.figures import localization_plots
from vigorlib.geometry import predicted_latlon
from vigorlib.ground import Ground
from vigorlib.headings import HeadingSearch
from vigorlib.located import Result, make_matches
from vigorlib.maps import CityMap, overlay
from vigorlib.nearby import Near

RNG = np.random.default_rng(0)
PANORAMA = RNG.integers(0, 256, (24, 48, 3), dtype=np.uint8)
TILE = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)
ERRORS = {"panorama": np.array([5.0, 10, 90, 170]), "phone": np.array([15.0, 20, 30, 40])}

# fifteen tiles in three rows, a map on which each is 32 pixels wide, and a street on the eighth
LATLON = np.array([(47.6 - i * 3e-4, -122.3 + j * 5e-4) for i in range(3) for j in range(5)])
TILES = Places(Path(), "", np.arange(15).astype(str), np.full(15, "Seattle"), LATLON)
CHART = CityMap(
    "Seattle", RNG.integers(0, 256, (96, 160, 3), dtype=np.uint8), 32, tuple(LATLON[7]), (48, 80)
)
TRUTH = tuple(predicted_latlon(LATLON[7], (100.0, -60.0), "Seattle", "corrected").tolist())


def answer(near: Near | None = None, known: bool = True) -> Result:
    """The first twelve tiles in a mixed order, the eighth first."""
    order = np.array([7, 2, 6, 0, 1, 3, 4, 5, 8, 9, 10, 11])
    matches = make_matches(
        TILES, order, np.linspace(0.9, 0.1, 12), Ground("corrected"), np.full((12, 2), 40.0),
        TRUTH if known else None, np.array([7, 6, 2, 1]),
    )  # fmt: skip
    truth = TRUTH if known else None
    return Result("a street", "VIGOR", matches, 15, 12, truth, "label", near)


def search(best: int = 2) -> HeadingSearch:
    similarity = np.array([0.1, 0.3, 0.2, 0.25])
    similarity[best] = 0.5
    return HeadingSearch(np.arange(4) * 90.0, similarity, np.zeros(4, dtype=np.int64), answer())


HEAT = RNG.random((3, 6)), RNG.random((3, 3))
CIRCLE = Near(*TRUTH, 60.0)
POINTS = {"right": [(0.5, 0.4, 0.6), (0.2, 0.1, 0.3)]}
COMPARED = figures.Compared("q", PANORAMA, TILE, [(TILE, "positive", "4 m"), (TILE, "", "1 km")])
STEPS = [[figures.Step("taken", PANORAMA, 90.0), figures.Step("phone", TILE)]] * 2

CASES: dict[str, Callable[[], Figure]] = {
    "matches": lambda: figures.matches(PANORAMA, answer(), [TILE] * 12, "street", "note"),
    "answers_compared": lambda: figures.answers_compared([COMPARED] * 2, ["A", "B"], "note"),
    "answer_on_map": lambda: figures.answer_on_map(answer(), CHART, text="note"),
    "pair_in_large": lambda: figures.pair_in_large(PANORAMA, TILE, answer().best, HEAT, "note"),
    "found_by_radius": lambda: figures.found_by_radius(["75 m", "all"], POINTS, [9, 400], "note"),
    "picture_steps": lambda: figures.picture_steps(STEPS, "note"),
    "heading_curves": lambda: figures.heading_curves({"here": search()}, 190.0, "note"),
    "heading_errors": lambda: figures.heading_errors(ERRORS, 15, "note"),
}
CHARTS = ("found_by_radius", "heading_curves", "heading_errors")

pytestmark = pytest.mark.usefixtures("no_window")


def test_every_figure_of_the_localization_system_is_tried_and_offered():
    assert drawn_by(localization_plots) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_figure_is_drawn_with_small_print_and_leaves_nothing_behind(name, tmp_path, no_trace):
    figure = CASES[name]()
    check_drawn(figure, tmp_path)


@pytest.mark.parametrize("name", CHARTS)
def test_charts_have_labelled_axes(name):
    panels = CASES[name]().axes
    assert all(axes.get_xlabel() for axes in panels)
    assert panels[0].get_ylabel()


def test_matches_stand_in_order_with_their_distance_and_what_they_are():
    result = answer()
    panels = CASES["matches"]().axes[1:]
    texts = [[text.get_text() for text in axes.texts] for axes in panels]
    assert [t[0] for t in texts] == [str(k) for k in range(1, 13)]
    assert [t[1:] for t in texts[:4]] == [["right"], ["covers"], ["covers"], []]
    assert panels[0].get_xlabel() == f"{result.best.distance_m:.0f} m"


def test_matches_of_an_unknown_place_have_no_distance():
    figure = figures.matches(PANORAMA, answer(known=False), [TILE] * 3)
    assert [axes.get_xlabel() for axes in figure.axes[1:]] == [""] * 3


def test_the_map_shows_matches_prediction_and_truth_where_they_are():
    on = overlay(answer(), CHART)
    for axes in CASES["answer_on_map"]().axes:
        boxes = [p for p in axes.patches if isinstance(p, Rectangle)]
        assert len(boxes) == 12
        assert boxes[0].get_linewidth() > boxes[1].get_linewidth()
        np.testing.assert_allclose(boxes[0].get_xy(), on.boxes[0][[1, 0]])
        assert marks(axes, "o") == [pytest.approx(on.predicted[0])]
        assert marks(axes, "+") == [pytest.approx(on.truth)]


def test_the_near_view_is_about_the_best_match_or_shows_the_whole_circle():
    on = overlay(answer(), CHART)
    near = CASES["answer_on_map"]().axes[1]
    assert np.mean(near.get_xlim()) == pytest.approx(on.predicted[0][1])
    near = figures.answer_on_map(answer(CIRCLE), CHART).axes[1]
    (ring,) = [p for p in near.patches if isinstance(p, Circle)]
    low, high = near.get_xlim()
    assert low < ring.center[0] - ring.radius and ring.center[0] + ring.radius < high
    assert ring.radius == pytest.approx(60 * CHART.px_per_metre)


def test_a_match_in_another_city_is_not_drawn():
    elsewhere = CityMap("Chicago", CHART.image, 32, CHART.anchor_latlon, CHART.anchor_px)
    figure = figures.answer_on_map(answer(known=False), elsewhere)
    assert all(not axes.patches and not marks(axes, "o") for axes in figure.axes)


def test_the_camera_stands_on_the_tile_where_the_offset_says():
    axes = CASES["pair_in_large"]().axes[1]
    half_px = 32 * 40 / 640
    assert marks(axes, "o") == [pytest.approx([16 + half_px - 0.5, 16 - half_px - 0.5])]
    assert marks(axes, "+") == [pytest.approx([16 + 5 - 0.5, 16 + 3 - 0.5], abs=0.05)]


@pytest.mark.parametrize(
    ("heading", "north"), [(0.0, 0.5), (90.0, 0.25), (180.0, 1.0), (200, 0.944)]
)
def test_the_compass_turns_with_the_heading(heading, north):
    axes = figures.picture_steps([[figures.Step("taken", PANORAMA, heading)]]).axes[0]
    places = [t.xy[0] for t in axes.texts if t.get_text() == "N"]
    assert max(places) == pytest.approx(north * 48 - 0.5, abs=0.1)


def test_the_best_heading_is_marked_beside_the_true_one():
    (axes,) = CASES["heading_curves"]().axes
    curve, best, true = axes.lines
    assert list(curve.get_xdata()) == [0, 90, 180, 270, 360]
    assert curve.get_ydata()[0] == curve.get_ydata()[-1]
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (180, 0.5)
    assert true.get_xdata()[0] == 190


def test_shares_of_headings_are_counted_and_compared_with_chance():
    (axes,) = CASES["heading_errors"]().axes
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    assert said == ["panorama: 50%", "phone: 25%", "chance: 8%"]


def test_errors_of_circles_are_said_in_words():
    assert [t.get_text() for t in CASES["found_by_radius"]().axes[1].texts] == ["9.0 m", "400 m"]


def marks(axes: Axes, marker: str) -> list[tuple[float, float]]:
    """[row, column] of the marks of a kind."""
    found = [line for line in axes.lines if line.get_marker() == marker]
    return [(line.get_ydata()[0], line.get_xdata()[0]) for line in found]
