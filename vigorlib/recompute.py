"""Activation checkpointing: memory saved for one more forward pass of the backbone, same results.

Batch normalisation needs care: computed twice, it would also move its running statistics twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(segments: Sequence[nn.Module], images: Tensor) -> Tensor:
    """Modules run in turn; only their inputs are kept for the backward pass."""
    for segment in segments:
        options: dict[str, Any] = {}
        if norms := [module for module in segment.modules() if isinstance(module, _BatchNorm)]:
            options["context_fn"] = partial(_contexts, norms)
        images = checkpoint(segment, images, use_reentrant=False, **options)
    return images


def _contexts(
    norms: Sequence[_BatchNorm],
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For the first computation nothing, for the second one running statistics that stand still."""
    return nullcontext(), _still(norms)


@contextmanager
def _still(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """A momentum of zero adds nothing to the means; the count of batches is taken away meanwhile.

    Turning the statistics off instead would change what autograd saves, which checkpointing refuses.
    """
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
