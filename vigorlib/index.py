"""A gallery that outgrows exact search: the same question, answered by FAISS from fewer bytes.

    gallery = index.build(satellite, "ivfpq")
    tiles, similarity = gallery.search(ground, k=10)  # or retrieval.search(ground, gallery, k=10)

exact   every tile compared, as in :mod:`vigorlib.retrieval`; descriptors are read in pieces, so that
        they may lie in a memory map
flat    every tile compared by FAISS in single precision; all descriptors in memory
ivfpq   a few bytes of each tile in memory, and a share of the tiles compared: approximate

``satellite`` may be a memory map in all three: it is read in pieces of PIECE_BYTES.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vigorlib import retrieval
from vigorlib.files import write_atomically
from vigorlib.retrieval import Indices

Kind = Literal["exact", "flat", "ivfpq"]
Values = Tensor | NDArray[np.floating]
Found = tuple[Indices, NDArray[np.float64]]

PIECE_BYTES = 256 * 2**20
TRAINING_BYTES = 512 * 2**20
CENTROIDS = 256
"""What one code byte can name."""
TILES_A_CENTROID = 64


class Gallery(Protocol):
    """Tiles that can be searched. ``bytes``: the memory that searching keeps occupied."""

    @property
    def kind(self) -> Kind: ...
    @property
    def bytes(self) -> int: ...
    def __len__(self) -> int: ...
    def save(self, path: Path) -> None: ...
    def search(self, ground: Values, k: int = 50) -> Found:
        """The k most similar tiles of each query, best first, among equals the lower index first,
        and their cosine similarities: (Q, min(k, N)) each."""


@dataclass(frozen=True)
class Settings:
    """Of IVF-PQ. lists: clusters that the gallery is divided into; probes: how many of them a query
    looks into; width: numbers that a descriptor is rotated down to; code_bytes: what is kept of
    them, one byte for width / code_bytes numbers."""

    lists: int
    probes: int
    width: int
    code_bytes: int


def default_settings(size: int, width: int) -> Settings:
    """Settings for N = ``size`` tiles of D = ``width`` numbers.

    FAISS's wiki, "Guidelines to choose an index": between 4 and 16 sqrt(N) lists (here 4, which
    are the quickest to train), at most 64 code bytes, four numbers a byte; its k-means asks for 39
    tiles a list. It leaves the probes to a measurement: chapter 9's.
    """
    code_bytes = max(min(64, width // 4), 1)
    lists = max(min(round(4 * math.sqrt(size)), size // 39), 1)
    probes = min(max(lists // 16, 8), lists)
    return Settings(lists, probes, min(4 * code_bytes, width), code_bytes)


def build(
    satellite: Values, kind: Kind = "exact", settings: Settings | None = None, seed: int = 0
) -> Gallery:
    """Make a gallery searchable.

    satellite: (N, D), L2-normalised; an array, a tensor or a memory map. settings: of "ivfpq"
    (default: :func:`default_settings`). seed: decides which tiles IVF-PQ learns from, and how; the
    same seed gives the same gallery on the same machine.
    Raises ValueError for descriptors, kinds or settings that do not fit, RuntimeError without FAISS.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"unknown kind {kind!r}: expected one of {', '.join(get_args(Kind))}")
    if kind == "exact":
        for _ in _pieces(satellite):  # looks at every descriptor once, so that no search has to
            pass
        return ExactGallery(satellite)
    if kind == "flat":
        gallery: FlatGallery | QuantisedGallery = FlatGallery(
            _faiss().IndexFlatIP(_shape(satellite)[1])
        )
    else:
        gallery = QuantisedGallery(_trained(satellite, settings, seed))
    for _, piece in _pieces(satellite):
        gallery.index.add(_single(piece))
    return gallery


def load(path: Path) -> Gallery:
    """A saved gallery. An exact one stays on disk and is read while searching."""
    with Path(path).open("rb") as file:
        if file.read(6) == b"\x93NUMPY":
            return ExactGallery(np.load(path, mmap_mode="c"))
    faiss = _faiss()
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise ValueError(
            f"{path} is not a saved gallery: expected a file that `index.build(...).save` wrote"
        ) from error
    return FlatGallery(index) if isinstance(index, faiss.IndexFlat) else QuantisedGallery(index)


# -- the three kinds -------------------------------------------------------------------------


class ExactGallery:
    """Descriptors as they are, in memory or in a memory map."""

    kind: Kind = "exact"

    def __init__(self, satellite: Values) -> None:
        self._satellite = satellite

    def __len__(self) -> int:
        return len(self._satellite)

    @property
    def bytes(self) -> int:
        rows, width = self._satellite.shape
        return rows * width * self._satellite[:1].itemsize

    def search(self, ground: Values, k: int = 50) -> Found:
        """As :func:`vigorlib.retrieval.search`, in pieces."""
        queries = retrieval.checked(ground, "ground")
        k = _at_most(k, len(self))
        top, similarity = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0))
        for start, piece in _pieces(self._satellite, check=False):
            retrieval.require_fitting(queries, piece, None, k)
            found, value = retrieval.best(queries, piece, k)
            top, similarity = np.hstack([top, found + start]), np.hstack([similarity, value])
            top, similarity = _best_first(top, similarity, k)
        return top, similarity

    def save(self, path: Path) -> None:
        values = self._satellite
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values

        def write(partial: Path) -> None:
            with partial.open(
                "wb"
            ) as file:  # a file object, so that NumPy adds no ending of its own
                np.save(file, array)

        write_atomically(Path(path), write)


class _FaissGallery:
    """What both of FAISS's kinds share. index: FAISS's object."""

    def __init__(self, index: Any) -> None:
        self.index = index

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def save(self, path: Path) -> None:
        write_atomically(Path(path), lambda partial: _faiss().write_index(self.index, str(partial)))

    def _queries(self, ground: Values) -> NDArray[np.float32]:
        queries = _single(retrieval.checked(ground, "ground"))
        if queries.shape[1] != self.index.d:
            raise ValueError(
                f"ground is (Q, {queries.shape[1]}), the gallery (N, {self.index.d}): expected the "
                "same D"
            )
        return queries


class FlatGallery(_FaissGallery):
    """Which of several equals takes the k-th place is FAISS's choice."""

    kind: Kind = "flat"

    @property
    def bytes(self) -> int:
        return len(self) * int(self.index.d) * 4

    def search(self, ground: Values, k: int = 50) -> Found:
        queries, k = self._queries(ground), _at_most(k, len(self))
        _faiss()  # as many threads as torch has now
        similarity, top = self.index.search(queries, k)
        return _best_first(top, similarity, k)


class QuantisedGallery(_FaissGallery):
    """Similarities are those of the tiles' codes: estimates."""

    kind: Kind = "ivfpq"

    @property
    def _lists(self) -> Any:
        return _faiss().downcast_index(self.index.index)

    @property
    def settings(self) -> Settings:
        lists = self._lists
        return Settings(lists.nlist, lists.nprobe, lists.d, lists.code_size)

    @property
    def bytes(self) -> int:
        """Codes and numbers of the tiles, and what they were learned with."""
        settings, numbers = self.settings, 8
        learned = settings.width * (settings.lists + CENTROIDS + int(self.index.d)) * 4
        return len(self) * (settings.code_bytes + numbers) + learned

    def search(self, ground: Values, k: int = 50, probes: int | None = None) -> Found:
        """probes: instead of the settings'. Where those lists hold fewer than k tiles, all lists
        are looked into, so that every place is filled."""
        queries, k = self._queries(ground), _at_most(k, len(self))
        similarity, top = self._search(queries, k, probes or self.settings.probes)
        short = (top < 0).any(axis=1)
        if short.any():
            similarity[short], top[short] = self._search(queries[short], k, self.settings.lists)
        return _best_first(top, similarity, k)

    def _search(self, queries: NDArray[np.float32], k: int, probes: int) -> tuple[Any, Any]:
        faiss = _faiss()
        inner = faiss.SearchParametersIVF(nprobe=probes)
        parameters = faiss.SearchParametersPreTransform(index_params=inner)
        return self.index.search(queries, k, params=parameters)


# -- learning what IVF-PQ needs --------------------------------------------------------------


def _trained(satellite: Values, settings: Settings | None, seed: int) -> Any:
    """FAISS's index without tiles: a rotation, lists, codes. Learned from a sample of at most
    TRAINING_BYTES, 64 tiles a list or centroid where there are as many (guidelines: 30 to 256)."""
    size, width = _shape(satellite)
    settings = settings or default_settings(size, width)
    _require_settings(settings, size, width)
    faiss, rng = _faiss(), np.random.default_rng(seed)
    fitting = max(TRAINING_BYTES // (4 * settings.width), CENTROIDS, settings.lists)
    rows = min(size, fitting, TILES_A_CENTROID * max(settings.lists, CENTROIDS))
    chosen = np.sort(rng.choice(size, rows, replace=False))
    rotation = _rotation(satellite, chosen, settings.width, rng)
    sample = np.concatenate([_single(p) @ rotation.T for _, p in _pieces(satellite, chosen)])

    quantiser = faiss.IndexFlatIP(settings.width)
    lists = faiss.IndexIVFPQ(
        quantiser, settings.width, settings.lists, settings.code_bytes, 8, faiss.METRIC_INNER_PRODUCT
    )  # fmt: skip
    for clustering in (lists.cp, lists.pq.cp):
        clustering.seed, clustering.max_points_per_centroid = seed, TILES_A_CENTROID
        clustering.min_points_per_centroid = 1  # few are not worth a warning on stderr
    lists.train(sample)
    lists.nprobe = settings.probes
    turn = faiss.LinearTransform(width, settings.width, False)
    faiss.copy_array_to_vector(rotation.ravel(), turn.A)
    turn.is_trained = True
    return faiss.IndexPreTransform(turn, lists)


def _rotation(
    satellite: Values, chosen: Indices, width: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """(width, D) orthonormal rows that keep most of the descriptors' length.

    The main axes of the tiles (about the origin: similarities are not about the mean), turned at
    random, so that each code byte gets an equal share.
    """
    full = _shape(satellite)[1]
    few = chosen[:: max(len(chosen) // (16 * full), 1)]
    moment = sum(_single(p).T @ _single(p) for _, p in _pieces(satellite, few))
    _, axes = np.linalg.eigh(moment)
    turn, _ = np.linalg.qr(rng.normal(size=(width, width)))
    return np.ascontiguousarray(turn @ axes[:, -width:].T, dtype=np.float32)


def _require_settings(settings: Settings, size: int, width: int) -> None:
    if size < CENTROIDS:
        raise ValueError(
            f"a gallery of {size} tiles is too small for ivfpq: expected at least {CENTROIDS}; "
            "search it with kind='exact'"
        )
    fits = (
        1 <= settings.probes <= settings.lists <= size
        and 1 <= settings.code_bytes <= settings.width <= width
        and settings.width % settings.code_bytes == 0
    )
    if not fits:
        raise ValueError(
            f"{settings} does not fit {size} tiles of {width} numbers: expected 1 <= probes <= "
            "lists <= tiles, width <= numbers, and code_bytes that divide width; see "
            "`index.default_settings`"
        )


# -- reading ---------------------------------------------------------------------------------


def _pieces(
    satellite: Values, rows: Indices | None = None, check: bool = True
) -> Iterator[tuple[int, Tensor]]:
    """Pieces of the gallery, or of some rows of it, that fit into memory, with their first row."""
    size, width = _shape(satellite)
    count = size if rows is None else len(rows)
    step = max(PIECE_BYTES // (width * satellite[:1].itemsize), 1)
    for start in range(0, count, step):
        part = slice(start, start + step)
        values = satellite[part] if rows is None else satellite[rows[part]]
        if isinstance(values, np.ndarray) and not values.flags.writeable:
            values = values.copy()  # torch shares memory only with what may be written
        try:
            yield start, retrieval.checked(values, "satellite") if check else _tensor(values)
        except ValueError as error:
            raise ValueError(f"rows from {start}: {error}") from error


def _tensor(values: Values) -> Tensor:
    return values if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values))


def _single(values: Tensor) -> NDArray[np.float32]:
    """FAISS reads single precision only."""
    return np.ascontiguousarray(values.detach().float().cpu().numpy())


def _shape(satellite: Values) -> tuple[int, int]:
    if satellite.ndim != 2 or not len(satellite):
        raise ValueError(
            f"satellite has shape {tuple(satellite.shape)}: expected (N, D) with at least one row"
        )
    rows, width = satellite.shape
    return rows, width


# -- small things ----------------------------------------------------------------------------


def _best_first(top: Indices, similarity: NDArray[np.floating], k: int) -> Found:
    """(Q, k) by similarity, among equals the lower index first."""
    order = np.lexsort((top, -similarity))[:, :k]
    best = np.take_along_axis(similarity, order, axis=1).astype(np.float64)
    return np.take_along_axis(top, order, axis=1), best


def _at_most(k: int, size: int) -> int:
    if k < 1:
        raise ValueError(f"k is {k}: expected at least 1")
    return min(k, size)


def _faiss() -> Any:
    """FAISS, with as many threads as torch."""
    try:
        faiss = importlib.import_module("faiss")
    except ImportError as error:
        raise RuntimeError(
            "FAISS is needed for the kinds flat and ivfpq: `pip install faiss-cpu`, or with the "
            "project `pip install '.[faiss]'`; kind='exact' does without it"
        ) from error
    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss
