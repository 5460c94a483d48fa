"""What both views of the embedded city show: true masks and correspondences of a pair.

No data set of photographs knows this. Here both views are drawn from one map, so that for every
pixel of a panorama it is known what it shows and where that stands, and for every pixel of a tile
whether it is seen from the street.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from data_prep.city import raster
from data_prep.city.build import generator_version
from data_prep.city.place import Place
from data_prep.city.sampling import sample_queries
from data_prep.city.street import BUILDING, CAMERA_M, CAR, GROUND, SKY, TREE
from data_prep.city.styles import STYLES
from data_prep.city.vigor_format import panorama_name
from data_prep.city.world import World, build_world

KINDS = {SKY: "sky", GROUND: "ground", BUILDING: "building", TREE: "tree", CAR: "car"}
"""What a panorama's pixel shows."""
TILE_KINDS = {0: "street", 1: "pavement", 2: "green", 3: "building", 4: "yard, other"}
"""What stands at a tile's pixel (crowns of trees are not told apart from what is below)."""
_STREETS = (raster.ROAD, raster.CAR_PARK)
ROOF_M = 4.0
"""How much of a roof behind a seen wall counts as seen: a wall has no area from above."""


@dataclass(frozen=True)
class Sight:
    """One pair's truth.

    tile_seen: (S, S) what stands there is seen from the panorama's place.
    tile_kind: (S, S) key of :data:`TILE_KINDS`.
    panorama_shared: (H, W) the pixel shows ground, a building or a tree that stands on the tile.
    panorama_kind: (H, W) key of :data:`KINDS`.
    where: (H, W, 2) place on the tile [row, column] as shares of its side in [0, 1]; NaN where the
    pixel is not shared.
    """

    tile_seen: NDArray[np.bool_]
    tile_kind: NDArray[np.uint8]
    panorama_shared: NDArray[np.bool_]
    panorama_kind: NDArray[np.uint8]
    where: NDArray[np.float32]


def sight(
    world: World,
    query_xy: NDArray[np.float64],
    tile_xy: NDArray[np.float64],
    tile_side_m: float,
    tile_px: int,
    panorama_px: tuple[int, int],
    rng: np.random.Generator,
) -> Sight:
    """The truth of a panorama taken at ``query_xy`` and a tile centred on ``tile_xy`` (metres).

    rng: as for ``World.panorama``; it decides which cars drive by.
    """
    x, y = (float(v) for v in query_xy)
    corner = np.asarray(tile_xy, dtype=float) - tile_side_m / 2
    centres = (np.arange(tile_px) + 0.5) * tile_side_m / tile_px
    xs, ys = corner[0] + centres, corner[1] + centres
    seen = _seen_from(world.height, world.owner, world.resolution_m, x, y, xs, ys, ROOF_M)
    _, distance, kind = world.panorama_scene(x, y, *panorama_px, rng, oversample=1)
    where = (_shown_places(distance, x, y) - corner)[..., ::-1] / tile_side_m  # row, column
    shared = np.isin(kind, (GROUND, BUILDING, TREE)) & ((where >= 0) & (where < 1)).all(axis=-1)
    places = np.where(shared[..., None], where, np.nan).astype(np.float32)
    return Sight(seen, _tile_kinds(world, xs, ys), shared, kind, places)


_City = tuple[Place, World, dict[str, int], NDArray[np.float64]]


class CityTruth:
    """The embedded city at ``root`` made again in memory, city by city, to ask what its pairs show.

    Making a city again takes a few seconds and is done once.
    """

    def __init__(self, root: str | Path) -> None:
        manifest = Path(root) / "manifest.json"
        if not manifest.exists():
            raise ValueError(
                f"{root} holds no manifest.json: what both views show is known of the embedded "
                "city only, expected a folder written by `python -m data_prep.city`"
            )
        self._made = json.loads(manifest.read_text(encoding="utf-8"))["made_with"]
        self._cities: dict[str, _City] = {}
        if self._made["generator"] != generator_version():
            raise ValueError(
                f"{root} was made by generator {self._made['generator']}, this is "
                f"{generator_version()}: make the city again with `python -m data_prep.city`"
            )

    def of_pair(
        self,
        city: str,
        panorama: str,
        tile_latlon: NDArray[np.float64],
        tile_px: int,
        panorama_px: tuple[int, int],
    ) -> Sight:
        """The truth of a panorama (its file's name) and a tile (its centre in degrees)."""
        place, world, indices, latlon = self._city(city)
        if panorama not in indices:
            raise ValueError(f"panorama {panorama!r} is none of {city}: expected a file's name")
        index = indices[panorama]
        rng = np.random.default_rng([self._made["seed"], list(STYLES).index(city), index])
        return sight(
            world, place.to_world(latlon[index]), place.to_world(np.asarray(tile_latlon)),
            place.tile_side_m, tile_px, panorama_px, rng,
        )  # fmt: skip

    def _city(self, city: str) -> _City:
        if city not in self._cities:
            self._cities[city] = self._made_again(city)
        return self._cities[city]

    def _made_again(self, city: str) -> _City:
        size, seed = self._made["size"], self._made["seed"]
        place = Place(STYLES[city], size["tiles"])
        world = build_world(place.style, place.side_m, size["resolution_m"], seed)
        generator = np.random.default_rng([seed, list(STYLES).index(city)])
        queries = sample_queries(world, place, generator)
        names = [panorama_name(*q) for q in zip(queries.ids, queries.latlon, strict=True)]
        return place, world, {name: i for i, name in enumerate(names)}, queries.latlon


# -- rays ------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _seen_from(height, owner, resolution, x0, y0, xs, ys, roof):
    """(S, S) whether the top of what stands at (xs[j], ys[i]) rises above all before it.

    Along the way there the map's heights are looked at as angles from the camera: something is hidden
    if anything before it stands at a higher angle. Of a building's own cells, those less than
    ``roof`` metres before do not hide.
    """
    n = height.shape[0]
    seen = np.zeros((len(ys), len(xs)), np.bool_)
    for i in range(len(ys)):
        for j in range(len(xs)):
            column, row = int(xs[j] / resolution), int(ys[i] / resolution)
            if column < 0 or row < 0 or column >= n or row >= n:
                continue
            own = owner[row, column]
            away = math.hypot(xs[j] - x0, ys[i] - y0)
            top = (height[row, column] - CAMERA_M) / max(away, 1e-6)
            free = True
            t = 0.4
            while t < away and free:
                c = int((x0 + (xs[j] - x0) * t / away) / resolution)
                r = int((y0 + (ys[i] - y0) * t / away) / resolution)
                if 0 <= c < n and 0 <= r < n and height[r, c] > 0.3:
                    mine = own >= 0 and owner[r, c] == own and away - t < roof
                    same_cell = c == column and r == row
                    if not mine and not same_cell and (height[r, c] - CAMERA_M) / t > top:
                        free = False
                t += resolution * 0.5
            seen[i, j] = free
    return seen


def _shown_places(distance: NDArray[np.float32], x: float, y: float) -> NDArray[np.float64]:
    """(H, W) metres from the camera -> (H, W, 2) world metres (x east, y south)."""
    width = distance.shape[1]
    bearing = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi
    away = distance.astype(float)
    return np.stack([x + np.sin(bearing) * away, y - np.cos(bearing) * away], axis=-1)


def _tile_kinds(
    world: World, xs: NDArray[np.float64], ys: NDArray[np.float64]
) -> NDArray[np.uint8]:
    row, column, _ = raster.cells(xs[None, :], ys[:, None], world.resolution_m, len(world.ground))
    ground, owner = world.ground[row, column], world.owner[row, column]
    kinds = np.full(ground.shape, 4, np.uint8)
    kinds[np.isin(ground, _STREETS)] = 0
    kinds[ground == raster.PAVEMENT] = 1
    kinds[ground == raster.GREEN] = 2
    kinds[owner >= 0] = 3
    return kinds
