"""Pictures of ablations: colours only where a difference was shown."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.colors import to_hex

from vigorlib import figures
from vigorlib.figures.ablation_plots import GREY
from vigorlib.figures.style import BLUE, INK, ORANGE

pytestmark = pytest.mark.usefixtures("no_trace")

SHARES = pd.DataFrame(
    [
        ("worse", "worse", "top-1 (%)", 3.0, 2.0, 4.0),
        ("vigor", "VIGOR", "top-1 (%)", 6.0, 5.0, 7.0),
        ("better", "better", "top-1 (%)", 9.0, 8.0, 10.0),
        ("alike", "alike", "top-1 (%)", 6.5, 5.5, 7.5),
    ],
    columns=["recipe", "title", "outcome", "share", "low", "high"],
)
DIFFERENCES = pd.DataFrame(
    [
        ("worse", "worse", "top-1 (%)", -3.0, -4.0, -2.0, True),
        ("better", "better", "top-1 (%)", 3.0, 2.0, 4.0, True),
        ("alike", "alike", "top-1 (%)", 0.5, -0.5, 1.5, False),
    ],
    columns=["recipe", "title", "outcome", "difference", "low", "high", "differs"],
)


def dots(axes) -> dict[float, str]:
    """Value -> colour of every dot."""
    lines = [line for line in axes.lines if line.get_marker() == "o"]
    return {float(line.get_xdata()[0]): to_hex(line.get_color()).lower() for line in lines}


def test_rows_are_coloured_only_where_they_differ_from_the_base():
    (axes,) = figures.ablation(SHARES, DIFFERENCES, "vigor").axes
    expected = {3.0: ORANGE, 6.0: INK, 9.0: BLUE, 6.5: GREY}
    assert dots(axes) == {value: colour.lower() for value, colour in expected.items()}
    assert [label.get_text() for label in axes.get_yticklabels()] == list(SHARES["title"])
    assert (axes.get_title(loc="left"), axes.get_xlabel()) == ("top-1", "queries (%)")


def test_a_forest_is_sorted_and_shows_what_seeds_do():
    (axes,) = figures.forest(DIFFERENCES, ["top-1 (%)"], {"top-1 (%)": 1.0}).axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["worse", "alike", "better"]
    expected = {-3.0: ORANGE, 0.5: GREY, 3.0: BLUE}
    assert dots(axes) == {value: colour.lower() for value, colour in expected.items()}
    (band,) = axes.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == (-1.0, 1.0)


@pytest.mark.parametrize("draw", [lambda none: figures.ablation(none, none, "vigor"),
                                  lambda none: figures.forest(none, ["top-1 (%)"], {})])  # fmt: skip
def test_nothing_trained_is_said_in_words(draw):
    figure = draw(SHARES[:0])
    assert "no run of" in figure.axes[0].texts[0].get_text()


def test_a_share_is_drawn_over_what_changes_with_its_intervals():
    shares, intervals = {0: 0.5, 90: 0.1}, {0: (0.4, 0.6), 90: (0.05, 0.2)}
    figure = figures.share_over(shares, intervals, "turned by (degrees)", "top-10", "smoke")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "turned by (degrees)" and axes.get_ylabel() == "top-10"
    (bars,) = axes.collections
    ends = sorted(tuple(segment[:, 1]) for segment in bars.get_segments())
    assert ends == [pytest.approx((0.05, 0.2)), pytest.approx((0.4, 0.6))]
