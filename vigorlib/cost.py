"""What a training step costs: counted without running it, and measured by running it.

Counting sends tensors that have a shape but no memory through the real network: floating-point
operations come from torch's own counter, activations from what autograd would keep.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from vigorlib import device as devices
from vigorlib import model
from vigorlib.recipes import Profile, Recipe
from vigorlib.training import PairLoss, Stage, _optimizer, mixed_precision

DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one forward pass (a multiplication and an addition are two)."""

    panorama: int
    tile: int
    offset: int

    def step(self, stage: Stage, recompute: bool = False) -> int:
        """Of a training step: backward counts as two forward passes, recomputation as one more."""
        tiles = stage.batch * tiles_a_pair(stage)
        branches = stage.batch * self.panorama + tiles * self.tile
        head = stage.batch * self.offset if stage.offset_weight else 0
        return (4 if recompute else 3) * branches + 3 * head


@dataclass(frozen=True)
class Activations:
    """Bytes that one step keeps for its backward pass.

    kept: of the whole step. recomputed: of the largest segment that checkpointing computes again
    (0 without). largest: of the largest single tensor.
    """

    kept: int
    recomputed: int
    largest: int


@dataclass(frozen=True)
class Measured:
    """Real steps: seconds of each, peak memory of the process (CPU) or of its tensors (GPU)."""

    device: str
    precision: str
    pairs: int
    tiles: int
    flops: int
    seconds: tuple[float, ...]
    peak_bytes: int | None
    loss: float

    @property
    def seconds_a_step(self) -> float:
        """Mean of all steps but the first, which warms up; of the first if it is alone."""
        steps = self.seconds[1:] or self.seconds
        return sum(steps) / len(steps)

    @property
    def tflops(self) -> float:
        """10^12 operations a second, as achieved."""
        return self.flops / self.seconds_a_step / 1e12


def tiles_a_pair(stage: Stage) -> int:
    """A positive, and with the IOU loss a semi-positive."""
    return 2 if stage.semi_weight else 1


def skeleton(recipe: Recipe, profile: Profile) -> model.CrossViewNet:
    """The network with shapes and no memory."""
    with model.without_weights():
        return model.build(recipe, profile, imagenet=False)


# -- counted ---------------------------------------------------------------------------------


def forward_flops(network: model.CrossViewNet, profile: Profile) -> Flops:
    """Operations for one panorama, one tile and one predicted offset."""
    device = next(network.parameters()).device

    def count(module: nn.Module, *shapes: tuple[int, ...]) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(*(torch.empty(1, *shape, device=device) for shape in shapes))
        return int(counter.get_total_flops())

    descriptor = (network.dimension,)
    return Flops(
        count(network.ground, (3, *profile.panorama_px)),
        count(network.satellite, (3, *profile.tile_px)),
        count(network.offset, descriptor, descriptor) if network.offset is not None else 0,
    )


def activations(recipe: Recipe, profile: Profile, stage: Stage, precision: str) -> Activations:
    """What a step of ``stage`` keeps for its backward pass, counted tensor by tensor.

    precision: ``float32``, ``bfloat16`` or ``float16``; autocast as in training.
    """
    network = skeleton(recipe, profile)
    step = PairLoss(network, stage, recipe, profile.iou_floor).train()
    with FakeTensorMode():
        kept = _Kept()
        weights = _weights(step)
        with kept.of(weights.values()), _autocast("cpu", precision):
            functional_call(step, weights, kwargs=random_batch(profile, stage))
        segments: list[_Kept] = []
        if profile.checkpoint_activations:
            tiles = stage.batch * tiles_a_pair(stage)
            segments += _segments(network.ground, stage.batch, profile.panorama_px, precision)
            segments += _segments(network.satellite, tiles, profile.tile_px, precision)
    return Activations(
        kept=kept.total,
        recomputed=max((segment.total for segment in segments), default=0),
        largest=max(each.largest for each in (kept, *segments)),
    )


def _segments(
    branch: model.Branch, images: int, size: tuple[int, int], precision: str
) -> list[_Kept]:
    """What each of a branch's segments keeps when computed on its own."""
    features, found = torch.empty(images, 3, *size), []
    for segment in branch.segments():
        kept, weights = _Kept(), _weights(segment)
        with kept.of(weights.values()), _autocast("cpu", precision):
            features = functional_call(segment, weights, features)
        found.append(kept)
    return found


class _Kept:
    """Sums up the tensors that autograd keeps, each memory once, weights not at all."""

    def __init__(self) -> None:
        self.tensors: dict[int, Tensor] = {}  # held, so that no memory's identity is used twice

    def of(self, weights: Iterable[Tensor]) -> saved_tensors_hooks:
        own = {weight.untyped_storage()._cdata for weight in weights}

        def keep(tensor: Tensor) -> Tensor:
            identity = tensor.untyped_storage()._cdata
            if identity not in own:
                self.tensors[identity] = tensor
            return tensor

        return saved_tensors_hooks(keep, lambda tensor: tensor)

    @property
    def sizes(self) -> list[int]:
        return [tensor.untyped_storage().nbytes() for tensor in self.tensors.values()]

    @property
    def total(self) -> int:
        return sum(self.sizes)

    @property
    def largest(self) -> int:
        return max(self.sizes, default=0)


def _weights(module: nn.Module) -> dict[str, Tensor]:
    """Stand-ins for a skeleton's weights, to be made under FakeTensorMode."""
    return {
        name: torch.empty(value.shape, dtype=value.dtype, requires_grad=value.requires_grad)
        for name, value in chain(module.named_parameters(), module.named_buffers())
    }


def _autocast(kind: str, precision: str) -> torch.autocast:
    if precision not in DTYPES:
        raise ValueError(f"unknown precision {precision!r}: expected one of {', '.join(DTYPES)}")
    dtype = DTYPES[precision]
    return torch.autocast(kind, dtype=dtype, enabled=dtype is not None)


# -- measured --------------------------------------------------------------------------------


def random_batch(
    profile: Profile, stage: Stage, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """Images of random bytes in the shape of a step's batch."""
    generator = torch.Generator(device).manual_seed(0)

    def images(count: int, size: tuple[int, int]) -> Tensor:
        shape = (count, 3, *size)
        values = torch.randint(0, 256, shape, dtype=torch.uint8, device=device, generator=generator)
        return values.contiguous(memory_format=torch.channels_last)

    return {
        "panoramas": images(stage.batch, profile.panorama_px),
        "tiles": images(stage.batch * tiles_a_pair(stage), profile.tile_px),
        "offsets": torch.zeros(stage.batch, 2, device=device),
        "closeness": torch.full((stage.batch, 2), 0.5, device=device),
    }


def random_batch_bytes(profile: Profile, stage: Stage) -> int:
    """Of such a batch's images, a byte a colour."""
    tiles = stage.batch * tiles_a_pair(stage)
    sizes = (stage.batch, profile.panorama_px), (tiles, profile.tile_px)
    return sum(count * 3 * height * width for count, (height, width) in sizes)


def measure(
    recipe: Recipe,
    profile: Profile,
    stage: Stage,
    precision: str,
    device: torch.device,
    steps: int = 3,
    seconds: float = 60.0,
) -> Measured:
    """Run real steps (forward, backward, optimiser) of the whole network on random images.

    At least one step, then up to ``steps`` while ``seconds`` have not passed. Initial weights are
    random: they change no time and no memory.
    """
    torch.manual_seed(0)
    network = model.build(recipe, profile, imagenet=False).to(device)
    network = network.to(memory_format=torch.channels_last).train()
    if profile.compile:
        for branch in (network.ground, network.satellite):
            branch.compile()
    flops = forward_flops(skeleton(recipe, profile), profile)
    step = PairLoss(network, stage, recipe, profile.iou_floor)
    optimizer = _optimizer(network, profile)
    batch = random_batch(profile, stage, device)
    times: list[float] = []
    with devices.out_of_memory_explained(f"a step of {stage.batch} pairs"):
        while not times or (len(times) < steps and sum(times) < seconds):
            started = time.perf_counter()
            with _autocast(device.type, precision):
                loss, _, _ = step(**batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            value = float(loss.detach())  # waits for a GPU
            times.append(time.perf_counter() - started)
    return Measured(
        device=_name(device, precision),
        precision=precision,
        pairs=stage.batch,
        tiles=len(batch["tiles"]),
        flops=flops.step(stage, profile.checkpoint_activations),
        seconds=tuple(times),
        peak_bytes=devices.peak_bytes(device),
        loss=value,
    )


def _name(device: torch.device, precision: str) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    emulates = precision != "float32" and mixed_precision("auto") == "no"
    return f"CPU (which emulates {precision}: slow)" if emulates else "CPU"
