"""Properties of every parser and of the geometry, on inputs that hypothesis invents."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from data_prep.city import build
from data_prep.city.vigor_format import panorama_name, tile_name
from data_prep.doctor.findings import Findings
from data_prep.doctor.read import read_labels
from vigorlib import files, geometry, image_cache, runs
from vigorlib.dataset import LabelError, Vigor, panorama_latlon, tile_latlon
from vigorlib.recipes import PROFILES, RECIPES, as_dict, get_profile, get_recipe, settings_hash

settings.register_profile(
    "quick",
    max_examples=60,
    deadline=None,
    derandomize=True,  # the same inputs everywhere; benchmarks/fuzz.py looks further
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("quick")

lats = st.floats(-89.9, 89.9)
lons = st.floats(-180, 180)
ids = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=30)
city_lats, city_lons = st.floats(41.6, 41.9), st.floats(-87.9, -87.5)
offsets = st.tuples(st.floats(-640, 640), st.floats(-640, 640))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


# -- names -----------------------------------------------------------------------------------


@given(ids, lats, lons)
def test_a_panoramas_name_gives_its_position_back(identity, lat, lon):
    name = panorama_name(identity, np.array([lat, lon]))
    assert panorama_latlon(name) == (float(f"{lat:.6f}"), float(f"{lon:.6f}"))


@given(lats, lons)
def test_a_tiles_name_gives_its_position_back_exactly(lat, lon):
    assert tile_latlon(tile_name(np.array([lat, lon]))) == (lat, lon)


@given(st.text(max_size=60))
def test_any_other_name_is_refused_or_is_a_place_on_earth_and_no_path(name):
    for parse in (panorama_latlon, tile_latlon):
        for shape in ("{}", "id,{},1.5,.jpg", "satellite_{}_1.5.png", "{},1,2,.jpg"):
            text = shape.format(name)
            try:
                lat, lon = parse(text)
            except LabelError:
                continue
            assert abs(lat) < 90 and abs(lon) <= 180 and Path(text).name == text


@pytest.mark.parametrize(
    "name",
    [
        "../../x,41.5,-87.2,.jpg",
        "id,nan,-87.2,.jpg",
        "id,41.5,inf,.jpg",
        "id,91.0,-87.2,.jpg",
        "id,4_1.5,-87.2,.jpg",
        "id,\u0664\u0661.5,-87.2,.jpg",
        "i\0d,41.5,-87.2,.jpg",
    ],
)
def test_names_that_were_once_taken_are_refused(name):
    """Found by fuzzing: paths, NaN, places off Earth, digits of other scripts, early ends."""
    with pytest.raises(LabelError, match="does not parse"):
        panorama_latlon(name)
    if "_1.5" not in name:  # in a tile's name "_" parts numbers
        with pytest.raises(LabelError, match="does not parse"):
            tile_latlon("satellite_" + "_".join(name.split(",")[:3]) + ".png")


# -- label files -----------------------------------------------------------------------------


@st.composite
def label_files(draw):
    """Tiles, queries with four of them, offsets; and the two files that say so."""
    places = draw(st.lists(st.tuples(city_lats, city_lons), min_size=4, max_size=8, unique=True))
    tiles = [tile_name(np.array(place)) for place in places]
    assume(len(set(tiles)) == len(tiles))
    rows = []
    for _ in range(draw(st.integers(1, 5))):
        chosen = draw(st.permutations(range(len(tiles))))[:4]
        away = [draw(st.tuples(st.floats(-320, 320), st.floats(-320, 320))) for _ in range(4)]
        query = panorama_name(draw(ids), np.array([draw(city_lats), draw(city_lons)]))
        rows.append((query, chosen, away))
    lines = [
        " ".join([q] + [f"{tiles[t]} {n!r} {e!r}" for t, (n, e) in zip(four, away, strict=True)])
        for q, four, away in rows
    ]
    return tiles, rows, lines


def write_labels(root: Path, tiles: bytes, rows: bytes, ending: str = "") -> Path:
    folder = root / "splits" / "Chicago"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / "satellite_list.txt").write_bytes(tiles)
    (folder / f"same_area_balanced_train.txt{ending}").write_bytes(rows)
    return root


@given(label_files(), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans(), st.booleans())
def test_label_files_say_what_was_written_in_any_dress(tmp_path, made, end, last, packed, mark):
    tiles, rows, lines = made
    text = (b"\xef\xbb\xbf" if mark else b"") + (end.join(lines) + end * last).encode()
    data, ending = (gzip.compress(text), ".gz") if packed else (text, "")
    root = write_labels(tmp_path, end.join(tiles).encode(), data, ending)
    found = Vigor(root, labels="original", cities=["Chicago"])
    assert found.tiles.names.tolist() == tiles
    assert found.queries.names.tolist() == [query for query, _, _ in rows]
    assert found.references.tolist() == [list(four) for _, four, _ in rows]
    assert found.offsets_px.tolist() == [[list(pair) for pair in away] for _, _, away in rows]


@given(label_files(), st.data())
def test_damaged_label_files_raise_label_errors_only_and_the_doctor_never(tmp_path, made, data):
    tiles, _, lines = made
    text = bytearray("\n".join(lines).encode())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=4))
        assume(text)
    root = write_labels(tmp_path, "\n".join(tiles).encode(), bytes(text))
    read_labels(root, "Chicago", True, Findings())
    try:
        found = Vigor(root, labels="original", cities=["Chicago"])
    except LabelError as error:
        assert str(root) in str(error) or "expected" in str(error)
        return
    assert np.isfinite(found.offsets_px).all() and np.isfinite(found.queries.latlon).all()
    assert found.references.max() < len(found.tiles)


@given(st.binary(max_size=200), st.sampled_from(["", ".gz"]), st.booleans())
def test_files_that_are_no_labels_raise_label_errors_only(tmp_path, noise, ending, in_list):
    good = b"satellite_41.5_-87.5.png"
    root = write_labels(tmp_path, noise if in_list else good, good if in_list else noise, ending)
    read_labels(root, "Chicago", True, Findings())
    with pytest.raises(LabelError):
        Vigor(root, labels="original", cities=["Chicago"])


def test_a_tile_listed_twice_is_refused(tmp_path):
    root = write_labels(tmp_path, b"satellite_1.5_2.5.png\n" * 2, b"row")
    with pytest.raises(LabelError, match=r"lists 'satellite_1.5_2.5.png' twice"):
        Vigor(root, labels="original", cities=["Chicago"])


# -- records and configurations ----------------------------------------------------------------


@given(json_values)
def test_any_json_is_a_record_or_refused_with_a_reason(tmp_path, value):
    file = tmp_path / "record.json"
    for text in (json.dumps(value), json.dumps({"format": 1, "metrics": value}), str(value)):
        file.write_text(text, encoding="utf-8", errors="replace")
        with pytest.raises(ValueError, match="record.json"):
            runs.read_record(file)
        image_cache.read_indexes(tmp_path)


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=5))
def test_a_sealed_record_is_read_back_and_another_is_not_it(tmp_path, value):
    file = tmp_path / "a.json"
    files.write_json(file, files.sealed(value))
    found = files.read_sealed(file)
    found.pop(files.CHECKSUM)
    assert json.dumps(found) == json.dumps(
        json.loads(json.dumps({k: v for k, v in value.items() if k != files.CHECKSUM}))
    )
    file.write_text(json.dumps({**files.sealed(value), "one more": 1}))
    with pytest.raises(files.DamagedFile, match="altered"):
        files.read_sealed(file)


@given(st.text(max_size=12))
def test_an_unknown_recipe_profile_or_size_names_the_known_ones(word):
    assume(word not in RECIPES and word not in PROFILES and word not in build.SIZES)
    for get in (get_recipe, get_profile, build._size):
        with pytest.raises(ValueError, match="expected one of"):
            get(word)


@given(st.sampled_from(sorted(RECIPES)), st.sampled_from(sorted(PROFILES)))
def test_settings_survive_json_and_so_does_their_name(recipe, profile):
    """What a record holds of them is what they are: a run is found again from its record."""
    one, other = get_recipe(recipe), get_profile(profile)
    stored = json.loads(json.dumps([as_dict(one), as_dict(other)], default=list))
    again = type(one)(**stored[0])
    size = type(other)(**stored[1])
    assert again == one and settings_hash(again, size) == settings_hash(one, other)


@pytest.mark.parametrize(
    "change", [{"batch": 0}, {"checkpoint_steps": -1}, {"tile_px": (64,)}, {"panorama_px": (0, 5)}]
)
def test_a_profile_that_cannot_be_is_refused_by_name(change):
    (name,) = change
    with pytest.raises(ValueError, match=f"{name} .*expected counts of at least 1"):
        dataclasses.replace(get_profile("smoke"), **change)


@given(json_values)
def test_a_damaged_marker_of_the_city_is_told(tmp_path, value):
    root = tmp_path / "city"
    root.mkdir(exist_ok=True)
    (root / "embedded_city.json").write_text(str(value), encoding="utf-8", errors="replace")
    (root / "left.txt").write_text("of an older city")
    build._claim(root, {"size": "wanted"})
    assert json.loads((root / "embedded_city.json").read_text()) == {"size": "wanted"}
    assert not (root / "left.txt").exists()


# -- geometry --------------------------------------------------------------------------------


@given(offsets)
def test_overlap_is_a_share_and_does_not_depend_on_the_side(offset):
    iou = float(geometry.tile_iou(np.array(offset)))
    assert 0 <= iou <= 1
    for mirrored in ((-offset[0], offset[1]), (offset[1], offset[0])):
        assert float(geometry.tile_iou(np.array(mirrored))) == pytest.approx(iou)


@given(offsets, st.floats(0, 1))
def test_overlap_only_grows_towards_the_centre(offset, share):
    nearer = float(geometry.tile_iou(np.array(offset) * share))
    assert nearer >= float(geometry.tile_iou(np.array(offset))) - 1e-12


@given(offsets, st.integers(8, 2048))
def test_pixels_and_offsets_are_each_others_inverse(offset, side):
    back = geometry.offset_of_pixel(geometry.query_pixel(offset, side), side)
    np.testing.assert_allclose(back, offset, atol=1e-9)


@given(lats.filter(lambda lat: abs(lat) < 85), lons)
def test_mercator_pixels_give_the_position_back(lat, lon):
    back = geometry.mercator_latlon(geometry.mercator_px([lat, lon]))
    np.testing.assert_allclose(back, [lat, lon], atol=1e-9)


@given(
    st.sampled_from(["original", "corrected", "mercator"]),
    st.sampled_from([*geometry.CITIES, None]),
    offsets,
)
def test_offsets_lead_to_the_query_and_back_in_every_label_system(system, city, offset):
    places = {"NewYork": (40.7, -74.0), "Seattle": (47.6, -122.3), "SanFrancisco": (37.8, -122.4)}
    tile = np.array(places.get(city, (41.9, -87.6)))
    query = geometry.predicted_latlon(tile, np.array(offset), city, system)
    found = geometry.label_offsets(query, tile, city, system)
    np.testing.assert_allclose(found, offset, atol=0.5 if system == "corrected" else 1e-4)


@given(lats, lons, lats, lons)
def test_distances_are_symmetric_and_methods_agree(lat1, lon1, lat2, lon2):
    there = {
        m: float(geometry.great_circle_m(lat1, lon1, lat2, lon2, m))
        for m in ("geodesic", "haversine")
    }
    back = {m: float(geometry.great_circle_m(lat2, lon2, lat1, lon1, m)) for m in there}
    for method, metres in there.items():
        assert 0 <= metres <= 20_100_000
        assert back[method] == pytest.approx(metres, rel=1e-9, abs=1e-6)
    assert there["haversine"] == pytest.approx(there["geodesic"], rel=0.006, abs=1e-3)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_latitudes_off_earth_are_refused(lat):
    assume(not abs(lat) < 90)
    with pytest.raises(ValueError, match="latitude"):
        geometry.mercator_px([lat, 0.0])


@pytest.mark.parametrize("lon", [math.nan, math.inf, -math.inf])
def test_longitudes_that_are_no_numbers_are_refused(lon):
    with pytest.raises(ValueError, match="longitude"):
        geometry.mercator_px([0.0, lon])
