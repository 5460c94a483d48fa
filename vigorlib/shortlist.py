"""Galleries of which a search reads a fraction: a rough look at every tile, an exact one at a few.

half   every tile in half precision. How far rounding moved a descriptor is known, so that every tile
       that could be among the best is on the shortlist: the answers are those of exact search.
quick  every tile by its 512 main axes, in half precision; the shortlist is the 200 best by these.
       What is missed is to be measured: :func:`recall`.

Both keep the descriptors themselves beside it, of which only the shortlist is read; all of it may
lie in memory maps, so that a saved gallery opens at once. Descriptors are checked when a gallery is
built, not when it is opened.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vigorlib import ivfpq, retrieval
from vigorlib.files import write_json
from vigorlib.ivfpq import Values
from vigorlib.retrieval import Indices
from vigorlib.scan import Block

AXES, LISTED = 512, 200
FEW = 4
"""Queries up to which reading little is worth more than one large product."""
MANIFEST = "gallery.json"


class ShortlistGallery:
    """satellite: (N, D) exact. rough: (N, d) float16. axes: (d, D) rows onto which descriptors were
    turned for it, None: none. moved: how far rounding moved a descriptor, at most."""

    def __init__(
        self,
        satellite: Values,
        rough: NDArray[np.float16],
        axes: NDArray[np.float32] | None,
        moved: float,
    ) -> None:
        self.satellite, self.rough, self.axes, self.moved = satellite, rough, axes, moved

    @property
    def kind(self) -> Literal["half", "quick"]:
        return "half" if self.axes is None else "quick"

    def __len__(self) -> int:
        return len(self.rough)

    @property
    def bytes(self) -> int:
        """What a search reads all of."""
        return self.rough.size * 2 + (0 if self.axes is None else self.axes.nbytes)

    def search(self, ground: Values, k: int = 50) -> tuple[Indices, NDArray[np.float64]]:
        """See :class:`vigorlib.index.Gallery`. Many queries at once are compared with every tile."""
        queries = retrieval.checked(ground, "ground")
        if k < 1:
            raise ValueError(f"k is {k}: expected at least 1")
        retrieval.require_fitting(queries, _few(self.satellite), None, k)
        k = min(k, len(self))
        if len(queries) > FEW:
            return retrieval.best(queries, whole(self.satellite), k)
        found = [self._one(query[None], k) for query in queries]
        return tuple(np.concatenate(part) for part in zip(*found, strict=True))  # type: ignore[return-value]

    def _one(self, query: Tensor, k: int) -> tuple[Indices, NDArray[np.float64]]:
        """(1, k) tiles and similarities of a query (1, D)."""
        listed = self._listed(query.float().cpu().numpy()[0], k)
        tiles, similarity = retrieval.rescored(query, whole(self.satellite), listed[None])
        return tiles[:, :k], similarity[:, :k]

    def _listed(self, query: NDArray[np.float32], k: int) -> Indices:
        """Tiles that may be among the k best."""
        from vigorlib import kernels

        # not by BLAS: its threads would go on waiting for work beside ours
        turned = query if self.axes is None else np.einsum("ad,d->a", self.axes, query)
        bits = np.asarray(self.rough).view(np.uint16)
        values = np.empty((1, len(self)), np.float32)
        kernels.in_threads(
            lambda part: kernels.half_products(bits[part], turned, values[0, part]),
            len(self),
            least=1024,
        )
        if self.axes is not None:
            count = min(max(LISTED, k), len(self))
            return np.argpartition(-values[0], count - 1)[:count]
        # rounding the tile, the sum in float32, rounding a float64 query
        margin = 1.02 * np.array([self.moved + (1.02 * len(query) + 2) * 2.0**-24])
        block = Block(np.zeros(1, np.int64), torch.from_numpy(values), margin, last=True)
        near = block.between(block.kth_largest(k) - 2 * margin, np.full(1, np.inf))
        return np.concatenate([tile for _, tile in near])

    def save(self, path: Path | str) -> None:
        """Into a folder; the manifest comes last."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        np.save(folder / "rough.npy", self.rough)
        if self.axes is not None:
            np.save(folder / "axes.npy", self.axes)
        shape = ivfpq.shape(self.satellite)
        first = whole(self.satellite[:1]).numpy()
        out = np.lib.format.open_memmap(folder / "exact.npy", "w+", first.dtype, shape)
        for start, piece in ivfpq.pieces(self.satellite, check=False):
            out[start : start + len(piece)] = piece.cpu().numpy()
        out.flush()
        write_json(folder / MANIFEST, {"kind": self.kind, "moved": self.moved})


def build(
    satellite: Values, kind: Literal["half", "quick"], axes: int = AXES, seed: int = 0
) -> ShortlistGallery:
    """Check and round every descriptor. satellite: (N, D), also a memory map.

    axes: numbers kept of a descriptor by "quick". seed: which tiles the axes are learned from.
    """
    size, width = ivfpq.shape(satellite)
    for _ in ivfpq.pieces(satellite):  # every descriptor is looked at before any is learned from
        pass
    turn = _main_axes(satellite, min(axes, width), seed) if kind == "quick" else None
    rough = np.empty((size, width if turn is None else len(turn)), np.float16)
    moved = 0.0
    for start, piece in ivfpq.pieces(satellite, check=False):
        part = rough[start : start + len(piece)]
        if turn is None:
            moved = max(moved, rounded(piece, part))
        else:
            part[:] = ivfpq.single(piece) @ turn.T
    return ShortlistGallery(satellite, rough, turn, moved)


def rounded(values: Tensor, out: NDArray[np.float16]) -> float:
    """Round (P, D) descriptors into ``out``; returns how far that moved one at most."""
    out[:] = values.half().cpu().numpy()
    difference = values.cpu().to(torch.promote_types(values.dtype, torch.float32)).numpy() - out
    return float(np.linalg.norm(difference, axis=1).max())


def load(folder: Path) -> ShortlistGallery:
    """A saved gallery; nothing is read but its manifest."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"{folder} is not a saved gallery: expected a folder that `index.build(...).save` wrote"
        ) from error
    axes = np.load(folder / "axes.npy") if manifest["kind"] == "quick" else None
    exact, rough = (np.load(folder / f"{name}.npy", mmap_mode="c") for name in ("exact", "rough"))
    return ShortlistGallery(exact, rough, axes, manifest["moved"])


def _main_axes(satellite: Values, count: int, seed: int) -> NDArray[np.float32]:
    """(count, D) orthonormal rows that keep most of the tiles' length, learned from a sample.

    About the origin: similarities are not about the mean.
    """
    size, width = ivfpq.shape(satellite)
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(size, min(size, 4 * width), replace=False))
    rows = (ivfpq.single(piece) for _, piece in ivfpq.pieces(satellite, sample))
    moment = sum(part.T @ part for part in rows)
    _, axes = np.linalg.eigh(moment)
    return np.ascontiguousarray(axes[:, -count:].T, dtype=np.float32)


def recall(found: Indices, exact: Indices) -> float:
    """Share of exact search's tiles that were found, whatever their order; (Q, k) each."""
    if found.shape != exact.shape:
        raise ValueError(f"found is {found.shape}, exact {exact.shape}: expected the same")
    pairs = zip(found, exact, strict=True)
    return float(np.mean([np.isin(best, tiles).mean() for tiles, best in pairs]))


def whole(satellite: Values) -> Tensor:
    """A tensor of the same memory, which is only read."""
    if isinstance(satellite, Tensor):
        return satellite
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.asarray(satellite))


def _few(satellite: Values) -> Tensor:
    return whole(satellite[:1])
