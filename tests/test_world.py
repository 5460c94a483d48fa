"""The two views of the embedded city show one world, where geometry says they should."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from data_prep import city
from data_prep.city import light, plan
from vigorlib import geometry

CAMERA_M = 2.4
SKY, GROUND, BUILDING = range(3)
ROAD = 1
MAGENTA = (250, 0, 250)
SIDE_M, CELL_M = 220.0, 0.5


def bare(world: city.World, **changes) -> city.World:
    """Without trees and cars: nothing but the map is seen."""
    cars = tuple(c[:0] for c in world.cars)
    return dataclasses.replace(world, trees=world.trees[:0], cars=cars, **changes)


@pytest.fixture(scope="module")
def world() -> city.World:
    return city.build_world(city.STYLES["NewYork"], SIDE_M, CELL_M, seed=4)


@pytest.fixture(scope="module")
def plain(world) -> city.World:
    """Grey level ground as far as it goes, every cell lit."""
    grey = np.full_like(world.colour, 110)
    return bare(
        world,
        buildings=world.buildings[:1],
        height=np.zeros_like(world.height),
        ground=np.full_like(world.ground, ROAD),
        owner=np.full_like(world.owner, -1),
        colour=grey,
        photo=grey,
        lit=tuple(np.full_like(m, 255) for m in world.lit),
    )


def painted(plain: city.World, x: float, y: float, half_m: float = 1.0) -> city.World:
    """A magenta square around (x, y), seen from above and from the street."""
    n = len(plain.height)
    cells = (np.arange(n) + 0.5) * plain.resolution_m
    spot = (np.abs(cells[:, None] - y) <= half_m) & (np.abs(cells - x) <= half_m)
    colour = plain.colour.copy()
    colour[spot] = MAGENTA
    return dataclasses.replace(plain, colour=colour, photo=colour)


def with_tower(plain: city.World, x: float, y: float, tall: float, half_m: float = 3.0):
    n = len(plain.height)
    cells = (np.arange(n) + 0.5) * plain.resolution_m
    spot = (np.abs(cells[:, None] - y) <= half_m) & (np.abs(cells - x) <= half_m)
    return dataclasses.replace(
        plain,
        height=np.where(spot, np.float32(tall), np.float32(0)),
        owner=np.where(spot, np.int32(0), np.int32(-1)),
    )


def magenta(image: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(image.astype(int), -1, 0)
    return (red > green + 60) & (blue > green + 60)


def middle_of(mask: np.ndarray) -> tuple[float, float]:
    """Centre of what is marked, in pixels from the image's corner."""
    rows, columns = np.nonzero(mask)
    return rows.mean() + 0.5, columns.mean() + 0.5


def street_spots(world: city.World, count: int) -> np.ndarray:
    """Places on lanes, away from the border."""
    lanes = np.concatenate(world.lanes())
    inner = lanes[(np.abs(lanes - world.side_m / 2) < world.side_m / 4).all(axis=1)]
    return inner[np.random.default_rng(1).permutation(len(inner))[:count]]


def cast_ray(world: city.World, x: float, y: float, bearing: float, tangent: float) -> float:
    """Where a ray from the camera first meets a building: a slow walk, 2 cm a step."""
    n, step = len(world.height), 0.02
    east, south = math.sin(bearing), -math.cos(bearing)
    for i in range(int(0.4 / step), int(170 / step)):
        t = i * step
        column = math.floor((x + east * t) / world.resolution_m)
        row = math.floor((y + south * t) / world.resolution_m)
        if not (1 <= row < n - 1 and 1 <= column < n - 1):
            break
        if world.owner[row, column] >= 0 and world.height[row, column] >= CAMERA_M + t * tangent:
            return t
    return math.inf


# -- from the street ---------------------------------------------------------------------------


def test_walls_stand_as_far_away_as_a_ray_through_the_map_goes(world):
    scene, h, w = bare(world), 64, 36
    late, agree = [], []
    for x, y in street_spots(world, 3):
        _, distance, kind = scene.panorama_scene(x, y, h, w, np.random.default_rng(0), oversample=1)
        for row in (h // 2 - 1, h // 2 - 6):  # the horizon, and 15 degrees above it
            tangent = math.tan((0.5 - (row + 0.5) / h) * math.pi)
            for column in range(w):
                bearing = ((column + 0.5) / w - 0.5) * 2 * math.pi
                t = cast_ray(scene, x, y, bearing, tangent)
                seen = kind[row, column] == BUILDING
                agree.append(seen == math.isfinite(t))
                if seen and agree[-1]:
                    late.append(distance[row, column] - t)
    assert np.mean(agree) > 0.98 and len(late) > 100
    # the drawn march takes steps of 0.4 m and may pass the corner of a cell, but is never early
    assert min(late) > -0.03
    assert np.mean(np.array(late) < 0.45) > 0.9
    assert max(late) < 2


def test_what_is_no_building_above_the_horizon_is_sky_and_below_it_ground(world):
    (x, y) = street_spots(world, 1)[0]
    _, distance, kind = bare(world).panorama_scene(x, y, 64, 128, np.random.default_rng(0), 1)
    above, below = kind[:32], kind[32:]
    assert set(np.unique(above)) == {SKY, BUILDING}
    assert set(np.unique(below)) == {GROUND, BUILDING}
    assert (distance[:32][above == SKY] == 1e9).all()
    assert (distance[kind == BUILDING] < 171).all()


def test_the_ground_is_as_far_away_as_the_camera_is_high_over_the_tangent(plain):
    h, w = 64, 16
    _, distance, kind = plain.panorama_scene(110, 110, h, w, np.random.default_rng(0), oversample=1)
    depression = ((np.arange(h // 2, h) + 0.5) / h - 0.5) * math.pi
    wanted = np.repeat((CAMERA_M / np.tan(depression))[:, None], w, axis=1)
    np.testing.assert_allclose(distance[h // 2 :], wanted, rtol=1e-5)
    assert (kind[h // 2 :] == GROUND).all() and (kind[: h // 2] == SKY).all()


@pytest.mark.parametrize(
    ("east", "north", "at"),
    [(0, 1, 0.5), (1, 0, 0.75), (1, 1, 0.625), (-1, 0, 0.25), (-1, 1, 0.375), (0, -1, 1.0)],
)
def test_north_is_the_centre_column_and_east_three_quarters(plain, east, north, at):
    tower = with_tower(plain, 110 + 30 * east, 110 - 30 * north, tall=20)
    h, w = 64, 128
    _, distance, kind = tower.panorama_scene(110, 110, h, w, np.random.default_rng(0), 1)
    columns = np.flatnonzero(kind[h // 2 - 1] == BUILDING)
    angle = np.exp(2j * np.pi * (columns + 0.5) / w).mean()  # the south wraps around
    centre = (np.angle(angle) / (2 * np.pi)) % 1.0
    assert min(abs(centre - at % 1), 1 - abs(centre - at % 1)) < 0.6 / w
    away = 30 * math.hypot(east, north)
    nearest = distance[h // 2 - 1, columns].min()
    assert away - 3 * math.hypot(abs(east), abs(north)) - 0.05 <= nearest <= away - 2.5


def test_a_tower_is_as_tall_as_its_angle_says(plain):
    h = 512
    tower = with_tower(plain, 110, 80, tall=20)  # its south wall stands 27 m to the north
    _, _, kind = tower.panorama_scene(110, 110, h, 1024, np.random.default_rng(0), oversample=1)
    rows = np.flatnonzero(kind[:, 512] == BUILDING)
    top = (0.5 - rows[0] / h) * math.pi
    foot = (0.5 - (rows[-1] + 1) / h) * math.pi
    pixel = math.pi / h
    assert top == pytest.approx(math.atan((20 - CAMERA_M) / 27), abs=2 * pixel)
    assert foot == pytest.approx(-math.atan(CAMERA_M / 27), abs=2 * pixel)


def test_a_mark_on_the_ground_is_seen_at_its_bearing_and_depression(plain):
    scene, h, w = painted(plain, 110 + 6, 110 - 6), 256, 512
    row, column = middle_of(magenta(scene.panorama(110, 110, h, w, np.random.default_rng(0))))
    assert column / w == pytest.approx(0.5 + 45 / 360, abs=1 / w)
    away = CAMERA_M / math.tan((row / h - 0.5) * math.pi)
    assert away == pytest.approx(math.hypot(6, 6), abs=0.4)


def test_oversampling_changes_the_image_not_the_geometry(world):
    x, y = street_spots(world, 1)[0]
    fine, coarse = (
        bare(world).panorama_scene(x, y, 64, 128, np.random.default_rng(0), oversample=k)
        for k in (2, 1)
    )
    assert all(a.shape == b.shape for a, b in zip(fine, coarse, strict=True))
    assert (fine[2] == coarse[2]).mean() > 0.93
    assert (fine[0] != coarse[0]).any()


# -- from above ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("east", "south"), [(20, -20), (-20, -20), (20, 20), (-20, 20), (25, -5)])
@pytest.mark.parametrize("size_px", [40, 160, 640])
def test_a_tile_has_north_up_and_east_to_the_right(plain, east, south, size_px):
    tile_side = 72.0
    scene = painted(plain, 110 + east, 110 + south, half_m=2.0)
    tile = scene.tile(110, 110, tile_side, size_px)
    row, column = middle_of(magenta(tile))
    scale = size_px / tile_side
    tolerance = 0.3 * scale + 0.5  # a third of a metre, half a pixel
    assert row == pytest.approx(size_px / 2 + south * scale, abs=tolerance)
    assert column == pytest.approx(size_px / 2 + east * scale, abs=tolerance)


@pytest.mark.parametrize("name", geometry.CITIES)
def test_the_label_of_a_query_points_at_its_pixel_on_the_tile(plain, name):
    place = city.Place(city.STYLES[name], 2)
    tile = place.tile_latlon()[0]
    x, y = place.to_world(tile)
    query = place.to_latlon(np.array([x + 17.0, y - 9.0]))
    scene = painted(plain, *place.to_world(query), half_m=1.0)
    seen = middle_of(magenta(scene.tile(x, y, place.tile_side_m, 640)))
    for system, tolerance in (("mercator", 3), ("corrected", 6)):
        offset = geometry.label_offsets(query, tile, name, system)
        assert seen == pytest.approx(tuple(geometry.query_pixel(offset)), abs=tolerance)


@pytest.mark.parametrize("name", geometry.CITIES)
def test_world_metres_and_degrees_are_inverse_and_metres_are_true(name):
    place = city.Place(city.STYLES[name], 12)
    spots = np.random.default_rng(0).uniform(80, place.side_m - 80, (50, 2))
    latlon = place.to_latlon(spots)
    np.testing.assert_allclose(place.to_world(latlon), spots, atol=1e-4)
    (x1, y1), (x2, y2) = spots[:2]
    true = geometry.great_circle_m(*latlon[0], *latlon[1])
    assert math.hypot(x2 - x1, y2 - y1) == pytest.approx(float(true), rel=0.005)
    corners = place.to_world(place.tile_latlon()[[0, -1]])
    half = place.tile_side_m / 2
    assert (corners[0] - half >= 74.9).all() and (corners[1] + half <= place.side_m - 74.9).all()


# -- lanes, shadows, determinism -----------------------------------------------------------------


@pytest.mark.parametrize("name", city.STYLES)
def test_lanes_lie_on_asphalt_under_the_open_sky(name):
    world = city.build_world(city.STYLES[name], 300.0, 1.0, seed=2)
    lanes = world.lanes()
    assert len(lanes) >= 4
    for lane in lanes:
        column, row = np.floor(lane / world.resolution_m).astype(int).T
        assert (world.ground[row, column] == ROAD).all()
        assert (world.owner[row, column] == -1).all()
        np.testing.assert_allclose(np.hypot(*np.diff(lane, axis=0).T), 2.0)  # no gap is jumped


def test_buildings_and_gardens_are_not_drivable_nor_is_anything_outside_the_map(world):
    rows, columns = np.nonzero((world.ground != ROAD) | (world.height > 0.3))
    centres = (np.stack([columns, rows], axis=1) + 0.5) * CELL_M
    assert not world.drivable(centres).any()
    outside = [[-5.0, 50.0], [50.0, -5.0], [SIDE_M + 5, 50.0], [50.0, SIDE_M + 5]]
    assert not world.drivable(np.array(outside)).any()


@pytest.mark.parametrize("azimuth", [0, 20, 90, 140, 200, 245, 270, 335])
@pytest.mark.parametrize("elevation", [24, 55])
def test_shadows_fall_away_from_the_sun_and_are_as_long_as_its_height_says(azimuth, elevation):
    height = np.zeros((161, 161), np.float32)
    height[70:91, 70:91] = 12
    lit = light.cast_shadows(height, *light.Sky(azimuth, elevation, 0.5, 0.7).towards, 1.0)
    assert (lit[70:91, 70:91] == 255).all()  # the roof itself is in the sun
    rows, columns = np.nonzero(lit < 128)
    north, east = -(rows - 80.0), columns - 80.0
    away = math.radians(azimuth + 180)
    along = north * math.cos(away) + east * math.sin(away)
    across = east * math.cos(away) - north * math.sin(away)
    assert abs(across.mean()) < 0.5
    way = np.arange(0, 60, 0.25)  # from every cell in the shadow the tower stands before the sun
    to_north = north[:, None] - way * math.cos(away)
    to_east = east[:, None] - way * math.sin(away)
    assert ((np.abs(to_north) < 11.5) & (np.abs(to_east) < 11.5)).any(axis=1).all()
    half = 10.5 / max(abs(math.cos(away)), abs(math.sin(away)))  # from the centre to the wall
    centre_line = along[np.abs(across) < 1.5]
    length = 12 / math.tan(math.radians(elevation))
    assert centre_line.min() == pytest.approx(half, abs=2)
    assert centre_line.max() == pytest.approx(half + length, abs=2)


def test_level_ground_has_no_shadows():
    height = np.full((20, 20), 3, np.float32)
    for sky in (light.AERIAL_SKY, *light.STREET_SKIES):
        assert (light.cast_shadows(height, *sky.towards, 0.5) == 255).all()


def test_the_same_arguments_give_the_same_world_and_another_seed_another(world):
    maps = ("height", "colour", "ground", "owner", "photo", "buildings", "trees")
    again, other = (city.build_world(world.style, SIDE_M, CELL_M, seed) for seed in (4, 5))
    for name in maps:
        assert getattr(world, name).tobytes() == getattr(again, name).tobytes(), name
        assert getattr(world, name).tobytes() != getattr(other, name).tobytes(), name
    for ours, same in ((world.lit, again.lit), (world.cars, again.cars)):
        assert [a.tobytes() for a in ours] == [a.tobytes() for a in same]


def test_a_photograph_depends_on_its_generator_alone(world):
    x, y = street_spots(world, 1)[0]
    first, again, other = (
        world.panorama(x, y, 32, 64, np.random.default_rng(s)) for s in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()
    assert (world.tile(x, y, 70, 64) == world.tile(x, y, 70, 64)).all()


@pytest.mark.parametrize("name", city.STYLES)
def test_the_map_is_consistent_buildings_stand_on_neither_road_nor_water(name):
    world = city.build_world(city.STYLES[name], 300.0, 1.0, seed=2)
    built = world.owner >= 0
    assert 0.1 < built.mean() < 0.7
    assert not np.isin(world.ground[built], (1, 2, 4)).any()  # road, pavement, water
    assert (world.height[built] > 4).all() and (world.height[~built] == 0).all()
    assert world.owner.max() < len(world.buildings)
    assert world.height.max() <= plan.MAX_HEIGHT_M + 3  # and the plant on the roof
