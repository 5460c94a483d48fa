"""What a network looks at: Grad-CAM and rectified Grad-CAM of a pair, SAFA's maps, overlays.

The explained number is the dot product of the pair's un-normalised descriptors; its gradient is
taken at the last feature map of each view, before pooling (conv5_3 for VGG-16). Everything works on
batches of pairs and on any recipe, for a branch is cut only where every branch has a cut: between
``Branch.features`` and ``Branch.aggregate``. Whether the maps mean anything is asked in
:mod:`vigorlib.faithfulness`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import cv2
import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from vigorlib.model import Branch, CrossViewNet

ArrayOrTensor = TypeVar("ArrayOrTensor", NDArray[np.floating], Tensor)
Maps = NDArray[np.float32]

VIEWS = ("ground", "satellite")


class PairMaps(NamedTuple):
    """Heat in [0, 1] of B pairs on both views, at the size of the feature maps.

    ground: (B, h, w) of the panoramas; satellite: (B, h', w') of the tiles.
    """

    ground: Maps
    satellite: Maps


def grad_cam(
    activation: ArrayOrTensor, gradient: ArrayOrTensor, rectified: bool = False
) -> ArrayOrTensor:
    """Heat in [0, 1] from a feature map and the gradient of a score with respect to it.

    activation, gradient: (..., C, H, W), numpy or torch -> (..., H, W) of the same kind.
    Grad-CAM (Selvaraju et al. 2017) weights a channel by its mean gradient; ``rectified`` sums
    gradient * activation over channels without averaging (VIGOR's explanation code; elsewhere
    called HiResCAM). Both keep the positive part and divide by the maximum. A map without a
    positive value is all zeros (0/0 in the released code).
    """
    if tuple(activation.shape) != tuple(gradient.shape) or activation.ndim < 3:
        raise ValueError(
            f"activation has shape {tuple(activation.shape)}, gradient {tuple(gradient.shape)}: "
            "expected (C, H, W) twice, or batches of it"
        )
    if isinstance(activation, np.ndarray):
        tensors = torch.from_numpy(activation), torch.from_numpy(np.asarray(gradient))
        return grad_cam(*tensors, rectified).numpy()
    weights = gradient if rectified else gradient.mean(dim=(-2, -1), keepdim=True)
    heat = (weights * activation).sum(dim=-3).clamp(min=0)  # (..., H, W)
    peak = heat.amax(dim=(-2, -1), keepdim=True)
    return torch.where(peak > 0, heat / peak.clamp(min=torch.finfo(heat.dtype).tiny), 0.0)


def pair_maps(
    network: CrossViewNet, panoramas: Tensor, tiles: Tensor, rectified: bool = False
) -> PairMaps:
    """Which parts of both views make each pair similar.

    panoramas: (B, 3, H, W) and tiles: (B, 3, h, w), RGB in 0..255, row by row a pair. The network
    is looked at in evaluation mode and left as it was.
    """
    if len(panoramas) != len(tiles):
        raise ValueError(
            f"{len(panoramas)} panoramas and {len(tiles)} tiles: expected as many of each, for row "
            "i of one is explained with row i of the other"
        )
    with evaluating(network):
        features = [
            branch.features(images.to(_device(network))).detach().float().requires_grad_()
            for branch, images in ((network.ground, panoramas), (network.satellite, tiles))
        ]
        ground, satellite = (
            branch.aggregate(part)
            for branch, part in zip((network.ground, network.satellite), features, strict=True)
        )
        # a sum over pairs: none has a gradient with respect to another's features
        gradients = torch.autograd.grad((ground * satellite).sum(), features)
    heats = [
        grad_cam(part.detach(), gradient, rectified).cpu().numpy()
        for part, gradient in zip(features, gradients, strict=True)
    ]
    return PairMaps(*heats)


@torch.no_grad()
def safa_maps(branch: Branch, images: Tensor) -> Maps:
    """How SAFA's heads weight the positions: (B, 3, H, W) -> (B, heads, h, w), positive or negative.

    Raises ValueError for branches with another aggregator.
    """
    with evaluating(branch):
        return branch.position_weights(images.to(_device(branch))).cpu().numpy()


def upsampled(heat: ArrayLike, height: int, width: int) -> Maps:
    """Heat (..., h, w) -> (..., height, width), bilinear, as smooth as the eye wants it."""
    maps = torch.tensor(np.asarray(heat, dtype=np.float32))
    lead = maps.shape[:-2]
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    large = F.interpolate(flat, (height, width), mode="bilinear", align_corners=False)
    return large.reshape(*lead, height, width).numpy()


def overlay(
    image: NDArray[np.uint8], heat: ArrayLike, opacity: float = 0.6, colours: str = "inferno"
) -> NDArray[np.uint8]:
    """An image under its heat, for looking at: (H, W, 3) uint8 and heat (h, w) in [0, 1] -> (H, W, 3).

    The cold parts keep the picture, in grey and darker; the hot parts take on the colour.
    """
    height, width = image.shape[:2]
    large = cv2.resize(
        np.asarray(heat, dtype=np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    ).clip(0, 1)
    grey = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    colour = mpl.colormaps[colours](large)[..., :3] * 255
    share = opacity * (0.35 + 0.65 * large[..., None])
    return np.rint(grey * (1 - share) + colour * share).clip(0, 255).astype(np.uint8)


# -- helpers ---------------------------------------------------------------------------------


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while: batch norm of one picture does not depend on the others."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
