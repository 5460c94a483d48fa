"""The network: SAFA against loops from the formula, shapes, names, and the errors people meet."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vigorlib import model
from vigorlib.recipes import PROFILES, RECIPES, get_recipe


def safa_by_hand(safa: model.SAFA, features: torch.Tensor) -> torch.Tensor:
    """The original's einsums, spelled out: one position, one head, one channel at a time."""
    batch, channels, height, width = features.shape
    positions, hidden = height * width, height * width // 2
    flat = features.reshape(batch, channels, positions)
    out = torch.zeros(batch, safa.heads, channels, dtype=features.dtype)
    for b in range(batch):
        peak = [max(flat[b, c, i].item() for c in range(channels)) for i in range(positions)]
        for d in range(safa.heads):
            middle = [
                sum(peak[i] * safa.w1[i, j, d].item() for i in range(positions))
                + safa.b1[0, j, d].item()
                for j in range(hidden)
            ]
            for i in range(positions):
                weight = sum(middle[j] * safa.w2[j, i, d].item() for j in range(hidden))
                weight += safa.b2[0, i, d].item()
                out[b, d] += weight * flat[b, :, i]
    return out.reshape(batch, -1)


def test_safa_equals_the_formula():
    torch.manual_seed(0)
    safa = model.SAFA(2, 3, heads=4).double()
    features = torch.rand(2, 5, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(
            safa(features), safa_by_hand(safa, features), rtol=1e-9, atol=1e-9
        )


def test_safa_has_the_shapes_of_the_original():
    safa = model.SAFA(10, 20)
    assert safa.w1.shape == (200, 100, 8) and safa.b1.shape == (1, 100, 8)
    assert safa.w2.shape == (100, 200, 8) and safa.b2.shape == (1, 200, 8)
    assert safa.w1.abs().max() <= 0.01 and safa.w1.std().item() == pytest.approx(0.0044, rel=0.05)
    assert (safa.b1 == 0.1).all() and (safa.b2 == 0.1).all()


def test_safa_flattens_heads_first():
    safa = model.SAFA(2, 2, heads=3)
    with torch.no_grad():
        safa.w1.zero_(), safa.w2.zero_()
        safa.b2[0, :, :] = torch.tensor([1.0, 2.0, 3.0])  # head h weights every position by h + 1
    features = torch.ones(1, 5, 2, 2)
    assert safa(features).view(3, 5)[:, 0].tolist() == [4.0, 8.0, 12.0]


def test_position_weights_are_what_forward_uses():
    safa = model.SAFA(3, 4, heads=2)
    features = torch.rand(2, 6, 3, 4)
    weights = safa.position_weights(features)
    assert weights.shape == (2, 2, 3, 4)
    expected = (features[:, None] * weights[:, :, None]).sum(dim=(3, 4)).flatten(1)
    torch.testing.assert_close(safa(features), expected)


def test_safa_refuses_another_image_size():
    with pytest.raises(ValueError, match="built for 3x4"):
        model.SAFA(3, 4)(torch.rand(1, 2, 4, 4))


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_builds_and_describes(recipe):
    profile = PROFILES["smoke"]
    torch.manual_seed(0)
    network = model.build(recipe, profile)
    panoramas = torch.randint(0, 256, (2, 3, *profile.panorama_px), dtype=torch.uint8)
    tiles = torch.randint(0, 256, (3, 3, *profile.tile_px), dtype=torch.uint8)
    ground, satellite = network(panoramas, tiles)
    assert ground.shape == (2, network.dimension) and satellite.shape == (3, network.dimension)
    torch.testing.assert_close(ground.norm(dim=1), torch.ones(2))
    has_head = get_recipe(recipe).hybrid and get_recipe(recipe).offset != "none"
    assert (network.offset is not None) == has_head


def test_only_the_siamese_baseline_shares_weights_between_the_views():
    shared = {}
    for name in ("siamese", "safa"):
        network = model.build(name, "smoke")
        ground = {id(p) for p in network.ground.parameters()}
        shared[name] = sum(id(p) in ground for p in network.satellite.parameters())
    assert shared == {"siamese": 2, "safa": 0}  # weight and bias of the one linear layer


def test_full_size_feature_maps_are_those_of_the_paper():
    vgg = model.VGG()
    assert vgg.channels == 512
    assert sum(p.numel() for p in vgg.parameters()) == 14_714_688  # VGG-16 without its classifier
    with torch.no_grad():
        assert vgg.eval()(torch.zeros(1, 3, 64, 128)).shape == (
            1,
            512,
            4,
            8,
        )  # H/16: 20x40 at 320x640
    names = [name for name, _ in vgg.named_modules() if "conv" in name]
    assert names[0].endswith("conv1_1") and names[-1].endswith("conv5_3") and len(names) == 13


def test_our_layers_take_torchvisions_weights():
    torchvision = pytest.importorskip("torchvision")
    for name in ("vgg16", "resnet18"):
        ours = model.backbone(name)
        theirs = torchvision.models.get_model(name, weights=None).eval()
        keys = [k for k in theirs.state_dict() if not k.startswith(("classifier", "fc."))]
        values = [theirs.state_dict()[k] for k in keys]
        ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
        images = torch.rand(1, 3, 64, 64)
        with torch.no_grad():
            if name == "vgg16":
                expected = theirs.features[:30](images)  # up to conv5_3's ReLU
            else:
                stem = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
                expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(stem))))
            torch.testing.assert_close(ours.eval()(images), expected, rtol=1e-4, atol=1e-4)


def test_any_timm_name_is_a_backbone():
    network = model.backbone("convnext_atto")
    with torch.no_grad():
        assert network(torch.rand(1, 3, 64, 64)).shape == (1, network.channels, 2, 2)


def test_an_unknown_backbone_names_the_known_ones():
    with pytest.raises(ValueError, match="vgg16.*resnet18"):
        model.backbone("no_such_network")
    recipe = dataclasses.replace(get_recipe("vigor"), aggregator="attention")
    with pytest.raises(ValueError, match="'safa', 'average', 'gem' or 'flatten'"):
        model.build(recipe, "smoke")


def test_caffe_normalisation_is_bgr_minus_the_loaders_means():
    image = torch.zeros(1, 3, 1, 1)
    image[0, 0] = 123.6  # red
    out = model.Normalise("caffe")(image)[0, :, 0, 0]
    torch.testing.assert_close(out, torch.tensor([-103.939, -116.779, 0.0]))


def test_the_offset_head_sees_the_satellite_first():
    head = model.OffsetHead(2, hidden=3)
    ground, satellite = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])
    expected = head.layers(torch.tensor([[3.0, 4.0, 1.0, 2.0]]))
    torch.testing.assert_close(head(ground, satellite), expected)


def test_the_siamese_baseline_averages_before_any_pooling():
    """As the released code does; SAFA pools first."""
    profile = dataclasses.replace(PROFILES["smoke"], pool=True)
    pooled = {name: model.build(name, profile).ground.pool for name in ("siamese", "safa")}
    assert pooled == {"siamese": False, "safa": True}


def test_pixels_are_prepared_for_the_weights_a_profile_names():
    profile = dataclasses.replace(PROFILES["smoke"], pretrained=True)
    caffe = dataclasses.replace(profile, weights="caffe")
    assert not model.build("safa", profile, imagenet=False).ground.normalise.bgr
    assert model.build("safa", caffe, imagenet=False).ground.normalise.bgr
    unknown = dataclasses.replace(profile, weights="guesses")
    with pytest.raises(ValueError, match="'guesses': expected one of torchvision, caffe"):
        model.build("safa", unknown)


def test_from_scratch_the_first_offset_is_the_centre_and_learns_all_the_same():
    head = model.OffsetHead(4, hidden=8, rescale=True)
    predicted = head(torch.rand(3, 4), torch.rand(3, 4))
    assert (predicted == 0).all()
    (predicted - 1).square().sum().backward()
    assert head.layers[-1].weight.grad.abs().max() > 0


def test_rescaling_makes_the_offset_blind_to_length():
    head = model.OffsetHead(4, hidden=8, rescale=True)
    torch.nn.init.normal_(head.layers[-1].weight)
    ground, satellite = torch.rand(3, 4), torch.rand(3, 4)
    assert head(ground, satellite).abs().min() > 0
    torch.testing.assert_close(head(ground, satellite), head(ground * 7, satellite * 0.1))


def test_unreachable_weights_are_explained(monkeypatch):
    import urllib.error

    import torchvision

    def offline(*arguments, **options):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    with pytest.raises(RuntimeError, match="'resnet18' could not be fetched .*pretrained=False"):
        model.backbone("resnet18", pretrained=True)
    with pytest.raises(ValueError, match="no ImageNet weights for 'vgg16-narrow'"):
        model.backbone("vgg16-narrow", pretrained=True)


def test_position_weights_of_images_are_those_the_descriptor_is_made_with():
    profile = dataclasses.replace(PROFILES["smoke"], pool=True)
    branch = model.build("safa", profile).ground.eval()
    images = torch.randint(0, 255, (2, 3, *profile.panorama_px)).float()
    weights = branch.position_weights(images)
    pooled = branch.pooled(branch.features(images))
    assert weights.shape[2:] == pooled.shape[2:]
    descriptor = torch.einsum("bchw,bdhw->bdc", pooled, weights).flatten(1)
    torch.testing.assert_close(descriptor, branch(images))
    with pytest.raises(ValueError, match="GlobalAverage: expected SAFA"):
        model.build("siamese", profile).ground.position_weights(images)


def test_gem_goes_from_the_average_to_the_maximum():
    features = torch.rand(2, 5, 3, 4) + 0.1
    pooling = model.GeM(torch.nn.Identity())
    pooling.p.data.fill_(1.0)
    torch.testing.assert_close(pooling(features), features.mean(dim=(2, 3)))
    pooling.p.data.fill_(300.0)
    torch.testing.assert_close(pooling(features), features.amax(dim=(2, 3)), rtol=0.02, atol=0)


def test_an_offset_becomes_its_cells_centre_and_what_lies_outside_the_nearest():
    head = model.OffsetHead(dimension=4, hidden=8, cells=10)
    offsets = torch.tensor([[-0.5, -0.5], [0.02, 0.49], [0.9, -0.9]])
    cells = head.cell_of(offsets)
    assert cells.tolist() == [0, 5 * 10 + 9, 9 * 10 + 0]
    centres = torch.tensor([[-0.45, -0.45], [0.05, 0.45], [0.45, -0.45]])
    torch.testing.assert_close(head.centre_of(cells), centres)
    inside = torch.rand(50, 2) - 0.5
    assert ((head.centre_of(head.cell_of(inside)) - inside).abs() <= 0.05 + 1e-6).all()


def test_a_head_of_classes_answers_with_the_best_cell():
    head = model.OffsetHead(dimension=4, hidden=8, cells=3)
    ground, satellite = torch.randn(6, 4), torch.randn(6, 4)
    scores = head.scores(ground, satellite)
    assert scores.shape == (6, 9)
    torch.testing.assert_close(head(ground, satellite), head.centre_of(scores.argmax(dim=1)))


def test_an_unknown_kind_of_offset_names_the_known_ones():
    recipe = dataclasses.replace(get_recipe("vigor"), offset="polar")
    with pytest.raises(ValueError, match="'regression', 'classification' or 'none'"):
        model.build(recipe, "smoke")


@pytest.mark.parametrize("size", [(64, 128), (37, 51), (16, 16)])
def test_vgg_knows_the_size_of_its_feature_map(size):
    network = model.VGG((4, 4, 8, 8, 8), batch_norm=True)
    assert network.feature_px(*size) == model.Backbone.feature_px(network, *size)
    assert network.training


def test_a_network_without_weights_has_the_shapes_of_one_with_them():
    with model.without_weights():
        bare = model.build("vigor", "smoke")
    whole = model.build("vigor", "smoke")
    assert repr(bare) == repr(whole)
    shapes = [{n: p.shape for n, p in net.state_dict().items()} for net in (bare, whole)]
    assert shapes[0] == shapes[1]
    assert all(p.is_meta for p in bare.parameters())


def test_looking_for_a_run_leaves_torchs_compiler_alone():
    """Importing it takes longer than everything else."""
    code = (
        "import sys; from vigorlib import runs; runs.find('vigor', 'mini'); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0
    )


def test_a_timm_network_that_computes_while_it_is_built_still_has_shapes_without_memory(
    monkeypatch,
):
    """timm 1.0.16 to 1.0.19 with torch 2.6: ``.item()`` or ``unique`` of tensors without numbers."""
    import timm

    create = timm.create_model

    def computing(*names, **settings):
        assert torch.linspace(0, 1, 3)[-1].item() == 1
        return create(*names, **settings)

    monkeypatch.setattr(timm, "create_model", computing)
    with model.without_weights():
        network = model.backbone("regnety_004")
    assert all(value.is_meta for value in network.state_dict().values())
    assert model.backbone("regnety_004").channels == network.channels
