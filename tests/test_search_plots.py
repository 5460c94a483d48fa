"""Figures of what searching costs: drawn, labelled, and true to their numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from of_figures import check_drawn, drawn_by

from vigorlib import figures
from vigorlib.figures import search_plots

MEASURED, CONTINUED = {100: 1.0, 1000: 9.0}, {100: 1.0, 100_000: 900.0}
COSTS = {"exact": (MEASURED, CONTINUED), "ivfpq": ({100: 0.5, 1000: 0.7}, {100: 0.5, 10**5: 2.0})}
PROBES = {"codes": [(0.1, 0.6, "1"), (0.4, 0.7, "8")], "re-scored": [(0.2, 0.8, "1")]}

CASES: dict[str, Callable[[], Figure]] = {
    "growth": lambda: figures.growth(
        {"time (ms)": COSTS, "memory (GB)": COSTS}, {"time (ms)": (100.0, "budget")},
        {"VIGOR": 90_618}, "note",
    ),
    "trade_off": lambda: figures.trade_off(PROBES, "best tile found", "note"),
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("no_window")


def test_every_figure_of_searching_is_tried_and_offered():
    assert drawn_by(search_plots) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_figure_is_drawn_with_labelled_axes_and_small_print(name, tmp_path):
    figure = CASES[name]()
    for axes in figure.axes:
        assert axes.get_xlabel() and axes.get_ylabel()
    check_drawn(figure, tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_figure_leaves_no_setting_and_no_open_figure_behind(name, no_trace):
    CASES[name]()


def test_what_was_measured_and_what_is_continued_look_different():
    axes = CASES["growth"]().axes[0]
    continued, measured = axes.lines[:2]
    assert continued.get_linestyle() == "--" and measured.get_linestyle() == "None"
    assert to_hex(continued.get_color()) == to_hex(measured.get_color())
    np.testing.assert_array_equal(measured.get_xydata(), list(MEASURED.items()))
    np.testing.assert_array_equal(continued.get_xydata(), list(CONTINUED.items()))


def test_a_method_has_one_colour_in_all_panels():
    some = {"time (ms)": COSTS, "memory (GB)": {"ivfpq": COSTS["ivfpq"]}}
    left, right = figures.growth(some, {}, {}).axes
    assert to_hex(left.lines[3].get_color()) == to_hex(right.lines[1].get_color())
    assert to_hex(left.lines[1].get_color()) != to_hex(left.lines[3].get_color())


def test_a_budget_stands_only_where_it_belongs():
    time, memory = CASES["growth"]().axes
    assert {t.get_text() for t in time.texts} == {"budget", "VIGOR"}
    assert {t.get_text() for t in memory.texts} == {"VIGOR"}
    assert 100.0 in [line.get_ydata()[0] for line in time.lines]


def test_each_point_of_a_trade_off_says_what_it_was():
    (axes,) = CASES["trade_off"]().axes
    assert [t.get_text() for t in axes.texts] == ["1", "8", "1"]
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [(0.1, 0.6), (0.4, 0.7)])


def test_a_trade_off_offers_no_share_above_all():
    (axes,) = CASES["trade_off"]().axes
    assert all(tick <= 1 for tick in axes.get_yticks() if tick <= axes.get_ylim()[1])
    near = figures.trade_off({"a": [(1.2, 0.991, "32"), (1.2, 1.0, "64")]}, "found")
    assert near.axes[0].get_ylim()[1] < 1.002
