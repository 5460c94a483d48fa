"""Neighbours in space: nearest by brute force, and clusters that are there or are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vigorlib import geometry, neighbours
from vigorlib.dataset import Places, Vigor


def places(city_names: list[str], latlon) -> Places:
    names = np.array([f"{i}" for i in range(len(city_names))])
    return Places(Path("."), "panorama", names, np.array(city_names), np.asarray(latlon, float))


def square(side: int, city: str = "Chicago") -> Places:
    """side x side panoramas, some 11 m apart from north to south."""
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)
    return places([city] * side**2, (41.9, -87.6) + grid * (1e-4, 1.4e-4))


def test_nearest_is_what_comparing_all_pairs_gives(city_root):
    train, test = (Vigor(city_root, "same-area", s).queries for s in ("train", "test"))
    found, metres = neighbours.nearest(test, train, k=3, chunk=5)
    for q in range(0, len(test), 9):
        apart = geometry.great_circle_m(*test.latlon[q], *train.latlon.T)
        apart[train.cities != test.cities[q]] = np.inf
        np.testing.assert_allclose(metres[q], np.sort(apart)[:3], rtol=1e-6, atol=0.01)
        np.testing.assert_allclose(apart[found[q]], metres[q])


def test_a_place_is_not_its_own_neighbour_when_that_is_asked():
    here = square(4)
    with_itself, _ = neighbours.nearest(here, here, 1)
    without, metres = neighbours.nearest(here, here, 2, itself=False)
    assert (with_itself[:, 0] == np.arange(16)).all()
    assert not (without == np.arange(16)[:, None]).any() and (metres > 5).all()


def test_a_city_without_places_has_no_nearest():
    found, metres = neighbours.nearest(
        places(["Chicago", "Seattle"], [(41.9, -87.6), (47.6, -122.3)]),
        places(["Chicago"], [(41.9, -87.6)]),
        k=2,
    )
    assert found.tolist() == [[0, -1], [-1, -1]]
    assert np.isinf(metres[1]).all() and np.isinf(metres[0, 1]) and metres[0, 0] == 0


def test_a_slope_clusters_and_noise_does_not():
    here, rng = square(12), np.random.default_rng(0)
    slope = neighbours.clustering(here.lat_deg, here, permutations=99)
    assert slope.observed > 0.7 and slope.p_value == pytest.approx(0.01)
    noise = [
        neighbours.clustering(rng.random(144), here, permutations=49, generator=rng).p_value
        for _ in range(20)
    ]
    assert np.mean(np.array(noise) <= 0.06) < 0.25  # about 6 % by chance


def test_a_hard_city_is_no_cluster():
    one, two = square(8), square(8, "NewYork")
    both = places(
        [*one.cities, *two.cities], np.concatenate([one.latlon, two.latlon + (-1.0, 13.6)])
    )
    values = np.random.default_rng(1).random(128) + np.repeat([0.0, 50.0], 64)
    assert neighbours.clustering(values, both, permutations=99).p_value > 0.05


def test_neighbours_of_opposite_values_have_negative_i():
    here = square(6)
    checkers = (np.indices((6, 6)).sum(axis=0) % 2).reshape(-1)
    assert neighbours.clustering(checkers, here, k=4, permutations=9).observed < -0.5


def test_what_cannot_cluster_is_refused():
    with pytest.raises(ValueError, match="no 8 neighbours"):
        neighbours.clustering(np.arange(4), square(2))
    with pytest.raises(ValueError, match="all values of each city are equal"):
        neighbours.clustering(np.ones(16), square(4), k=3)
