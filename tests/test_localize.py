"""The localization system: what a person is told, against what the library computes otherwise."""

from __future__ import annotations

import copy
import csv
import dataclasses
import io
import json
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from typer.testing import CliRunner

from vigorlib import (
    ground,
    localize,
    maps,
    methods,
    nearby,
    own_pictures,
    query_filter,
    retrieval,
    runs,
)
from vigorlib.__main__ import app
from vigorlib.descriptors import Descriptors
from vigorlib.geometry import great_circle_m, predicted_latlon
from vigorlib.images import city_mosaic, read_image
from vigorlib.localize import Localizer, LocateError
from vigorlib.nearby import Near, NearError


@pytest.fixture(scope="module")
def home(tmp_path_factory, city_root):
    """A home with a smoke run of vigor, and without the project's."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIGOR_BOOK_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def run(home, city_root) -> runs.Run:
    return runs.load_or_train("vigor", "smoke", data_root=city_root, progress=False)


@pytest.fixture(scope="module")
def localizer(run, city_root) -> Localizer:
    return Localizer.from_run(run, city_root, progress=False)


def without_offset(localizer: Localizer) -> Localizer:
    network = copy.deepcopy(localizer.network)
    network.offset = None
    return dataclasses.replace(localizer, network=network)


# -- queries of the test set -----------------------------------------------------------------


def test_queries_are_answered_as_the_evaluation_answers_them(localizer, run):
    answers = run.arrays()
    for query in range(0, len(localizer.data), 7):
        result = localizer.locate_query(query)
        assert [m.tile for m in result.matches[:5]] == answers["top"][query, :5].tolist()
        assert result.best.error_m == pytest.approx(answers["error_m"][query], rel=1e-4)
        assert result.best.offset_px == pytest.approx(answers["offset_px"][query], abs=0.05)
        if (rank := result.positive_rank) is not None:
            assert rank == answers["rank"][query] + 1


def test_a_match_says_where_its_tile_is_and_where_it_puts_the_query(localizer):
    result = localizer.locate_query(3, k=8)
    data = localizer.data
    assert [m.rank for m in result.matches] == list(range(1, 9))
    assert result.truth == tuple(data.queries.latlon[3]) and result.truth_from == "label"
    for m in result.matches:
        assert m.path.exists() and m.path.name == m.name and m.city in m.path.parts
        assert (m.lat_deg, m.lon_deg) == tuple(data.tiles.latlon[m.tile])
        place = predicted_latlon((m.lat_deg, m.lon_deg), m.offset_px, m.city)
        assert (m.predicted_lat_deg, m.predicted_lon_deg) == pytest.approx(tuple(place), abs=1e-9)
        assert m.distance_m == pytest.approx(
            float(great_circle_m(m.lat_deg, m.lon_deg, *result.truth))
        )
        assert 0 < m.iou <= 1
    similarities = [m.similarity for m in result.matches]
    assert similarities == sorted(similarities, reverse=True)


def test_labelled_tiles_are_marked_and_have_their_labelled_offset(localizer):
    data = localizer.data
    result = localizer.locate_query(0, k=len(localizer))
    marked = {m.tile: m for m in result.matches if m.reference}
    assert set(marked) == set(data.references[0].tolist())
    assert marked[data.references[0, 0]].reference == "positive"
    for place, tile in enumerate(data.references[0]):
        assert marked[tile].true_offset_px == pytest.approx(tuple(data.offsets_px[0, place]))


def test_more_matches_than_tiles_gives_all_tiles(localizer):
    assert len(localizer.locate_query(0, k=10**6).matches) == len(localizer)


def test_a_query_that_does_not_exist_is_refused(localizer):
    with pytest.raises(LocateError, match="expected 0 to"):
        localizer.locate_query(len(localizer.data))
    with pytest.raises(LocateError, match="k is 0"):
        localizer.locate_query(0, k=0)


def test_the_second_opening_describes_nothing(run, city_root, localizer, monkeypatch):
    monkeypatch.setattr("vigorlib.gallery_store.describe_pictures", None)
    again = Localizer.from_run(run, city_root, progress=False)
    assert torch.equal(again.gallery.values, localizer.gallery.values)


def test_a_recipe_without_an_offset_head_answers_with_tile_centres(localizer):
    match = without_offset(localizer).locate_query(0).best
    assert (match.predicted_lat_deg, match.predicted_lon_deg) == (match.lat_deg, match.lon_deg)
    assert match.offset_px is None and match.iou is None and match.error_m == match.distance_m


def test_a_recipe_of_unknown_heading_is_asked_as_it_was_tested(localizer, run, city_root):
    recipe = dataclasses.replace(run.recipe, orientation="unknown")
    blind = dataclasses.replace(localizer, run=dataclasses.replace(run, recipe=recipe))
    turned, upright = blind._query_input(3), localizer._resized(localizer.query_panorama(3))
    width = run.profile.panorama_px[1]
    (by,) = [c for c in range(width) if (np.roll(upright, c, axis=1) == turned).all()]
    assert by == np.random.default_rng(0).integers(0, width, len(localizer.data))[3] != 0


# -- pictures --------------------------------------------------------------------------------


def test_a_panorama_gives_the_same_as_its_query(localizer):
    panorama = localizer.query_panorama(5)
    result, query = localizer.locate(panorama, k=5), localizer.locate_query(5, k=5)
    assert [m.tile for m in result.matches] == [m.tile for m in query.matches]
    assert result.truth is None and result.best.distance_m is None and result.best.error_m is None
    told = localizer.locate(panorama, truth=query.truth, k=5)
    assert told.best.distance_m == query.best.distance_m and told.truth_from == "given"


def test_files_and_bytes_are_uploads(localizer, tmp_path):
    path = tmp_path / "street.png"
    Image.fromarray(localizer.query_panorama(5)).save(path)
    expected = [m.tile for m in localizer.locate_query(5).matches]
    for picture in (path, str(path), path.read_bytes()):
        assert [m.tile for m in localizer.locate(picture).matches] == expected
    with pytest.raises(ValueError, match="begins with"):
        localizer.locate(b"no picture at all")
    with pytest.raises(ValueError, match="expected \\(H, W, 3\\) uint8"):
        localizer.locate(np.zeros((4, 4), dtype=np.uint8))


def test_a_failed_upload_leaves_the_localizer_usable(localizer):
    before = localizer.locate_query(1)
    with pytest.raises(ValueError, match="truncated"):
        localizer.locate(localizer.data.queries.path(0).read_bytes()[:500])
    assert localizer.locate_query(1).matches == before.matches


def test_the_gps_of_a_picture_is_its_truth(localizer):
    own = own_pictures.OwnPicture(
        localizer.query_panorama(0), "panorama", 0.0, None, (41.0, -87.0), ()
    )
    result = localizer.locate(own)
    assert result.truth == (41.0, -87.0) and result.truth_from == "GPS"


# -- headings --------------------------------------------------------------------------------


@pytest.fixture
def knows_north(localizer, monkeypatch) -> Localizer:
    """A localizer that compares panoramas as they are with a gallery of panoramas."""

    def describe(panoramas):
        flat = torch.from_numpy(panoramas.reshape(len(panoramas), -1).astype(np.float32) - 128)
        return Descriptors(F.normalize(flat, dim=1), flat.norm(dim=1, keepdim=True))

    known = [localizer._resized(localizer.query_panorama(i)) for i in range(20)]
    other = without_offset(localizer)
    other.gallery = describe(np.stack(known))
    monkeypatch.setattr(other, "_describe", describe)
    return other


@pytest.mark.parametrize("heading", [0, 90, 130, 350])
def test_the_heading_that_fits_best_is_found(knows_north, heading):
    """The picture was taken by a camera whose centre looked to ``heading``."""
    panorama = own_pictures.turned_north(knows_north.query_panorama(4), -heading)
    found = knows_north.try_headings(panorama, steps=36)
    assert found.best_deg == heading and found.result.best.tile == 4
    assert found.margin > 0.05 and found.deviations > 2
    assert found.similarity.shape == found.heading_deg.shape == found.tile.shape == (36,)
    assert f"{heading}° fits best" in found.sentence()


def test_a_picture_without_features_fits_every_heading_alike(localizer):
    found = localizer.try_headings(np.full((64, 128, 3), 90, np.uint8), steps=8)
    assert found.margin == pytest.approx(0, abs=1e-6)


# -- around a GPS fix ------------------------------------------------------------------------


def test_a_circle_is_searched_exactly(localizer):
    lat, lon = localizer.data.queries.latlon[2]
    near = Near(lat, lon, 80.0)
    result = localizer.locate_query(2, k=1000, near=near)
    latlon = localizer.tiles.latlon
    distances = great_circle_m(latlon[:, 0], latlon[:, 1], lat, lon)
    inside = set(np.flatnonzero(distances <= 80).tolist())
    assert {m.tile for m in result.matches} == inside and 4 < len(inside) < len(localizer)
    everywhere = [m.tile for m in localizer.locate_query(2, k=10**6).matches]
    assert [m.tile for m in result.matches] == [tile for tile in everywhere if tile in inside]
    assert result.searched == len(inside) and result.near == near


def test_a_circle_without_tiles_says_how_far_the_nearest_is(localizer):
    with pytest.raises(NearError, match=r"no tile's centre lies within 100 m.*nearest is [\d,]+ m"):
        localizer.locate_query(0, near=(0.0, 0.0, 100.0))


@pytest.mark.parametrize("near", [(91, 0, 10), (0, np.nan, 10), (0, 0, 0), (0, 0, np.nan)])
def test_circles_that_cannot_be_are_refused(localizer, near):
    with pytest.raises(NearError, match="expected"):
        localizer.locate_query(0, near=near)


def test_circles_hold_across_the_date_line_and_near_the_pole():
    latlon = np.array([[10.0, 179.9995], [10.0, -179.9995], [10.0, 0.0], [89.95, 100.0]])
    assert nearby.tiles_within(latlon, (10.0, 180.0, 100.0)).tolist() == [0, 1]
    assert nearby.tiles_within(latlon, (89.95, -80.0, 12_000.0)).tolist() == [3]


def test_pieces_do_not_change_what_is_found(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    gallery = F.normalize(torch.randn(100, 16, generator=generator), dim=1)
    gallery[50:] = gallery[:50]  # ties
    tiles = np.arange(0, 100, 2)
    queries = gallery[:5]
    top, similarity = retrieval.best(queries, gallery[torch.from_numpy(tiles)], 7)
    for piece in (3, 50, 8192):
        monkeypatch.setattr(nearby, "PIECE", piece)
        found, values = nearby.best_among(queries, gallery, tiles, 7)
        assert (found == tiles[top]).all() and (values == similarity).all()


# -- an area of one's own --------------------------------------------------------------------


def test_a_folder_of_tiles_answers_like_the_city_it_is(localizer, run, city_root, tmp_path):
    folder = city_root / "Seattle"
    mine = Localizer.from_folder(folder, run, progress=False, cache=tmp_path)
    city = np.flatnonzero(localizer.tiles.cities == "Seattle")
    query = int(np.flatnonzero(localizer.data.queries.cities == "Seattle")[0])
    result = mine.locate(
        localizer.query_panorama(query), truth=localizer.data.queries.latlon[query]
    )
    expected = [m for m in localizer.locate_query(query, 10**6).matches if m.tile in set(city)]
    assert [m.name for m in result.matches] == [m.name for m in expected[:50]]
    assert result.best.city == "" and len(mine) == len(city) and not mine.skipped
    with pytest.raises(LocateError, match="has no queries"):
        mine.locate_query(0)


def test_skipped_tiles_are_listed_and_places_stay_right(run, city_root, tmp_path):
    folder = tmp_path / "tiles"
    folder.mkdir()
    for path in sorted((city_root / "Seattle" / "satellite").iterdir())[:6]:
        (folder / path.name).write_bytes(path.read_bytes())
    first = sorted(folder.iterdir())[0]
    first.write_bytes(b"broken")
    (folder / "garden.jpg").write_bytes(b"")
    mine = Localizer.from_folder(folder, run, progress=False, cache=tmp_path / "cache", tile_m=70)
    assert [name for name, _ in mine.skipped] == ["garden.jpg", first.name]
    assert len(mine) == len(mine.gallery) == 5 and first.name not in mine.tiles.names
    tile = read_image(mine.tiles.path(4), *run.profile.tile_px)
    raw = mine.network.describe_satellite(torch.from_numpy(tile)[None].permute(0, 3, 1, 2))
    assert torch.allclose(F.normalize(raw, dim=1)[0], mine.gallery.values[4], atol=1e-5)
    with pytest.raises(LocateError, match="tile_m is 0"):
        Localizer.from_folder(folder, run, tile_m=0)


# -- results ---------------------------------------------------------------------------------


def test_csv_is_a_row_a_match(localizer, tmp_path):
    result = localizer.locate_query(0, k=4)
    path = result.to_csv(tmp_path / "new" / "found.csv")
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert path.read_text(encoding="utf-8") == result.csv() and len(rows) == 4
    assert rows[0]["query"] == result.query and rows[0]["tile"] == result.best.name
    assert float(rows[2]["error_m"]) == pytest.approx(result.matches[2].error_m, abs=0.01)
    assert str(localizer.tiles.root) not in result.csv() + result.geojson()


def test_names_are_no_formulas_in_a_spreadsheet(localizer):
    result = localizer.locate(localizer.query_panorama(0), k=1, query="=cmd()")
    assert list(csv.DictReader(io.StringIO(result.csv())))[0]["query"] == "'=cmd()"


def test_geojson_has_longitude_first_and_the_truth(localizer, tmp_path):
    result = localizer.locate_query(0, k=3)
    stored = json.loads(result.to_geojson(tmp_path / "found.geojson").read_text(encoding="utf-8"))
    *points, truth = stored["features"]
    assert stored["type"] == "FeatureCollection" and len(points) == 3
    best = result.best
    assert points[0]["geometry"]["coordinates"] == pytest.approx(
        [best.predicted_lon_deg, best.predicted_lat_deg], abs=1e-8
    )
    assert truth["properties"]["kind"] == "truth"
    assert truth["geometry"]["coordinates"] == pytest.approx(result.truth[::-1], abs=1e-8)
    assert [p.name for p in tmp_path.iterdir()] == ["found.geojson"]  # nothing half-written


# -- maps ------------------------------------------------------------------------------------


def test_tiles_of_any_width_meet_their_corners_on_the_map(localizer):
    chosen = np.flatnonzero(localizer.tiles.cities == "Chicago")
    drawn = maps.city_map(localizer.tiles, "Chicago", 16, tile_m=73.0)
    for tile in localizer.tiles.latlon[chosen[:3]]:
        centre = drawn.to_pixel(tile)
        south_east = ground.position_on_tile(tile, (320.0, -320.0), 73.0)
        assert drawn.to_pixel(south_east) - centre == pytest.approx([8, 8], abs=0.05)
        assert drawn.to_latlon(centre) == pytest.approx(tile, abs=1e-9)
    assert drawn.px_per_metre == pytest.approx(16 / 73.0, rel=0.01)


def test_a_map_knows_where_everything_lies(localizer, monkeypatch):
    drawn = localizer.map("Chicago", 16)
    canvas, to_pixel = city_mosaic(localizer.tiles, "Chicago", 16)
    places = localizer.tiles.latlon[localizer.tiles.cities == "Chicago"]
    assert (drawn.image == canvas).all()
    assert np.allclose(drawn.to_pixel(places), to_pixel(places), atol=1e-6)
    monkeypatch.setattr(maps, "city_mosaic", None)  # kept on disk
    localizer._maps.clear()
    assert (localizer.map("Chicago", 16).image == canvas).all()


def test_tiles_far_apart_make_a_smaller_map_or_none(localizer, monkeypatch):
    monkeypatch.setattr(maps, "MOST_PIXELS", 2000)
    drawn = maps.city_map(localizer.tiles, "Chicago", 16)
    assert drawn.tile_px < 16 and drawn.image.shape[0] * drawn.image.shape[1] < 4000
    places = localizer.tiles.latlon[localizer.tiles.cities == "Chicago"]
    _, to_pixel = city_mosaic(localizer.tiles, "Chicago", drawn.tile_px)
    assert np.allclose(drawn.to_pixel(places), to_pixel(places), atol=1e-6)
    monkeypatch.setattr(maps, "MOST_PIXELS", 2)
    with pytest.raises(maps.MapError, match="split the folder"):
        localizer.map("Chicago", 5)
    with pytest.raises(maps.MapError, match="no tile of 'Paris'"):
        localizer.map("Paris")


def test_an_answer_lies_on_the_map(localizer):
    query = int(np.flatnonzero(localizer.data.queries.cities == "Chicago")[0])
    near = Near(*localizer.data.queries.latlon[query], 60.0)
    drawn = localizer.map("Chicago", 16)
    shown = maps.overlay(localizer.locate_query(query, near=near), drawn)
    assert len(shown.ranks) == len(shown.boxes) == len(shown.predicted) > 3
    assert np.allclose(shown.boxes[:, 2:] - shown.boxes[:, :2], 16)
    row, column, radius = shown.circle
    assert (row, column) == pytest.approx(tuple(shown.truth))
    centres = (shown.boxes[:, :2] + shown.boxes[:, 2:]) / 2
    assert np.hypot(*(centres - (row, column)).T).max() <= radius * 1.02
    elsewhere = maps.overlay(localizer.locate_query(query, near=near), localizer.map("Seattle", 16))
    assert len(elsewhere.ranks) == 0


# -- finding queries and methods -------------------------------------------------------------


def test_filters_keep_what_they_promise(localizer, run):
    data, answers = localizer.data, run.arrays()
    found = query_filter.find_queries
    assert (found(data) == np.arange(len(data))).all()
    assert (data.queries.cities[found(data, city="Seattle")] == "Seattle").all()
    part = str(data.queries.names[9])[3:14]
    assert 9 in found(data, text=part.upper()) and len(found(data, text="no such name")) == 0
    right, wrong = (found(data, outcome=o, answers=answers) for o in ("right", "wrong"))
    assert (answers["rank"][right] == 0).all() and len(right) + len(wrong) == len(data)
    covered = found(data, outcome="covered", answers=answers)
    assert set(right) <= set(covered)
    near = found(data, error_m=(0, 100), city="Chicago", answers=answers)
    assert (answers["error_m"][near] < 100).all() and (data.queries.cities[near] == "Chicago").all()


def test_filters_that_cannot_be_applied_say_why(localizer, run):
    data, answers = localizer.data, run.arrays()
    for options, message in (
        ({"city": "Paris"}, "unknown city 'Paris'"),
        ({"outcome": "right"}, "need the answers of a run"),
        ({"outcome": "good", "answers": answers}, "unknown outcome 'good'"),
        ({"error_m": (5, 1), "answers": answers}, "expected \\(least, most\\)"),
        ({"outcome": "right", "answers": {"rank": np.zeros(3)}}, "answers are of 3 queries"),
    ):
        with pytest.raises(query_filter.FilterError, match=message):
            query_filter.find_queries(data, **options)


def test_next_and_previous_go_round_the_list():
    found = np.array([3, 8, 20])
    assert [query_filter.neighbour(found, i) for i in (3, 8, 20, 5, 99, 0)] == [8, 20, 3, 8, 3, 3]
    assert [query_filter.neighbour(found, i, -1) for i in (3, 8, 20, 5, 99, 0)] == [
        20, 3, 8, 3, 20, 20,
    ]  # fmt: skip
    assert query_filter.neighbour(np.array([], dtype=int), 3) is None


def test_a_random_query_is_one_of_the_found_and_repeats_with_its_generator():
    found = np.array([3, 8, 20])
    drawn = [query_filter.random_query(found, np.random.default_rng(i)) for i in range(40)]
    assert set(drawn) == {3, 8, 20}
    assert drawn[7] == query_filter.random_query(found, np.random.default_rng(7))
    assert query_filter.random_query(found[:0], np.random.default_rng(0)) is None


def test_methods_are_runs_with_weights_and_can_be_opened(home, run, city_root):
    (method,) = methods.available_methods("smoke")
    assert (method.title, method.recipe, method.protocol) == ("VIGOR", "vigor", "same-area")
    assert method.run(city_root).folder == run.folder and "VIGOR" in method.label
    assert methods.available_methods("smoke", "cross-area") == []
    assert methods.available_methods("mini") == []


# -- the command -----------------------------------------------------------------------------


def test_the_command_prints_ten_and_writes_files(localizer, home, city_root, tmp_path):
    path = localizer.data.queries.path(0)
    lat, lon = localizer.data.queries.latlon[0].tolist()
    arguments = [
        "localize", str(path), "--heading", "0", "--profile", "smoke", "--data-root", str(city_root),
        "--near", str(lat), str(lon), "--radius", "90",
        "--csv", str(tmp_path / "a.csv"), "--geojson", str(tmp_path / "a.geojson"),
    ]  # fmt: skip
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    expected = localizer.locate_query(0, near=(lat, lon, 90.0))
    rows = list(csv.DictReader((tmp_path / "a.csv").open(encoding="utf-8")))
    assert [row["tile"] for row in rows] == [m.name for m in expected.matches]
    assert rows[0]["query"] == path.name
    best = expected.best
    assert f"{best.predicted_lat_deg:.6f} {best.predicted_lon_deg:.6f}" in done.output
    assert len(re.findall(r"│ *\d+ +│ 0\.\d{3}", done.output)) == 10
    assert (tmp_path / "a.geojson").exists()


def test_the_command_tries_all_headings_when_none_is_given(localizer, home, city_root):
    path = str(localizer.data.queries.path(0))
    options = ["--profile", "smoke", "--tiles", str(city_root / "Seattle")]
    done = CliRunner().invoke(app, ["localize", path, *options, "--data-root", str(city_root)])
    assert done.exit_code == 0 and "fits best" in done.output, done.output


def test_the_command_answers_a_bad_picture_with_a_sentence(tmp_path, home):
    (tmp_path / "bad.jpg").write_bytes(b"GIF89a")
    done = CliRunner().invoke(app, ["localize", str(tmp_path / "bad.jpg"), "--profile", "smoke"])
    assert done.exit_code == 2 and "expected a JPEG" in done.output


def test_the_command_trains_nothing(localizer, home):
    path = str(localizer.data.queries.path(0))
    done = CliRunner().invoke(app, ["localize", path, "--recipe", "safa", "--profile", "smoke"])
    assert done.exit_code == 2 and "train it with" in done.output


def test_cache_folders_of_two_places_differ(tmp_path):
    assert localize.cache_folder("a", tmp_path / "x") != localize.cache_folder("a", tmp_path / "y")
