"""From ranks and positions to the paper's numbers, by hand where the numbers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vigorlib import evaluation, geometry
from vigorlib.evaluation import accuracy_curve, bootstrap_interval, metre_errors, retrieval_metrics
from vigorlib.retrieval import Ranking, ranks

OFFICIAL_STEP_DEG = (0.0003280724526376747, 0.00043301140280175833)


def ranking_of(positive, without=None, top=None) -> Ranking:
    positive = np.asarray(positive)
    top = np.full((len(positive), 1), 99) if top is None else np.asarray(top)
    without = positive if without is None else np.asarray(without)
    return Ranking(positive, without, top, np.zeros(top.shape))


def no_references(queries: int) -> np.ndarray:
    return np.zeros((queries, 4), dtype=np.int64)


# -- recall and hit rates --------------------------------------------------------------------


def test_recall_counts_ranks_below_k():
    ranking = ranking_of([0, 1, 4, 5, 9, 10, 200, 0])
    metrics = retrieval_metrics(ranking, 90_618, no_references(8))
    assert (metrics["top1"], metrics["top5"], metrics["top10"]) == (2 / 8, 4 / 8, 6 / 8)


@pytest.mark.parametrize(
    ("gallery", "code", "floor"),
    [(90_618, 907, 906), (46_563, 466, 465), (100, 2, 1), (99, 1, 0), (150, 2, 1)],
)
def test_one_percent_of_the_gallery_follows_both_rules(gallery, code, floor):
    ranking = ranking_of(np.arange(1000))
    metrics = retrieval_metrics(ranking, gallery, no_references(1000))
    assert (metrics["top1pct"], metrics["top1pct_floor"]) == (code / 1000, floor / 1000)


def test_hit_rates_are_those_of_the_code_and_of_the_papers_words():
    references = np.array([[3, 4, 5, 6]] * 4)
    ranking = ranking_of(
        positive=[0, 1, 2, 1],
        without=[0, 0, 1, 1],
        top=[[3, 0], [5, 3], [5, 0], [0, 3]],  # positive, semi-positive twice, a stranger
    )
    metrics = retrieval_metrics(ranking, 100, references)
    assert metrics["top1"] == 1 / 4
    assert metrics["hit_rate"] == 2 / 4  # the third: a stranger too beats the positive
    assert metrics["hit_rate_covering"] == 3 / 4


def test_metrics_of_ranked_descriptors_equal_a_loop():
    rng = np.random.default_rng(0)
    satellite = rng.normal(size=(40, 6)).astype(np.float32)
    references = np.stack([rng.choice(40, 4, replace=False) for _ in range(60)])
    weights = np.array([1.0, 0.8, 0.6, 0.4])[:, None]  # a mixture of its own four tiles
    ground = (satellite[references] * weights).sum(axis=1).astype(np.float32)
    ground, satellite = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (ground, satellite))
    counts = {"top1": 0, "top5": 0, "hit_rate": 0, "hit_rate_covering": 0}
    for query, tiles in zip(ground, references, strict=True):
        order = np.argsort(-(satellite @ query)).tolist()
        counts["top1"] += order[0] == tiles[0]
        counts["top5"] += tiles[0] in order[:5]
        counts["hit_rate"] += [t for t in order if t not in tiles[1:]][0] == tiles[0]
        counts["hit_rate_covering"] += order[0] in tiles
    metrics = retrieval_metrics(ranks(ground, satellite, references), 40, references)
    assert {name: metrics[name] for name in counts} == {n: c / 60 for n, c in counts.items()}
    assert 0 < counts["top1"] < counts["hit_rate"] < 60  # neither nothing nor everything


# -- metres ----------------------------------------------------------------------------------


def official_by_hand(query, tile, offset):
    """The released evaluation: two constants, a sphere, an arccos."""
    lat, lon = (tile[i] - offset[i] / 320 * OFFICIAL_STEP_DEG[i] for i in range(2))
    p, q, delta = math.radians(query[0]), math.radians(lat), math.radians(query[1] - lon)
    cosine = math.sin(p) * math.sin(q) + math.cos(p) * math.cos(q) * math.cos(delta)
    return 6_371_004.0 * math.acos(min(cosine, 1.0))


def test_the_official_protocol_equals_its_formula():
    rng = np.random.default_rng(1)
    query = np.array([47.6, -122.3]) + rng.uniform(-0.01, 0.01, (50, 2))
    tile = query + rng.uniform(-5e-4, 5e-4, (50, 2))
    offset = rng.uniform(-320, 320, (50, 2))
    errors = metre_errors(query, tile, offset, "NewYork", "original", "official")
    by_hand = [official_by_hand(*rows) for rows in zip(query, tile, offset, strict=True)]
    assert errors.shape == (50,) and errors.min() > 0.5
    np.testing.assert_allclose(errors, by_hand, rtol=0, atol=1e-2)


def test_half_a_tile_is_36_48_official_metres_on_both_axes():
    latitude = math.degrees(math.acos(OFFICIAL_STEP_DEG[0] / OFFICIAL_STEP_DEG[1]))
    query = np.array([[latitude, -74.0]] * 3)
    tile = query + [[OFFICIAL_STEP_DEG[0], 0], [0, OFFICIAL_STEP_DEG[1]], [0, 0]]
    no_offset = metre_errors(query, tile, np.zeros((3, 2)), "NewYork", "original", "haversine")
    np.testing.assert_allclose(no_offset, [36.48, 36.48, 0], atol=1e-3)
    offset = np.array([[320.0, 0], [0, 320], [160, 0]])  # right, right, half a step astray
    corrected = metre_errors(query, tile, offset, "NewYork", "original", "haversine")
    np.testing.assert_allclose(corrected, [0, 0, 18.24], atol=1e-3)
    official = metre_errors(query, tile, offset, "NewYork", "original", "official")
    assert official[2] == pytest.approx(18.24, abs=1e-2)
    assert not (official[:2] > 0.2).any()  # a quantum or two, or NaN


@pytest.mark.parametrize("system", ["original", "corrected", "mercator"])
def test_true_offsets_bring_every_query_home_whatever_its_city(system):
    rng = np.random.default_rng(2)
    centres = {"NewYork": (40.74, -73.99), "Seattle": (47.61, -122.33), "Chicago": (41.88, -87.65)}
    city = rng.permutation(np.repeat(list(centres), 40))
    query = np.array([centres[name] for name in city]) + rng.uniform(-0.01, 0.01, (120, 2))
    tile = query + rng.uniform(-3e-4, 3e-4, (120, 2))
    offset = np.empty((120, 2))
    for row, name in enumerate(city):
        offset[row] = geometry.label_offsets(query[row], tile[row], name, system)
    errors = metre_errors(query, tile, offset, city, system)
    assert errors.max() < (0.0802 if system == "corrected" else 1e-6)  # half a pixel an axis
    centre_only = metre_errors(query, tile, np.zeros((120, 2)), city, system)
    np.testing.assert_allclose(
        centre_only, geometry.great_circle_m(*query.T, *tile.T), rtol=0, atol=1e-6
    )
    assert np.median(centre_only) > 10


def test_a_citys_own_constants_are_used_for_its_rows():
    rng = np.random.default_rng(3)
    query = np.array([47.61, -122.33]) + rng.uniform(-0.01, 0.01, (30, 2))
    tile = query + rng.uniform(-3e-4, 3e-4, (30, 2))
    offset = geometry.label_offsets(query, tile, "Seattle", "corrected")
    right = metre_errors(query, tile, offset, "Seattle")
    official = metre_errors(query, tile, offset, "NewYork", "original", "official")
    assert right.max() < 0.08 and np.median(official) > 1  # 13 % of some 25 m


def test_an_area_of_your_own_needs_no_city():
    rng = np.random.default_rng(4)
    query = np.array([60.17, 24.94]) + rng.uniform(-0.005, 0.005, (30, 2))
    tile = query + rng.uniform(-2e-4, 2e-4, (30, 2))
    offset = geometry.label_offsets(query, tile, None, "mercator")
    assert metre_errors(query, tile, offset, None, "mercator").max() < 1e-6


@pytest.mark.parametrize(
    "shapes", [((3, 2), (4, 2), (3, 2)), ((3, 2), (3, 2), (1, 2)), ((2,), (2,), (2,))]
)
def test_positions_of_different_shapes_are_refused(shapes):
    with pytest.raises(ValueError, match=r"expected \(Q, 2\) for all three"):
        metre_errors(*(np.zeros(shape) for shape in shapes), "Chicago")


# -- curves and intervals --------------------------------------------------------------------


def test_thresholds_are_the_papers():
    assert len(evaluation.THRESHOLDS_M) == 499
    expected = [1.1 ** (i / 5) for i in (1, 2, 499)]
    np.testing.assert_allclose(evaluation.THRESHOLDS_M[[0, 1, 498]], expected, rtol=1e-12)


def test_accuracy_counts_errors_strictly_below_a_threshold():
    errors = np.array([10.0, 5.0, 20.0, 5.0])
    curve = accuracy_curve(errors, np.array([4.9, 5.0, 5.1, 10.0, 20.0, 20.1]))
    assert curve.tolist() == [0, 0, 0.5, 0.5, 0.75, 1]
    assert [evaluation.within(errors, m) for m in (5.0, 10.0, 20.1)] == [0, 0.5, 1]


def test_the_curve_equals_counting_at_every_threshold():
    errors = np.random.default_rng(5).lognormal(3, 1.5, 333)
    errors[:40] = evaluation.THRESHOLDS_M[:40]  # exactly on a threshold
    curve = accuracy_curve(errors)
    counted = [sum(e < t for e in errors) / 333 for t in evaluation.THRESHOLDS_M]
    np.testing.assert_array_equal(curve, counted)


def test_an_error_that_is_not_a_number_is_never_accurate():
    errors = np.array([1.0, np.nan])
    assert accuracy_curve(errors, np.array([2.0, 1e9])).tolist() == [0.5, 0.5]
    assert evaluation.within(errors, 1e9) == 0.5


def test_the_interval_holds_the_mean_and_shrinks_as_the_root_of_the_queries():
    rng = np.random.default_rng(6)
    widths = []
    for queries in (100, 400, 6400):
        hits = (rng.random(queries) < 0.3).astype(float)
        low, high = bootstrap_interval(hits)
        assert low < hits.mean() < high
        widths.append(high - low)
        normal = 2 * 1.96 * hits.std() / math.sqrt(queries)
        assert widths[-1] == pytest.approx(normal, rel=0.2)
    assert widths[0] > 1.5 * widths[1] > 1.5 * 3 * widths[2]


def test_the_interval_is_reproducible_and_follows_its_generator():
    values = np.random.default_rng(7).normal(size=500)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    seeds = [bootstrap_interval(values, generator=np.random.default_rng(s)) for s in (1, 1, 2)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_the_interval_is_of_the_statistic_and_level_asked_for():
    values = np.random.default_rng(8).lognormal(0, 2, 801)
    low, high = bootstrap_interval(values, np.median)
    assert low < np.median(values) < high < values.mean()  # a skewed sample tells them apart
    narrow = bootstrap_interval(values, np.median, level=0.5)
    assert low < narrow[0] < narrow[1] < high
    assert bootstrap_interval(np.full(50, 0.25)) == (0.25, 0.25)


def test_many_queries_are_drawn_in_pieces_and_as_often_as_asked():
    values = np.random.default_rng(9).normal(2, 1, 200_001)  # 20 resamples at a time
    pieces = []

    def mean(sample: np.ndarray, axis: int) -> np.ndarray:
        pieces.append(sample.shape)
        return sample.mean(axis=axis)

    low, high = bootstrap_interval(values, mean, resamples=50)
    assert len(pieces) > 1 and {columns for _, columns in pieces} == {200_001}
    assert sum(rows for rows, _ in pieces) == 50
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(200_001), rel=0.4)


def test_a_paired_difference_is_sharper_than_two_intervals():
    """Two methods that fail on the same hard queries differ by more than chance."""
    rng = np.random.default_rng(1)
    worse = rng.random(500) < 0.3
    better = worse | (rng.random(500) < 0.05)
    difference, low, high = evaluation.paired_difference(better, worse)
    assert difference == pytest.approx(better.mean() - worse.mean())
    assert 0 < low < difference < high
    wide = evaluation.bootstrap_interval(better.astype(float))
    assert high - low < (wide[1] - wide[0])
    assert evaluation.paired_difference(worse, better)[0] == -difference
    with pytest.raises(ValueError, match="the same queries"):
        evaluation.paired_difference(better, worse[:-1])


def test_counting_hits_gives_the_interval_that_drawing_queries_gives():
    hits = (np.arange(800) % 7 == 0).astype(float)
    quick = evaluation.bootstrap_interval(hits, resamples=20_000)
    drawn = evaluation.bootstrap_interval(
        hits, lambda v, axis: np.mean(v, axis=axis), resamples=20_000
    )
    assert quick == pytest.approx(drawn, abs=1 / 800)
