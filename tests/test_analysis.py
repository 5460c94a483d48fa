"""Where a method fails: kinds, causes and splits of queries, checked by hand and on the small city."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vigorlib import analysis, evaluation, geometry
from vigorlib.analysis import CAUSES, KINDS
from vigorlib.dataset import Vigor


@pytest.fixture(scope="module")
def test_set(city_root) -> Vigor:
    return Vigor(city_root, "same-area", "test")


@pytest.fixture(scope="module")
def train_set(city_root) -> Vigor:
    return Vigor(city_root, "same-area", "train")


# -- kinds of answers ------------------------------------------------------------------------


def slow_kind(data: Vigor, query: int, tile: int) -> str:
    """In words: what a tile is to a query."""
    positive = data.references[query, 0]
    if tile == positive:
        return "right tile"
    if tile in data.references[query, 1:]:
        return "semi-positive"
    if data.tiles.cities[tile] != data.queries.cities[query]:
        return "another city"
    step = geometry.CITIES[str(data.tiles.cities[tile])]
    degrees = np.abs(data.tiles.latlon[tile] - data.tiles.latlon[positive])
    steps = np.rint(degrees / (geometry.LATITUDE_STEP_DEG, step.longitude_step_deg))
    return "next door" if steps.max() <= 1 else "elsewhere in the city"


def test_kinds_are_what_a_look_at_the_grid_says(test_set):
    rng = np.random.default_rng(1)
    drawn = [test_set.references[:, 0], test_set.references[:, 2]]
    drawn += [rng.integers(0, len(test_set.tiles), len(test_set)) for _ in range(4)]
    drawn += [np.minimum(test_set.references.max(axis=1) + 1, len(test_set.tiles) - 1)]
    found = set()
    for tiles in drawn:
        expected = [slow_kind(test_set, q, t) for q, t in enumerate(tiles)]
        assert [KINDS[k] for k in analysis.kinds(test_set, tiles)] == expected
        found |= set(expected)
    assert found == set(KINDS)  # all kinds were tried


def test_shares_of_kinds_add_up_and_name_what_nobody_was(test_set):
    shares = analysis.shares_of(np.array([0, 0, 1, 4]))
    assert shares == {**dict.fromkeys(KINDS, 0.0), KINDS[0]: 0.5, KINDS[1]: 0.25, KINDS[4]: 0.25}


def test_tiles_that_are_not_one_a_query_are_refused(test_set):
    with pytest.raises(ValueError, match=rf"tiles has shape \(3,\): expected \({len(test_set)},\)"):
        analysis.kinds(test_set, np.arange(3))


def test_the_margin_to_another_place_passes_over_neighbours(test_set):
    own = test_set.references[:, :3]  # overlapping tiles: one place
    far = np.flatnonzero(test_set.tiles.cities != test_set.queries.cities[0])[:1]
    other = np.where(test_set.queries.cities == test_set.queries.cities[0], far[0], 0)
    top = np.column_stack([own, other])
    similarity = np.tile([0.9, 0.8, 0.7, 0.4], (len(top), 1))
    margin = analysis.place_margin(test_set, {"top": top, "top_similarity": similarity})
    np.testing.assert_allclose(margin, 0.5)
    only = {"top": top[:, :3], "top_similarity": similarity[:, :3]}
    np.testing.assert_allclose(analysis.place_margin(test_set, only), 0.2)


# -- what an error is made of ----------------------------------------------------------------


def test_the_labels_own_error_is_its_rounding(test_set):
    zeros = {"given_error_m": np.zeros(len(test_set)), "error_m": np.ones(len(test_set))}
    steps = analysis.error_steps(test_set, zeros)
    half_a_pixel = 0.5 * np.sqrt(2) * max(c.resolution_m for c in geometry.CITIES.values())
    assert 0 < steps.label_m.max() < 1.05 * half_a_pixel
    assert (steps.given_m == 0).all() and (steps.retrieved_m == 1).all()


def test_each_cause_is_told_from_the_others():
    steps = analysis.ErrorSteps(
        label_m=np.array([0.0, 0, 0, 0, 12, 0]),
        given_m=np.array([3.0, 30, 3, 30, 30, 30]),
        retrieved_m=np.array([3.0, 20, 900, 900, 900, 9.9]),
    )
    covered = np.array([True, True, False, False, False, False])
    causes = [CAUSES[c] for c in analysis.causes(steps, covered)]
    assert causes == ["placed", "offset", "tile", "tile and offset", "label", "placed"]
    assert CAUSES[analysis.causes(steps, covered, limit_m=1000)[3]] == "placed"


# -- splits ----------------------------------------------------------------------------------


def test_seen_tiles_are_those_of_training_queries(train_set, test_set):
    seen = analysis.seen_in_training(train_set, test_set)
    known = {
        (str(train_set.tiles.cities[t]), str(train_set.tiles.names[t]))
        for t in train_set.references[:, 0]
    }
    expected = [
        (str(test_set.tiles.cities[t]), str(test_set.tiles.names[t])) in known
        for t in test_set.references[:, 0]
    ]
    assert seen.tolist() == expected
    assert 0.2 < seen.mean() < 0.8  # the city leaks as VIGOR does


def test_no_tile_was_seen_in_another_city(city_root):
    train, test = (Vigor(city_root, "cross-area", subset) for subset in ("train", "test"))
    assert not analysis.seen_in_training(train, test).any()


def test_from_centre_agrees_with_the_labels(test_set):
    metres = analysis.from_centre_m(test_set)
    resolution = [geometry.CITIES[str(c)].resolution_m for c in test_set.queries.cities]
    labelled = np.hypot(*test_set.offsets_px[:, 0].T) * resolution
    np.testing.assert_allclose(metres, labelled, atol=0.15)


def test_similar_streets_counts_distant_tiles_as_alike_as_the_own_neighbours(test_set):
    rng = np.random.default_rng(0)
    descriptors = rng.normal(size=(len(test_set.tiles), 3))
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    counts = analysis.similar_streets(descriptors, test_set, chunk=7)
    pixel = geometry.mercator_px(test_set.tiles.latlon)
    for q in range(0, len(test_set), len(test_set) // 6):
        positive, *semi = test_set.references[q]
        asked = np.mean([descriptors[positive] @ descriptors[s] for s in semi])
        expected = sum(
            bool(descriptors[positive] @ descriptors[t] >= asked)
            and np.abs(pixel[t] - pixel[positive]).max() >= 640
            for t in range(len(test_set.tiles))
        )
        assert counts[q] == expected
    assert counts.max() > counts.min()


def test_similar_streets_wants_the_whole_gallery(test_set):
    with pytest.raises(ValueError, match="2 descriptors: expected one for each of"):
        analysis.similar_streets(np.eye(2), test_set)


# -- shares ----------------------------------------------------------------------------------


def test_groups_nobody_is_in_are_left_out():
    succeeded = np.array([True, False, True, True])
    groups = {"first": np.arange(4) < 2, "nobody": np.zeros(4, bool)}
    ((name, (value, low, high)),) = analysis.share_by(succeeded, groups).items()
    assert (name, value) == ("first", 0.5) and low <= value <= high


def test_a_share_has_the_interval_that_resampling_queries_gives():
    succeeded = np.random.default_rng(5).random(900) < 0.15
    expected = succeeded.mean(), *evaluation.bootstrap_interval(succeeded.astype(float))
    assert analysis.share(succeeded) == pytest.approx(expected, abs=0.004)


def test_a_difference_of_groups_has_the_interval_of_two_proportions():
    rng = np.random.default_rng(3)
    group = rng.random(4000) < 0.4
    succeeded = rng.random(4000) < np.where(group, 0.3, 0.2)
    difference, low, high = analysis.group_difference(succeeded, group)
    p, q = succeeded[group].mean(), succeeded[~group].mean()
    spread = 1.96 * np.sqrt(p * (1 - p) / group.sum() + q * (1 - q) / (~group).sum())
    assert difference == pytest.approx(p - q)
    assert (low, high) == (
        pytest.approx(p - q - spread, abs=0.005),
        pytest.approx(p - q + spread, abs=0.005),
    )


def test_like_is_compared_with_like():
    strata = np.repeat([0, 1, 2], [100, 300, 50])  # easy, hard, and one that only the group has
    group = np.concatenate([np.arange(100) < 80, np.arange(300) < 30, np.ones(50, bool)])
    succeeded = np.concatenate([np.ones(100, bool), np.zeros(350, bool)])
    assert analysis.group_difference(succeeded, group)[0] > 0.4
    assert analysis.group_difference(succeeded, group, strata) == (0, 0, 0)
    succeeded[100:130] = True  # the group does better at what is hard
    assert analysis.group_difference(succeeded, group, strata)[0] == pytest.approx(0.75)


def test_a_difference_needs_two_groups():
    with pytest.raises(ValueError, match="3 of 3 queries are in the group"):
        analysis.group_difference(np.ones(3, bool), np.ones(3, bool))


def test_bins_hold_their_lower_end_and_say_their_unit():
    bins = analysis.bins(np.array([0.0, 4.9, 5.0, 70.0]), [0, 5, 10, np.inf], "m")
    assert {name: here.tolist() for name, here in bins.items()} == {
        "0-5 m": [True, True, False, False],
        "5-10 m": [False, False, True, False],
        "10+ m": [False, False, False, True],
    }


def test_the_surest_are_answered_first():
    shares, accuracy = analysis.answered(np.array([0.1, 0.9, 0.5]), np.array([False, True, False]))
    np.testing.assert_allclose(shares, [1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(accuracy, [1, 1 / 2, 1 / 3])


def test_a_median_stands_within_its_interval():
    value, low, high = analysis.median(np.random.default_rng(0).normal(7, 1, 400))
    assert low < value < high and high - low < 0.5


def test_nothing_of_the_labels_is_changed(test_set):
    before = dataclasses.replace(test_set.tiles, latlon=test_set.tiles.latlon.copy())
    analysis.kinds(test_set, test_set.references[:, 1])
    np.testing.assert_array_equal(test_set.tiles.latlon, before.latlon)
