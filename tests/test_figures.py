"""Every figure of the book from small made-up data: drawn, labelled, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vigorlib import figures
from vigorlib.evaluation import THRESHOLDS_M, accuracy_curve

RNG = np.random.default_rng(0)
PANORAMA = RNG.integers(0, 255, (32, 64, 3), dtype=np.uint8)
TILES = list(RNG.integers(0, 255, (6, 32, 32, 3), dtype=np.uint8))
OFFSETS = np.array([[40.0, 100.0], [40, -220], [-280, 100], [-280, -220]])
ERRORS = RNG.lognormal(3, 1, 50)
WATCHED = [{"step": s, "top1": s / 40, "top5": s / 20, "queries": 9, "tiles": 30} for s in (5, 15)]
LOSSES = [{"step": s, "triplet": 1 / s, "iou": 0.1, "offset": 0.2} for s in (1, 2, 3)]
CITIES = {"Chicago": 41.9 + RNG.random((30, 2)) / 50, "Seattle": 47.6 + RNG.random((30, 2)) / 50}

# name -> how it is called, and how many of its panels have data axes (the others show images)
CASES: dict[str, tuple[Callable[[], Figure], int]] = {
    "balance_bars": (
        lambda: figures.balance_bars({"all": {0: 1, 1: 2, 2: 5}, "train": {1: 3, 2: 1}}, "note"),
        1,
    ),
    "compare_curves": (
        lambda: figures.compare_curves({"a": WATCHED, "b": WATCHED}, "top5", "note"),
        1,
    ),
    "coverage": (
        lambda: figures.coverage(CITIES, {c: x[:9] for c, x in CITIES.items()}, "note"),
        2,
    ),
    "error_histogram": (
        lambda: figures.error_histogram(
            {"centre": ERRORS, "offset": ERRORS / 2, "none": ERRORS[:0]}, text="note"
        ),
        1,
    ),
    "four_tile_cover": (lambda: figures.four_tile_cover((-0.1, 0.2)), 2),
    "iou_histograms": (
        lambda: figures.iou_histograms(
            {"drawn": (RNG.random(40), RNG.random(90)), "real": (RNG.random(9), RNG.random(9))},
            "note",
        ),
        1,
    ),
    "iou_loss_curve": (lambda: figures.iou_loss_curve(), 1),
    "iou_surface": (lambda: figures.iou_surface(), 1),
    "metre_curves": (
        lambda: figures.metre_curves(
            {"same": {"a": accuracy_curve(ERRORS)}, "cross": {"a": accuracy_curve(ERRORS * 2)}},
            THRESHOLDS_M,
            text="note",
        ),
        2,
    ),
    "mosaic": (
        lambda: figures.mosaic(TILES[0], {"train": RNG.random((8, 2)) * 32}, "title", "note"),
        0,
    ),
    "network_diagram": (
        lambda: figures.network_diagram(
            [[("VGG", "512 x 10 x 20"), ("SAFA", "4096")]] * 2, ("offset", "2")
        ),
        0,
    ),
    "offset_arrows": (
        lambda: figures.offset_arrows(
            TILES, np.resize(OFFSETS, (6, 2)), np.zeros((6, 2)), ERRORS[:6], "note"
        ),
        0,
    ),
    "offsets_scatter": (
        lambda: figures.offsets_scatter(RNG.uniform(-320, 320, (20, 4, 2)), "note"),
        1,
    ),
    "pair": (lambda: figures.pair(PANORAMA, TILES[0], OFFSETS[0], "title"), 0),
    "photo_row": (
        lambda: figures.photo_row(
            PANORAMA, TILES[:3], ["1", "2", "3"], ["green", "", "red"], "title", "note"
        ),
        0,
    ),
    "position_maps": (lambda: figures.position_maps(PANORAMA, RNG.random((5, 4, 8)), "t", "n"), 0),
    "query_and_tiles": (
        lambda: figures.query_and_tiles(PANORAMA, TILES[:4], OFFSETS, "title", "note"),
        0,
    ),
    "recall_curves": (
        lambda: figures.recall_curves({"same": {"a": {1: 0.2, 5: 0.4, 10: 0.5}}}, "note"),
        1,
    ),
    "share_bars": (
        lambda: figures.share_bars(
            {"top-1": {"a": 0.2, "b": 0.3}, "hit rate": {"a": 0.5, "b": 0.6}},
            {"top-1": {"a": (0.1, 0.3), "b": (0.25, 0.36)}},
            "note",
        ),
        2,
    ),
    "sign_slip": (lambda: figures.sign_slip(), 1),
    "training_curves": (lambda: figures.training_curves(LOSSES, WATCHED, "note"), 2),
    "triplet_curves": (lambda: figures.triplet_curves(), 2),
}
NAMED_ROWS = {"share_bars"}  # the names of methods stand where the y label would


pytestmark = pytest.mark.usefixtures("no_window")


def data_axes(figure: Figure) -> list[Axes]:
    """Panels that measure something: not images, diagrams, hidden panels or colour bars."""
    return [
        axes
        for axes in figure.axes
        if axes.axison
        and axes.get_visible()
        and axes.get_label() != "<colorbar>"
        and not axes.images
    ]


def test_every_figure_is_tried():
    here = ("geometry_plots", "result_plots")  # other modules have tests of their own
    plots = {name: getattr(figures, name) for name in figures.__all__}
    drawn = [n for n, plot in plots.items() if callable(plot) and plot.__module__.endswith(here)]
    assert sorted(CASES) == sorted(drawn)


@pytest.mark.parametrize("name", CASES)
def test_figure_is_drawn_with_labelled_axes(name):
    draw, panels = CASES[name]
    figure = draw()
    assert isinstance(figure, Figure) and figure.axes
    measured = data_axes(figure)
    assert len(measured) == panels
    for axes in measured:
        assert axes.get_xlabel().strip()
    if measured and name not in NAMED_ROWS:  # panels side by side share the first's
        assert measured[0].get_ylabel().strip()
    for axes in figure.axes:
        drawn = axes.lines or axes.patches or axes.collections or axes.images
        assert drawn or not axes.get_visible()


@pytest.mark.parametrize("name", CASES)
def test_figure_leaves_no_setting_and_no_open_figure_behind(name, no_trace):
    CASES[name][0]()


@pytest.mark.parametrize("name", CASES)
def test_figure_can_be_saved_once_the_style_is_gone(name, tmp_path):
    path = tmp_path / "figure.png"
    CASES[name][0]().savefig(path, dpi=40)
    pixels = plt.imread(path)
    assert pixels[..., :3].std() > 0.02  # not a blank sheet


def test_settings_survive_a_figure_that_fails():
    before = dict(matplotlib.rcParams)
    with pytest.raises(ValueError):
        figures.query_and_tiles(PANORAMA, TILES[:3], OFFSETS)  # three tiles, four offsets
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", ["pair", "query_and_tiles", "offset_arrows"])
def test_the_query_is_starred_where_it_stands(name):
    figure = CASES[name][0]()
    star = next(line for axes in figure.axes for line in axes.lines if line.get_marker() == "*")
    # row 320 + 40, column 320 - 100 of 640, on 32 px whose centres are whole numbers
    assert star.get_xdata()[0] == pytest.approx(220 / 20 - 0.5)
    assert star.get_ydata()[0] == pytest.approx(360 / 20 - 0.5)


def test_a_query_off_the_tile_is_not_starred():
    figure = figures.pair(PANORAMA, TILES[0], np.array([0.0, -321.0]))
    assert not any(line.get_marker() == "*" for axes in figure.axes for line in axes.lines)


def test_bars_of_a_group_are_shares_of_it():
    (axes,) = CASES["balance_bars"][0]().axes
    heights = [[bar.get_height() for bar in group] for group in axes.containers]
    assert heights == [[1 / 8, 2 / 8, 5 / 8], [3 / 4, 1 / 4]]


def test_intervals_span_the_bounds_they_were_given():
    axes = CASES["share_bars"][0]().axes[0]
    assert [bar.get_width() for bar in axes.containers[0]] == [0.2, 0.3]
    (bars,) = axes.containers[1].lines[2]
    spans = [sorted(segment[:, 0]) for segment in bars.get_segments()]
    np.testing.assert_allclose(spans, [(0.1, 0.3), (0.25, 0.36)])


def test_curves_show_the_numbers_they_were_given():
    (axes,) = CASES["recall_curves"][0]().axes
    assert axes.lines[0].get_xydata().tolist() == [[1, 0.2], [5, 0.4], [10, 0.5]]
    (axes,) = CASES["compare_curves"][0]().axes
    assert axes.lines[1].get_xydata().tolist() == [[5, 0.25], [15, 0.75]]
    left, right = CASES["training_curves"][0]().axes
    assert [line.get_label() for line in left.lines] == ["triplet", "iou", "offset"]
    assert right.lines[0].get_xydata().tolist() == [[5, 0.125], [15, 0.375]]


def test_medians_in_the_legend_are_those_of_the_errors():
    (axes,) = CASES["error_histogram"][0]().axes
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    half = np.median(ERRORS) / 2
    assert f"centre (median {2 * half:.1f} m)" in texts and "none" in texts
    assert f"offset (median {half:.1f} m)" in texts


def test_a_run_without_watched_recall_can_be_drawn():
    left, right = figures.training_curves(LOSSES, []).axes
    assert left.lines and not right.lines
