"""Several processes at one run: who is who, what one decides for all, rows put together.

``accelerate launch`` (or ``torchrun``) starts the same program once for each GPU. All of them go
the same way through it: the main process looks, locks, decides and writes, and the others are told;
work that can be divided is dealt out and its results are put together again in order. In a single
process every function here just does the work.

When a process fails, the launcher ends the others at once. Started without one, the others give up
when the connection breaks or nothing has been heard for :data:`PATIENCE`. An error in what the main
process does for all (:func:`from_main`) is raised in every process.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed.nn.functional
from torch import Tensor, nn

from vigorlib import locks

log = logging.getLogger(__name__)

Made = TypeVar("Made")

PATIENCE = timedelta(minutes=30)
"""How long a process waits for another; nothing that one does alone may take longer."""


# -- who is who ------------------------------------------------------------------------------


def join() -> torch.device:
    """Meet the other processes if a launcher started some; once is enough, again does no harm.

    Returns the device of this process.
    """
    from accelerate import PartialState

    cpu = not torch.accelerator.is_available()  # else it overlooks processes on the CPU
    return PartialState(cpu=cpu, timeout=PATIENCE).device


def leave() -> None:
    """The end of the program: part in good order."""
    if _started():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def count() -> int:
    return torch.distributed.get_world_size() if _started() else 1


def index() -> int:
    """Of this process, from 0."""
    return torch.distributed.get_rank() if _started() else 0


def is_main() -> bool:
    return index() == 0


def _started() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


# -- one for all -----------------------------------------------------------------------------


def from_main(make: Callable[[], Made]) -> Made:
    """What ``make()`` gives in the main process, in all of them (it is pickled); or its error."""
    if count() == 1:
        return make()
    outcome: list[Any] = [None, None]
    if is_main():
        try:
            outcome[0] = make()
        except Exception as error:
            outcome[1] = error
    torch.distributed.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def main_first(make: Callable[[], Made]) -> Made:
    """Each process's own ``make()``, the main one's first: the others find the files it wrote."""
    made: list[Made] = []
    from_main(lambda: made.append(make()))
    return made[0] if made else make()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file lock, through the main process, as long as it may take to get it.

    The others hear every minute that it still waits, or they would lose patience.
    """
    lock, patience = locks.Lock(path), locks.FIRST_WORD_S
    while not from_main(partial(lock.try_for, patience)):
        if is_main():
            log.warning("waiting for %s, which is held by %s", path, lock.holder())
        patience = locks.TURN_S
    try:
        yield
    finally:
        if is_main():
            lock.release()


# -- work that is divided --------------------------------------------------------------------


def dealt(pieces: int) -> list[int]:
    """Which of so many pieces of work are this process's when they are dealt out in turn.

    Every process takes part in every turn: where the last does not come out even, some get the last
    piece once more.
    """
    turns = math.ceil(pieces / count())
    return [min(turn * count() + index(), pieces - 1) for turn in range(turns)]


def share(length: int) -> slice:
    """This process's stretch of ``length`` rows; those of all follow each other."""
    return slice(length * index() // count(), length * (index() + 1) // count())


def everyones(value: Made) -> list[Made]:
    """The value of each process, in order (they are pickled)."""
    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    torch.distributed.all_gather_object(values, value)
    return values


def everyones_rows(rows: Tensor) -> list[Tensor]:
    """The tensor of each process, in order. They must have one shape."""
    if count() == 1:
        return [rows]
    device = join()  # where the processes' connection carries tensors
    sent = rows.to(device).contiguous()
    received = [torch.empty_like(sent) for _ in range(count())]
    torch.distributed.all_gather(received, sent)
    return [part.to(rows.device) for part in received]


def gathered(local: Tensor) -> Tensor:
    """Rows of all processes, in order, differentiable; (b, D) -> (b * processes, D)."""
    if count() == 1:
        return local
    with warnings.catch_warnings():  # its successor exists in the newest torch only
        warnings.simplefilter("ignore", FutureWarning)
        return torch.cat(torch.distributed.nn.functional.all_gather(local.contiguous()))


# -- batch normalisation ---------------------------------------------------------------------


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation with the mean and variance of all processes' images, on any device.

    For the CPU: torch's own ``SyncBatchNorm`` is quicker, but knows GPUs only.
    """

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return super().forward(images)
        mean = _mean_of_all(images.mean(dim=(0, 2, 3)))  # (C,)
        centred = images - mean[:, None, None]
        variance = _mean_of_all(centred.square().mean(dim=(0, 2, 3)))
        self._remember(mean.detach(), variance.detach(), images.numel() // len(mean) * count())
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale[:, None, None] + self.bias[:, None, None]

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, values: int) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * values / (values - 1), self.momentum)
        self.num_batches_tracked += 1


def _mean_of_all(local: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return torch.distributed.nn.functional.all_reduce(local) / count()


def share_batch_norm(network: nn.Module, device: torch.device) -> None:
    """Let batch normalisation see the whole batch, of which each process has a slice.

    Without this, several processes would train another network than one, and not the same each.
    In place; names of weights do not change. Raises ValueError for kinds that this cannot be done to.
    """
    if count() == 1:
        return
    if device.type == "cuda":
        from timm.layers import convert_sync_batchnorm  # torch's, and timm's own layers

        convert_sync_batchnorm(network)
        return
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"{type(module).__name__} cannot be shared by processes on {device.type}: expected "
                "BatchNorm2d or none; train this network in one process or on CUDA"
            )
