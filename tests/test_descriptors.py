"""A network over a gallery: batches do not matter, order is kept, lengths come back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vigorlib import model
from vigorlib.descriptors import describe, predict_offsets
from vigorlib.recipes import get_profile
from vigorlib.runs import photographs

SMOKE = get_profile("smoke")


@pytest.fixture(scope="module")
def photos(city_root):
    return photographs(city_root, SMOKE, "same-area", "test", progress=False)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return model.build("vigor", SMOKE).eval()


def test_descriptors_equal_the_networks_own(photos, network):
    found = describe(network.describe_ground, photos.panoramas, np.array([5, 2]), batch=1)
    with torch.no_grad():
        raw = network.describe_ground(photos.panoramas[[5, 2]])
        expected, _ = network(photos.panoramas[[5, 2]], photos.tiles[[0]])
    torch.testing.assert_close(found.values, expected)
    torch.testing.assert_close(found.raw(torch.tensor([0, 1])), raw)


def test_the_size_of_batches_does_not_matter(photos, network):
    few, many = (
        describe(network.describe_satellite, photos.tiles, batch=size).values for size in (7, 64)
    )
    torch.testing.assert_close(few, many)


def test_offsets_are_those_of_the_pairs(photos, network):
    ground = describe(network.describe_ground, photos.panoramas, np.arange(4))
    satellite = describe(network.describe_satellite, photos.tiles)
    tiles = np.array([3, 0, 7, 7])
    found = predict_offsets(network, ground, satellite, tiles)
    with torch.no_grad():
        expected = network.offset(
            network.describe_ground(photos.panoramas[range(4)]),
            network.describe_satellite(photos.tiles[tiles]),
        )
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_a_network_without_an_offset_head_says_so(photos):
    network = model.build("safa", SMOKE).eval()
    ground = describe(network.describe_ground, photos.panoramas, np.arange(2))
    with pytest.raises(ValueError, match="no offset head: expected a recipe with a hybrid stage"):
        predict_offsets(network, ground, ground, np.array([0, 1]))


def test_nothing_to_describe_is_refused(photos, network):
    with pytest.raises(ValueError, match="no images to describe"):
        describe(network.describe_ground, photos.panoramas, np.array([], dtype=int))
