"""Where the time of ranking goes: a profile of one evaluation in one thread, by step."""

from __future__ import annotations

import cProfile
import pstats

import made_up
import torch
from measure import Row, run_alone

from vigorlib import retrieval

STEPS = {
    "product": ("_product",),
    "exact sums": ("pair_sums",),
    "looks at blocks": ("select", "kth_largest"),
}


def measured(quick: bool = False) -> list[Row]:
    """A row a step; the ratio is its share of the whole."""
    queries, tiles, width = (60, 500, 64) if quick else (2_000, 9_000, 4096)
    satellite = made_up.tiles(tiles, width)
    ground, references = made_up.queries_near(satellite, queries)
    retrieval.ranks(ground[:20], satellite, references[:20])  # compiled before
    threads, profile = torch.get_num_threads(), cProfile.Profile()
    torch.set_num_threads(1)  # what other threads do no profile sees
    try:
        profile.runcall(retrieval.ranks, ground, satellite, references)
    finally:
        torch.set_num_threads(threads)
    spent: dict[str, float] = dict.fromkeys([*STEPS, "all else"], 0.0)
    for (_, _, function), (_, _, own, *_) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        step = next((s for s, names in STEPS.items() if function in names), "all else")
        spent[step] += own
    whole, case = sum(spent.values()), f"{queries:,} x {tiles:,}, one thread"
    return [
        Row("profile of ranks", case, step, s, s, s / whole, s / whole, 1, None, {})
        for step, s in spent.items()
    ]


if __name__ == "__main__":
    run_alone(measured)
