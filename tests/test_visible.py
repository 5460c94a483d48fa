"""What both views of the city show is known truly: hidden things, colours, places."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.city import visible
from vigorlib import images
from vigorlib.dataset import Vigor

CELL_M, SIDE = 0.5, 80


def seen(height: np.ndarray, owner: np.ndarray, roof_m: float = 2.0) -> np.ndarray:
    """Each cell of a small map, from a camera at (20, 20) m."""
    centres = (np.arange(SIDE) + 0.5) * CELL_M
    return visible._seen_from(
        height.astype(np.float32), owner.astype(np.int32), CELL_M, 20.0, 20.0, centres, centres,
        roof_m,
    )  # fmt: skip


def boxes(*rows: tuple[slice, slice, float]) -> tuple[np.ndarray, np.ndarray]:
    height, owner = np.zeros((SIDE, SIDE)), np.full((SIDE, SIDE), -1)
    for k, (row, column, tall) in enumerate(rows):
        height[row, column], owner[row, column] = tall, k
    return height, owner


def test_open_ground_is_seen_everywhere():
    assert seen(*boxes()).all()


def test_what_stands_behind_a_building_is_hidden_and_what_stands_before_it_is_seen():
    north = boxes((slice(10, 20), slice(30, 50), 10.0))  # 10 to 15 m north of the camera
    found = seen(*north)
    assert found[21:39, 35:45].all()  # the ground before it
    assert not found[:9, 38:42].any()  # the ground behind it
    assert found[45:].all()  # the south


def test_the_far_side_of_a_roof_is_hidden_and_the_strip_behind_the_wall_is_seen():
    found = seen(*boxes((slice(10, 20), slice(30, 50), 10.0)), roof_m=2.0)
    assert found[17:20, 40].all()
    assert not found[10:15, 40].any()


def test_a_tower_is_seen_over_a_lower_house():
    low, tower = (slice(16, 20), slice(30, 50), 5.0), (slice(6, 10), slice(36, 44), 30.0)
    assert seen(*boxes(low, tower))[9, 40]
    assert not seen(*boxes(low, (*tower[:2], 5.0)))[9, 40]


@pytest.fixture(scope="module")
def pairs(city_root):
    """Some pairs of the smoke city with their truth and their pictures, (H, W, 3) at one size."""
    data, truth = (
        Vigor(city_root, "same-area", "test", cities=["NewYork"]),
        visible.CityTruth(city_root),
    )
    found = []
    for query in range(min(8, len(data))):
        tile = int(data.references[query, 0])
        name = str(data.queries.names[query])
        sight = truth.of_pair("NewYork", name, data.tiles.latlon[tile], 48, (48, 96))
        panorama = images.read_image(data.queries.path(query), 48, 96)
        found.append((sight, panorama, images.read_image(data.tiles.path(tile), 48, 48)))
    return found


def test_ground_that_a_panorama_shows_is_seen_on_the_tile(pairs):
    for sight, _, _ in pairs:
        ground = sight.panorama_shared & (sight.panorama_kind == visible.GROUND)
        row, column = (sight.where[ground] * 48).astype(int).T
        assert sight.tile_seen[row, column].mean() > 0.95


def test_corresponding_ground_has_the_same_colour_in_both_views(pairs):
    def likeness(turn: int) -> float:
        """Correlation of brightness over all pairs, the panorama turned by some columns."""
        street, above = [], []
        for sight, panorama, tile in pairs:
            ground = sight.panorama_shared & (sight.panorama_kind == visible.GROUND)
            ground[: 48 // 2 + 2] = False  # far away a pixel is many metres long
            row, column = (sight.where[ground] * 48).astype(int).T
            street.append(np.roll(panorama.mean(axis=2), turn, axis=1)[ground])
            above.append(tile.mean(axis=2)[row, column])
            for part in (street, above):
                part[-1] = part[-1] - part[-1].mean()
        return float(np.corrcoef(np.concatenate(street), np.concatenate(above))[0, 1])

    assert likeness(0) > 0.1
    assert likeness(0) > max(likeness(24), likeness(48), likeness(72)) + 0.05


def test_sky_and_cars_are_not_shared(pairs):
    for sight, _, _ in pairs:
        alone = np.isin(sight.panorama_kind, (visible.SKY, visible.CAR))
        assert alone.any() and not sight.panorama_shared[alone].any()
        assert np.isnan(sight.where[~sight.panorama_shared]).all()
        shared = sight.where[sight.panorama_shared]
        assert ((shared >= 0) & (shared < 1)).all()


def test_every_kind_has_a_name(pairs):
    for sight, _, _ in pairs:
        assert set(np.unique(sight.panorama_kind)) <= set(visible.KINDS)
        assert set(np.unique(sight.tile_kind)) <= set(visible.TILE_KINDS)


def test_photographs_have_no_known_truth(tmp_path):
    with pytest.raises(ValueError, match=r"no manifest.json.*embedded city"):
        visible.CityTruth(tmp_path)


def test_panoramas_of_other_cities_are_named(city_root):
    with pytest.raises(ValueError, match="'x.jpg' is none of NewYork"):
        visible.CityTruth(city_root).of_pair("NewYork", "x.jpg", np.zeros(2), 8, (8, 16))
