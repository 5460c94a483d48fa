"""A gallery that outgrows exact search: the same question, answered by FAISS from fewer bytes.

    gallery = index.build(satellite, "ivfpq")
    tiles, similarity = gallery.search(ground, k=10)  # or retrieval.search(ground, gallery, k=10)

exact   every tile compared, as in :mod:`vigorlib.retrieval`; descriptors may lie in a memory map
quarter the same answers from a quarter of the bytes: a rough look at eight bits a number, an exact
        one at what may matter (:mod:`vigorlib.shortlist`)
quick   a rough look at 512 axes, an exact one at the best 200: approximate, the similarities exact
flat    every tile compared by FAISS in single precision; all descriptors in memory
ivfpq   some bytes of each tile in memory, a share of the tiles compared: approximate

``satellite`` may be a memory map in all of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vigorlib import ivfpq, retrieval, shortlist
from vigorlib.files import write_atomically
from vigorlib.ivfpq import Settings, Values
from vigorlib.retrieval import Indices

Kind = Literal["exact", "quarter", "quick", "flat", "ivfpq"]
Found = tuple[Indices, NDArray[np.float64]]


class Gallery(Protocol):
    """Tiles that can be searched. ``bytes``: what searching keeps occupied."""

    @property
    def kind(self) -> Kind: ...
    @property
    def bytes(self) -> int: ...
    def __len__(self) -> int: ...
    def save(self, path: Path) -> None: ...
    def search(self, ground: Values, k: int = 50) -> Found:
        """The k most similar tiles of each query, best first, among equals the lower index first,
        and their cosine similarities: (Q, min(k, N)) each."""


def build(
    satellite: Values, kind: Kind = "exact", settings: Settings | None = None, seed: int = 0
) -> Gallery:
    """Make a gallery searchable.

    satellite: (N, D), L2-normalised; an array, a tensor or a memory map. settings: of "ivfpq"
    (default: :func:`vigorlib.ivfpq.default_settings`). seed: decides which tiles IVF-PQ and the axes
    of "quick" are learned from and how; the same seed gives the same gallery on the same machine.
    Raises ValueError for descriptors, kinds or settings that do not fit, RuntimeError without FAISS.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"unknown kind {kind!r}: expected one of {', '.join(get_args(Kind))}")
    if kind == "exact":
        for _ in ivfpq.pieces(satellite):  # checks every descriptor once, so that no search has to
            pass
        return ExactGallery(satellite)
    if kind in ("quarter", "quick"):
        return shortlist.build(satellite, kind, seed=seed)  # type: ignore[arg-type]
    gallery: FlatGallery | QuantisedGallery
    if kind == "flat":
        gallery = FlatGallery(ivfpq.faiss_module().IndexFlatIP(ivfpq.shape(satellite)[1]))
    else:
        gallery = QuantisedGallery(ivfpq.train(satellite, settings, seed))
    for _, piece in ivfpq.pieces(satellite):
        gallery.index.add(ivfpq.single(piece))
    return gallery


def load(path: Path | str) -> Gallery:
    """A saved gallery. An exact one stays on disk and is read while searching."""
    if Path(path).is_dir():
        return shortlist.load(Path(path))
    with Path(path).open("rb") as file:
        if file.read(6) == b"\x93NUMPY":
            return ExactGallery(np.load(path, mmap_mode="c"))  # a view that torch accepts
    faiss = ivfpq.faiss_module()
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise ValueError(
            f"{path} is not a saved gallery: expected a file that `index.build(...).save` wrote"
        ) from error
    return FlatGallery(index) if isinstance(index, faiss.IndexFlat) else QuantisedGallery(index)


class ExactGallery:
    """Descriptors as they are, in memory or in a memory map."""

    kind: Kind = "exact"

    def __init__(self, satellite: Values) -> None:
        self._satellite = satellite

    def __len__(self) -> int:
        return len(self._satellite)

    @property
    def bytes(self) -> int:
        """Of all descriptors; a memory map needs them only while it is searched."""
        rows, width = self._satellite.shape
        return rows * width * self._satellite[:1].itemsize

    def search(self, ground: Values, k: int = 50) -> Found:
        """As :func:`vigorlib.retrieval.search`."""
        queries, tiles = retrieval.checked(ground, "ground"), shortlist.whole(self._satellite)
        retrieval.require_fitting(queries, tiles, None, k)
        return retrieval.best(queries, tiles, k)

    def save(self, path: Path | str) -> None:
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

    def save(self, path: Path | str) -> None:
        faiss = ivfpq.faiss_module()
        write_atomically(Path(path), lambda partial: faiss.write_index(self.index, str(partial)))

    def _queries(self, ground: Values) -> NDArray[np.float32]:
        queries = ivfpq.single(retrieval.checked(ground, "ground"))
        if queries.shape[1] != self.index.d:
            raise ValueError(
                f"ground is (Q, {queries.shape[1]}), the gallery (N, {self.index.d}): expected the "
                "same D"
            )
        ivfpq.faiss_module()  # as many threads as torch has now
        return queries


class FlatGallery(_FaissGallery):
    """Which of several equals takes the k-th place is FAISS's choice."""

    kind: Kind = "flat"

    @property
    def bytes(self) -> int:
        return len(self) * int(self.index.d) * 4

    def search(self, ground: Values, k: int = 50) -> Found:
        """See :class:`Gallery`."""
        queries, k = self._queries(ground), _at_most(k, len(self))
        similarity, top = self.index.search(queries, k)
        return _best_first(top, similarity, k)


class QuantisedGallery(_FaissGallery):
    """Similarities are those of the tiles' codes: estimates. :func:`vigorlib.retrieval.rescore`
    makes them exact."""

    kind: Kind = "ivfpq"

    @property
    def settings(self) -> Settings:
        lists = ivfpq.faiss_module().downcast_index(self.index.index)
        return Settings(lists.nlist, lists.nprobe, lists.d, lists.code_size)

    @property
    def bytes(self) -> int:
        return self.settings.memory(len(self), int(self.index.d))

    def search(self, ground: Values, k: int = 50, probes: int | None = None) -> Found:
        """See :class:`Gallery`. probes: instead of the settings'. Where those lists hold fewer than
        k tiles, all lists are looked into, so that every place is filled."""
        queries, k, settings = self._queries(ground), _at_most(k, len(self)), self.settings
        similarity, top = self._search(queries, k, probes or settings.probes)
        short = (top < 0).any(axis=1)
        if short.any():
            similarity[short], top[short] = self._search(queries[short], k, settings.lists)
        return _best_first(top, similarity, k)

    def _search(self, queries: NDArray[np.float32], k: int, probes: int) -> tuple[Any, Any]:
        faiss = ivfpq.faiss_module()
        inner = faiss.SearchParametersIVF(nprobe=probes)
        parameters = faiss.SearchParametersPreTransform(index_params=inner)
        return self.index.search(queries, k, params=parameters)


def _best_first(top: Indices, similarity: NDArray[np.floating], k: int) -> Found:
    """(Q, k) by similarity, among equals the lower index first."""
    order = np.lexsort((top, -similarity))[:, :k]
    best = np.take_along_axis(similarity, order, axis=1).astype(np.float64)
    return np.take_along_axis(top, order, axis=1), best


def _at_most(k: int, size: int) -> int:
    if k < 1:
        raise ValueError(f"k is {k}: expected at least 1")
    return min(k, size)
