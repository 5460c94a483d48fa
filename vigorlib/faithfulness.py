"""Do maps of heat mean anything? Tests of explanations that need no opinion of what looks right.

Randomised weights (Adebayo et al. 2018): a map that stays when what was learned goes explains the
picture, not the network. Deletion and insertion (Petsiuk et al. 2018): the hot parts are taken out
of a picture, or alone left in it, and the pair's similarity is watched. Lift and transport compare
maps with what is known of a pair (on the embedded city: what both views show).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from vigorlib.evaluation import bootstrap_interval
from vigorlib.explain import Maps, evaluating, upsampled
from vigorlib.model import SAFA, Branch, CrossViewNet

View = Literal["ground", "satellite"]
Fill = Literal["blur", "mean"]
Values = NDArray[np.float64]


# -- randomised weights ----------------------------------------------------------------------


def layers(branch: Branch) -> list[list[nn.Module]]:
    """A branch's learned layers from first to last: each convolution or linear layer of the backbone
    with the norms that follow it, then the aggregator as one."""
    found: list[list[nn.Module]] = []
    for module in branch.backbone.modules():
        own = [p for p in module.parameters(recurse=False)]
        if any(p.ndim > 1 for p in own) or (own and not found):
            found.append([module])
        elif own:
            found[-1].append(module)
    return [*found, list(branch.aggregator.modules())]


def with_random_weights(
    network: CrossViewNet, generator: torch.Generator, last: int | None = None
) -> CrossViewNet:
    """A copy in which the ``last`` layers of both branches are drawn afresh, as if never trained.

    last: counted from the descriptor backwards (the cascade of the sanity check); None for all.
    """
    mixed = copy.deepcopy(network)
    for branch in (mixed.ground, mixed.satellite):
        every = layers(branch)
        count = len(every) if last is None else last
        if not 0 <= count <= len(every):
            raise ValueError(f"last is {last}: expected 0 to {len(every)}, the branch's layers")
        for layer in every[len(every) - count :]:
            for module in layer:
                _draw_afresh(module, generator)
    return mixed


@torch.no_grad()
def _draw_afresh(module: nn.Module, generator: torch.Generator) -> None:
    """One module's own parameters as :mod:`vigorlib.model` starts them (on the CPU's generator)."""
    for name, parameter in module.named_parameters(recurse=False):
        value = torch.empty(parameter.shape)
        if isinstance(module, SAFA):
            if name.startswith("w"):
                nn.init.trunc_normal_(value, std=0.005, a=-0.01, b=0.01, generator=generator)
            else:
                value.fill_(0.1)
        elif parameter.ndim > 1:
            nn.init.kaiming_normal_(value, generator=generator)
        else:
            value.fill_(float(name != "bias"))
        parameter.copy_(value)
    if isinstance(module, nn.modules.batchnorm._NormBase):
        module.reset_running_stats()


def rank_correlation(one: ArrayLike, other: ArrayLike) -> Values:
    """Spearman's correlation of each pair of maps: (B, ...) twice -> (B,).

    Places that are NaN in either are left out; NaN for a map that is the same everywhere.
    """
    a, b = (np.asarray(m, dtype=float).reshape(len(m), -1) for m in (one, other))  # type: ignore[arg-type]
    if a.shape != b.shape:
        raise ValueError(f"maps are {np.shape(one)} and {np.shape(other)}: expected the same shape")
    gone = np.isnan(a) | np.isnan(b)
    ranks = [
        pd.DataFrame(np.where(gone, np.nan, m)).rank(axis=1).to_numpy(dtype=float) for m in (a, b)
    ]
    x, y = (np.where(gone, 0, r - _row_means(r)) for r in ranks)
    spread = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.where(spread > 0, (x * y).sum(axis=1) / np.where(spread > 0, spread, 1), np.nan)


def _row_means(values: Values) -> Values:
    there = ~np.isnan(values)
    return np.where(there, values, 0).sum(axis=1, keepdims=True) / np.maximum(
        there.sum(axis=1, keepdims=True), 1
    )


# -- deletion and insertion ------------------------------------------------------------------


@dataclass(frozen=True)
class Curves:
    """What becomes of B pairs' similarity while one view is taken apart.

    shares: (S,) of the pixels that were touched, 0 to 1. deletion, insertion: (B, S) cosine
    similarity of the pair while the hottest pixels are taken out of the picture, or put back into
    one of which nothing is left.
    """

    shares: Values
    deletion: Values
    insertion: Values

    @property
    def areas(self) -> tuple[Values, Values]:
        """(B,) areas under the deletion (low: faithful) and insertion (high: faithful) curves."""
        widths = np.diff(self.shares)  # by hand: the trapezoidal rule has two names in NumPy
        means = ((curve[:, 1:] + curve[:, :-1]) / 2 for curve in (self.deletion, self.insertion))
        return tuple((widths * mean).sum(axis=1) for mean in means)  # type: ignore[return-value]


@torch.no_grad()
def deletion_insertion(
    network: CrossViewNet,
    panoramas: Tensor,
    tiles: Tensor,
    heat: ArrayLike,
    view: View,
    steps: int = 10,
    fill: Fill = "blur",
) -> Curves:
    """Take one view's pixels out, hottest first, and put them back, hottest first.

    panoramas: (B, 3, H, W), tiles: (B, 3, h, w) in 0..255; heat: (B, h', w') of the chosen view.
    What stands in for a removed pixel: the picture blurred until it shows no thing (``blur``), or
    its mean colour (``mean``).
    """
    if view not in ("ground", "satellite"):
        raise ValueError(f"unknown view {view!r}: expected 'ground' or 'satellite'")
    images, others = (panoramas, tiles) if view == "ground" else (tiles, panoramas)
    branch, other = (
        (network.ground, network.satellite)
        if view == "ground"
        else (network.satellite, network.ground)
    )
    device = next(network.parameters()).device
    images = images.float().to(device)
    order = _order(heat, *images.shape[2:]).to(device)  # (B, 1, H, W): 0 for the hottest pixel
    empty = removed(images, fill)
    shares = np.linspace(0, 1, steps + 1)
    deletion: list[Values] = []
    insertion: list[Values] = []
    with evaluating(network):
        target = F.normalize(other(others.to(device)).float(), dim=1)
        for share in shares:
            hot = order < share * images[0, 0].numel()
            for curve, picture in (
                (deletion, torch.where(hot, empty, images)),
                (insertion, torch.where(hot, images, empty)),
            ):
                described = F.normalize(branch(picture).float(), dim=1)
                curve.append((described * target).sum(dim=1).cpu().numpy())
    return Curves(shares, np.stack(deletion, axis=1), np.stack(insertion, axis=1))


def removed(images: Tensor, fill: Fill = "blur") -> Tensor:
    """What a picture is once all of it is removed: (B, 3, H, W) -> (B, 3, H, W)."""
    if fill == "mean":
        return images.mean(dim=(2, 3), keepdim=True).expand_as(images)
    if fill != "blur":
        raise ValueError(f"unknown fill {fill!r}: expected 'blur' or 'mean'")
    sigma = images.shape[2] / 8
    blurred = [
        cv2.GaussianBlur(np.ascontiguousarray(i), (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
        for i in images.permute(0, 2, 3, 1).cpu().numpy()
    ]
    return torch.from_numpy(np.stack(blurred)).permute(0, 3, 1, 2).to(images.device)


def random_maps(shape: Sequence[int], generator: np.random.Generator) -> Maps:
    """Heat of no meaning, as coarse as real maps: what hot pixels must be compared with."""
    return generator.random(shape, dtype=np.float32)


def _order(heat: ArrayLike, height: int, width: int) -> Tensor:
    """(B, h, w) -> (B, 1, height, width): each pixel's place in the line, the hottest first."""
    large = torch.from_numpy(upsampled(heat, height, width)).flatten(1)
    place = torch.argsort(torch.argsort(large, dim=1, descending=True, stable=True), dim=1)
    return place.view(-1, 1, height, width)


# -- heat and what is known of a pair ----------------------------------------------------------


def lift(heat: ArrayLike, mask: ArrayLike) -> Values:
    """Share of the heat that lies on a mask over the mask's share of the picture.

    heat: (B, h, w); mask: (B, H, W) of a multiple of that size -> (B,); 1 for heat that knows
    nothing, NaN where there is no heat or no mask.
    """
    maps = np.asarray(heat, dtype=float)
    part = shrunk(mask, *maps.shape[1:])  # (B, h, w)
    total, area = maps.sum(axis=(1, 2)), part.mean(axis=(1, 2))
    known = (total > 0) & (area > 0)
    on = (maps * part).sum(axis=(1, 2))
    return np.where(known, on / np.where(known, total * area, 1), np.nan)


def shrunk(mask: ArrayLike, height: int, width: int) -> Values:
    """(B, H, W) -> (B, height, width): the mask's share of each cell."""
    large = np.asarray(mask, dtype=float)
    count, tall, wide = large.shape
    if tall % height or wide % width:
        raise ValueError(
            f"masks are {tall}x{wide}: expected a multiple of the maps' {height}x{width}"
        )
    blocks = large.reshape(count, height, tall // height, width, wide // width)
    return blocks.mean(axis=(2, 4))


def transported(heat: ArrayLike, where: ArrayLike, height: int, width: int) -> Values:
    """A panorama's heat carried to where on the tile the things stand that it lies on.

    heat: (B, h, w); where: (B, H, W, 2) place of each pixel on the tile [row, column] in [0, 1), NaN
    for none -> (B, height, width): the mean heat of all pixels that show a cell, NaN where none does.
    """
    places = np.asarray(where, dtype=float)
    large = upsampled(heat, *places.shape[1:3])
    out = np.full((len(places), height * width), np.nan)
    for i, (values, place) in enumerate(zip(large, places, strict=True)):
        there = ~np.isnan(place).any(axis=-1)
        row, column = np.floor(place[there] * (height, width)).astype(int).T
        cell = row * width + column
        count = np.bincount(cell, minlength=height * width)
        total = np.bincount(cell, weights=values[there], minlength=height * width)
        out[i, count > 0] = total[count > 0] / count[count > 0]
    return out.reshape(-1, height, width)


def mean_and_interval(values: ArrayLike, **options: Any) -> tuple[float, float, float]:
    """Mean over pairs and its 95 % bootstrap interval; pairs without a value (NaN) are left out."""
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    if not len(known):
        return float("nan"), float("nan"), float("nan")
    return float(known.mean()), *bootstrap_interval(known, **options)
