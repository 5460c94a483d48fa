"""Costs counted without computing are those of the computation."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from vigorlib import cost, model, training
from vigorlib.recipes import get_profile, get_recipe

SMOKE = get_profile("smoke")
VIGOR = get_recipe("vigor")
TRIPLET, HYBRID = training.stages(VIGOR, SMOKE, "same-area")


class OneConvolution(model.Backbone):
    channels = 5

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, images):
        return self.layer(images)


@pytest.fixture
def one_convolution(monkeypatch):
    monkeypatch.setitem(model.BACKBONES, "one", OneConvolution)
    recipe = dataclasses.replace(get_recipe("siamese"), backbone="one", hybrid=True)
    return recipe, dataclasses.replace(SMOKE, dimension=7, offset_hidden=11)


def test_operations_of_one_convolution_by_hand(one_convolution):
    recipe, profile = one_convolution
    flops = cost.forward_flops(cost.skeleton(recipe, profile), profile)
    project = 2 * 5 * 7
    assert flops.panorama == 2 * (3 * 3 * 3) * 5 * (32 * 64) + project
    assert flops.tile == 2 * (3 * 3 * 3) * 5 * (32 * 32) + project
    assert flops.offset == 2 * (2 * 7 * 11 + 11 * 2)


def test_full_size_vgg_costs_what_its_layers_say():
    """Each of thirteen 3x3 convolutions: 18 operations a pair of channels and an output pixel."""
    full = get_profile("full")
    flops = cost.forward_flops(cost.skeleton(get_recipe("siamese"), full), full)
    channels = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    pooled = [0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    pairs = zip(channels, channels[1:], pooled, strict=False)
    tile = sum(18 * a * b * (320 >> group) ** 2 for a, b, group in pairs)
    assert flops.tile == tile + 2 * 512 * 4096
    assert flops.panorama == 2 * tile + 2 * 512 * 4096


def test_a_step_is_three_forward_passes_and_four_when_recomputed():
    flops = cost.Flops(panorama=100, tile=10, offset=1)
    assert flops.step(training.Stage("triplet", 1, 6)) == 3 * 6 * 110
    hybrid = training.Stage("hybrid", 1, 4, semi_weight=0.1, offset_weight=0.1)
    assert flops.step(hybrid) == 3 * 4 * (100 + 2 * 10) + 3 * 4
    assert flops.step(hybrid, recompute=True) == 4 * 4 * (100 + 2 * 10) + 3 * 4


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("backbone", ["vgg16-tiny", "vgg16-narrow"])
def test_activations_are_those_that_autograd_keeps(backbone, precision):
    """The same step computed for real, its kept tensors summed."""
    profile = dataclasses.replace(SMOKE, backbones={"vgg16": backbone})
    step = training.PairLoss(model.build(VIGOR, profile), HYBRID, VIGOR, 0.1).train()
    own = {t.untyped_storage().data_ptr() for t in [*step.parameters(), *step.buffers()]}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
        step(**cost.random_batch(profile, HYBRID))
    sizes = [t.untyped_storage().nbytes() for key, t in kept.items() if key not in own]
    counted = cost.activations(VIGOR, profile, HYBRID, precision)
    # batch normalisation on a CPU keeps its means in float32 where the count has half of that
    assert counted.kept == pytest.approx(sum(sizes), rel=1e-3 if precision == "bfloat16" else 0)
    assert (counted.largest, counted.recomputed) == (max(sizes), 0)


def test_activations_of_one_convolution_by_hand(one_convolution):
    """A pair more keeps both images as floats and little else: no one needs the layer's output."""
    recipe, profile = one_convolution
    stage = training.Stage("offset only", 1, 64, offset_weight=1.0)
    more = dataclasses.replace(stage, batch=65)
    kept = [cost.activations(recipe, profile, s, "float32").kept for s in (stage, more)]
    images = 4 * 3 * (32 * 64 + 32 * 32)
    assert images < kept[1] - kept[0] < 1.1 * images


def test_checkpointing_keeps_less_and_recomputes_one_segment_at_a_time():
    plain = cost.activations(VIGOR, SMOKE, HYBRID, "float32")
    saving = dataclasses.replace(SMOKE, checkpoint_activations=True)
    less = cost.activations(VIGOR, saving, HYBRID, "float32")
    assert less.kept + less.recomputed < 0.8 * plain.kept and less.recomputed > 0
    # panoramas' first group: float images, the 8-channel map (ReLU in place), pooled map and indices
    first = HYBRID.batch * (4 * 3 * 32 * 64 + 4 * 8 * 32 * 64 + 8 * 8 * 16 * 32)
    assert less.recomputed == first
    assert less.largest == plain.largest  # its gradient passes by in both


def test_batches_have_the_shapes_of_training():
    batch = cost.random_batch(SMOKE, HYBRID)
    assert batch["panoramas"].shape == (4, 3, 32, 64) and batch["tiles"].shape == (8, 3, 32, 32)
    images = batch["panoramas"].nbytes + batch["tiles"].nbytes
    assert images == cost.random_batch_bytes(SMOKE, HYBRID)
    assert cost.random_batch(SMOKE, TRIPLET)["tiles"].shape == (6, 3, 32, 32)


def test_measured_steps_are_real_steps():
    measured = cost.measure(VIGOR, SMOKE, HYBRID, "float32", torch.device("cpu"), steps=3)
    assert (measured.pairs, measured.tiles, len(measured.seconds)) == (4, 8, 3)
    network = cost.skeleton(VIGOR, SMOKE)
    assert measured.flops == cost.forward_flops(network, SMOKE).step(HYBRID)
    mean = sum(measured.seconds[1:]) / 2
    assert measured.tflops == pytest.approx(measured.flops / mean / 1e12)


def test_at_least_one_step_is_measured():
    measured = cost.measure(VIGOR, SMOKE, HYBRID, "float32", torch.device("cpu"), seconds=0)
    assert measured.seconds_a_step == measured.seconds[0] and len(measured.seconds) == 1


def test_an_unknown_precision_names_the_known_ones():
    with pytest.raises(ValueError, match="'int8': expected one of float32, bfloat16, float16"):
        cost.activations(VIGOR, SMOKE, HYBRID, "int8")
