"""Galleries of which a search reads a fraction: a rough look at every tile, an exact one at a few.

quarter  every tile in eight bits. How far rounding moved a descriptor is known, so that every tile
         that could be among the best is on the shortlist: the answers are those of exact search.
quick    every tile by its 512 main axes, in eight bits; the shortlist is the 200 best by these.
         What is missed is to be measured: :func:`recall`.

Both keep the descriptors themselves beside it, of which only the shortlist is read; all of it may
lie in memory maps, so that a saved gallery opens at once. Descriptors are checked when a gallery is
built, not when it is opened.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
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

AXES, LISTED = 512, 200
FEW = 4
"""Queries up to which reading little is worth more than one large product."""
MANIFEST = "gallery.json"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Rough:
    """Rows in eight bits: about ``values * scale``.

    values: (N, d) int8. scale: (N,) of each row. moved: (N,) how far rounding moved it, at most.
    """

    values: NDArray[np.int8]
    scale: Floats
    moved: Floats

    @classmethod
    def of(cls, pieces: Iterable[Floats], values: NDArray[np.int8]) -> Rough:
        """Rows that come in pieces, rounded into ``values``, which may lie on disk."""
        scale, moved = np.empty((2, len(values)), np.float32)
        start = 0
        for rows in pieces:
            part = slice(start, start + len(rows))
            scale[part] = np.abs(rows).max(axis=1) / 127
            steps = np.where(scale[part] > 0, scale[part], 1)[:, None]  # a row of zeros stays one
            values[part] = np.rint(rows / steps)
            moved[part] = np.linalg.norm(rows - values[part] * steps, axis=1)
            start += len(rows)
        return cls(values, scale, moved)

    @classmethod
    def load(cls, prefix: Path | str) -> Rough:
        """What :meth:`save` wrote; ``values`` in a memory map."""
        values = np.load(f"{prefix}.npy", "c", False)
        return cls(values, *np.load(f"{prefix}.rounding.npy", None, False))

    def save(self, prefix: Path | str) -> None:
        np.save(f"{prefix}.npy", self.values)
        self.save_rounding(prefix)

    def save_rounding(self, prefix: Path | str) -> None:
        """All but ``values``."""
        np.save(f"{prefix}.rounding.npy", np.stack([self.scale, self.moved]))

    def products(self, query: Floats) -> Floats:
        """(N,) about the dot product of each row with a query (d,)."""
        from vigorlib import kernels

        values, out = np.asarray(self.values), np.empty(len(self.values), np.float32)
        kernels.in_threads(
            lambda part: kernels.byte_products(values[part], self.scale[part], query, out[part]),
            len(out),
            least=1024,
        )
        return out


class ShortlistGallery:
    """satellite: (N, D) exact. rough: (N, d). axes: (d, D) rows onto which descriptors were turned
    for it, None: none."""

    def __init__(self, satellite: Values, rough: Rough, axes: Floats | None) -> None:
        self.satellite, self.rough, self.axes = satellite, rough, axes

    @property
    def kind(self) -> Literal["quarter", "quick"]:
        return "quarter" if self.axes is None else "quick"

    def __len__(self) -> int:
        return len(self.satellite)

    @property
    def bytes(self) -> int:
        """What a search reads all of."""
        return self.rough.values.nbytes + (0 if self.axes is None else self.axes.nbytes)

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

    def _listed(self, query: Floats, k: int) -> Indices:
        """Tiles that may be among the k best."""
        from vigorlib import kernels

        # not by BLAS: its threads would go on waiting for work beside ours
        turned = query if self.axes is None else np.einsum("ad,d->a", self.axes, query)
        similarity = self.rough.products(turned)
        if self.axes is not None:
            count = min(max(LISTED, k), len(self))
            return np.argpartition(-similarity, count - 1)[:count]
        moved, unit = self.rough.moved, np.float32((len(query) + 4) * 2.0**-24)
        margin = 1.02 * (moved + (1.02 + moved) * unit)  # rounding, and sums in float32
        worst = np.empty(1)
        kernels.kth_largest((similarity - margin)[None], k, worst)
        return np.flatnonzero(similarity + margin >= worst)

    def save(self, path: Path | str) -> None:
        """Into a folder; the manifest comes last."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        self.rough.save(folder / "rough")
        if self.axes is not None:
            np.save(folder / "axes.npy", self.axes)
        shape = ivfpq.shape(self.satellite)
        first = whole(self.satellite[:1]).numpy()
        out = np.lib.format.open_memmap(folder / "exact.npy", "w+", first.dtype, shape)
        for start, piece in ivfpq.pieces(self.satellite, check=False):
            out[start : start + len(piece)] = piece.cpu().numpy()
        out.flush()
        write_json(folder / MANIFEST, {"kind": self.kind})


def build(
    satellite: Values, kind: Literal["quarter", "quick"], axes: int = AXES, seed: int = 0
) -> ShortlistGallery:
    """Check and round every descriptor. satellite: (N, D), also a memory map.

    axes: numbers kept of a descriptor by "quick". seed: which tiles the axes are learned from.
    """
    size, width = ivfpq.shape(satellite)
    for _ in ivfpq.pieces(satellite):  # every descriptor is looked at before any is learned from
        pass
    turn = _main_axes(satellite, min(axes, width), seed) if kind == "quick" else None
    rows = (ivfpq.single(piece) for _, piece in ivfpq.pieces(satellite, check=False))
    rough = np.empty((size, width if turn is None else len(turn)), np.int8)
    turned = rows if turn is None else (part @ turn.T for part in rows)
    return ShortlistGallery(satellite, Rough.of(turned, rough), turn)


def load(folder: Path) -> ShortlistGallery:
    """A saved gallery; nothing is read but its manifest."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        rough = Rough.load(folder / "rough")
    except OSError as error:
        raise ValueError(
            f"{folder} is not a saved gallery of this version: expected a folder that "
            "`index.build(...).save` wrote"
        ) from error
    axes = np.load(folder / "axes.npy") if manifest["kind"] == "quick" else None
    return ShortlistGallery(np.load(folder / "exact.npy", mmap_mode="c"), rough, axes)


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
