"""Which pairs share a batch: overlap-free sampling and the pool of hard examples.

Sampling draws uniformly over the tiles that are somebody's positive, then one of the tile's
panoramas; no two queries of a batch share any of their four tiles, so that every other pair of the
batch is a true negative. Mining (Zhu et al., WACV 2021) keeps the descriptors seen while training,
as stale as they are, ranks tiles for every query once an epoch and fills half of each batch with
queries of tiles that the other half finds hard.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vigorlib import products
from vigorlib.retrieval import best

Indices = NDArray[np.int64]


class OverlapFreeBatches:
    """Draws batches of query indices in which no two queries share a tile.

    references: (Q, 4) tile indices, positive first; among: queries that may be drawn (None: all).
    """

    MAX_TRIES = 1000

    def __init__(self, references: Indices, among: Indices | None = None) -> None:
        self.references = np.asarray(references)
        among = np.arange(len(self.references)) if among is None else among
        positives = self.references[among, 0]
        order = np.argsort(positives, kind="stable")
        self.positive_tiles, starts = np.unique(positives[order], return_index=True)
        order = among[order]
        self._queries_of = dict(
            zip(self.positive_tiles.tolist(), np.split(order, starts[1:]), strict=True)
        )

    def epoch(
        self,
        steps: int,
        batch: int,
        rng: np.random.Generator,
        hard: Indices | None = None,
        mined_share: float = 0.5,
    ) -> Indices:
        """(steps, batch) query indices. With ``hard`` (Q, K), a share of each batch is mined.

        hard[q] lists the positive tiles of others that the network confuses with query q's.
        """
        mined = 0 if hard is None else int(mined_share * batch)
        if not 0 <= mined < batch:
            raise ValueError(f"mined_share is {mined_share}: expected 0 to less than 1")
        return np.stack([self._batch(batch, mined, rng, hard) for _ in range(steps)])

    def _batch(
        self, size: int, mined: int, rng: np.random.Generator, hard: Indices | None
    ) -> Indices:
        chosen: list[int] = []
        used: set[int] = set()

        def add(query: int) -> None:
            tiles = self.references[query].tolist()
            if used.isdisjoint(tiles):
                chosen.append(query)
                used.update(tiles)

        self._fill(chosen, size - mined, rng, add)
        if hard is not None:
            anchors = itertools.cycle(chosen.copy())
            for anchor in itertools.islice(anchors, mined):
                add(self._query_of(int(rng.choice(hard[anchor])), rng))
            self._fill(chosen, size, rng, add)  # a hard example that overlapped is replaced
        return np.array(chosen)

    def _fill(
        self, chosen: list[int], size: int, rng: np.random.Generator, add: Callable[[int], None]
    ) -> None:
        for _ in range(self.MAX_TRIES * size):
            if len(chosen) == size:
                return
            add(self._query_of(int(rng.choice(self.positive_tiles)), rng))
        raise ValueError(
            f"no batch of {size} queries without a shared tile was found among "
            f"{len(self.references)} queries: use a smaller batch or more data"
        )

    def _query_of(self, tile: int, rng: np.random.Generator) -> int:
        return int(rng.choice(self._queries_of[tile]))


class Pool:
    """Descriptors of every query and tile as training last saw them (first in, first out).

    ground: (Q, D) and satellite: (N, D), zero until seen. wait: steps whose descriptors may lie on
    the device before they are copied, so that no step waits for a GPU to be done.
    """

    def __init__(self, queries: int, tiles: int, dimension: int, wait: int = 1) -> None:
        self.ground = torch.zeros(queries, dimension)
        self.satellite = torch.zeros(tiles, dimension)
        self.wait = wait
        self._uncopied: list[tuple[Indices, Tensor, Indices, Tensor]] = []

    def update(self, queries: Indices, ground: Tensor, tiles: Indices, satellite: Tensor) -> None:
        """Remember the descriptors of one step: (B, D) each."""
        self._uncopied.append((queries, ground.detach(), tiles, satellite.detach()))
        if len(self._uncopied) >= self.wait:
            self._copy()

    def _copy(self) -> None:
        for (
            queries,
            ground,
            tiles,
            satellite,
        ) in self._uncopied:  # in this order: the last one counts
            self.ground[torch.from_numpy(queries)] = ground.cpu().float()
            self.satellite[torch.from_numpy(tiles)] = satellite.cpu().float()
        self._uncopied.clear()

    def hardest(
        self,
        references: Indices,
        candidates: Indices,
        keep: int,
        rng: np.random.Generator,
        sample: int = 40_000,
        device: torch.device | str = "cpu",
        block_rows: int | None = None,
    ) -> Indices:
        """(Q, keep) tiles most similar to each query among ``sample`` random candidates.

        candidates: tiles that may be named (those that are somebody's positive). A query's own
        four tiles never count; tiles not seen yet come last. Exact, as :mod:`vigorlib.retrieval`:
        the same sets whatever computes them; among equals the tile that was drawn first, so that
        a query not seen yet gets random tiles. block_rows: as in
        :func:`vigorlib.retrieval.ranks`.
        """
        self._copy()
        tiles = rng.permutation(candidates)[:sample]
        keep = min(keep, len(tiles) - references.shape[1])
        if keep < 1:
            raise ValueError(f"only {len(tiles)} candidate tiles: mining needs at least 6")
        column = np.full(len(self.satellite), -1)
        column[tiles] = np.arange(len(tiles))
        own = column[references]  # (Q, 4), -1 where a tile was not drawn
        seen = _lengths(self.ground, "query") > 0
        _lengths(self.satellite, "tile")
        hard = np.empty((len(references), keep), dtype=np.int64)
        hard[~seen] = _first_but(own[~seen], keep)
        if seen.any():
            queries = self.ground if seen.all() else self.ground[torch.from_numpy(seen)]
            gallery = products.room(len(tiles), self.satellite.shape[1], self.satellite.dtype)
            torch.index_select(self.satellite, 0, torch.from_numpy(tiles), out=gallery)
            hard[seen], _ = best(
                queries.to(device), gallery.to(device), keep, block_rows, own[seen], unit=False
            )
        return tiles[hard]

    def state_dict(self) -> dict[str, Tensor]:
        self._copy()
        return {"ground": self.ground, "satellite": self.satellite}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._uncopied.clear()
        self.ground.copy_(state["ground"])
        self.satellite.copy_(state["satellite"])


def _lengths(pool: Tensor, of: str) -> NDArray[np.float32]:
    """(N,) lengths of descriptors; raises ValueError for one that is not finite."""
    lengths = pool.norm(dim=1).numpy()
    if not np.isfinite(lengths).all():
        row = int(np.flatnonzero(~np.isfinite(lengths))[0])
        raise ValueError(
            f"the pool's descriptor of {of} {row} has length {lengths[row]}: expected finite "
            "descriptors; training has diverged, lower the learning rate"
        )
    return lengths


def _first_but(own: Indices, keep: int) -> Indices:
    """(Q, keep) columns from 0 on, without a query's own (Q, M)."""
    first = np.arange(keep + own.shape[1])
    out = np.empty((len(own), keep), dtype=np.int64)
    for query, columns in enumerate(own):
        out[query] = np.setdiff1d(first, columns, assume_unique=True)[:keep]
    return out
