"""What a disagreement about evaluation, labels or a loss changes, with the same trained network.

Each function answers for one entry of :mod:`vigorlib.ledger`: the other way less the released
code's. Nothing is trained here, and nothing estimated but the intervals over queries.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vigorlib import geometry, losses, retrieval
from vigorlib.dataset import Vigor
from vigorlib.descriptors import describe
from vigorlib.evaluation import metre_errors, recall_at
from vigorlib.images import read_image, resize
from vigorlib.ledger import Effect, share_effect
from vigorlib.model import CrossViewNet
from vigorlib.retrieval import Ranking
from vigorlib.runs import Photographs

Branch = Callable[[Tensor], Tensor]


# -- evaluation ------------------------------------------------------------------------------


def hit_rates(ranking: Ranking, references: NDArray[np.int64]) -> Effect:
    """The paper's words (the best tile covers the query) against the code's (semi-positives out)."""
    covering = (ranking.top[:, :1] == references).any(axis=1)
    return share_effect("hit-rate", "hit rate", covering, ranking.without_semi_positives < 1)


def top_percent_rules(ranking: Ranking, gallery_size: int) -> Effect:
    """Later repositories' N // 100 against the code's int(0.01 N) + 1."""
    later, released = gallery_size // 100, int(0.01 * gallery_size) + 1
    text = f"rank < {later} against rank < {released}"
    rank = ranking.positive
    return share_effect("top1pct", "top-1 %", rank < later, rank < released, text)


def ties(ranking: Ranking, gallery_size: int) -> Effect:
    """Counting ties against the model. Also what a network scores that calls all images alike."""
    alone = ranking.top_similarity[:, 0] > ranking.top_similarity[:, 1]
    first = ranking.positive < 1
    constant = constant_network(gallery_size)
    text = (
        f"A network that answers every image alike scores {constant:.0%} by the released rule and "
        f"0% by this one; chance would be {1 / gallery_size:.2%}"
    )
    return share_effect("ties", "top-1", first & alone, first, text)


def constant_network(gallery_size: int, queries: int = 8) -> float:
    """Top-1, by the released rule, of a network whose descriptors are all the same."""
    same = torch.ones(1, 4) / 2
    tiles = np.arange(4 * queries).reshape(-1, 4) % gallery_size
    ranking = retrieval.ranks(same.repeat(queries, 1), same.repeat(gallery_size, 1), tiles, k=1)
    return recall_at(ranking.positive, 1)


def distances(data: Vigor, tiles: NDArray[np.int64], offsets_px: NDArray[np.float64]) -> Effect:
    """Geodesics against arccos on a sphere, for answers on ``tiles`` (Q,) with offsets (Q, 2)."""
    geodesic, arccos = (
        _errors(data, tiles, offsets_px, data.labels, method) for method in ("geodesic", "official")
    )
    gap = np.abs(geodesic - arccos)
    near, far = geodesic < 100, geodesic >= 100
    lat, lon = data.tiles.latlon.T
    with_itself = np.isnan(geometry.great_circle_m(lat, lon, lat, lon, "official")).mean()
    apart = np.nanmax(gap[near], initial=0), np.nanmax(gap[far] / geodesic[far], initial=0)
    text = (
        f"they differ by at most {apart[0]:.2f} m below 100 m, and {apart[1]:.2%} beyond; "
        f"arccos is NaN for {np.isnan(arccos).sum()} answers, and for {with_itself:.0%} of the tiles "
        "measured against themselves"
    )
    return share_effect("distance", "within 10 m", geodesic < 10, arccos < 10, text)


def readings(data: Vigor, tiles: NDArray[np.int64], offsets_px: NDArray[np.float64]) -> Effect:
    """Each label system's own way back against 0.114 m a pixel everywhere (geodesics both)."""
    own, original = (
        _errors(data, tiles, offsets_px, system, "geodesic") for system in (data.labels, "original")
    )
    text = f"an answer moves by up to {np.abs(own - original).max():.1f} m nearer or farther"
    return share_effect("back", "within 10 m", own < 10, original < 10, text)


def longitude_constant() -> Effect:
    """How much narrower the released window around a GPS fix is, east to west, city by city."""
    released = geometry.CITIES["NewYork"].longitude_step_deg
    parts = [
        f"{city.name} {100 * (released / city.longitude_step_deg - 1):+.0f}%"
        for city in geometry.CITIES.values()
    ]
    return Effect("longitude", "width", None, "the window's width: " + ", ".join(parts))


def _errors(
    data: Vigor, tiles: NDArray[np.int64], offsets_px: NDArray[np.float64], system: str, method: str
) -> NDArray[np.float64]:
    return metre_errors(
        data.queries.latlon,
        data.tiles.latlon[tiles],
        offsets_px,
        data.tiles.cities[tiles],
        system,  # type: ignore[arg-type]
        method,  # type: ignore[arg-type]
    )


# -- network ---------------------------------------------------------------------------------


def brighter_red(branch: Branch, levels: float) -> Branch:
    """A branch that sees every image's red ``levels`` grey levels brighter: another mean's effect."""

    def shifted(images: Tensor) -> Tensor:
        change = images.new_tensor([levels, 0, 0], dtype=torch.float32).view(3, 1, 1)
        return branch(images.float() + change)

    return shifted


def described_with_red(
    network: CrossViewNet, test: Photographs, precision: str, levels: float
) -> tuple[Tensor, Tensor]:
    """Descriptors (Q, D) and (N, D) of a test set whose red is ``levels`` grey levels brighter."""
    where = next(network.parameters()).device
    ground, satellite = (
        describe(brighter_red(branch, levels), pixels, device=where, precision=precision)
        for branch, pixels in (
            (network.describe_ground, test.panoramas),
            (network.describe_satellite, test.tiles),
        )
    )
    return ground.values, satellite.values


def red_mean(released: Ranking, other: Ranking) -> Effect:
    """Rankings by descriptors made with the mean 123.6 and with 123.68."""
    moved = (released.top[:, 0] != other.top[:, 0]).mean()
    text = f"{moved:.1%} of the best tiles change"
    return share_effect("red-mean", "top-1", other.positive < 1, released.positive < 1, text)


# -- losses ----------------------------------------------------------------------------------


def diagonal(pairs: int, seed: int = 0) -> Effect:
    """What the diagonal adds to the loss of a batch, and to its gradient."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(2, pairs, 32, generator=generator, dtype=torch.float64)
    values: list[float] = []
    gradients: list[Tensor] = []
    for include in (True, False):
        batch = torch.nn.functional.normalize(drawn, dim=2).requires_grad_()
        loss = losses.soft_margin_triplet(batch[0], batch[1], include_diagonal=include)
        values.append(loss.item())
        gradients += torch.autograd.grad(loss, batch)
    added = values[0] - values[1]
    turned = (gradients[0] - gradients[1]).abs().max().item()
    text = (
        f"{pairs} pairs: loss +{added:.4f}, ln 2 / {pairs - 1} = {np.log(2) / (pairs - 1):.4f}; "
        f"gradients differ by {turned:.0e}"
    )
    return Effect("diagonal", "loss", None, text)


def overflow(alpha: float = 10.0) -> Effect:
    """The loss of the hardest triplet there is, written with exp and with softplus."""
    hardest = torch.tensor(4 * alpha)  # d_pos - d_neg is at most 4
    shown = []
    for kind, name in ((torch.float16, "half"), (torch.float32, "single")):
        value = hardest.to(kind)
        written = (1 + value.exp()).log().item()
        by_softplus = torch.nn.functional.softplus(value).item()
        shown.append(f"{name} precision: exp {written:g}, softplus {by_softplus:g}")
    limit = np.log(np.finfo(np.float16).max) / alpha
    text = f"hardest triplet, {'; '.join(shown)}; exp overflows from d_pos - d_neg = {limit:.2f} on"
    return Effect("overflow", "loss", None, text)


# -- data and labels -------------------------------------------------------------------------


def label_systems(data: Vigor) -> list[Effect]:
    """How far the label systems disagree about the offsets of a subset's queries."""
    offsets = {s: label_offsets_by(data, s) for s in ("original", "corrected", "mercator")}
    scale = np.linalg.norm(offsets["original"] - offsets["corrected"], axis=-1)
    north = np.linalg.norm(offsets["mercator"] - offsets["corrected"], axis=-1)
    beyond = (np.abs(offsets["corrected"][:, 1:]) > geometry.HALF_TILE_PX).any(axis=-1)
    iou = geometry.tile_iou(offsets["corrected"][:, 1:])
    return [
        Effect("resolution", "offset", None, _px(scale) + " between original and corrected labels"),
        Effect("north", "offset", None, _px(north) + " between corrected labels and mercator"),
        Effect("rounding", "offset", None, "at most half a pixel an axis, about 6 cm"),
        Effect("beyond", "share", None, f"{beyond.mean():.1%} of the semi-positives here"),
        Effect(
            "semi-iou",
            "IOU",
            None,
            f"{(iou > 9 / 23).mean():.1%} of the semi-positives are above 9/23, up to "
            f"{iou.max():.2f}; {(iou < 1 / 7).mean():.1%} are below 1/7",
        ),
    ]


def unused_tiles(train: Vigor, test: Vigor) -> Effect:
    """Tiles that no balanced label names, as a share of the gallery."""
    named = np.union1d(train.references, test.references)
    share = 1 - len(named) / len(test.tiles)
    return Effect(
        "distractors", "share", None, f"{share:.1%} of the tiles stand in no balanced label here"
    )


def label_offsets_by(data: Vigor, system: str) -> NDArray[np.float64]:
    """(Q, 4, 2) offsets of all references in a label system."""
    offsets = np.empty((*data.references.shape, 2))
    for city in np.unique(data.queries.cities):
        rows = np.flatnonzero(data.queries.cities == city)
        tiles = data.tiles.latlon[data.references[rows]]
        offsets[rows] = geometry.label_offsets(
            data.queries.latlon[rows][:, None],
            tiles,
            str(city),
            system,  # type: ignore[arg-type]
        )
    return offsets


def _px(distance: NDArray[np.float64]) -> str:
    return f"{np.median(distance):.1f} px in the median and {distance.max():.1f} px at most"


# -- explanation -----------------------------------------------------------------------------


@torch.inference_mode()
def described_bilinearly(
    network: CrossViewNet, test: Photographs, queries: NDArray[np.int64], chunk: int = 32
) -> Tensor:
    """Descriptors (B, D) of some queries, resized as the explanation code would see them."""
    size = test.panoramas.width, test.panoramas.height
    where = next(network.parameters()).device
    rows = []
    for start in range(0, len(queries), chunk):
        images = [
            cv2.resize(read_image(test.panoramas.paths[q]), size, interpolation=cv2.INTER_LINEAR)
            for q in queries[start : start + chunk]
        ]
        batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        rows.append(network.describe_ground(batch.to(where)).float())
    return torch.nn.functional.normalize(torch.cat(rows), dim=1)


def resizing(
    released: NDArray[np.int64], other: NDArray[np.int64], panorama: NDArray[np.uint8]
) -> Effect:
    """Ranks (Q,) of queries resized by area and bilinearly; panorama: one at VIGOR's own size."""
    by_area = resize(panorama, 320, 640).astype(float)
    sampled = cv2.resize(panorama, (640, 320), interpolation=cv2.INTER_LINEAR)
    levels = np.abs(by_area - sampled).mean()
    height, width = panorama.shape[:2]
    text = (
        f"a panorama of {width} x {height} differs by {levels:.1f} grey levels on average; where "
        "images shrink to exactly a half, both ways are one"
    )
    return share_effect("resize", "top-1", other < 1, released < 1, text)
