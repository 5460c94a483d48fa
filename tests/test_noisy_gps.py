"""Search around a noisy GPS fix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vigorlib import noisy_gps, retrieval
from vigorlib.dataset import Vigor
from vigorlib.geometry import great_circle_m


@pytest.fixture(scope="module")
def test_set(city_root) -> Vigor:
    return Vigor(city_root, "same-area", "test")


def test_a_fix_without_noise_and_a_reach_find_the_tiles_around_the_query(test_set):
    chosen = noisy_gps.candidates(test_set, np.random.default_rng(0), noise_m=0, reach_m=60)
    for query in (0, len(test_set) // 2, len(test_set) - 1):
        here, tiles = test_set.queries.latlon[query], test_set.tiles.latlon
        north = great_circle_m(here[0], tiles[:, 1], tiles[:, 0], tiles[:, 1], "haversine")
        east = great_circle_m(here[0], here[1], here[0], tiles[:, 1], "haversine")
        own = test_set.tiles.cities == test_set.queries.cities[query]
        expected = np.flatnonzero(own & (north <= 60) & (east <= 60))
        assert set(chosen[query]) == set(expected) and len(expected) > 4


def test_the_noise_is_even_and_the_positive_always_within_reach(test_set):
    chosen = noisy_gps.candidates(test_set, np.random.default_rng(1))
    assert all(p in tiles for p, tiles in zip(test_set.references[:, 0], chosen, strict=True))
    again = noisy_gps.candidates(test_set, np.random.default_rng(1))
    assert all(np.array_equal(a, b) for a, b in zip(chosen, again, strict=True))


def test_ranks_among_all_tiles_are_the_ranks(test_set):
    generator = torch.Generator().manual_seed(0)
    ground = F.normalize(torch.randn(len(test_set), 16, generator=generator), dim=1)
    satellite = F.normalize(torch.randn(len(test_set.tiles), 16, generator=generator), dim=1)
    everything = [np.arange(len(satellite))] * len(ground)
    near = noisy_gps.ranks_among(ground, satellite, test_set.references, everything)
    whole = retrieval.ranks(ground, satellite, test_set.references, k=1)
    assert (near.positive == whole.positive).all() and (near.top == whole.top).all()
    assert (near.without_semi_positives == whole.without_semi_positives).all()


def test_fewer_tiles_never_make_a_rank_worse(test_set):
    generator = torch.Generator().manual_seed(1)
    ground = F.normalize(torch.randn(len(test_set), 16, generator=generator), dim=1)
    satellite = F.normalize(torch.randn(len(test_set.tiles), 16, generator=generator), dim=1)
    chosen = noisy_gps.candidates(test_set, np.random.default_rng(0), 20, 60)
    near = noisy_gps.ranks_among(ground, satellite, test_set.references, chosen)
    whole = retrieval.ranks(ground, satellite, test_set.references, k=1)
    assert (near.positive <= whole.positive).all() and (near.positive < whole.positive).any()


def test_a_positive_out_of_reach_is_refused(test_set):
    ground = F.normalize(torch.ones(1, 4), dim=1)
    satellite = F.normalize(torch.ones(9, 4), dim=1)
    with pytest.raises(ValueError, match="the positive of query 0, is not among its 2 tiles"):
        noisy_gps.ranks_among(ground, satellite, np.array([[0, 1, 2, 3]]), [np.array([4, 5])])
