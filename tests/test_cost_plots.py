"""Figures of prices and memory: drawn, labelled, and true to their numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from matplotlib.figure import Figure
from of_figures import check_drawn, drawn_by

from vigorlib import figures
from vigorlib.figures import cost_plots

PRICES = {"small": {"product": (1.0, 1.0), "ours": (1.05, 1.1)}, "large": {"ours": (1.5, 1.2)}}
MEMORY = {"ours": ({10: 1.0, 100: 1.0}, {10: 1.0, 1000: 1.1}), "whole": ({}, {10: 1.0, 1000: 90.0})}

CASES: dict[str, Callable[[], Figure]] = {
    "price_bars": lambda: figures.price_bars(PRICES, "the product", 1.1, "note"),
    "memory_lines": lambda: figures.memory_lines(MEMORY, {"VIGOR": 500}, 4.0, "note"),
    "time_shares": lambda: figures.time_shares(
        {"a step": {"product": 0.9, "all else": 0.1}}, "note"
    ),
    "scaling": lambda: figures.scaling({"time (s)": ("pairs", {2: 4.0, 8: 8.0})}, "note"),
}

pytestmark = pytest.mark.usefixtures("no_window")


def test_every_figure_of_costs_is_tried_and_offered():
    assert drawn_by(cost_plots) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_figure_is_drawn_with_labelled_axes_and_small_print(name, tmp_path):
    figure = CASES[name]()
    assert figure.axes[-1].get_xlabel()
    assert all(axes.get_ylabel() or axes.get_yticklabels() for axes in figure.axes)
    check_drawn(figure, tmp_path)


def test_bars_are_cpu_time_and_marks_wall_time():
    small, large = CASES["price_bars"]().axes
    assert [bar.get_width() for bar in small.patches] == [1.0, 1.05]
    assert small.lines[0].get_xdata().tolist() == [1.0, 1.1]
    assert [tick.get_text() for tick in large.get_yticklabels()] == ["ours"]


def test_the_longest_bar_of_any_panel_is_seen_whole():
    figure = figures.price_bars({"a": {"x": (1, 1)}, "b": {"y": (90, 80)}}, "the product")
    assert all(axes.get_xlim()[1] > 90 for axes in figure.axes)
    assert figure.axes[0].texts[0].get_position()[0] > 1  # a short bar's number stands beside it


def test_dots_are_measured_and_lines_counted():
    (axes,) = CASES["memory_lines"]().axes
    line, dots = axes.lines[:2]
    assert list(dots.get_ydata()) == [1.0, 1.0] and list(line.get_ydata()) == [1.0, 1.1]
    assert 4.0 in axes.lines[4].get_ydata() and 500 in axes.lines[5].get_xdata()


def test_shares_are_percent():
    (axes,) = CASES["time_shares"]().axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([90, 10])


def test_in_proportion_is_a_line_from_nothing_through_one_end():
    points = {"time (s)": ("pairs", {2: 4.0, 8: 8.0})}
    for first, reached in (("", 8.0), ("time (s)", 16.0)):
        (axes,) = figures.scaling(points, first=first).axes
        assert axes.lines[0].get_ydata().tolist() == [0, reached]
        assert axes.lines[1].get_ydata().tolist() == [4.0, 8.0]
