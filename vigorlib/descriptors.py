"""A trained network over a whole gallery: images -> descriptors, streamed in batches.

With several processes (see :mod:`vigorlib.processes`) the batches are dealt out among them, and
each ends with all descriptors, the same bits as one process computes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm.auto import tqdm

from vigorlib import processes
from vigorlib.images import Pixels
from vigorlib.model import CrossViewNet


@dataclass(frozen=True)
class Descriptors:
    """values: (N, D) L2-normalised; lengths: (N, 1) what normalising took away."""

    values: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def raw(self, indices: Tensor) -> Tensor:
        """Un-normalised descriptors of some rows, as the offset head wants them."""
        return self.values[indices] * self.lengths[indices]


class _Chunks(Dataset[Tensor]):
    def __init__(self, pixels: Pixels, indices: np.ndarray, batch: int) -> None:
        self.pixels = pixels
        self.chunks = [indices[i : i + batch] for i in range(0, len(indices), batch)]

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, i: int) -> Tensor:
        return self.pixels[self.chunks[i]]


@torch.inference_mode()
def describe(
    branch: Callable[[Tensor], Tensor],
    pixels: Pixels,
    indices: np.ndarray | None = None,
    batch: int = 64,
    device: torch.device | str = "cpu",
    precision: str = "no",
    progress: str = "",
) -> Descriptors:
    """Descriptors of images. branch: ``network.describe_ground`` or ``network.describe_satellite``.

    indices: which images (all). precision: Accelerate's word for autocast ("no", "bf16", "fp16").
    progress: label of a progress bar; empty for none. All processes must make the same call.
    """
    indices = np.arange(len(pixels)) if indices is None else np.asarray(indices)
    pixels.prepare(progress=bool(progress))
    if not len(indices):
        raise ValueError("no images to describe: expected at least one index")
    chunks = _Chunks(pixels, indices, batch)
    mine = Subset(chunks, processes.dealt(len(chunks)))
    loader = DataLoader(mine, batch_size=None, num_workers=pixels.workers)
    kind = torch.device(device).type
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    bar = tqdm(loader, desc=progress, unit="batch", disable=not (progress and processes.is_main()))
    raw = torch.empty(0)
    for turn, images in enumerate(bar):
        with torch.autocast(kind, dtype=dtype, enabled=dtype is not None):
            rows = branch(images.to(device, non_blocking=True)).float()
        if turn == 0:
            raw = rows.new_empty(len(indices), rows.shape[1])
        _put_together(raw, rows, turn, batch)
    lengths = raw.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return Descriptors(raw.div_(lengths), lengths)


def _put_together(raw: Tensor, rows: Tensor, turn: int, batch: int) -> None:
    """Put the rows that this turn gave, in all processes, where they belong in raw (N, D)."""
    padded = F.pad(rows, (0, 0, 0, batch - len(rows)))  # (batch, D) everywhere
    for process, part in enumerate(processes.everyones_rows(padded)):
        start = (turn * processes.count() + process) * batch
        target = raw[start : start + batch]  # shorter at the end, empty for a chunk dealt again
        target.copy_(part[: len(target)])


@torch.inference_mode()
def predict_offsets(
    network: CrossViewNet, ground: Descriptors, satellite: Descriptors, tiles: np.ndarray
) -> np.ndarray:
    """(Q, 2) offsets [north, east] in units of half a tile, query i against tile ``tiles[i]``."""
    if network.offset is None:
        raise ValueError("this network has no offset head: expected a recipe with a hybrid stage")
    predicted = []
    for rows in torch.arange(len(ground)).split(4096):
        pair = ground.raw(rows), satellite.raw(torch.from_numpy(tiles[rows.numpy()]))
        predicted.append(network.offset(*pair))
    return torch.cat(predicted).float().cpu().numpy()
