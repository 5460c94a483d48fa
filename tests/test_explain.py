"""Heat of pairs: the definitions, any recipe, one pair apart from the others, an established library."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from vigorlib import explain, model
from vigorlib.recipes import RECIPES, get_profile

HEIGHT, WIDTH = 48, 96


def pictures(count: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return (
        torch.randint(0, 256, (count, 3, HEIGHT, WIDTH), generator=draw, dtype=torch.uint8),
        torch.randint(0, 256, (count, 3, HEIGHT, HEIGHT), generator=draw, dtype=torch.uint8),
    )


def branch(aggregator: nn.Module, batch_norm: bool = False, pool: bool = False) -> model.Branch:
    network = model.VGG((4, 6), layers=(1, 1), batch_norm=batch_norm)
    made = model.Branch(model.Normalise("centred"), network, pool)
    made.aggregator = aggregator
    return made


@pytest.fixture(scope="module")
def network() -> model.CrossViewNet:
    torch.manual_seed(0)
    ground, satellite = branch(model.SAFA(24, 48, 2), True), branch(model.SAFA(24, 24, 2), True)
    return model.CrossViewNet(ground, satellite, 12, None).eval()


# -- grad_cam ----------------------------------------------------------------------------------


def test_grad_cam_weights_channels_by_their_mean_gradient():
    activation = np.array([[[1.0, 2.0]], [[4.0, 0.0]]])  # (2, 1, 2)
    gradient = np.array([[[1.0, 3.0]], [[-1.0, 0.0]]])  # channel weights 2 and -1/2
    np.testing.assert_allclose(explain.grad_cam(activation, gradient), [[0.0, 1.0]])


def test_rectified_grad_cam_multiplies_before_it_sums():
    activation = np.array([[[1.0, 2.0]], [[4.0, 0.0]]])
    gradient = np.array([[[5.0, 3.0]], [[-1.0, 9.0]]])  # 5-4 = 1 and 6+0 = 6
    heat = explain.grad_cam(activation, gradient, rectified=True)
    np.testing.assert_allclose(heat, [[1 / 6, 1.0]])


@pytest.mark.parametrize("rectified", [False, True])
def test_a_map_without_a_positive_value_is_all_zeros(rectified):
    heat = explain.grad_cam(np.ones((3, 2, 2)), -np.ones((3, 2, 2)), rectified)
    np.testing.assert_array_equal(heat, np.zeros((2, 2)))


@pytest.mark.parametrize("rectified", [False, True])
def test_numpy_and_torch_batches_and_single_maps_agree(rectified):
    a, g = (torch.randn(4, 5, 3, 6, generator=torch.Generator().manual_seed(k)) for k in (1, 2))
    batch = explain.grad_cam(a, g, rectified)
    assert isinstance(batch, torch.Tensor) and batch.shape == (4, 3, 6)
    assert 0 <= batch.min() and batch.max() == 1
    for i in range(4):
        one = explain.grad_cam(a[i].numpy(), g[i].numpy(), rectified)
        assert isinstance(one, np.ndarray)
        np.testing.assert_allclose(one, batch[i].numpy(), rtol=1e-6)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"\(2, 3, 4\).*\(2, 3, 5\).*expected \(C, H, W\)"):
        explain.grad_cam(np.ones((2, 3, 4)), np.ones((2, 3, 5)))


# -- maps of pairs -----------------------------------------------------------------------------


@pytest.mark.parametrize("rectified", [False, True])
def test_the_explained_number_is_the_dot_product_of_unnormalised_descriptors(network, rectified):
    panoramas, tiles = pictures(1)
    maps = explain.pair_maps(network, panoramas, tiles, rectified)
    features = network.ground.features(panoramas).detach()
    other = network.describe_satellite(tiles).detach()

    def score(values: torch.Tensor) -> torch.Tensor:
        return (network.ground.aggregate(values) * other).sum()

    (gradient,) = torch.autograd.functional.jacobian(score, (features,))
    wanted = explain.grad_cam(features[0], gradient[0], rectified)
    np.testing.assert_allclose(maps.ground[0], wanted.numpy(), rtol=1e-4, atol=1e-6)


def test_a_pair_is_explained_apart_from_the_others_of_its_batch(network):
    panoramas, tiles = pictures(3)
    together = explain.pair_maps(network, panoramas, tiles)
    alone = explain.pair_maps(network, panoramas[1:2], tiles[1:2])
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a[1], b[0], rtol=1e-3, atol=1e-5)


def test_the_other_picture_matters(network):
    panoramas, tiles = pictures(2)
    own = explain.pair_maps(network, panoramas, tiles).ground
    swapped = explain.pair_maps(network, panoramas, tiles.flip(0)).ground
    assert np.abs(own - swapped).max() > 1e-4


def test_the_network_is_left_as_it_was(network):
    network.train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    explain.pair_maps(network, *pictures(2))
    assert network.training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    network.eval()


@pytest.mark.parametrize("name", ["siamese", "vigor", "vigor-resnet", "vigor-flatten"])
def test_every_recipe_can_be_explained(name):
    torch.manual_seed(0)
    recipe, profile = RECIPES[name], get_profile("smoke")
    draw = torch.Generator().manual_seed(0)
    panoramas = torch.randint(0, 256, (2, 3, *profile.panorama_px), generator=draw).float()
    tiles = torch.randint(0, 256, (2, 3, *profile.tile_px), generator=draw).float()
    maps = explain.pair_maps(model.build(recipe, profile), panoramas, tiles, rectified=True)
    for heat in maps:
        assert heat.ndim == 3 and len(heat) == 2
        assert np.isfinite(heat).all() and heat.min() >= 0 and heat.max() <= 1


def test_as_many_tiles_as_panoramas_are_asked_for(network):
    panoramas, tiles = pictures(3)
    with pytest.raises(ValueError, match="3 panoramas and 2 tiles"):
        explain.pair_maps(network, panoramas, tiles[:2])


@pytest.mark.parametrize("view", explain.VIEWS)
def test_captum_draws_the_same_maps(network, view):
    attr = pytest.importorskip(
        "captum.attr", reason="captum is not installed: pip install '.[dev]'"
    )
    panoramas, tiles = pictures(2)
    shown, hidden = (panoramas, tiles) if view == "ground" else (tiles, panoramas)
    looking = getattr(network, view)
    other = network.satellite if view == "ground" else network.ground
    target = other(hidden.float()).detach()

    class Score(nn.Module):
        """A picture -> the number that is explained."""

        def __init__(self) -> None:
            super().__init__()
            self.branch = looking

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return (self.branch(images) * target).sum(dim=1)

    score, layer = Score(), looking.backbone
    cam = attr.LayerGradCam(score, layer).attribute(shown.float(), relu_attributions=True)[:, 0]
    product = attr.LayerGradientXActivation(score, layer).attribute(shown.float())
    for theirs, rectified in ((cam, False), (product.sum(dim=1).clamp(min=0), True)):
        ours = getattr(explain.pair_maps(network, panoramas, tiles, rectified), view)
        theirs = theirs.detach()
        theirs = theirs / theirs.amax(dim=(1, 2), keepdim=True).clamp(min=1e-30)
        assert ours.max() > 0
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)


# -- SAFA, sizes, overlays ---------------------------------------------------------------------


def test_safa_maps_are_the_weights_that_the_descriptor_is_made_with(network):
    panoramas, _ = pictures(2)
    weights = torch.from_numpy(explain.safa_maps(network.ground, panoramas))
    assert weights.shape == (2, 2, 24, 48)
    with torch.no_grad():
        features = network.ground.features(panoramas)
        made = torch.einsum("bchw,bdhw->bdc", features, weights).flatten(1)
        torch.testing.assert_close(made, network.ground(panoramas))


def test_other_aggregators_have_no_position_maps():
    plain = branch(model.GlobalAverage(nn.Linear(6, 4)))
    with pytest.raises(ValueError, match="GlobalAverage: expected SAFA"):
        explain.safa_maps(plain, pictures(1)[0])


def test_upsampling_keeps_places_and_range():
    heat = np.zeros((2, 4, 8), np.float32)
    heat[1, 3, 0] = 1
    large = explain.upsampled(heat, 40, 80)
    assert large.shape == (2, 40, 80)
    assert large[0].max() == 0 and 0.9 < large[1].max() <= 1
    row, column = np.unravel_index(large[1].argmax(), (40, 80))
    assert row >= 30 and column < 10
    assert explain.upsampled(heat[1], 8, 16).shape == (8, 16)


def test_an_overlay_is_a_picture_coloured_where_it_is_hot():
    image = np.full((40, 40, 3), 120, np.uint8)
    heat = np.zeros((4, 4))
    heat[0, 3] = 1
    drawn = explain.overlay(image, heat)
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    colour = np.ptp(drawn.astype(int), axis=2)
    assert colour[:8, 32:].mean() > 3 * colour[24:, :16].mean()
