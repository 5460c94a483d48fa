"""The losses of VIGOR (section 3) on descriptors, each a few lines.

B pairs; ``ground`` and ``satellite`` are (B, D) L2-normalised descriptors, row i of one belongs to
row i of the other. Similarity s is the cosine, squared distance d = 2 - 2 s.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_margin_triplet(
    ground: Tensor, satellite: Tensor, alpha: float = 10.0, include_diagonal: bool = False
) -> Tensor:
    """Soft-margin triplet loss over all pairs of a batch, both directions averaged (VIGOR Eq. 1).

    ground, satellite: (B, D) L2-normalised, B >= 2. Returns a scalar: the mean over the 2 B (B - 1)
    triplets of log(1 + exp(alpha (d_pos - d_neg))).

    include_diagonal: the released code also sums the B pairs with themselves, each worth ln 2; that
    adds the constant ln 2 / (B - 1) and no gradient. (The report prints d_pos + d_neg: a slip.)
    """
    _require_matching(ground=ground, satellite=satellite)
    pairs = len(ground)
    if pairs < 2:
        raise ValueError(f"a batch of {pairs} pair has no negatives: expected B >= 2")
    distance = 2 - 2 * ground @ satellite.T  # (B, B)
    positive = distance.diagonal()
    ground_to_satellite = F.softplus(alpha * (positive[:, None] - distance))
    satellite_to_ground = F.softplus(alpha * (positive[None, :] - distance))
    both = (ground_to_satellite + satellite_to_ground) / 2
    if not include_diagonal:
        both = both - torch.diag_embed(both.diagonal())
    return both.sum() / (pairs * (pairs - 1))


def iou_semi_positive(
    ground: Tensor,
    positive: Tensor,
    semi_positive: Tensor,
    iou_positive: Tensor,
    iou_semi_positive: Tensor,
    floor: float | None = None,
) -> Tensor:
    """Similarity ratios should follow IOU ratios (VIGOR Eq. 2): mean((s_semi/s_pos - r)^2).

    ground, positive, semi_positive: (B, D) L2-normalised; iou_*: (B,) IOU of each tile with the
    tile aligned to the query (:func:`vigorlib.geometry.tile_iou`). Returns a scalar.

    floor: lower bound of s_pos in the denominator. The paper and its code have none (None): they
    start from pretrained features, where s_pos is never near zero; training from scratch needs it.
    """
    _require_matching(ground=ground, positive=positive, semi_positive=semi_positive)
    _require_vector(len(ground), iou_positive=iou_positive, iou_semi_positive=iou_semi_positive)
    similarity = (ground * positive).sum(dim=1)
    if floor is not None:
        similarity = similarity.clamp(min=floor)
    ratio = (ground * semi_positive).sum(dim=1) / similarity
    return ((ratio - iou_semi_positive / iou_positive) ** 2).mean()


def semi_positive_as_negative(
    ground: Tensor, positive: Tensor, semi_positive: Tensor, alpha: float = 10.0
) -> Tensor:
    """A query's own semi-positive taken for a negative: mean of log(1 + exp(alpha (d_pos - d_semi))).

    ground, positive, semi_positive: (B, D) L2-normalised. Returns a scalar. One of the assignments
    that VIGOR's ablation compares with :func:`iou_semi_positive`; the opposite one, semi-positives
    taken for positives, is :func:`soft_margin_triplet` of the queries and their semi-positives.
    """
    _require_matching(ground=ground, positive=positive, semi_positive=semi_positive)
    difference = 2 * (ground * (semi_positive - positive)).sum(dim=1)  # d_pos - d_semi
    return F.softplus(alpha * difference).mean()


def offset_regression(predicted: Tensor, target: Tensor) -> Tensor:
    """Squared error of the offset, summed over the two axes, mean over pairs (VIGOR Eq. 3).

    predicted, target: (B, 2) offsets [north, east] in units of half a tile (offset_px / 320).
    """
    _require_matching(predicted=predicted, target=target)
    if predicted.shape[1] != 2:
        raise ValueError(f"predicted has shape {tuple(predicted.shape)}: expected (B, 2)")
    return ((predicted - target) ** 2).sum(dim=1).mean()


def offset_classification(scores: Tensor, cell: Tensor) -> Tensor:
    """Cross-entropy over the cells of a grid on the tile: the offset as a class (VIGOR's ablation).

    scores: (B, cells^2) un-normalised; cell: (B,) the right one's number (see
    :meth:`vigorlib.model.OffsetHead.cell_of`). Returns a scalar.
    """
    if scores.ndim != 2:
        raise ValueError(f"scores have shape {tuple(scores.shape)}: expected (B, cells^2)")
    _require_vector(len(scores), cell=cell)
    return F.cross_entropy(scores, cell)


def _require_matching(**tensors: Tensor) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    first = next(iter(shapes.values()))
    if len(first) != 2 or any(shape != first for shape in shapes.values()):
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"shapes do not agree: {listed}; expected the same (B, D) for all")


def _require_vector(pairs: int, **tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != (pairs,):
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}: expected ({pairs},)")
