"""The embedded city: pictures a second of one core, at the sizes of the reference points."""

from __future__ import annotations

import dataclasses

import numpy as np
from measure import Row, Work, compare, run_alone
from numpy.typing import NDArray

from data_prep.city.build import SIZES
from data_prep.city.place import Place
from data_prep.city.styles import STYLES
from data_prep.city.world import World, build_world

PANORAMAS_PX = ((64, 128), (128, 256), (320, 640))


def measured(quick: bool = False) -> list[Row]:
    size, count = SIZES["smoke" if quick else "mini"], 4 if quick else 40
    style = next(iter(STYLES.values()))
    world = build_world(style, Place(style, size.tiles).side_m, size.resolution_m, seed=0)
    lanes = np.concatenate(world.lanes())
    places = lanes[np.random.default_rng(0).choice(len(lanes), count, replace=False)]
    candidates: dict[str, Work] = {
        f"panoramas of {width} x {height}": _panoramas(world, places, (height, width))
        for height, width in PANORAMAS_PX
    }
    rows = compare(
        "city", f"{count} pictures", candidates, next(iter(candidates)), memory=False,
        repeats=2 if quick else 5,
    )  # fmt: skip
    return [
        dataclasses.replace(row, extra={"a second of CPU": round(count / row.cpu_s, 1)})
        for row in rows
    ]


def _panoramas(world: World, places: NDArray[np.float64], size_px: tuple[int, int]) -> Work:
    def work() -> None:
        rng = np.random.default_rng(0)
        for x, y in places.tolist():
            world.panorama(x, y, *size_px, rng)

    return work


if __name__ == "__main__":
    run_alone(measured)
