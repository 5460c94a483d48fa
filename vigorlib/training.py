"""One training loop: two stages, mining, mixed precision, exact resume, one process or many.

Everything random is drawn from generators seeded by (seed, epoch), so a checkpoint needs no
generator state: the step it was written at says which batch comes next.

With several processes (``accelerate launch -m vigorlib train ...``) each computes the descriptors
of its slice of the batch, all are gathered with their gradients, and every process computes the
loss of the whole global batch: the negatives, and the statistics of batch normalisation, are those
of one process with the same batch. The main process keeps the mining pool, with everyone's
descriptors, and tells the others what it finds hard; it alone writes checkpoints.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm.auto import tqdm

from vigorlib import losses, processes
from vigorlib.checkpoints import (
    newest_checkpoint,
    read_checkpoint,
    require_signature,
    room_wanted,
    save_checkpoint,
)
from vigorlib.dataset import Vigor
from vigorlib.descriptors import describe
from vigorlib.device import has_bfloat16, out_of_memory_explained
from vigorlib.files import require_room
from vigorlib.geometry import HALF_TILE_PX, tile_iou
from vigorlib.images import Pixels, turned
from vigorlib.mining import Indices, OverlapFreeBatches, Pool
from vigorlib.model import CrossViewNet
from vigorlib.processes import gathered
from vigorlib.recipes import Profile, Recipe, settings_hash


class TrainingDiverged(RuntimeError):
    """The loss is no longer a finite number: at which step, of which photographs, what is kept."""


@dataclass(frozen=True)
class Stage:
    """A stretch of training with one loss. Weights of zero leave a term out.

    semi_positives, offset: the recipe's words for what the terms are.
    """

    name: str
    epochs: int
    batch: int
    semi_weight: float = 0.0
    offset_weight: float = 0.0
    semi_positives: str = "iou"
    offset: str = "regression"


SEMI_POSITIVES = ("iou", "distance", "positive", "negative", "ignored")
PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
"""What a profile calls a precision: what Accelerate and a run's record call it."""


def stages(recipe: Recipe, profile: Profile, protocol: str) -> list[Stage]:
    """Triplet, then hybrid for recipes that have it; the same number of epochs for those without.

    Semi-positives that follow a ratio have the profile's small weight (VIGOR Eq. 2); taken for
    positives or negatives they weigh as much as these.
    """
    triplet, hybrid = profile.epochs[protocol]
    triplet -= recipe.skip_epochs
    if not recipe.hybrid:
        return [Stage("triplet", triplet + hybrid, profile.batch)]
    semi, offset = recipe.semi_positives, recipe.offset
    if semi not in SEMI_POSITIVES:
        raise ValueError(f"unknown semi_positives {semi!r}: expected {', '.join(SEMI_POSITIVES)}")
    ratio = profile.iou_weight if recipe.iou_weight is None else recipe.iou_weight
    semi_weight = {"iou": ratio, "distance": ratio, "ignored": 0.0}.get(semi, 1.0)
    head = profile.offset_weight if recipe.offset_weight is None else recipe.offset_weight
    offset_weight = 0.0 if offset == "none" else head
    return [
        Stage("triplet", triplet, profile.batch),
        Stage("hybrid", hybrid, profile.hybrid_batch, semi_weight, offset_weight, semi, offset),
    ]


def learning_rate(profile: Profile, step: int, total: int) -> float:
    """``exponential``: tenfold less in 150,000 steps (the original). ``cosine``: 5 % warm-up."""
    if profile.schedule == "exponential":
        return profile.learning_rate * 0.1 ** (step / 150_000)
    if profile.schedule == "cosine":
        progress = step / max(total, 1)
        return profile.learning_rate * min(
            (step + 1) / max(0.05 * total, 1), 0.5 * (1 + math.cos(math.pi * progress))
        )
    raise ValueError(f"unknown schedule {profile.schedule!r}: expected 'exponential' or 'cosine'")


# -- what a step computes --------------------------------------------------------------------


class PairLoss(nn.Module):
    """Network and losses of one stage: a batch of pairs in, the loss and its parts out.

    A module of its own so that distributed training can wrap all of it.
    """

    def __init__(self, network: CrossViewNet, stage: Stage, recipe: Recipe, floor: float | None):
        super().__init__()
        self.network, self.stage, self.recipe, self.floor = network, stage, recipe, floor

    def forward(
        self, panoramas: Tensor, tiles: Tensor, offsets: Tensor, closeness: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor, Tensor]]:
        """panoramas (b, 3, H, W); tiles (b, 3, h, w), or (2 b, ...) positives then semi-positives;
        offsets (B, 2) in half tiles and closeness (B, 2), of positive and semi-positive, of the
        *global* batch, B = b * processes.

        Returns the loss, its parts, and the normalised descriptors (B, D) of queries and positives.
        """
        ground_raw = gathered(self.network.describe_ground(panoramas))
        count = len(panoramas)
        satellite = self.network.describe_satellite(tiles)
        positive_raw = gathered(satellite[:count])
        with torch.autocast(panoramas.device.type, enabled=False):
            ground, positive = F.normalize(ground_raw, dim=1), F.normalize(positive_raw, dim=1)
            parts = {
                "triplet": losses.soft_margin_triplet(
                    ground, positive, self.recipe.alpha, self.recipe.include_diagonal
                )
            }
            total = parts["triplet"]
            if self.stage.semi_weight:
                semi = F.normalize(gathered(satellite[count:]), dim=1)
                name = "iou" if self.stage.semi_positives == "iou" else "semi-positive"
                parts[name] = self._semi_positive_loss(ground, positive, semi, closeness)
                total = total + self.stage.semi_weight * parts[name]
            if self.stage.offset_weight and self.network.offset is not None:
                head = self.network.offset
                scores = head.scores(ground_raw, positive_raw)
                parts["offset"] = (
                    losses.offset_classification(scores, head.cell_of(offsets))
                    if self.stage.offset == "classification"
                    else losses.offset_regression(scores, offsets)
                )
                total = total + self.stage.offset_weight * parts["offset"]
        return total, parts, (ground.detach(), positive.detach())

    def _semi_positive_loss(
        self, ground: Tensor, positive: Tensor, semi: Tensor, closeness: Tensor
    ) -> Tensor:
        alpha = self.recipe.alpha
        if self.stage.semi_positives == "positive":
            return losses.soft_margin_triplet(ground, semi, alpha, self.recipe.include_diagonal)
        if self.stage.semi_positives == "negative":
            return losses.semi_positive_as_negative(ground, positive, semi, alpha)
        return losses.iou_semi_positive(
            ground, positive, semi, closeness[:, 0], closeness[:, 1], self.floor
        )


# -- batches ---------------------------------------------------------------------------------


class EpochBatches(Dataset[dict[str, Tensor]]):
    """The steps of one epoch, item i being the tensors of step i for one process.

    queries: (steps, B) query indices; semi: (steps, B) which of the three semi-positives, 1..3;
    closeness: of a tile by its offset, (..., 2) -> (...); turns: (steps, B) columns by which each
    panorama is rolled.
    """

    def __init__(
        self,
        data: Vigor,
        panoramas: Pixels,
        tiles: Pixels,
        queries: Indices,
        semi: Indices | None,
        rank: int = 0,
        processes: int = 1,
        closeness: Callable[[NDArray[np.float64]], NDArray[np.float64]] = tile_iou,
        turns: Indices | None = None,
    ) -> None:
        self.data, self.panoramas, self.tiles = data, panoramas, tiles
        self.queries, self.semi, self.closeness, self.turns = queries, semi, closeness, turns
        share = queries.shape[1] // processes
        self.mine = slice(rank * share, (rank + 1) * share)

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        queries = self.queries[step]
        references, offsets = self.data.references[queries], self.data.offsets_px[queries]
        columns = np.zeros((len(queries), 1 if self.semi is None else 2), dtype=np.int64)
        if self.semi is not None:
            columns[:, 1] = self.semi[step]
        wanted = np.take_along_axis(references, columns, axis=1)[self.mine]  # (b, 1 or 2)
        closeness = np.take_along_axis(self.closeness(offsets), columns, axis=1)
        panoramas = self.panoramas[queries[self.mine]]
        if self.turns is not None:
            panoramas = turned(panoramas, self.turns[step, self.mine])
        return {
            "panoramas": panoramas,
            "tiles": self.tiles[wanted.T.reshape(-1)],  # positives, then semi-positives
            "offsets": torch.from_numpy(offsets[:, 0] / HALF_TILE_PX).float(),
            "closeness": torch.from_numpy(closeness).float(),
        }


def nearness(offset_px: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse distance of a tile's centre from the query: its ratios are VIGOR's distance ratios.

    (..., 2) offsets in pixels -> (...), at most 1 (a pixel).
    """
    return 1 / np.maximum(np.linalg.norm(offset_px, axis=-1), 1)


# -- the loop --------------------------------------------------------------------------------


@dataclass
class Progress:
    """Where training stands and what it has seen; part of every checkpoint.

    losses: one entry a logged window, means over its steps. watched: one entry an epoch.
    sums: the window that is not logged yet. seconds: of training, interruptions left out.
    """

    step: int = 0
    seconds: float = 0.0
    sums: dict[str, Tensor] = field(default_factory=dict)
    losses: list[dict[str, float]] = field(default_factory=list)
    watched: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """Trains a network on a data set by a recipe at the size of a profile.

    folder: where checkpoints go (None: none). watch: called with the network after each epoch, in
    every process; its numbers are kept in the history. report: called with (step, steps, text) now
    and then, in the main process.
    """

    def __init__(
        self,
        network: CrossViewNet,
        data: Vigor,
        panoramas: Pixels,
        tiles: Pixels,
        recipe: Recipe,
        profile: Profile,
        seed: int = 0,
        folder: Path | None = None,
        watch: Callable[[CrossViewNet], dict[str, float]] | None = None,
        report: Callable[[int, int, str], None] | None = None,
        progress: bool = True,
    ) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        device = processes.join()
        if AcceleratorState._shared_state:  # this notebook may have trained in another precision
            AcceleratorState._reset_state()
        self.accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=mixed_precision(profile.precision),
        )
        self.data, self.panoramas, self.tiles = data, panoramas, tiles
        self.recipe, self.profile, self.seed, self.folder = recipe, profile, seed, folder
        self.watch, self.report, self.show_bar = watch, report, progress
        self.stages = stages(recipe, profile, data.protocol)
        self.steps_per_epoch = len(data) // profile.batch
        if self.steps_per_epoch < 1:
            raise ValueError(
                f"{len(data)} queries do not fill one batch of {profile.batch}: expected more data "
                "or a smaller batch"
            )
        self.total = self.steps_per_epoch * sum(stage.epochs for stage in self.stages)
        self.window = max(self.total // 200, 1)  # steps a logged entry sums up
        processes.share_batch_norm(network, device)
        self.network = network.to(device).to(memory_format=torch.channels_last)
        if profile.compile:
            if profile.checkpoint_activations and torch.__version__.startswith("2.6."):
                raise ValueError(
                    "torch 2.6 cannot compile a network that recomputes its activations: expected "
                    "compile or checkpoint_activations, not both, or a newer torch"
                )
            for branch in (network.ground, network.satellite):
                branch.compile()  # in place: names of weights stay
        # prepared, so that float16's scaled gradients are scaled back and overflows skipped
        self.optimizer = self.accelerator.prepare_optimizer(_optimizer(network, profile))
        self.sampler = OverlapFreeBatches(data.references, self._training_queries())
        self.pool = (
            Pool(len(data), len(data.tiles), network.dimension, 64 if device.type == "cuda" else 1)
            if recipe.mining and processes.is_main()
            else None
        )
        self.hard: Indices | None = None
        self.state = Progress()
        self._unseen: list[tuple[Tensor, Indices]] = []  # losses not yet looked at, their queries
        self._last: Indices = np.empty(0, np.int64)  # the queries of the last step
        self._began = time.perf_counter()
        self._modules: dict[str, nn.Module] = {}

    def train(self) -> Progress:
        """Run (or go on) to the end. Returns the history.

        Raises :class:`TrainingDiverged` when the loss stops being a number, StorageError when a
        checkpoint has no room, CheckpointError when the folder holds another training's.
        """
        self._resume()
        if self.folder and self.accelerator.is_main_process and self.state.step < self.total:
            require_room(self.folder, self._room_wanted(), "its checkpoints")
        self._began = time.perf_counter() - self.state.seconds
        main = self.accelerator.is_main_process
        with tqdm(
            total=self.total,
            initial=self.state.step,
            desc=f"{self.recipe.name} {self.data.protocol}",
            unit="step",
            disable=not (self.show_bar and main),
        ) as bar:
            for stage, epoch in self._remaining_epochs():
                with out_of_memory_explained(
                    f"the {stage.name} stage, {stage.batch} pairs a step,"
                ):
                    self._train_epoch(stage, epoch, bar)
        self.state.seconds = time.perf_counter() - self._began
        if self.folder and main:
            self._save()
        return self.state

    def _training_queries(self) -> Indices | None:
        """The queries that may be drawn; None for all."""
        if self.recipe.training_share == 1:
            return None
        order = np.random.default_rng([self.seed, 2]).permutation(len(self.data))
        return np.sort(order[: max(int(self.recipe.training_share * len(order)), 1)])

    def _remaining_epochs(self) -> Iterator[tuple[Stage, int]]:
        epoch = 0
        for stage in self.stages:
            for _ in range(stage.epochs):
                if self.state.step < (epoch + 1) * self.steps_per_epoch:
                    yield stage, epoch
                epoch += 1

    def _train_epoch(self, stage: Stage, epoch: int, bar: tqdm[Any]) -> None:
        done = self.state.step - epoch * self.steps_per_epoch
        if self.recipe.restart and self.state.step == self._first_step(stage):
            self.optimizer.state.clear()
        batches = self._draw(stage, epoch, refresh=done == 0)
        loss_module = self._wrapped(stage)
        self.network.train()
        for i, batch in enumerate(self._loader(batches, done), start=done):
            self._train_step(stage, loss_module, batch, batches.queries[i])
            bar.update()
            if self.state.step % self.window == 0:
                self._log(stage, epoch)
                bar.set_postfix_str(f"{stage.name} loss {self.state.losses[-1]['loss']:.3f}")
            last = i + 1 == len(batches)
            if self.state.step % self.profile.checkpoint_steps == 0 and not last:
                self._save()
        if self.watch is not None:
            self.state.watched.append({"step": self.state.step, **self.watch(self.network)})
        self._save()

    def _first_step(self, stage: Stage) -> int:
        before = self.stages[: self.stages.index(stage)]
        return self.steps_per_epoch * sum(earlier.epochs for earlier in before)

    def _learning_rate(self, stage: Stage) -> float:
        """Over all of training, or anew for each stage."""
        if not self.recipe.restart:
            return learning_rate(self.profile, self.state.step, self.total)
        step = self.state.step - self._first_step(stage)
        return learning_rate(self.profile, step, self.steps_per_epoch * stage.epochs)

    def _train_step(
        self, stage: Stage, module: nn.Module, batch: dict[str, Tensor], queries: Indices
    ) -> None:
        rate = self._learning_rate(stage)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = {k: v.to(self.accelerator.device, non_blocking=True) for k, v in batch.items()}
        loss, parts, (ground, positive) = module(**batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self.optimizer.step()
        if self.pool is not None:
            self.pool.update(queries, ground, self.data.references[queries, 0], positive)
        self._unseen.append((loss.detach(), queries))
        self._last = queries
        sums = self.state.sums
        for name, value in {"loss": loss, **parts}.items():
            sums[name] = sums.get(name, torch.zeros_like(loss)) + value.detach()
        self.state.step += 1

    def _draw(self, stage: Stage, epoch: int, refresh: bool) -> EpochBatches:
        """The batches of an epoch, the same whenever and wherever it is drawn."""
        rng = np.random.default_rng([self.seed, epoch])
        mining = self.recipe.mining and epoch >= self.profile.mining_from_epoch
        if mining and refresh:
            if self.recipe.fresh_pool:
                self._describe_pool()
            self.hard = processes.from_main(partial(self._hardest, epoch))
        hard = self.hard if mining else None
        queries = self.sampler.epoch(
            self.steps_per_epoch, stage.batch, rng, hard, self.recipe.mined_share
        )
        semi = rng.integers(1, 4, queries.shape) if stage.semi_weight else None
        turns = None
        if self.recipe.orientation == "unknown":
            turns = rng.integers(0, self.profile.panorama_px[1], queries.shape)
        closeness = nearness if stage.semi_positives == "distance" else tile_iou
        index, count = self.accelerator.process_index, self.accelerator.num_processes
        if stage.batch % count:
            raise ValueError(
                f"a batch of {stage.batch} pairs cannot be shared by {count} processes: "
                "expected a multiple (set the profile's batch and hybrid_batch)"
            )
        return EpochBatches(
            self.data, self.panoramas, self.tiles, queries, semi, index, count, closeness, turns
        )

    def _hardest(self, epoch: int) -> Indices:
        assert self.pool is not None  # the main process has it
        candidates = self.sampler.positive_tiles
        return self.pool.hardest(
            self.data.references,
            candidates,
            self.profile.pool_hard,
            np.random.default_rng([self.seed, epoch, 1]),
            min(self.profile.pool_tiles, int(self.recipe.pool_share * len(candidates))),
            self.accelerator.device,
        )

    def _describe_pool(self) -> None:
        """Replace what the pool remembers by what the network says now; all processes share it."""
        where = {
            "device": self.accelerator.device,
            "precision": mixed_precision(self.profile.precision),
        }
        everyone, tiles = np.arange(len(self.data)), self.sampler.positive_tiles
        self.network.eval()
        ground = describe(self.network.describe_ground, self.panoramas, everyone, **where)
        satellite = describe(self.network.describe_satellite, self.tiles, tiles, **where)
        if self.pool is not None:
            self.pool.update(everyone, ground.values, tiles, satellite.values)

    def _loader(self, batches: EpochBatches, done: int) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(
            Subset(batches, range(done, len(batches))),
            batch_size=None,
            num_workers=self.panoramas.workers,
            pin_memory=self.accelerator.device.type == "cuda",
        )

    def _wrapped(self, stage: Stage) -> nn.Module:
        """The stage's loss, wrapped for several processes; parameters it does not use are frozen."""
        if self.network.offset is not None:
            self.network.offset.requires_grad_(stage.offset_weight > 0)
        if stage.name not in self._modules:
            module = PairLoss(self.network, stage, self.recipe, self.profile.iou_floor)
            self._modules[stage.name] = self.accelerator.prepare_model(module)
        return self._modules[stage.name]

    def _require_finite(self) -> None:
        """Look at the losses since the last look: none waits for the GPU, none gets by.

        Before each checkpoint too, so that every one that is kept is good.
        """
        unseen, self._unseen = self._unseen, []
        losses = torch.stack([loss for loss, _ in unseen]).tolist() if unseen else []
        first = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), None)
        if first is None:
            return
        step = self.state.step - len(losses) + first + 1
        raise self._diverged(f"the loss is {losses[first]}", step, unseen[first][1])

    def _require_finite_weights(self) -> None:
        """A finite loss may have infinite gradients: what is kept must be good all the same."""
        if not all(p.isfinite().all() for p in self.network.parameters()):
            raise self._diverged("weights are no finite numbers", self.state.step, self._last)

    def _diverged(self, what: str, step: int, queries: Indices) -> TrainingDiverged:
        stage = [s for s in self.stages if step > self._first_step(s)][-1]
        names = ", ".join(self.data.queries.names[queries])
        good = newest_checkpoint(self.folder) if self.folder else None
        kept = f"{good[0]}, of step {good[1]['step']}" if good else "none was written yet"
        return TrainingDiverged(
            f"{what} at step {step} of {self.total} (stage {stage.name}, epoch "
            f"{(step - 1) // self.steps_per_epoch}). Its batch: {names}. The last good checkpoint: "
            f"{kept}. Look at these photographs, lower the learning rate or use "
            "precision='float32' (another setting is another run)"
        )

    def _log(self, stage: Stage, epoch: int) -> None:
        self._require_finite()
        means = {name: float(value) / self.window for name, value in self.state.sums.items()}
        self.state.sums = {}
        rate = self.optimizer.param_groups[0]["lr"]
        self.state.losses.append(
            {
                "step": self.state.step,
                "epoch": epoch,
                "learning_rate": float(f"{rate:.6g}"),
                **{name: float(f"{value:.6g}") for name, value in means.items()},
            }
        )
        if self.report is not None and self.accelerator.is_main_process:
            self.report(self.state.step, self.total, f"{stage.name} loss {means['loss']:.3f}")

    # -- checkpoints --

    def _save(self) -> None:
        self._require_finite()
        self._require_finite_weights()
        if self.folder is None or not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        self.state.seconds = time.perf_counter() - self._began
        values: dict[str, Any] = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler else {},
            "step": self.state.step,
            "seconds": self.state.seconds,
            "sums": self.state.sums,
            "history": json.dumps([self.state.losses, self.state.watched]),
            "pool": self.pool.state_dict() if self.pool else {},
            "hard": torch.from_numpy(self.hard) if self.hard is not None else torch.empty(0),
        }
        save_checkpoint(self.folder, values, self._signature())

    def _room_wanted(self) -> float:
        """Bytes that checkpoints and network may still come to need."""
        assert self.folder is not None
        there = sum(file.stat().st_size for file in self.folder.glob("checkpoint*.pt"))
        return room_wanted(self.network, self.pool.state_dict() if self.pool else {}) - there

    def _signature(self) -> str:
        """Changes with what is trained on what: settings, seed, samples and their labels."""
        digest = hashlib.sha256(settings_hash(self.recipe, self.profile).encode())
        digest.update(f"{self.seed} {self.data.protocol}".encode())
        digest.update("\n".join(self.data.queries.names).encode())
        for array in (self.data.references, self.data.offsets_px):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    def _resume(self) -> None:
        """Go on where the newest whole checkpoint was written, all processes at the same one."""
        found: list[dict[str, Any]] = []

        def look() -> Path | None:
            if self.folder is None or (newest := newest_checkpoint(self.folder)) is None:
                return None
            require_signature(*newest, self._signature())
            found.append(newest[1])
            return newest[0]

        path = processes.from_main(look)
        if path is None:
            return
        values = found[0] if found else read_checkpoint(path)
        self.network.load_state_dict(values["network"])
        self.optimizer.load_state_dict(values["optimizer"])
        if self.accelerator.scaler and values["scaler"]:
            self.accelerator.scaler.load_state_dict(values["scaler"])
        self.state.step, self.state.sums = values["step"], values["sums"]
        self.state.seconds = values.get("seconds", 0.0)  # younger than some checkpoints
        self.state.losses, self.state.watched = json.loads(values["history"])
        if self.pool is not None:
            self.pool.load_state_dict(values["pool"])
        self.hard = values["hard"].numpy() if len(values["hard"]) else None


def _optimizer(network: nn.Module, profile: Profile) -> torch.optim.Optimizer:
    """Adam as the original, or AdamW whose decay spares biases and normalisation."""
    groups = [
        {
            "params": [p for p in network.parameters() if p.ndim > 1],
            "weight_decay": profile.weight_decay,
        },
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if profile.optimizer == "adam":
        return torch.optim.Adam(groups, profile.learning_rate)
    if profile.optimizer == "adamw":
        return torch.optim.AdamW(groups, profile.learning_rate)
    raise ValueError(f"unknown optimizer {profile.optimizer!r}: expected 'adam' or 'adamw'")


def mixed_precision(precision: str) -> str:
    """A profile's precision in Accelerate's words; ``auto`` asks the hardware."""
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16() else "float32"
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}: expected auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[precision]
