"""The city on paper: streets, blocks, buildings, trees, cars, as lists of shapes drawn from a seed.

Two frames: the world (x east, y south, metres from the north-west corner) and the street grid
(u, v), which is the world turned by the style's angle. Streets run along lines of constant u or v.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.city.styles import Range, Style

Array = NDArray[np.float64]

BUILDINGS, PARK, PARKING, PLAZA = range(4)
"""Kinds of blocks."""
FLAT, GABLE, ROOFTOP = range(3)
"""Shapes of building parts: flat roof with parapet, pitched roof, plant on another roof."""

PAVEMENT_M = 3.6
MAX_HEIGHT_M = 130.0

BUILDING = np.dtype(
    [
        (name, np.float64)
        for name in (
            "u0 u1 v0 v1 height shape ridge_along_u roof_r roof_g roof_b wall_r wall_g wall_b "
            "storey window_period window_share front awning_r awning_g awning_b"
        ).split()
    ]
)
"""A box in the grid frame. front: 0 plain, 1 shops on the ground floor, 2 glass ribbons."""
TREE = np.dtype([(name, np.float64) for name in "x y radius height r g b".split()])
CAR = np.dtype([(name, np.float64) for name in "x y cos sin length width r g b".split()])

CAR_COLOURS = (
    (214, 214, 216),
    (44, 46, 50),
    (148, 150, 153),
    (98, 100, 103),
    (138, 44, 42),
    (48, 66, 108),
    (228, 225, 218),
    (106, 86, 66),
    (66, 88, 70),
    (206, 168, 62),
)
ROOF_TILES = ((112, 76, 64), (92, 89, 87), (80, 86, 94), (122, 104, 88))
AWNINGS = (
    (146, 52, 48),
    (46, 84, 66),
    (52, 68, 112),
    (188, 156, 74),
    (92, 62, 92),
    (204, 196, 186),
)


@dataclass(frozen=True)
class Grid:
    """The street grid. lines_u: where streets of constant u run; width_u, class_u: of each.

    class: 0 plain, 1 centre line, 2 planted median, 3 bicycle lanes. blocks: (U+1, V+1) kinds,
    shade: a number in [0, 1) for each block. avenue: direction (cos, sin) and position of the
    diagonal avenue's normal form, width 0 where there is none.
    """

    cos: float
    sin: float
    lines_u: Array
    width_u: Array
    class_u: NDArray[np.int64]
    lines_v: Array
    width_v: Array
    class_v: NDArray[np.int64]
    blocks: NDArray[np.int64]
    shade: Array
    avenue: tuple[float, float, float, float]

    def to_world(self, u: Any, v: Any) -> tuple[Any, Any]:
        """Grid coordinates -> world coordinates (x, y), scalars or arrays."""
        return u * self.cos - v * self.sin, u * self.sin + v * self.cos

    def inner(self, i: int, j: int) -> tuple[float, float, float, float]:
        """(u0, u1, v0, v1) of block (i, j) inside its pavements."""
        return (
            self.lines_u[i - 1] + self.width_u[i - 1] / 2 + PAVEMENT_M,
            self.lines_u[i] - self.width_u[i] / 2 - PAVEMENT_M,
            self.lines_v[j - 1] + self.width_v[j - 1] / 2 + PAVEMENT_M,
            self.lines_v[j] - self.width_v[j] / 2 - PAVEMENT_M,
        )

    def block_indices(self) -> list[tuple[int, int]]:
        return [(i, j) for i in range(1, len(self.lines_u)) for j in range(1, len(self.lines_v))]


def draw_grid(style: Style, side_m: float, rng: np.random.Generator) -> Grid:
    """Streets and the kinds of the blocks between them."""
    angle = math.radians(style.angle_deg)
    cos, sin = math.cos(angle), math.sin(angle)
    corners = [(x, y) for x in (0.0, side_m) for y in (0.0, side_m)]
    us = [x * cos + y * sin for x, y in corners]
    vs = [-x * sin + y * cos for x, y in corners]
    streets_u = _streets(min(us), max(us), style.block_u, style.street_u, rng)
    streets_v = _streets(min(vs), max(vs), style.block_v, style.street_v, rng)
    shape = (len(streets_u[0]) + 1, len(streets_v[0]) + 1)
    chance = rng.random(shape)
    blocks = np.full(shape, BUILDINGS)
    blocks[chance < style.park + style.parking] = PARKING
    blocks[chance < style.park] = PARK
    blocks[chance > 0.96] = PLAZA
    turn = angle + math.radians(rng.choice([-1, 1]) * rng.uniform(32, 52))
    normal = math.cos(turn), math.sin(turn)
    position = side_m / 2 * sum(normal) + rng.uniform(-80, 80)
    avenue = (*normal, position, 15.0 if style.diagonal else 0.0)
    return Grid(cos, sin, *streets_u, *streets_v, blocks, rng.random(shape), avenue)


def _streets(
    low: float, high: float, block: Range, width: Range, rng: np.random.Generator
) -> tuple[Array, Array, NDArray[np.int64]]:
    """Parallel streets from low to high: positions, widths, classes."""
    lines, widths, classes = [low - 60.0], [rng.uniform(*width)], [0]
    while lines[-1] < high + 60:
        street_class = int(rng.choice([0, 0, 0, 1, 2, 3]))
        wide = rng.uniform(*width) * (0.85 if street_class == 0 else 1.15)
        lines.append(lines[-1] + rng.uniform(*block) + 0.5 * (wide + widths[-1]))
        widths.append(wide)
        classes.append(street_class)
    return np.array(lines), np.array(widths), np.array(classes)


# -- buildings -------------------------------------------------------------------------------


def draw_buildings(style: Style, grid: Grid, side_m: float, rng: np.random.Generator) -> NDArray:
    """All building parts, whole buildings before the plant on their roofs."""
    parts: list[tuple[float, ...]] = []
    for i, j in grid.block_indices():
        u0, u1, v0, v1 = grid.inner(i, j)
        x, y = grid.to_world((u0 + u1) / 2, (v0 + v1) / 2)
        if not (-90 < x < side_m + 90 and -90 < y < side_m + 90):
            continue
        kind = grid.blocks[i, j]
        if kind == BUILDINGS:
            _split(style, parts, (u0, u1, v0, v1), rng)
        elif kind in (PARKING, PLAZA) and rng.random() < 0.8:
            share = rng.uniform(0.3, 0.5)
            _building(style, parts, (u0, u0 + (u1 - u0) * share, v0, v0 + (v1 - v0) * share), rng)
    buildings = np.array(parts, dtype=BUILDING)
    return buildings[np.argsort(buildings["shape"] == ROOFTOP, kind="stable")]


def _split(style: Style, parts: list, box: tuple, rng: np.random.Generator) -> None:
    """Halve a block until its pieces are lots."""
    u0, u1, v0, v1 = box
    du, dv = u1 - u0, v1 - v0
    largest = rng.uniform(*style.lot) * 1.25
    if max(du, dv) <= largest or max(du, dv) < 2 * style.lot[0]:
        _building(style, parts, box, rng)
        return
    cut = rng.uniform(0.4, 0.6)
    if du > dv:
        halves = (u0, u0 + cut * du, v0, v1), (u0 + cut * du, u1, v0, v1)
    else:
        halves = (u0, u1, v0, v0 + cut * dv), (u0, u1, v0 + cut * dv, v1)
    for half in halves:
        _split(style, parts, half, rng)


def _building(style: Style, parts: list, box: tuple, rng: np.random.Generator) -> None:
    """One lot: a box, an L, a tower on a podium or a house with a pitched roof; now and then none."""
    if rng.random() < 0.07:
        return
    wall = np.array(style.walls[rng.integers(len(style.walls))], dtype=float)
    wall = np.clip(wall * rng.uniform(0.86, 1.14) + rng.normal(0, 5, 3), 25, 240)
    size = min(box[1] - box[0], box[3] - box[2])
    gable = rng.random() < style.gable and size < 22
    median, deviation = style.height_m
    height = float(np.clip(median * math.exp(rng.normal(0, deviation)), 4.5, 110))
    gap = rng.uniform(0.6, 2.5) if gable else rng.uniform(0.0, 1.2)
    u0, u1, v0, v1 = box[0] + gap, box[1] - gap, box[2] + gap, box[3] - gap
    if u1 - u0 < 5 or v1 - v0 < 5:
        return
    front = 2 if height > 28 and rng.random() < 0.45 else int(rng.random() < 0.45 and not gable)
    look = (
        rng.uniform(3.0, 3.8),
        rng.uniform(2.0, 4.2),
        rng.uniform(0.35, 0.65),
        float(0 if gable else front),
        *AWNINGS[rng.integers(len(AWNINGS))],
    )

    def part(b: tuple, h: float, shape: int, roof: Array, along_u: bool = False) -> None:
        parts.append((*b, h, float(shape), float(along_u), *roof, *wall, *look))

    if gable:
        tiles = np.array(ROOF_TILES[rng.integers(len(ROOF_TILES))])
        eaves = min(height, rng.uniform(4.5, 9))
        along_u = u1 - u0 < v1 - v0
        part((u0, u1, v0, v1), eaves, GABLE, 0.35 * wall + 0.65 * tiles, not along_u)
        return
    grey = rng.choice([74, 110, 146, 178, 198])
    roof = np.clip(0.42 * wall + 0.58 * grey * np.array([1.0, 0.99, 0.97]), 0, 255)
    if rng.random() < 0.25 and min(u1 - u0, v1 - v0) > 12:
        cut_u, cut_v = (
            u0 + (u1 - u0) * rng.uniform(0.4, 0.6),
            v0 + (v1 - v0) * rng.uniform(0.4, 0.6),
        )
        part((u0, u1, v0, cut_v), height, FLAT, roof)
        part((u0, cut_u, cut_v - 0.1, v1), height, FLAT, roof)
    else:
        part((u0, u1, v0, v1), height, FLAT, roof)
        if rng.random() < style.tower and min(u1 - u0, v1 - v0) > 13:
            inset = rng.uniform(0.12, 0.25)
            du, dv = inset * (u1 - u0), inset * (v1 - v0)
            top = min(height * rng.uniform(1.5, 2.6), MAX_HEIGHT_M)
            part((u0 + du, u1 - du, v0 + dv, v1 - dv), top, FLAT, np.clip(roof * 1.1, 0, 255))
    for _ in range(rng.integers(0, 4)):
        du, dv = rng.uniform(1.5, 4, 2)
        u = rng.uniform(u0 + 1, max(u0 + 1.1, u1 - 5))
        v = rng.uniform(v0 + 1, max(v0 + 1.1, v1 - 5))
        grey = rng.choice([90, 140, 190, 208])
        part((u, u + du, v, v + dv), height + rng.uniform(1.2, 2.6), ROOFTOP, np.full(3, grey))


# -- trees and cars --------------------------------------------------------------------------


def draw_trees(style: Style, grid: Grid, rng: np.random.Generator) -> NDArray:
    """Candidate trees: rows along pavements, groves in parks, a few in yards (not yet filtered)."""
    spots: list[tuple[Array, Array, float]] = []
    axes = (
        (grid.lines_u, grid.width_u, grid.lines_v, True),
        (grid.lines_v, grid.width_v, grid.lines_u, False),
    )
    for lines, widths, across, constant_u in axes:
        for line, width in zip(lines, widths, strict=True):
            for side in (-1, 1):
                if rng.random() > 0.9 * style.tree:
                    continue
                gap = rng.uniform(8, 16)
                count = int((across[-1] - across[0]) / gap)
                along = across[0] + np.cumsum(gap * rng.uniform(0.85, 1.15, count))
                along = along[rng.random(count) < 0.85]
                fixed = np.full(len(along), line + side * (width / 2 + 1.1))
                u, v = (fixed, along) if constant_u else (along, fixed)
                spots.append((*grid.to_world(u, v), 1.0))
    per_block = {BUILDINGS: (10, 0.9), PARK: (45, 1.25), PARKING: (5, 0.9), PLAZA: (5, 0.9)}
    for i, j in grid.block_indices():
        count, scale = per_block[int(grid.blocks[i, j])]
        count = int(count * style.tree)
        u0, u1, v0, v1 = grid.inner(i, j)
        u, v = rng.uniform(u0 + 1.4, u1 - 1.4, count), rng.uniform(v0 + 1.4, v1 - 1.4, count)
        spots.append((*grid.to_world(u, v), scale))
    trees = np.zeros(sum(len(x) for x, _, _ in spots), dtype=TREE)
    trees["x"] = np.concatenate([x for x, _, _ in spots])
    trees["y"] = np.concatenate([y for _, y, _ in spots])
    scales = np.concatenate([np.full(len(x), s) for x, _, s in spots])
    count = len(trees)
    trees["radius"] = rng.uniform(1.6, 3.4, count) * scales
    trees["height"] = rng.uniform(2.6, 3.3, count) * trees["radius"] + 1.2
    hue, light = rng.normal(0, 1, count), rng.uniform(0.8, 1.15, count)
    for name, base, spread in (("r", 72, 12), ("g", 98, 7), ("b", 50, 6)):
        trees[name] = np.clip((base + spread * hue) * light, 15, 200)
    return trees


def draw_cars(grid: Grid, rng: np.random.Generator) -> NDArray:
    """Candidate cars: parked along kerbs, moving in lanes, standing in car parks (not filtered)."""
    cars: list[tuple[Array, Array, bool]] = []
    parked = rng.uniform(0.4, 0.6)
    axes = (
        (grid.lines_u, grid.width_u, grid.lines_v, grid.width_v, True),
        (grid.lines_v, grid.width_v, grid.lines_u, grid.width_u, False),
    )
    for lines, widths, across, across_widths, constant_u in axes:
        along = np.arange(across[0], across[-1], 5.9)
        clear = (np.abs(across[:, None] - along) - across_widths[:, None] / 2).min(axis=0) > 6
        for line, width in zip(lines, widths, strict=True):
            for side in (-1, 1):
                kerb = along[clear & (rng.random(len(along)) < parked)]
                moving = along[rng.random(len(along)) < 0.10]
                for where, lateral in (
                    (kerb, side * (width / 2 - 1.15)),
                    (moving, side * (width * 0.14 + 0.4)),
                ):
                    fixed = np.full(len(where), line + lateral)
                    u, v = (fixed, where) if constant_u else (where, fixed)
                    cars.append((*grid.to_world(u, v), not constant_u))
    for i, j in grid.block_indices():
        if grid.blocks[i, j] == PARKING:
            u = np.arange(math.ceil(grid.lines_u[i - 1] / 2.7) * 2.7, grid.lines_u[i], 2.7) + 1.4
            v = np.arange(grid.lines_v[j - 1], grid.lines_v[j], 17.0)
            uu, vv = np.meshgrid(u, np.concatenate([v + 2.7, v + 7.9]))
            stay = rng.random(uu.shape) < 0.5
            cars.append((*grid.to_world(uu[stay], vv[stay]), False))
    out = np.zeros(sum(len(x) for x, _, _ in cars), dtype=CAR)
    out["x"] = np.concatenate([x for x, _, _ in cars])
    out["y"] = np.concatenate([y for _, y, _ in cars])
    along_u = np.concatenate([np.full(len(x), flag) for x, _, flag in cars])
    out["cos"] = np.where(along_u, grid.cos, -grid.sin)
    out["sin"] = np.where(along_u, grid.sin, grid.cos)
    out["length"] = rng.uniform(4.1, 5.2, len(out))
    out["width"] = rng.uniform(1.75, 2.0, len(out))
    colours = np.array(CAR_COLOURS, dtype=float)[rng.integers(len(CAR_COLOURS), size=len(out))]
    colours *= rng.uniform(0.9, 1.05, (len(out), 1))
    out["r"], out["g"], out["b"] = colours.T
    return out
