"""The loop: it learns, it resumes exactly, divergence is named. (Two: test_processes.py.)"""

from __future__ import annotations

import collections
import copy
import dataclasses
import errno
import math
import shutil

import accelerate
import numpy as np
import pytest
import torch

from vigorlib import model, retrieval, training
from vigorlib.checkpoints import (
    CheckpointError,
    newest_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from vigorlib.dataset import Vigor
from vigorlib.files import StorageError
from vigorlib.recipes import get_profile, get_recipe
from vigorlib.runs import describe_both, photographs

SMOKE = get_profile("smoke")


@pytest.fixture(scope="module")
def photos(city_root):
    return photographs(city_root, SMOKE, "same-area", "train", progress=False)


def trainer(photos, recipe="vigor", folder=None, profile=SMOKE, seed=0, **changes):
    torch.manual_seed(seed)
    network = model.build(recipe, profile)
    return training.Trainer(
        network,
        photos.data,
        photos.panoramas,
        photos.tiles,
        get_recipe(recipe),
        profile,
        seed,
        folder,
        progress=False,
        **changes,
    )


def test_vigor_trains_triplet_then_hybrid_and_baselines_triplet_as_long():
    full = get_profile("full")
    vigor = training.stages(get_recipe("vigor"), full, "same-area")
    assert [(s.name, s.epochs, s.batch) for s in vigor] == [("triplet", 30, 14), ("hybrid", 15, 10)]
    assert (vigor[1].semi_weight, vigor[1].offset_weight) == (0.1, 0.01)
    cross = training.stages(get_recipe("vigor"), full, "cross-area")
    assert [s.epochs for s in cross] == [11, 10]
    (safa,) = training.stages(get_recipe("safa"), full, "same-area")
    assert (safa.epochs, safa.semi_weight, safa.offset_weight) == (45, 0, 0)


def test_the_second_stage_goes_on_at_the_decayed_rate():
    steps = 30 * (52_609 // 14)
    rate = training.learning_rate(get_profile("full"), steps, 2 * steps)
    assert rate == pytest.approx(1.8e-6, rel=0.02)


def test_cosine_warms_up_and_ends_near_zero():
    mini = get_profile("mini")
    rates = [training.learning_rate(mini, step, 1000) / mini.learning_rate for step in range(1000)]
    assert rates[0] < 0.03 and max(rates) > 0.98 and rates[-1] < 1e-3
    assert int(np.argmax(rates)) in range(40, 60)


def test_a_run_learns_and_keeps_its_history(photos):
    profile = dataclasses.replace(SMOKE, epochs={"same-area": (6, 6)})
    history = trainer(photos, profile=profile).train()
    triplet = [entry["triplet"] for entry in history.losses]
    assert np.mean(triplet[-5:]) < 0.8 * np.mean(triplet[:5])
    assert "iou" not in history.losses[0] and {"iou", "offset"} <= set(history.losses[-1])
    assert history.step == 12 * (len(photos.data) // profile.batch)


def test_gradients_that_overflow_in_float16_are_skipped(photos, monkeypatch):
    """float16 needs a GPU; its scaler does not. Scaled by 2^127, the first gradients are infinite."""
    import accelerate

    class Scaling(accelerate.Accelerator):
        def __init__(self, **settings):
            super().__init__(**settings)
            self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)

    monkeypatch.setattr(accelerate, "Accelerator", Scaling)
    steep = dataclasses.replace(get_recipe("safa"), alpha=1e4)  # gradients beyond 2
    run = trainer(photos, steep)
    before = [p.clone() for p in run.network.parameters()]
    history = run.train()
    assert run.accelerator.scaler.get_scale() < 2.0**127  # halved at each step skipped
    assert all(math.isfinite(entry["loss"]) for entry in history.losses)
    moved = [not torch.equal(a, b) for a, b in zip(before, run.network.parameters(), strict=True)]
    assert any(moved) and all(p.isfinite().all() for p in run.network.parameters())


@pytest.mark.parametrize("stop_at", [3, 9, 17])
def test_an_interrupted_run_ends_as_an_undisturbed_one(photos, tmp_path, stop_at):
    profile = dataclasses.replace(SMOKE, epochs={"same-area": (3, 2)}, checkpoint_steps=4)
    undisturbed = trainer(photos, profile=profile)
    undisturbed.train()

    class Killed(BaseException):
        pass

    def kill(step: int, total: int, text: str) -> None:
        if step == stop_at:
            raise Killed

    with pytest.raises(Killed):
        trainer(photos, profile=profile, folder=tmp_path, report=kill).train()
    resumed = trainer(photos, profile=profile, folder=tmp_path)
    resumed.train()
    assert resumed.state.losses == undisturbed.state.losses
    for a, b in zip(
        resumed.network.state_dict().values(),
        undisturbed.network.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(photos, tmp_path, caplog):
    profile = dataclasses.replace(SMOKE, epochs={"same-area": (1, 1)}, checkpoint_steps=3)
    first = trainer(photos, profile=profile, folder=tmp_path)
    first.train()
    newest = tmp_path / "checkpoint.pt"
    whole = newest.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1  # torch itself would read on
    for damaged in (whole[:500], bytes(flipped), b"", whole[: len(whole) - 1]):
        newest.write_bytes(damaged)
        assert (tmp_path / "checkpoint.previous.pt").exists()
        found = newest_checkpoint(tmp_path)
        assert found[0].name == "checkpoint.previous.pt" and "damaged" in caplog.text
        caplog.clear()
    again = trainer(photos, profile=profile, folder=tmp_path)
    again.train()
    assert "damaged" in caplog.text
    assert again.state.losses == first.state.losses


def test_two_checkpoints_are_kept_and_no_more(photos, tmp_path):
    trainer(photos, folder=tmp_path).train()
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["checkpoint.previous.pt", "checkpoint.pt"]


def test_a_full_disk_stops_training_and_keeps_both_checkpoints(photos, tmp_path, monkeypatch):
    real, calls = torch.save, []

    def full(values, file):
        calls.append(values["step"])
        if len(calls) == 3:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(values, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StorageError, match="checkpoint.pt cannot be written.*Make room"):
        trainer(photos, folder=tmp_path).train()
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["checkpoint.previous.pt", "checkpoint.pt"]
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == calls[1]
    going = trainer(photos, folder=tmp_path)
    assert going.train().losses == trainer(photos).train().losses


def test_a_disk_too_small_for_its_checkpoints_is_refused_before_the_first_step(
    photos, tmp_path, monkeypatch
):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6, 1000))
    going = trainer(photos, folder=tmp_path)
    with pytest.raises(StorageError, match="MB free: expected .* MB for its checkpoints"):
        going.train()
    assert going.state.step == 0 and list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_other_data_or_settings_is_not_gone_on_with(photos, tmp_path):
    trainer(photos, folder=tmp_path).train()
    shifted = copy.copy(photos.data)
    shifted.offsets_px = photos.data.offsets_px + 1
    for other in (
        trainer(dataclasses.replace(photos, data=shifted), folder=tmp_path),
        trainer(photos, folder=tmp_path, seed=1),
        trainer(photos, folder=tmp_path, profile=dataclasses.replace(SMOKE, learning_rate=1e-3)),
    ):
        with pytest.raises(CheckpointError, match="on other data or with other settings"):
            other.train()


def test_checkpoints_from_before_checksums_are_read_and_later_ones_refused(photos, tmp_path):
    first = trainer(photos, folder=tmp_path)
    first.train()
    values = read_checkpoint(tmp_path / "checkpoint.pt")
    old = {k: v for k, v in values.items() if k not in ("format", "signature", "checksum")}
    torch.save(old, tmp_path / "checkpoint.pt")
    assert trainer(photos, folder=tmp_path).train().losses == first.state.losses
    torch.save({**values, "format": 2}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="checkpoint format 2: expected 1"):
        trainer(photos, folder=tmp_path).train()


class Harm:
    """What a checkpoint from a stranger could hold."""

    def __reduce__(self):
        return print, ("executed",)


def test_nothing_in_a_checkpoint_is_executed(photos, tmp_path, capsys, caplog):
    torch.save({"network": Harm()}, tmp_path / "checkpoint.pt")
    trainer(photos, folder=tmp_path).train()
    assert "damaged" in caplog.text and "executed" not in capsys.readouterr().out


def test_a_diverging_run_names_step_and_batch(photos):
    profile = dataclasses.replace(SMOKE, learning_rate=math.inf)
    with pytest.raises(training.TrainingDiverged, match=r"step \d+ .*,.jpg"):
        trainer(photos, profile=profile).train()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_told_with_its_batch_and_the_last_good_checkpoint(
    photos, tmp_path, monkeypatch, bad
):
    """Between two looks at the losses a checkpoint is due: it must not replace the good ones."""
    going = trainer(photos, folder=tmp_path)
    going.window = 10**6  # no look at the losses but before checkpoints, every 5 steps
    real, batches = training.PairLoss.forward, []

    def spoiled(self, panoramas, **rest):
        loss, parts, pair = real(self, panoramas, **rest)
        batches.append(panoramas)
        return loss * (bad if len(batches) >= 13 else 1), parts, pair

    monkeypatch.setattr(training.PairLoss, "forward", spoiled)
    with pytest.raises(training.TrainingDiverged, match="at step 13 of") as told:
        going.train()
    names = str(told.value).split("Its batch: ")[1].split(". The last")[0].split(", ")
    indices = [photos.data.queries.names.tolist().index(name) for name in names]
    assert torch.equal(photos.panoramas[indices], batches[12])
    assert f"{tmp_path / 'checkpoint.pt'}, of step 10" in str(told.value)
    kept = read_checkpoint(tmp_path / "checkpoint.pt")
    assert all(v.isfinite().all() for v in kept["network"].values())


def test_weights_that_are_no_numbers_are_not_kept_though_the_loss_is_one(photos, tmp_path):
    going = trainer(photos, folder=tmp_path)
    step = going._train_step

    def poison(*arguments):
        step(*arguments)
        if going.state.step == 10:  # at a checkpoint
            next(going.network.parameters()).data.fill_(math.nan)

    going._train_step = poison
    with pytest.raises(training.TrainingDiverged, match="weights .* at step 10 .*of step 5"):
        going.train()
    assert newest_checkpoint(tmp_path)[1]["step"] == 5


def test_a_notebook_trains_in_one_precision_and_then_in_another(photos):
    def losses(precision):
        profile = dataclasses.replace(SMOKE, epochs={"same-area": (0, 1)}, precision=precision)
        return [entry["loss"] for entry in trainer(photos, profile=profile).train().losses]

    wide, half, again = losses("float32"), losses("bfloat16"), losses("float32")
    assert wide == again
    assert half != wide
    assert half == pytest.approx(wide, rel=0.05)


def test_scaled_gradients_are_scaled_back_and_the_scale_is_resumed(photos, tmp_path, monkeypatch):
    """What float16 needs on a GPU, with a scaler put in by hand; unscaled, Adam would stand still."""
    plain = trainer(photos).train()

    class Scaling(accelerate.Accelerator):
        def __init__(self, **options):
            super().__init__(**options)
            self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**100, growth_interval=5)

    monkeypatch.setattr(accelerate, "Accelerator", Scaling)
    first = trainer(photos, folder=tmp_path)
    losses = [entry["loss"] for entry in first.train().losses]
    assert losses == pytest.approx([entry["loss"] for entry in plain.losses], rel=1e-4)
    assert first.accelerator.scaler.get_scale() > 2.0**100
    again = trainer(photos, folder=tmp_path)
    again.train()  # already at the end: only the checkpoint is read
    assert again.accelerator.scaler.state_dict() == first.accelerator.scaler.state_dict()


def test_eight_pairs_are_learned_by_heart(photos):
    """Network, losses and optimiser together reach recall 1 on what they saw."""
    data = photos.data
    chosen: list[int] = []
    for query in range(len(data)):
        taken = data.references[chosen].ravel() if chosen else []
        if not np.isin(data.references[query], taken).any():
            chosen.append(query)
        if len(chosen) == 8:
            break
    network = model.build("safa", SMOKE)
    torch.manual_seed(0)
    loss_of = training.PairLoss(
        network, training.Stage("triplet", 1, 8), get_recipe("safa"), floor=None
    )
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    panoramas = photos.panoramas[chosen]
    tiles = photos.tiles[data.references[chosen, 0]]
    nothing = torch.zeros(8, 2)
    for _ in range(120):
        loss, _, _ = loss_of(panoramas, tiles, nothing, nothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ground, satellite = describe_both(network, photos, SMOKE, np.array(chosen), progress=False)
    gallery = satellite.values[torch.from_numpy(data.references[chosen, 0])]
    own = np.arange(8)[:, None].repeat(4, axis=1)
    assert (retrieval.ranks(ground.values, gallery, own, k=1).positive == 0).all()


def test_the_offset_is_learned_with_the_right_sign(photos):
    """By heart on a few pairs the predicted offset must beat the tile's centre; a flip cannot."""
    data, chosen = photos.data, np.arange(16)
    torch.manual_seed(0)
    network = model.build("vigor", SMOKE)
    stage = training.Stage("hybrid", 1, 16, semi_weight=0.1, offset_weight=1.0)
    loss_of = training.PairLoss(network, stage, get_recipe("vigor"), floor=0.1)
    columns = np.zeros((1, 16), dtype=np.int64) + 1
    batch = training.EpochBatches(data, photos.panoramas, photos.tiles, chosen[None], columns)[0]
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(150):
        loss, parts, _ = loss_of(**batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    centre = float((batch["offsets"] ** 2).sum(dim=1).mean())
    assert float(parts["offset"].detach()) < 0.3 * centre
    target = torch.from_numpy(data.offsets_px[chosen, 0] / 320).float()
    assert torch.equal(batch["offsets"], target)


def test_each_process_gets_its_slice_of_the_global_batch(photos):
    data = photos.data
    queries, semi = np.arange(8).reshape(2, 4), np.ones((2, 4), dtype=np.int64)
    arguments = (data, photos.panoramas, photos.tiles, queries, semi)
    whole = training.EpochBatches(*arguments)[1]
    parts = [training.EpochBatches(*arguments, rank, 2)[1] for rank in range(2)]
    assert torch.equal(torch.cat([p["panoramas"] for p in parts]), whole["panoramas"])
    positives = torch.cat([p["tiles"][:2] for p in parts])
    semis = torch.cat([p["tiles"][2:] for p in parts])
    assert torch.equal(torch.cat([positives, semis]), whole["tiles"])
    assert all(torch.equal(p["offsets"], whole["offsets"]) for p in parts)


def test_a_batch_that_processes_cannot_share_is_refused(photos):
    profile = dataclasses.replace(SMOKE, batch=5)
    made = trainer(photos, profile=profile)
    made.accelerator.state._shared_state["num_processes"] = 2
    try:
        with pytest.raises(ValueError, match="a batch of 5 pairs cannot be shared by 2 processes"):
            made._draw(made.stages[0], 0, refresh=False)
    finally:
        made.accelerator.state._shared_state["num_processes"] = 1


def test_unknown_words_name_the_known_ones():
    profile = get_profile("smoke")
    for change, message in (
        ({"schedule": "steps"}, "'exponential' or 'cosine'"),
        ({"optimizer": "sgd"}, "'adam' or 'adamw'"),
        ({"precision": "int8"}, "auto, float32"),
    ):
        changed = dataclasses.replace(profile, **change)
        with pytest.raises(ValueError, match=message):
            training.learning_rate(changed, 0, 1)
            training._optimizer(model.build("safa", changed), changed)
            training.mixed_precision(changed.precision)


def test_data_too_small_for_a_batch_is_refused(city_root, photos):
    small = Vigor(city_root)
    small.queries = dataclasses.replace(small.queries, names=small.queries.names[:3])
    with pytest.raises(ValueError, match="3 queries do not fill one batch of 6"):
        trainer(dataclasses.replace(photos, data=small))


def test_one_full_size_step_runs(photos):
    """The paper's network and image sizes, two pairs, forward and backward in the hybrid stage."""
    profile = dataclasses.replace(get_profile("full"), pretrained=False)
    network = model.build("vigor", profile)
    stage = training.stages(get_recipe("vigor"), profile, "same-area")[1]
    loss_of = training.PairLoss(network, stage, get_recipe("vigor"), profile.iou_floor)
    images = torch.randint(0, 256, (2, 3, *profile.panorama_px), dtype=torch.uint8)
    tiles = torch.randint(0, 256, (4, 3, *profile.tile_px), dtype=torch.uint8)
    loss, parts, (ground, _) = loss_of(
        images, tiles, torch.zeros(2, 2), torch.tensor([[0.6, 0.3], [0.5, 0.2]])
    )
    loss.backward()
    assert set(parts) == {"triplet", "iou", "offset"} and ground.shape == (2, 4096)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize(
    ("recipe", "weight", "term"),
    [
        ("vigor", SMOKE.iou_weight, "iou"),
        ("vigor-semi-distance", SMOKE.iou_weight, "semi-positive"),
        ("vigor-semi-positive", 1.0, "semi-positive"),
        ("vigor-semi-negative", 1.0, "semi-positive"),
        ("vigor-semi-ignored", 0.0, None),
    ],
)
def test_each_assignment_of_semi_positives_adds_its_term(photos, recipe, weight, term):
    going = trainer(photos, recipe)
    assert going.stages[1].semi_weight == weight
    history = going.train()
    assert set(history.losses[-1]) & {"iou", "semi-positive"} == ({term} if term else set())


def test_ratios_of_distances_follow_the_positive_over_the_semi_positive():
    offsets = np.array([[30.0, 40.0], [0.0, 200.0], [0.0, 0.0]])
    near = training.nearness(offsets)
    assert near[1] / near[0] == pytest.approx(50 / 200)
    assert near[2] == 1  # a query at the very centre divides by nothing


def test_the_papers_loss_weights_replace_the_profiles():
    (_, hybrid) = training.stages(get_recipe("vigor-paper-weights"), SMOKE, "same-area")
    assert (hybrid.semi_weight, hybrid.offset_weight) == (1.0, 1.0)


def test_a_restart_begins_the_second_stage_at_the_first_rate_without_memory(photos):
    seen = {}
    for recipe in ("vigor", "vigor-restart"):
        going = trainer(photos, recipe)
        cleared = []
        state = going.optimizer.state
        step = going._train_step

        def counted(stage, *rest, going=going, step=step, state=state, cleared=cleared):
            if going.state.step == going._first_step(going.stages[1]):
                cleared.append(len(state) == 0)
            step(stage, *rest)

        going._train_step = counted
        history = going.train()
        rates = {entry["step"]: entry["learning_rate"] for entry in history.losses}
        seen[recipe] = (cleared, rates[going._first_step(going.stages[1]) + 3])
    assert seen["vigor"][0] == [False] and seen["vigor-restart"][0] == [True]
    assert seen["vigor-restart"][1] > 2 * seen["vigor"][1]


def test_unknown_headings_roll_every_panorama_by_its_own_angle(photos):
    going = trainer(photos, "vigor-any-heading")
    batches = going._draw(going.stages[0], 0, refresh=True)
    assert batches.turns is not None and len(np.unique(batches.turns)) > 10
    plain = photos.panoramas[batches.queries[0]]
    for image, rolled, by in zip(plain, batches[0]["panoramas"], batches.turns[0], strict=True):
        assert torch.equal(image.roll(int(by), -1), rolled)


def test_a_share_of_the_queries_trains_as_many_steps(photos):
    whole, part = trainer(photos), trainer(photos, "vigor-quarter-data")
    assert part.total == whole.total
    drawn = np.unique(part._draw(part.stages[0], 0, refresh=True).queries)
    allowed = part._training_queries()
    assert len(allowed) == len(photos.data) // 4 and np.isin(drawn, allowed).all()


def test_a_fresh_pool_holds_what_the_network_says_now(photos):
    going = trainer(photos, "vigor-fresh-pool")
    going._draw(going.stages[0], SMOKE.mining_from_epoch, refresh=True)
    going.network.eval()
    with torch.no_grad():
        now = torch.nn.functional.normalize(
            going.network.describe_ground(photos.panoramas[[0, 7]]), dim=1
        )
    torch.testing.assert_close(going.pool.ground[[0, 7]], now, rtol=1e-4, atol=1e-5)


def test_a_skipped_epoch_shortens_the_first_stage():
    first, second = training.stages(
        get_recipe("vigor-epoch-less"), get_profile("full"), "cross-area"
    )
    assert (first.epochs, second.epochs) == (10, 10)


def test_time_of_training_is_added_up_over_interruptions(photos, tmp_path):
    first = trainer(photos, folder=tmp_path)
    first.train()
    values = read_checkpoint(tmp_path / "checkpoint.pt")
    save_checkpoint(tmp_path, {**values, "seconds": 1000.0}, values["signature"])
    assert 1000 < trainer(photos, folder=tmp_path).train().seconds < 1060
