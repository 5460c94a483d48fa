"""Checkpointed and compiled training: the same losses, weights and running statistics."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch
from torch import nn

from vigorlib import model, training
from vigorlib.recipes import Profile, get_profile, get_recipe, settings_hash
from vigorlib.runs import photographs

SMOKE = get_profile("smoke")
NORMALISED = dataclasses.replace(SMOKE, backbones={"vgg16": "vgg16-narrow"})


def after_steps(recipe: str, profile: Profile, steps: int = 3) -> tuple[list[float], nn.Module]:
    """Losses of a few steps of the last stage on fixed images, and the network they left."""
    torch.manual_seed(0)
    network = model.build(recipe, profile).train()
    stage = training.stages(get_recipe(recipe), profile, "same-area")[-1]
    loss_of = training.PairLoss(network, stage, get_recipe(recipe), profile.iou_floor)
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    panoramas = torch.randint(0, 256, (4, 3, *profile.panorama_px), dtype=torch.uint8)
    tiles = torch.randint(0, 256, (8, 3, *profile.tile_px), dtype=torch.uint8)
    values = []
    for _ in range(steps):
        loss, _, _ = loss_of(panoramas, tiles, torch.rand(4, 2), torch.rand(4, 2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    return values, network


@pytest.mark.parametrize(
    ("recipe", "profile"),
    [("vigor", SMOKE), ("vigor", NORMALISED), ("vigor-resnet", SMOKE)],
    ids=["plain", "batch norm", "resnet"],
)
def test_checkpointing_changes_no_loss_no_weight_and_no_running_statistic(recipe, profile):
    plain, expected = after_steps(recipe, profile)
    saving = dataclasses.replace(profile, checkpoint_activations=True)
    values, network = after_steps(recipe, saving)
    assert values == pytest.approx(plain, abs=1e-6) and values[0] != values[-1]
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=0, atol=1e-6)


def test_batches_are_counted_once():
    saving = dataclasses.replace(NORMALISED, checkpoint_activations=True)
    _, network = after_steps("vigor", saving, steps=2)
    counts = [int(v) for k, v in network.state_dict().items() if k.endswith("batches_tracked")]
    assert counts and set(counts) == {2}
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.1}


def test_checkpointing_keeps_only_what_enters_the_segments():
    kept = {}
    for saving in (False, True):
        profile = dataclasses.replace(SMOKE, checkpoint_activations=saving)
        branch = model.build("safa", profile).ground.train()
        own = {p.data_ptr() for p in branch.parameters()}
        sizes: dict[int, int] = {}

        def keep(tensor, own=own, sizes=sizes):
            if tensor.data_ptr() not in own:
                sizes[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            branch.features(torch.rand(4, 3, *SMOKE.panorama_px))
        kept[saving] = sum(sizes.values())
    # four images of 3 x 32 x 64, then groups of 8, 8 and 16 channels after 1, 2 and 3 poolings
    assert kept[True] == 4 * 4 * (3 * 32 * 64 + 8 * 16 * 32 + 8 * 8 * 16 + 16 * 4 * 8)
    assert kept[True] < 0.3 * kept[False]


def test_vgg_is_cut_after_each_pooling():
    segments = model.VGG().segments()
    names = [[name for name, _ in part.named_children()] for part in segments]
    assert [(n[0], n[-1]) for n in names] == [
        ("conv1_1", "pool1"),
        ("conv2_1", "pool2"),
        ("conv3_1", "pool3"),
        ("conv4_1", "pool4"),
        ("conv5_1", "relu5_3"),
    ]


def test_training_with_both_settings_goes_as_without(city_root, monkeypatch):
    """Traced as for any compiler but run as it is: no compiler is needed here."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    profile = dataclasses.replace(NORMALISED, epochs={"same-area": (1, 1)}, mining_from_epoch=9)
    photos = photographs(city_root, profile, "same-area", "train", progress=False)
    trained = []
    for on in (False, True):
        changed = dataclasses.replace(profile, checkpoint_activations=on, compile=on)
        torch.manual_seed(0)
        network = model.build("vigor", changed)
        arguments = (photos.data, photos.panoramas, photos.tiles, get_recipe("vigor"), changed)
        if on and torch.__version__.startswith("2.6."):
            with pytest.raises(ValueError, match=r"torch 2\.6 cannot compile"):
                training.Trainer(network, *arguments, progress=False)
            return
        history = training.Trainer(network, *arguments, progress=False).train()
        assert (network.ground._compiled_call_impl is not None) == on
        trained.append(([entry["loss"] for entry in history.losses], network.state_dict()))
    (losses, state), (other_losses, other_state) = trained
    assert len(losses) > 4 and other_losses == pytest.approx(losses, abs=1e-6)
    assert list(state) == list(other_state)
    for name, value in state.items():
        torch.testing.assert_close(other_state[name], value, rtol=0, atol=1e-5)


def test_both_settings_name_another_run_but_their_defaults_rename_none():
    recipe, default = get_recipe("vigor"), settings_hash(get_recipe("vigor"), SMOKE)
    for name in ("checkpoint_activations", "compile"):
        changed = dataclasses.replace(SMOKE, **{name: True})
        assert settings_hash(recipe, changed) != default
