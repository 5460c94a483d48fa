"""The plan counts what a run will do; each number here is worked out by hand."""

from __future__ import annotations

import dataclasses
import json

import pytest
from typer.testing import CliRunner

from vigorlib import cost, device, footprint, plan
from vigorlib.__main__ import app
from vigorlib.dataset import Vigor
from vigorlib.model import build
from vigorlib.recipes import get_profile, get_recipe
from vigorlib.training import Stage

VIGOR, SMOKE = get_recipe("vigor"), get_profile("smoke")


@pytest.fixture(scope="module")
def full() -> plan.Plan:
    return plan.make_plan(VIGOR, get_profile("full"))


@pytest.fixture(scope="module")
def smoke(city_root) -> plan.Plan:
    return plan.make_plan(VIGOR, SMOKE, root=city_root, precision="float32")


def test_steps_and_images_of_the_papers_training(full):
    """52,609 // 14 = 3,757 steps an epoch; 30 epochs of 14 pairs, 15 of 10 with semi-positives."""
    triplet, hybrid, watching, mining, descriptors, ranks = full.work
    assert (triplet.steps, hybrid.steps, full.steps) == (112_710, 56_355, 169_065)
    assert (triplet.panoramas, triplet.tiles) == (1_577_940, 1_577_940)
    assert (hybrid.panoramas, hybrid.tiles) == (563_550, 1_127_100)
    assert (watching.panoramas, watching.tiles) == (45 * 500, 45 * 2_000)
    assert mining.flops == 2 * 43 * 52_609 * 40_000 * 4_096
    assert (descriptors.panoramas, descriptors.tiles) == (52_605, 90_618)
    assert ranks.flops == 2 * 52_605 * 90_618 * 4_096


def test_no_more_tiles_are_watched_than_the_watched_queries_have():
    few = plan.Counts(queries=3, tiles=500)
    (work,) = plan._watching(2, few, SMOKE, cost.forward_flops(cost.skeleton(VIGOR, SMOKE), SMOKE))
    assert (work.panoramas, work.tiles) == (2 * 3, 2 * 12)


def test_cross_area_trains_on_two_cities_and_tests_on_two():
    counts = plan.counts_of(None, SMOKE, "cross-area")
    assert counts == {"train": plan.Counts(51_520, 44_055), "test": plan.Counts(53_694, 46_563)}
    tiles = {"NewYork": 23_279, "Seattle": 20_776, "SanFrancisco": 24_255, "Chicago": 22_308}
    assert counts["train"].tiles == tiles["NewYork"] + tiles["Seattle"]
    assert counts["test"].tiles == tiles["SanFrancisco"] + tiles["Chicago"]


def test_parameters_of_the_full_network(full):
    """Two VGG-16, SAFA of 20x10 and 10x10 maps with eight heads, the offset head."""
    vgg = 14_714_688
    safa = sum(8 * (2 * p * p // 2 + p // 2 + p) for p in (200, 100))
    offset = 8_192 * 512 + 512 + 512 * 2 + 2
    assert full.parameters == 2 * vgg + safa + offset


def test_weights_that_both_branches_share_count_once():
    assert footprint.parameters(build("siamese", SMOKE)) == sum(
        v.numel() for k, v in build("siamese", SMOKE).state_dict().items() if k.startswith("ground")
    ) + sum(p.numel() for p in build("siamese", SMOKE).satellite.backbone.parameters())


def test_memory_and_disk_by_part(full):
    sizes = {(p.when, p.name.split(" (")[0]): p.bytes for p in full.parts}
    weights, row = 4 * full.parameters, 4 * 4_096
    pool, hard = (52_609 + 90_618) * row, 52_609 * 100 * 8
    assert sizes["training", "parameters"] == sizes["training", "gradients"] == weights
    assert sizes["training", "optimiser state"] == 2 * weights
    assert sizes["training", "mining pool"] == pool
    assert sizes["training", "hard examples"] == hard
    assert sizes["evaluation", "descriptors"] == (52_605 + 3 * 90_618) * row
    assert sizes["training", "two checkpoints, while training"] == 2 * (3 * weights + pool + hard)
    cache = 105_214 * 3 * 320 * 640 + 90_618 * 3 * 320 * 320
    assert sizes["optional", "cache of resized images"] == cache
    assert full.bytes("host", "training") == pool + hard
    assert full.bytes("device", "training") > 4 * weights + sizes["training", "activations"]


def test_a_checkpoint_is_as_large_as_planned(smoke, city_root, tmp_path):
    from vigorlib.runs import photographs
    from vigorlib.training import Trainer

    train = photographs(city_root, SMOKE, "same-area", "train", progress=False)
    arguments = (train.data, train.panoramas, train.tiles, VIGOR, SMOKE, 0, tmp_path)
    trainer = Trainer(build(VIGOR, SMOKE), *arguments, progress=False)
    trainer.train()
    (planned,) = [p.bytes for p in smoke.parts if p.name.startswith("two checkpoints")]
    written = (tmp_path / "checkpoint.pt").stat().st_size
    assert written == pytest.approx(planned / 2, rel=0.15)  # names and framing on top
    assert trainer.state.step == smoke.steps


def test_counts_come_from_the_label_files(smoke, city_root):
    train, test = (Vigor(city_root, "same-area", subset) for subset in ("train", "test"))
    assert smoke.train == plan.Counts(len(train), len(train.tiles))
    assert smoke.test == plan.Counts(len(test), len(test.tiles))
    assert "label files" in smoke.source


def test_hours_follow_from_the_given_speed(full):
    assert full.hours(100, 0.5) == pytest.approx(full.flops / 50e12 / 3600)
    assert full.flops == sum(entry.flops for entry in full.work)
    used = sum(w.panoramas for w in full.work), sum(w.tiles for w in full.work)
    decoding = (used[0] * 0.035 + used[1] * 0.017) / 3600
    assert full.decoding_core_hours == pytest.approx(decoding)


def test_a_baseline_plans_no_mining_and_no_second_stage():
    safa = plan.make_plan(get_recipe("safa"), SMOKE)
    names = [entry.name.split(":")[0] for entry in safa.work]
    assert "mining" not in names and "hybrid" not in names
    assert not [part for part in safa.parts if "mining" in part.name or "hard" in part.name]


def test_the_batch_is_halved_until_it_fits():
    stage = Stage("hybrid", 1, 16, semi_weight=0.1)
    needs = {
        b: footprint.needed_bytes(VIGOR, SMOKE, dataclasses.replace(stage, batch=b), "float32")
        for b in (4, 16)
    }

    def fitted(available: int | None) -> int:
        return footprint.fitting(VIGOR, SMOKE, stage, "float32", available).batch

    assert [fitted(n) for n in (None, needs[16], needs[16] - 1, needs[4], 0)] == [16, 16, 8, 4, 2]


# -- the command -----------------------------------------------------------------------------


def run(*arguments: str):
    return CliRunner().invoke(app, ["plan", *arguments])


def test_the_command_prints_the_plan_and_its_assumptions():
    done = run("--recipe", "vigor", "--profile", "full")
    assert done.exit_code == 0, done.output
    text = " ".join(done.output.split())
    for words in ("169,065", "1,577,940", "mining pool", "A100", "backward pass counts as two"):
        assert words in text, words


def test_json_holds_plan_hours_and_measured_steps(city_root):
    done = run("--profile", "smoke", "--data-root", str(city_root), "--measure", "--json",
               "--device", "cpu", "--steps", "2", "--tflops", "10", "--utilisation", "0.5")  # fmt: skip
    assert done.exit_code == 0, done.output
    value = json.loads(done.stdout)
    assert value["hours"]["as_given"] == pytest.approx(value["flops"] / 5e12 / 3600)
    assert value["measured"]["pairs"] == 6 and len(value["measured"]["seconds"]) == 2
    assert value["measured"]["peak_bytes"] > value["planned_bytes"] > 0
    assert value["bytes"]["host training"] > 0 and value["assumptions"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "nonsense"], "unknown recipe 'nonsense'"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--data-root", "/no/such/folder"], "is not a folder"),
        (["--precision", "int8"], "unknown precision 'int8'"),
        (["--protocol", "elsewhere"], "unknown protocol 'elsewhere'"),
    ],
)
def test_a_mistake_is_one_line(arguments, message):
    done = run("--profile", "smoke", *arguments)
    assert done.exit_code == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1


def test_too_little_memory_is_said_after_the_plan(monkeypatch):
    monkeypatch.setattr(device, "available_bytes", lambda picked: 1_000_000)
    done = run("--profile", "smoke", "--device", "cpu")
    assert done.exit_code == 2 and "mining pool" in done.stdout
    assert "training vigor in profile smoke needs about" in done.stderr
    explicit = run("--profile", "smoke", "--device", "cpu", "--measure", "--batch", "64")
    assert explicit.exit_code == 2 and "a step of 64 pairs needs about" in explicit.stderr


def test_training_says_why_there_is_no_gpu(monkeypatch):
    import torch

    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    arguments = ["train", "--recipe", "vigor", "--profile", "smoke", "--device", "cuda"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2 and "build for the CPU only" in done.stderr


def test_training_options_reach_the_profile(monkeypatch):
    from vigorlib import runs

    seen = []

    def stop(recipe, profile, *arguments, **options):
        seen.append((profile.checkpoint_activations, profile.compile))
        raise ValueError("enough")

    monkeypatch.setattr(runs, "load_or_train", stop)
    train = ["train", "--recipe", "vigor", "--profile", "smoke"]
    for options in ([], ["--checkpoint-activations"], ["--compile"]):
        CliRunner().invoke(app, [*train, *options])
    assert seen == [(False, False), (True, False), (False, True)]
    refused = CliRunner().invoke(app, [*train, "--compile", "--jobs", "2"])
    assert refused.exit_code == 2 and len(seen) == 3


def test_planning_needs_neither_data_nor_pretrained_weights(tmp_path, monkeypatch):
    def offline(*arguments, **options):
        raise AssertionError("the network was asked")

    monkeypatch.setenv("VIGOR_BOOK_HOME", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", offline)
    plan.make_plan(get_recipe("siamese"), get_profile("full-original"))
    assert not list(tmp_path.iterdir())
