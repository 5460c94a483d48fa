"""What a search costs: enlarged galleries, times, lines."""

from __future__ import annotations

import time

import numpy as np
import pytest

from vigorlib import index, search_cost
from vigorlib.search_cost import Line, agreement, enlarged, fit_line, seconds_a_query


def tiles(rows: int = 400, columns: int = 24) -> np.ndarray:
    """Spread along some axes far more than along others."""
    values = np.random.default_rng(0).normal(size=(rows, columns)) * np.geomspace(1, 0.01, columns)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def test_an_enlarged_gallery_begins_with_the_tiles_and_is_normalised():
    made = enlarged(tiles(), 10_000)
    assert made.shape == (10_000, 24) and made.dtype == np.float32
    np.testing.assert_array_equal(made[:400], tiles())
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    assert len(np.unique(made, axis=0)) > 9_900


def test_made_up_tiles_are_spread_along_the_axes_of_real_ones():
    made = enlarged(tiles(), 10_000)[400:]
    real, synthetic = (np.linalg.eigvalsh(x.T @ x / len(x)) for x in (tiles(), made))
    np.testing.assert_allclose(synthetic[-4:], real[-4:], rtol=0.35)
    assert synthetic[0] < 0.01 * synthetic[-1]


def test_an_enlarged_gallery_depends_on_its_seed_and_grows_by_its_end():
    np.testing.assert_array_equal(enlarged(tiles(), 900, seed=3), enlarged(tiles(), 900, seed=3))
    assert (enlarged(tiles(), 900, seed=3) != enlarged(tiles(), 900, seed=4)).any()
    np.testing.assert_array_equal(enlarged(tiles(), 100), tiles()[:100])


def test_agreement_looks_for_the_exact_best_tile():
    exact = np.array([[1, 2], [3, 4], [5, 6], [7, 8]])
    found = np.array([[1, 0], [0, 3], [6, 5], [9, 8]])
    assert agreement(found, exact) == 0.25
    assert agreement(found, exact, 2) == 0.75
    with pytest.raises(ValueError, match=r"tiles are \(4, 2\): expected \(4, at least 3\)"):
        agreement(found, exact, 3)


class Slow:
    """A gallery that takes known times; the first search takes longest."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> None:
        self.seconds, self.now, self.asked = iter(seconds), 0.0, []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def search(self, ground, k):
        self.now += next(self.seconds)
        self.asked.append(ground[:, 0].tolist())


def test_a_time_is_the_median_without_the_first(monkeypatch):
    slow = Slow(monkeypatch, [100, 1, 9, 2])
    ground = np.arange(6.0)[:, None]
    assert seconds_a_query(slow, ground, at_once=2, repeats=3) == 1.0  # 2 s for two queries
    assert slow.asked == [[0, 1], [2, 3], [4, 5], [0, 1]]


def test_a_real_search_takes_some_time():
    assert 0 < seconds_a_query(index.build(tiles()), tiles(8), repeats=2) < 1


@pytest.mark.parametrize("at_once", [0, 9])
def test_more_queries_than_there_are_cannot_be_timed(at_once):
    with pytest.raises(ValueError, match=f"at_once is {at_once}: expected 1 to 8"):
        seconds_a_query(index.build(tiles()), tiles(8), at_once)


def test_a_line_is_found_again():
    work = [1e3, 1e4, 1e6]
    line = fit_line(work, [0.5 + 2e-6 * w for w in work])
    assert (line.fixed, line.each) == pytest.approx((0.5, 2e-6))


def test_relative_errors_count_alike_for_short_and_long_searches():
    work = np.geomspace(1, 1e6, 7)
    noise = np.array([1.1, 0.9, 1, 1, 1, 1, 1.1])
    line = fit_line(work, (1 + work) * noise)
    np.testing.assert_allclose([line.seconds(w) for w in work], 1 + work, rtol=0.1)


@pytest.mark.parametrize("seconds", [[1, 1, 1], [3, 2, 1], [0.1, 1.2, 1.9]])
def test_noise_makes_no_search_free_or_quicker_than_nothing(seconds):
    line = fit_line([1, 10, 20], seconds)
    assert line.fixed >= 0 and line.each > 0


def test_a_budget_reaches_as_far_as_the_line_says():
    line = Line(fixed=0.01, each=1e-9)
    assert line.seconds(line.reach(0.1)) == pytest.approx(0.1)
    assert line.reach(0.005) == 0


@pytest.mark.parametrize(("work", "seconds"), [([1], [1]), ([1, 2], [1]), ([1, 2], [0, 1])])
def test_a_line_needs_two_measurements(work, seconds):
    with pytest.raises(ValueError, match="expected two rows of at least two"):
        search_cost.fit_line(work, seconds)
