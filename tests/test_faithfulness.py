"""Tests of explanations are themselves right: on networks and pictures where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from vigorlib import faithfulness, model


class Corner(model.Backbone):
    """Sees the brightness of four quarters of a picture and nothing else."""

    channels = 1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.adaptive_avg_pool2d(images.mean(dim=1, keepdim=True), 2)


def corner_network() -> model.CrossViewNet:
    """Descriptors are (brightness of the north-west quarter, 1): only that quarter matters."""

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            bright = features[:, 0, 0, 0] * self.scale
            return torch.stack([bright, torch.ones_like(bright)], dim=1)

    branches = [model.Branch(model.Normalise("centred"), Corner(), False) for _ in range(2)]
    for branch in branches:
        branch.aggregator = Head()
    return model.CrossViewNet(*branches, 2, None)


@pytest.fixture(scope="module")
def trained() -> model.CrossViewNet:
    torch.manual_seed(0)
    return model.build("vigor", "smoke").eval()


# -- randomised weights ------------------------------------------------------------------------


def changed(one: nn.Module, other: nn.Module) -> set[str]:
    after = dict(other.named_parameters())
    return {name for name, p in one.named_parameters() if not torch.equal(p, after[name])}


def test_forgetting_goes_from_the_last_layer_to_the_first(trained):
    count = len(faithfulness.layers(trained.ground))
    draw = torch.Generator().manual_seed(1)
    sets = [
        changed(trained, faithfulness.with_random_weights(trained, draw, last=k))
        for k in range(count + 1)
    ]
    assert sets[0] == set()
    assert all("aggregator" in name for name in sets[1]) and sets[1]
    assert all(a < b for a, b in zip(sets, sets[1:], strict=False))
    assert any(name.startswith("ground.backbone.layers.conv1_1") for name in sets[-1])
    assert not any(name.startswith("ground.backbone.layers.conv1_1") for name in sets[-2])


def test_the_trained_network_keeps_what_it_learned(trained):
    before = {k: v.clone() for k, v in trained.state_dict().items()}
    faithfulness.with_random_weights(trained, torch.Generator().manual_seed(1))
    assert all(torch.equal(v, before[k]) for k, v in trained.state_dict().items())


def test_a_generator_decides_what_is_drawn(trained):
    a, b, c = (
        faithfulness.with_random_weights(trained, torch.Generator().manual_seed(s))
        for s in (1, 1, 2)
    )
    assert changed(a, b) == set() and changed(a, c)


def test_more_layers_than_there_are_is_an_error(trained):
    with pytest.raises(ValueError, match="last is 99: expected 0 to"):
        faithfulness.with_random_weights(trained, torch.Generator(), last=99)


def test_rank_correlation_is_spearmans():
    one = np.array([[1.0, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4], [5, 5, 5, 5]])
    other = np.array([[10.0, 20, 30, 99], [4, 3, 2, 1], [2, 1, 4, 3], [1, 2, 3, 4]])
    found = faithfulness.rank_correlation(one, other)
    np.testing.assert_allclose(found[:3], [1, -1, 0.6])
    assert np.isnan(found[3])


def test_places_without_a_value_do_not_count():
    one = np.array([[1.0, np.nan, 3, 2]])
    np.testing.assert_allclose(faithfulness.rank_correlation(one, [[1.0, 50, 9, 4]]), [1])


# -- deletion and insertion --------------------------------------------------------------------


@pytest.fixture(scope="module")
def corners() -> tuple[model.CrossViewNet, torch.Tensor, torch.Tensor]:
    """Pairs whose north-west quarters are bright, on a dark picture."""
    image = torch.full((2, 3, 16, 16), 20.0)
    image[:, :, :8, :8] = 240.0
    return corner_network(), image, image.clone()


def heat_at(row: int, column: int) -> np.ndarray:
    heat = np.zeros((2, 2, 2))
    heat[:, row, column] = 1
    return heat


@pytest.mark.parametrize("view", ["ground", "satellite"])
@pytest.mark.parametrize("fill", ["blur", "mean"])
def test_a_faithful_map_lets_the_similarity_fall_and_rise_at_once(corners, view, fill):
    right, wrong = (
        faithfulness.deletion_insertion(*corners, heat, view, steps=4, fill=fill)
        for heat in (heat_at(0, 0), heat_at(1, 1))
    )
    for better, worse, sign in zip(right.areas, wrong.areas, (-1, 1), strict=True):
        assert (sign * (better - worse) > 0).all()


def test_curves_begin_and_end_with_the_whole_and_the_empty_picture(corners):
    curves = faithfulness.deletion_insertion(*corners, heat_at(0, 0), "ground", steps=4)
    assert curves.shares[0] == 0 and curves.shares[-1] == 1
    np.testing.assert_allclose(curves.deletion[:, 0], 1, rtol=1e-6)
    np.testing.assert_allclose(curves.deletion[:, 0], curves.insertion[:, -1], rtol=1e-6)
    np.testing.assert_allclose(curves.deletion[:, -1], curves.insertion[:, 0], rtol=1e-6)
    assert (curves.deletion[:, -1] < curves.deletion[:, 0]).all()


def test_areas_are_means_over_the_shares():
    curves = faithfulness.Curves(
        np.array([0, 0.5, 1]), np.array([[1.0, 0, 0]]), np.array([[0.0, 1, 1]])
    )
    deletion, insertion = curves.areas
    np.testing.assert_allclose(deletion, [0.25])
    np.testing.assert_allclose(insertion, [0.75])


def test_a_removed_picture_shows_no_thing():
    images = torch.zeros(1, 3, 32, 32)
    images[..., ::2] = 200
    for fill in ("blur", "mean"):
        assert faithfulness.removed(images, fill).std() < 10
        assert faithfulness.removed(images, fill).mean() == pytest.approx(100, abs=5)


def test_unknown_views_and_fills_are_named(corners):
    with pytest.raises(ValueError, match="unknown view 'sky'"):
        faithfulness.deletion_insertion(*corners, heat_at(0, 0), "sky")
    with pytest.raises(ValueError, match="unknown fill 'black'"):
        faithfulness.removed(corners[1], "black")


# -- lift and transport ------------------------------------------------------------------------


def test_lift_is_share_of_heat_over_share_of_area():
    mask = np.zeros((3, 8, 8), bool)
    mask[:, :4, :4] = True  # a quarter
    heat = np.stack([np.ones((2, 2)), np.array([[1.0, 0], [0, 0]]), np.zeros((2, 2))])
    found = faithfulness.lift(heat, mask)
    np.testing.assert_allclose(found[:2], [1, 4])
    assert np.isnan(found[2])


def test_masks_of_other_sizes_are_named():
    with pytest.raises(ValueError, match="masks are 9x8: expected a multiple of the maps' 2x2"):
        faithfulness.lift(np.ones((1, 2, 2)), np.ones((1, 9, 8)))


def test_heat_is_carried_to_where_its_things_stand():
    heat = np.array([[[1.0, 0.0]]])
    where = np.full((1, 1, 2, 2), np.nan)
    where[0, 0, 0], where[0, 0, 1] = (0.9, 0.1), (0.1, 0.1)
    moved = faithfulness.transported(heat, where, 2, 2)
    np.testing.assert_allclose(moved[0], [[0, np.nan], [1, np.nan]])


def test_a_mean_leaves_out_pairs_without_a_value():
    mean, low, high = faithfulness.mean_and_interval([1.0, np.nan, 3.0])
    assert mean == 2 and 1 <= low <= high <= 3
    assert np.isnan(faithfulness.mean_and_interval([np.nan])).all()
