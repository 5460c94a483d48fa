"""Pictures of failures: drawn, labelled, and true to their numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from of_figures import check_drawn, drawn_by

from vigorlib import figures
from vigorlib.analysis import CAUSES, KINDS
from vigorlib.figures import failure_plots
from vigorlib.figures.failure_plots import STACK, WrongAnswer

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 255, (32, 32, 3), dtype=np.uint8)
KIND_ROWS = {
    "SAFA": dict(zip(KINDS, (0.1, 0.05, 0.02, 0.8, 0.03), strict=True)),
    "VIGOR": dict(zip(KINDS, (0.2, 0.05, 0.02, 0.7, 0.03), strict=True)),
}
GROUPS = {
    "top-1": {
        "seen": {"near": (0.2, 0.1, 0.3), "far": (0.1, 0.05, 0.2)},
        "new": {"far": (0.05, 0.01, 0.1)},
    },
    "top-10": {"seen": {"near": (0.5, 0.4, 0.6)}},
}
STEPS = {"label": np.array([0.0, 0.1, 0.2]), "retrieval": np.array([400.0, 5.0, 90.0])}
WRONG = [
    WrongAnswer("next door", PHOTO, PHOTO, [(PHOTO, "next door"), (PHOTO, "right tile")]),
    WrongAnswer("other", PHOTO, PHOTO, [(PHOTO, "another city")]),
]

CASES: dict[str, Callable[[], Figure]] = {
    "stacked_shares": lambda: figures.stacked_shares(KIND_ROWS, "note"),
    "shares_by_group": lambda: figures.shares_by_group(GROUPS, "distance", "note"),
    "two_rules": lambda: figures.two_rules(
        {"hit rate": {"SAFA": (0.1, 0.2), "VIGOR": (0.3, 0.4)}}, {"hit rate": ("code", "paper")},
        "note",
    ),
    "error_steps": lambda: figures.error_steps(STEPS, text="note"),
    "error_maps": lambda: figures.error_maps(
        {"Chicago": (PHOTO, RNG.random((9, 2)) * 32, RNG.lognormal(3, 1, 9))}, (3, 3000), "note"
    ),
    "against_chance": lambda: figures.against_chance(
        {"rank": (0.4, RNG.normal(size=99))}, "Moran's I", "note"
    ),
    "surest_first": lambda: figures.surest_first(
        {"margin": (np.linspace(0.01, 1, 100), np.linspace(0.9, 0.2, 100))}, "right", 30, "note"
    ),
    "wrong_answers": lambda: figures.wrong_answers(WRONG, "note"),
}  # fmt: skip
PHOTOGRAPHS = {"error_maps", "wrong_answers"}


pytestmark = pytest.mark.usefixtures("no_window")


def test_every_figure_of_failures_is_tried_and_offered():
    assert drawn_by(failure_plots) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_figure_is_drawn_with_labelled_axes_and_small_print(name, tmp_path):
    figure = CASES[name]()
    if name not in PHOTOGRAPHS:
        assert all(axes.get_xlabel() for axes in figure.axes)
    check_drawn(figure, tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_figure_leaves_no_setting_and_no_open_figure_behind(name, no_trace):
    CASES[name]()


def test_every_kind_and_cause_has_a_colour_of_its_own():
    for names in (KINDS, CAUSES):
        assert len({STACK[name] for name in names}) == len(names)


def test_parts_of_a_bar_begin_where_the_one_before_ends():
    (axes,) = CASES["stacked_shares"]().axes
    ends = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches[::2])
    assert len(ends) == len(KINDS) and ends[-1][1] == pytest.approx(1)
    for (_, end), (start, _) in zip(ends, ends[1:], strict=False):
        assert start == pytest.approx(end)
    assert {t.get_text() for t in axes.texts} >= {"10%", "80%"}
    assert "2%" not in {t.get_text() for t in axes.texts}  # too thin for words


def test_a_series_has_one_colour_in_all_panels_and_lacks_what_it_lacks():
    left, right = CASES["shares_by_group"]().axes
    colour = [to_hex(axes.containers[0].lines[0].get_color()) for axes in (left, right)]
    assert colour[0] == colour[1]
    np.testing.assert_allclose(left.containers[1].lines[0].get_ydata(), [0.05])  # only "far"
    assert [t.get_text() for t in left.get_xticklabels()] == ["near", "far"]


def test_intervals_reach_from_low_to_high():
    left, _ = CASES["shares_by_group"]().axes
    (bars,) = left.containers[0].lines[2]
    ends = [tuple(segment[:, 1]) for segment in bars.get_segments()]
    assert ends == [pytest.approx((0.1, 0.3)), pytest.approx((0.05, 0.2))]


def test_steps_say_their_medians_and_end_with_everybody():
    (axes,) = CASES["error_steps"]().axes
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["label: median 0.1 m", "retrieval: median 90 m"]
    assert all(line.get_ydata()[-1] == 1 for line in axes.lines[:2])
    assert (axes.lines[0].get_xdata() > 0).all()  # a zero has a place on a logarithmic axis


def test_few_answers_are_not_drawn():
    (axes,) = CASES["surest_first"]().axes
    assert axes.lines[0].get_xdata()[0] == pytest.approx(0.30)


def test_frames_have_the_colour_of_the_kind():
    figure = CASES["wrong_answers"]()
    framed = [to_hex(axes.spines["left"].get_edgecolor()).lower() for axes in figure.axes[2:4]]
    assert framed == [STACK["next door"].lower(), STACK["right tile"].lower()]
    assert not figure.axes[-1].get_visible()  # the second row has one tile less
