"""How the price of a question grows with the gallery, and what ranking takes in memory.

Sizes are the first so many tiles of one gallery of VIGOR's size. IVF-PQ's time depends on how evenly
its lists are filled, which random directions fill as evenly as can be.
"""

from __future__ import annotations

import importlib.util

import made_up
import numpy as np
from measure import Row, Work, compare, peak_bytes, run_alone

from vigorlib import index, retrieval
from vigorlib.index import Gallery
from vigorlib.shortlist import Rough, ShortlistGallery

SIZES = (1_000, 3_000, 10_000, 30_000, 90_618)
QUERIES = (250, 1_000, 4_000)
K = 50


def measured(quick: bool = False) -> list[Row]:
    sizes, width = ((300, 600), 64) if quick else (SIZES, 4096)
    satellite = made_up.tiles(sizes[-1], width)
    ground, references = made_up.queries_near(satellite, 60 if quick else QUERIES[-1])
    narrow = {kind: index.build(satellite, kind) for kind in ("quarter", "quick")}
    rows = []
    for size in sizes:
        galleries: dict[str, Gallery] = {
            "exact": index.build(satellite[:size]),
            **{kind: first(gallery, size) for kind, gallery in narrow.items()},
        }
        if importlib.util.find_spec("faiss") and size >= 10 * index.ivfpq.CENTROIDS:
            galleries["ivfpq"] = index.build(satellite[:size], "ivfpq")
        work: dict[str, Work] = {
            kind: lambda g=gallery: g.search(ground[:1], K) for kind, gallery in galleries.items()
        }
        extra = {kind: {"tiles": size, "bytes": g.bytes} for kind, g in galleries.items()}
        rows += compare("gallery size", f"{size:,}", work, "exact", repeats=9, extra=extra)
    return rows + _memory(ground, references, satellite, (20, 60) if quick else QUERIES)


def first(gallery: object, size: int) -> ShortlistGallery:
    """The first tiles of a gallery, rounded and turned as the whole."""
    assert isinstance(gallery, ShortlistGallery)
    whole = gallery.rough
    rough = Rough(whole.values[:size], whole.scale[:size], whole.moved[:size])
    return ShortlistGallery(gallery.satellite[:size], rough, gallery.axes)


def _memory(ground: object, references: object, satellite: object, counts: tuple) -> list[Row]:  # type: ignore[type-arg]
    """Peak memory of ranking more and more queries; each once, its time is in ``ranks``."""
    rows = []
    for count in counts:
        part = np.asarray(ground)[:count], satellite, np.asarray(references)[:count]
        peak = peak_bytes(lambda p=part: retrieval.ranks(*p))
        held = part[0].nbytes + np.asarray(satellite).nbytes
        rows.append(
            Row(
                "memory of ranks", f"{count:,} x {len(satellite):,}", "ours", 0.0, 0.0, 0.0, 0.0,
                1, peak, {"queries": count, "descriptors": held},
            )
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    run_alone(measured)
