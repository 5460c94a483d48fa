"""One city as a world that can be photographed from above and from the street."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data_prep.city import light, plan, raster, street
from data_prep.city.light import AERIAL_SKY, STREET_SKIES, Sky
from data_prep.city.plan import Grid
from data_prep.city.styles import Style

SHORES = {"": 0, "west": 1, "east": 2, "north": 3}
SHORE_M = 140.0
"""How far the water reaches into the square, about; less in small worlds."""


@dataclass(frozen=True)
class World:
    """Everything about a city that its photographs are made from.

    Plane: metres, x east, y south, from the north-west corner of a square of ``side_m``.
    Maps are (n, n) at ``resolution_m``: height (m), colour of the ground as cars see it (no
    crowns, no cars), ground class, owner (index of the building, -1 for none), orthophoto, and
    how lit the ground is under each street sky. cars: one population for each capture.
    """

    style: Style
    side_m: float
    resolution_m: float
    grid: Grid
    buildings: NDArray
    trees: NDArray
    cars: tuple[NDArray, ...]
    height: NDArray[np.float32]
    colour: NDArray[np.uint8]
    ground: NDArray[np.uint8]
    owner: NDArray[np.int32]
    photo: NDArray[np.uint8]
    lit: tuple[NDArray[np.uint8], ...]

    def tile(self, x_m: float, y_m: float, side_m: float, size_px: int) -> NDArray[np.uint8]:
        """(size_px, size_px, 3) RGB, north up, centred on (x, y), ``side_m`` wide."""
        step = side_m / self.resolution_m / size_px  # cells a pixel
        oversample = max(int(np.ceil(step)), 1)
        cells = size_px * oversample
        scale = side_m / self.resolution_m / cells
        corner = np.array([x_m, y_m]) / self.resolution_m - side_m / self.resolution_m / 2
        # pixel centres onto cell centres
        shift = corner + 0.5 * scale - 0.5
        warp = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        view = cv2.warpAffine(self.photo, warp, (cells, cells), flags=flags)
        if oversample > 1:
            view = cv2.resize(view, (size_px, size_px), interpolation=cv2.INTER_AREA)
        return np.asarray(view, dtype=np.uint8)

    def panorama(
        self, x_m: float, y_m: float, height: int, width: int, rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        """(height, width, 3) RGB, equirectangular, north in the centre column."""
        return self.panorama_scene(x_m, y_m, height, width, rng)[0]

    def panorama_scene(
        self,
        x_m: float,
        y_m: float,
        height: int,
        width: int,
        rng: np.random.Generator,
        oversample: int = 2,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
        """A panorama, the distance of each pixel in metres and its kind (see :mod:`street`)."""
        capture = int(rng.integers(len(STREET_SKIES)))
        cloud_seed = float(rng.uniform(0, 50))
        h, w = height * oversample, width * oversample
        image, distance, kind = self._render(x_m, y_m, h, w, capture, cloud_seed)
        if oversample > 1:
            small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            image = np.asarray(small, dtype=np.float32)
            middle = slice(oversample // 2, None, oversample)
            distance, kind = distance[middle, middle], kind[middle, middle]
        return light.expose(image, rng), distance, kind

    def _render(
        self, x: float, y: float, h: int, w: int, capture: int, cloud_seed: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
        sky, lit, cars = STREET_SKIES[capture], self.lit[capture], self.cars[1 + capture]
        trees = self.trees
        bearings = ((np.arange(w) + 0.5) / w - 0.5) * 2 * np.pi
        elevations = (0.5 - (np.arange(h) + 0.5) / h) * np.pi
        tangents = np.array([math.tan(angle) for angle in elevations])  # see light._power
        image = np.zeros((h, w, 3), np.float32)
        distance = np.full((h, w), street.FAR, np.float32)
        kind = np.zeros((h, w), np.uint8)
        canvas = (image, distance, kind, bearings, tangents)
        sun = sky.towards
        near = (np.abs(trees["x"] - x) < 90) & (np.abs(trees["y"] - y) < 90)
        by = (np.abs(cars["x"] - x) < 65) & (np.abs(cars["y"] - y) < 65)
        street.draw_buildings(
            *canvas, x, y, self.height, self.colour, self.owner, lit, self.resolution_m,
            self.grid.cos, self.grid.sin, self.buildings, *sun, sky.ambient, sky.sun,
        )  # fmt: skip
        street.draw_ground(
            *canvas, x, y, self.height, self.colour, self.ground, lit, self.resolution_m,
            sky.ambient, sky.sun, sun[2],
        )  # fmt: skip
        street.draw_trees(
            *canvas, x, y, trees[near], *sun, sky.ambient, sky.sun, *sky.leaf, sky.bare
        )
        street.draw_cars(*canvas, x, y, cars[by], sky.ambient, sky.sun)
        street.draw_sky(
            image, distance, bearings, tangents, *sun, sky.sun, sky.overcast, cloud_seed
        )
        street.draw_haze(image, distance, sky.overcast)
        return image, distance, kind

    def lanes(self, step_m: float = 2.0) -> list[NDArray[np.float64]]:
        """Polylines (K, 2) that a camera car drives: a lane each way on each street, on asphalt."""
        grid, lines = self.grid, []
        reach = np.arange(-self.side_m, 2 * self.side_m, step_m)
        for line, width in zip(grid.lines_u, grid.width_u, strict=True):
            for side in (-1, 1):
                u = np.full(len(reach), line + side * (0.14 * width + 0.4))
                lines.append(np.stack(grid.to_world(u, reach), axis=1))
        for line, width in zip(grid.lines_v, grid.width_v, strict=True):
            for side in (-1, 1):
                v = np.full(len(reach), line + side * (0.14 * width + 0.4))
                lines.append(np.stack(grid.to_world(reach, v), axis=1))
        c, s, position, width = grid.avenue
        if width:
            for side in (-1, 1):
                across = position + side * 0.2 * width
                lines.append(np.stack([c * across - s * reach, s * across + c * reach], axis=1))
        return [piece for line in lines for piece in self._drivable_pieces(line)]

    def drivable(self, xy_m: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether positions (..., 2) lie on asphalt with a metre to spare."""
        good = np.ones(xy_m.shape[:-1], dtype=bool)
        for dx, dy in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
            x, y = xy_m[..., 0] + dx, xy_m[..., 1] + dy
            row, column, inside = raster.cells(x, y, self.resolution_m, len(self.ground))
            clear = self.height[row, column] < 0.3
            good &= inside & (self.ground[row, column] == raster.ROAD) & clear
        return good

    def _drivable_pieces(self, line: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        breaks = np.flatnonzero(np.diff(self.drivable(line).astype(int))) + 1
        pieces = np.split(line, breaks)
        return [p for p in pieces if len(p) > 5 and self.drivable(p[:1])[0]]


def build_world(style: Style, side_m: float, resolution_m: float, seed: int) -> World:
    """Draw the plan, rasterise it, light it. The same arguments give the same bytes."""
    rng = np.random.default_rng([seed, sum(style.name.encode())])
    n = int(round(side_m / resolution_m))
    grid = plan.draw_grid(style, side_m, rng)
    buildings = plan.draw_buildings(style, grid, side_m, rng)
    trees = plan.draw_trees(style, grid, rng)
    colour = np.empty((n, n, 3), np.float32)
    ground = np.empty((n, n), np.uint8)
    noise_seed = int(rng.integers(1 << 20))
    _draw_ground(style, grid, side_m, resolution_m, colour, ground, noise_seed)
    height = np.zeros((n, n), np.float32)
    owner = np.full((n, n), -1, np.int32)
    raster.draw_buildings(
        colour, height, owner, ground, resolution_m, grid.cos, grid.sin, buildings
    )
    trees = trees[_can_grow(trees, height, ground, resolution_m)]
    cars = tuple(
        _on_asphalt(plan.draw_cars(grid, rng), height, ground, resolution_m)
        for _ in range(1 + len(STREET_SKIES))
    )
    street_colour = np.clip(colour, 0, 255).astype(np.uint8)
    crowned = height.copy()
    raster.draw_crowns(colour, crowned, resolution_m, trees, noise_seed)
    lit = tuple(_lit(crowned, sky, resolution_m) for sky in STREET_SKIES)
    raster.draw_car_roofs(colour, crowned, resolution_m, cars[0])
    photo = light.shade_from_above(
        colour, crowned, _lit(crowned, AERIAL_SKY, resolution_m), *AERIAL_SKY.towards,
        AERIAL_SKY.ambient, AERIAL_SKY.sun, resolution_m,
    )  # fmt: skip
    return World(
        style, side_m, resolution_m, grid, buildings, trees, cars,
        height, street_colour, ground, owner, photo, lit,
    )  # fmt: skip


def _draw_ground(
    style: Style,
    grid: Grid,
    side_m: float,
    resolution_m: float,
    colour: NDArray,
    ground: NDArray,
    seed: int,
) -> None:
    shore = SHORES[style.water]
    reach = min(SHORE_M, 0.12 * side_m)
    shore_at = side_m - reach if style.water == "east" else reach
    raster.draw_ground(
        colour, ground, resolution_m, grid.cos, grid.sin,
        grid.lines_u, grid.width_u, grid.class_u, grid.lines_v, grid.width_v, grid.class_v,
        grid.blocks, grid.shade, np.array(grid.avenue), shore, shore_at,
        np.array(style.asphalt, float), np.array(style.pavement, float),
        np.array(style.grass, float), plan.PAVEMENT_M, seed,
    )  # fmt: skip


def _lit(height: NDArray, sky: Sky, resolution_m: float) -> NDArray[np.uint8]:
    return light.cast_shadows(height, *sky.towards, resolution_m)


def _can_grow(trees: NDArray, height: NDArray, ground: NDArray, resolution_m: float) -> NDArray:
    row, column, inside = raster.cells(trees["x"], trees["y"], resolution_m, len(ground))
    wrong = np.isin(ground[row, column], (raster.ROAD, raster.WATER, raster.CAR_PARK))
    return inside & ~wrong & (height[row, column] < 0.3)


def _on_asphalt(cars: NDArray, height: NDArray, ground: NDArray, resolution_m: float) -> NDArray:
    row, column, inside = raster.cells(cars["x"], cars["y"], resolution_m, len(ground))
    right = np.isin(ground[row, column], (raster.ROAD, raster.CAR_PARK))
    return cars[inside & right & (height[row, column] < 0.3)]
