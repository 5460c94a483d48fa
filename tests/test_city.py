"""The embedded city on disk: VIGOR's format to the letter, the same bytes whenever it is made."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from data_prep import city
from data_prep.city.__main__ import main
from data_prep.city.sampling import covering_tiles
from vigorlib import geometry
from vigorlib.dataset import panorama_latlon, tile_latlon

CITIES = tuple(geometry.CITIES)
TINY = city.Size(tiles=4, tile_px=16, panorama_px=(16, 32), resolution_m=1.5)
SYSTEMS = {"original": ("splits", ""), "corrected": ("splits__corrected", "__corrected")}
STEMS = ("same_area_balanced_train", "same_area_balanced_test", "pano_label_balanced")


def label_path(root: Path, name: str, stem: str, system: str) -> Path:
    folder, suffix = SYSTEMS[system]
    return root / folder / name / f"{stem}{suffix}.txt"


def read_rows(root: Path, name: str, stem: str, system: str = "corrected"):
    """Panorama names, tile names (Q, 4), offsets (Q, 4, 2): read without the library's reader."""
    rows = [r.split(" ") for r in label_path(root, name, stem, system).read_text().split("\n")]
    tiles = [row[1::3] for row in rows]
    offsets = [[(float(row[k]), float(row[k + 1])) for k in (2, 5, 8, 11)] for row in rows]
    return [row[0] for row in rows], tiles, np.array(offsets)


def tile_names(root: Path, name: str) -> list[str]:
    return (root / "splits" / name / "satellite_list.txt").read_text().split("\n")


def positions(root: Path, name: str):
    """Grid units from the list's first tile, rows southwards: queries (Q, 2), tiles (Q, 4, 2)."""
    panoramas, tiles, _ = read_rows(root, name, "pano_label_balanced")
    steps = (-geometry.LATITUDE_STEP_DEG, geometry.CITIES[name].longitude_step_deg)
    corner = np.array(tile_latlon(tile_names(root, name)[0]))
    queries = np.array([panorama_latlon(p) for p in panoramas])
    four = np.array([[tile_latlon(t) for t in row] for row in tiles])
    return (queries - corner) / steps, (four - corner) / steps


def digests(root: Path) -> dict[str, str]:
    """What was made: every image and label file, by its path."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix != ".json"
    }


def fingerprint(root: Path) -> str:
    return json.loads((root / "manifest.json").read_text())["fingerprint"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return city.make(tmp_path_factory.mktemp("tiny") / "a", TINY, seed=5, progress=False)


@pytest.fixture
def tiny_copy(tiny, tmp_path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


# -- the format ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CITIES)
def test_every_label_names_files_that_exist_and_no_image_is_left_unlabelled(city_root, name):
    tiles = tile_names(city_root, name)
    panoramas, references, _ = read_rows(city_root, name, "pano_label_balanced")
    on_disk = {
        folder: sorted(p.name for p in (city_root / name / folder).iterdir())
        for folder in ("panorama", "satellite")
    }
    assert on_disk == {"panorama": sorted(panoramas), "satellite": sorted(tiles)}
    assert {t for row in references for t in row} <= set(tiles)
    assert len(set(tiles)) == len(tiles) == 36
    assert len(set(panoramas)) == len(panoramas) > 20


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("name", CITIES)
def test_rows_have_thirteen_fields_and_files_end_without_a_newline(city_root, name, stem, system):
    raw = label_path(city_root, name, stem, system).read_bytes()
    assert not raw.endswith(b"\n") and b"\r" not in raw
    for line in raw.decode().split("\n"):
        fields = line.split(" ")
        assert len(fields) == 13
        numbers = [fields[k] for k in (2, 3, 5, 6, 8, 9, 11, 12)]
        assert all(re.fullmatch(r"-?\d+\.0", n) for n in numbers), numbers


@pytest.mark.parametrize("name", CITIES)
def test_names_are_spelled_as_vigor_spells_them(city_root, name):
    for panorama in read_rows(city_root, name, "pano_label_balanced")[0]:
        assert re.fullmatch(r"[\w-]{22},-?\d+\.\d{6},-?\d+\.\d{6},\.jpg", panorama, re.ASCII)
    for tile in tile_names(city_root, name):
        assert re.fullmatch(r"satellite_\d+\.\d+_-\d+\.\d+\.png", tile)


@pytest.mark.parametrize("name", CITIES)
def test_the_two_label_folders_differ_in_offsets_only(city_root, name):
    listed = [
        (city_root / f / name / "satellite_list.txt").read_bytes() for f, _ in SYSTEMS.values()
    ]
    assert listed[0] == listed[1] and not listed[0].endswith(b"\n")
    for stem in STEMS:
        original, corrected = (read_rows(city_root, name, stem, s) for s in SYSTEMS)
        assert original[:2] == corrected[:2]
        assert (original[2] != corrected[2]).any()


def test_images_have_the_size_that_was_asked_for(city_root):
    for name in CITIES:
        for folder, wanted, kind in (
            ("satellite", (48, 48), "PNG"),
            ("panorama", (96, 48), "JPEG"),
        ):
            for path in (city_root / name / folder).iterdir():
                with Image.open(path) as image:
                    assert (image.size, image.mode, image.format) == (wanted, "RGB", kind)
                    image.load()


def test_no_two_images_of_the_city_show_the_same(city_root):
    images = [v for k, v in digests(city_root).items() if k.endswith((".png", ".jpg"))]
    assert len(set(images)) == len(images)


# -- the grid and the four tiles ---------------------------------------------------------------


@pytest.mark.parametrize("name", CITIES)
def test_the_grid_is_regular_in_degrees_with_vigors_steps(city_root, name):
    grid = np.array([tile_latlon(t) for t in tile_names(city_root, name)]).reshape(6, 6, 2)
    south, east = np.diff(grid, axis=0), np.diff(grid, axis=1)
    np.testing.assert_allclose(south[..., 0], -geometry.LATITUDE_STEP_DEG, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        east[..., 1], geometry.CITIES[name].longitude_step_deg, rtol=0, atol=1e-12
    )
    assert (south[..., 1] == 0).all() and (east[..., 0] == 0).all()


@pytest.mark.parametrize("name", CITIES)
def test_the_four_tiles_are_a_two_by_two_block_around_the_query(city_root, name):
    queries, tiles = positions(city_root, name)
    corners = np.rint(tiles).astype(int)
    np.testing.assert_allclose(tiles, corners, atol=1e-6)
    for query, block in zip(queries, corners, strict=True):
        low = np.floor(query).astype(int)
        wanted = {(low[0] + i, low[1] + j) for i in (0, 1) for j in (0, 1)}
        assert {tuple(t) for t in block} == wanted


@pytest.mark.parametrize("name", CITIES)
def test_tiles_are_in_order_nearest_then_two_neighbours_then_the_diagonal(city_root, name):
    queries, tiles = positions(city_root, name)
    away = np.abs(queries[:, None] - tiles)
    distance = np.hypot(*np.moveaxis(away, -1, 0))
    assert (np.diff(distance, axis=1) >= -1e-9).all()
    assert (away[:, 0] <= 0.5).all()
    step = np.abs(np.rint(tiles - tiles[:, :1])).astype(int)
    assert (step[:, 1:3].sum(axis=2) == 1).all()
    assert (step[:, 3] == 1).all()


@pytest.mark.parametrize("name", CITIES)
def test_every_query_stands_on_its_positive_within_a_step_of_all_four(city_root, name):
    offsets = read_rows(city_root, name, "pano_label_balanced")[2]
    assert geometry.covers(offsets[:, 0]).all()
    # a step is half a tile of 0.114 m/px: more of the pixels of a city whose pixels are smaller
    step = geometry.HALF_TILE_PX * 0.114 / geometry.CITIES[name].resolution_m
    turn = 8  # UTM's north is not quite the grid's
    assert (np.abs(offsets) <= step + turn).all()
    assert (np.abs(offsets[:, 0]) <= step / 2 + turn).all()


def test_a_query_on_a_line_of_the_border_still_gets_a_block_of_the_grid():
    references = covering_tiles(np.array([[0.0, 0.0], [3.0, 3.0], [3.0, 0.0], [1.25, 2.9]]), 4)
    assert [sorted(row) for row in references.tolist()] == [
        [0, 1, 4, 5],
        [10, 11, 14, 15],
        [8, 9, 12, 13],
        [6, 7, 10, 11],
    ]
    assert references[:, 0].tolist() == [0, 15, 12, 7]
    assert references[3].tolist() == [7, 11, 6, 10]  # 0.25 of a row is farther than 0.1 of a column


# -- sampling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CITIES)
def test_no_tile_is_the_positive_of_more_than_two_queries(city_root, name):
    tiles = read_rows(city_root, name, "pano_label_balanced")[1]
    counts = Counter(row[0] for row in tiles)
    assert max(counts.values()) == 2


@pytest.mark.parametrize("name", CITIES)
def test_train_and_test_halve_the_queries(city_root, name):
    train, test, everything = (
        read_rows(city_root, name, stem)[0]
        for stem in ("same_area_balanced_train", "same_area_balanced_test", "pano_label_balanced")
    )
    assert not set(train) & set(test)
    assert sorted(train + test) == sorted(everything)
    assert len(train) - len(test) in (0, 1)
    assert everything[: len(train)] != train  # drawn at random, not cut in the middle


@pytest.mark.parametrize("name", CITIES)
def test_queries_stand_on_asphalt_of_the_world_they_were_photographed_in(city_root, name):
    place = city.Place(city.STYLES[name], 6)
    world = city.build_world(place.style, place.side_m, 1.0, 0)
    panoramas = read_rows(city_root, name, "pano_label_balanced")[0]
    x, y = place.to_world(np.array([panorama_latlon(p) for p in panoramas])).T
    row, column = y.astype(int), x.astype(int)
    assert (world.ground[row, column] == 1).all()  # raster.ROAD
    assert (world.owner[row, column] == -1).all()


def test_statistics_count_what_is_on_disk_and_are_plausible(city_root):
    cities = json.loads((city_root / "manifest.json").read_text())["cities"]
    assert tuple(cities) == CITIES
    for name, row in cities.items():
        train, test = (
            read_rows(city_root, name, f"same_area_balanced_{s}")[:2] for s in ("train", "test")
        )
        assert row["tiles"] == len(tile_names(city_root, name))
        assert row["queries"] == len(train[0]) + len(test[0])
        assert row["queries_per_tile"] == pytest.approx(row["queries"] / row["tiles"], abs=1e-3)
        positives = {t[0] for t in train[1]}
        assert row["leakage"] == pytest.approx(
            np.mean([t[0] in positives for t in test[1]]), abs=1e-4
        )
        at = np.array([panorama_latlon(p) for p in train[0]])
        nearest = [
            geometry.great_circle_m(*panorama_latlon(p), at[:, 0], at[:, 1]).min() for p in test[0]
        ]
        assert row["test_to_train_median_m"] == pytest.approx(np.median(nearest), abs=0.01)
        assert 0.5 < row["queries_per_tile"] <= 2
        assert 0 <= row["distractor_share"] < 0.5
        assert 5 < row["test_to_train_median_m"] < 60


# -- labels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", CITIES)
def test_labels_are_those_of_the_geometry_in_whole_pixels(city_root, name, system):
    panoramas, tiles, offsets = read_rows(city_root, name, "pano_label_balanced", system)
    at = np.array([panorama_latlon(p) for p in panoramas])
    centres = np.array([[tile_latlon(t) for t in row] for row in tiles])
    exact = geometry.label_offsets(at[:, None], centres, name, system)
    assert (offsets == np.rint(exact)).all()


@pytest.mark.parametrize("name", CITIES)
def test_original_labels_carry_the_fault_of_one_resolution_for_all_cities(city_root, name):
    original, corrected = (read_rows(city_root, name, "pano_label_balanced", s)[2] for s in SYSTEMS)
    ratio = (original * corrected).sum(axis=(0, 1)) / (corrected**2).sum(axis=(0, 1))
    np.testing.assert_allclose(ratio, geometry.CITIES[name].resolution_m / 0.114, rtol=0.005)


@pytest.mark.parametrize("name", CITIES)
def test_corrected_labels_are_true_pixels_of_the_mercator_tile(city_root, name):
    panoramas, tiles, offsets = read_rows(city_root, name, "pano_label_balanced")
    at = np.array([panorama_latlon(p) for p in panoramas])
    centres = np.array([[tile_latlon(t) for t in row] for row in tiles])
    true = geometry.label_offsets(at[:, None], centres, name, "mercator")
    assert np.abs(offsets - true).max() < 6  # UTM turns by a degree at most, half a pixel rounding


# -- making it ---------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(tiny, tmp_path):
    again = city.make(tmp_path / "b", TINY, seed=5, workers=1, progress=False)
    assert digests(again) == digests(tiny)
    assert fingerprint(again) == fingerprint(tiny)


def test_another_seed_replaces_the_city_by_another_one(tiny, tiny_copy):
    before = digests(tiny)
    city.make(tiny_copy, TINY, seed=6, progress=False)
    after = digests(tiny_copy)
    tiles = [k for k in before if k.endswith(".png")]
    assert tiles == [k for k in after if k.endswith(".png")]  # the grid stays where it was
    assert all(before[k] != after[k] for k in tiles)
    assert not {k for k in before if k.endswith(".jpg")} & set(after)
    assert fingerprint(tiny_copy) != fingerprint(tiny)


def test_a_finished_city_is_returned_at_once(tiny):
    before = {p: p.stat().st_mtime_ns for p in tiny.rglob("*")}
    assert city.make(tiny, TINY, seed=5) == tiny
    assert {p: p.stat().st_mtime_ns for p in tiny.rglob("*")} == before


def test_a_failed_make_says_so_leaves_no_manifest_and_is_taken_up_where_it_stopped(tiny, tiny_copy):
    (tiny_copy / "manifest.json").unlink()
    shutil.rmtree(tiny_copy / "Chicago")
    (tiny_copy / "Chicago").write_text("in the way")
    for path in sorted((tiny_copy / "Seattle").rglob("*.*"))[::2]:
        path.unlink()
    kept = {p: p.stat().st_mtime_ns for p in (tiny_copy / "NewYork").rglob("*.*")}
    with pytest.raises(OSError, match="Chicago"):
        city.make(tiny_copy, TINY, seed=5, progress=False)
    assert not (tiny_copy / "manifest.json").exists()

    (tiny_copy / "Chicago").unlink()
    city.make(tiny_copy, TINY, seed=5, progress=False)
    assert fingerprint(tiny_copy) == fingerprint(tiny)
    assert digests(tiny_copy) == digests(tiny)
    assert kept and {p: p.stat().st_mtime_ns for p in kept} == kept  # not drawn a second time


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(city.NotOurs, match="name another folder"):
        city.make(tmp_path, TINY, progress=False)
    assert [p.name for p in tmp_path.rglob("*")] == ["thesis.txt"]


def test_a_showcase_pair_has_the_sizes_asked_for_and_the_query_in_its_tiles_central_half():
    tile, panorama, offset = city.showcase("Chicago", 3, tile_px=64, panorama_px=(32, 64))
    assert (tile.shape, panorama.shape) == ((64, 64, 3), (32, 64, 3))
    assert tile.std() > 10 and panorama.std() > 10  # neither is blank
    assert (np.abs(offset) <= 170).all()


def test_an_unknown_size_or_city_names_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="'huge': expected one of smoke, mini"):
        city.make(tmp_path / "x", "huge")
    with pytest.raises(ValueError, match="'Paris': expected one of NewYork, Seattle"):
        city.showcase("Paris")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"tiles": 1},
        {"tile_px": 4},
        {"tile_px": 641},
        {"panorama_px": (4, 32)},
        {"panorama_px": (16, 5000)},
    ],
)
def test_a_size_that_cannot_be_made_is_refused_before_anything_is_written(change):
    values = {"tiles": 4, "tile_px": 16, "panorama_px": (16, 32), "resolution_m": 1.5} | change
    with pytest.raises(ValueError, match="cannot be made: expected at least 3 tiles"):
        city.Size(**values)


# The smoke city's photographs that results were recorded with: a row a city, two tiles, a street.
RECORDED = Path(__file__).parent / "city_as_recorded.png"


def contact_sheet(root: Path) -> np.ndarray:
    rows = []
    for name in CITIES:
        tiles = [root / name / "satellite" / tile_names(root, name)[k] for k in (8, 21)]
        panoramas, _, _ = read_rows(root, name, "pano_label_balanced")
        files = [*tiles, root / name / "panorama" / panoramas[0]]
        rows.append(np.hstack([np.asarray(Image.open(file)) for file in files]))
    return np.stack(rows)


def test_the_city_is_the_one_that_results_were_recorded_on(city_root, tmp_path):
    """On other processors and versions of libraries too; a grey level here and there may differ."""
    made = contact_sheet(city_root)
    Image.fromarray(np.vstack(made)).save(tmp_path / "city.png")
    recorded = np.asarray(Image.open(RECORDED)).reshape(made.shape)
    away = np.abs(made.astype(float) - recorded).mean(axis=(1, 2, 3))
    assert (away < 0.2).all(), (
        f"grey levels off, by city: {away.round(2)}. If this is meant, all results in results/ are "
        f"to be recorded anew; then copy {tmp_path / 'city.png'} to {RECORDED}"
    )


WITHOUT_AVX_512 = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL X86_V4 AVX512_SPR"
MAKE_SMOKE = """
from pathlib import Path; import sys
import numpy._core._multiarray_umath as numpy_itself
from data_prep import city
sys.path.append(sys.argv[2]); from test_city import places
city.make(Path(sys.argv[1]), "smoke", progress=False)
print(places())
print([name for name, has in numpy_itself.__cpu_features__.items() if has])
"""


def places() -> str:
    """Where ten thousand places lie on the plane that is photographed, to the last bit."""
    at = np.random.default_rng(0).uniform((25, -125), (49, -70), (10_000, 2))
    return hashlib.sha256(geometry.mercator_px(at).tobytes()).hexdigest()


def test_processors_with_and_without_avx_512_make_the_same_city(city_root, tmp_path):
    """NumPy computes powers and sines in another way on the former."""
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": WITHOUT_AVX_512}
    command = [sys.executable, "-W", "ignore", "-c", MAKE_SMOKE]
    command += [str(tmp_path / "b"), str(Path(__file__).parent)]
    made = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert made.returncode == 0, made.stderr
    assert not {"X86_V4", "AVX512_SKX"} & set(re.findall(r"\w+", made.stdout))
    assert digests(tmp_path / "b") == digests(city_root)
    assert places() == made.stdout.split()[0]


# -- from the command line -----------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    app = typer.Typer()
    app.command()(main)
    return lambda *words: CliRunner().invoke(app, [str(w) for w in words])


def test_help_names_the_sizes_and_exits_with_zero(run):
    result = run("--help")
    assert result.exit_code == 0
    assert "smoke, mini" in result.output


def test_a_run_from_the_command_line_makes_the_same_city(run, tiny, tmp_path):
    result = run(
        tmp_path / "c", "--size", "smoke", "--seed", 5, "--tiles", 4, "--tile-px", 16,
        "--panorama-width", 32, "--resolution-m", 1.5, "--workers", 2,
    )  # fmt: skip
    assert result.exit_code == 0, f"{result.exception!r}\n{result.output}"
    assert all(name in result.output for name in CITIES)
    assert fingerprint(tmp_path / "c") == fingerprint(tiny)


def test_the_command_line_refuses_with_a_sentence_not_a_traceback(run, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for words, said in (
        ((tmp_path / "x", "--size", "huge"), "unknown size 'huge'"),
        ((tmp_path / "x", "--tiles", 1), "cannot be made"),
        ((tmp_path,), "holds no embedded city"),
    ):
        result = run(*words)
        assert result.exit_code == 2
        assert said in result.output
        assert isinstance(result.exception, SystemExit)
