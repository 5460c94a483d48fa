"""Label files from names alone: the published bytes, the embedded city's, and none overwritten."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from data_prep import labels
from data_prep.labels import ALL, SYSTEMS, TEST, TRAIN
from vigorlib import geometry
from vigorlib.dataset import LabelError, Vigor, tile_latlon

LABELS = os.environ.get("VIGOR_LABELS")
CITIES = tuple(geometry.CITIES)
needs_real = pytest.mark.skipif(
    not LABELS, reason="VIGOR_LABELS names no folder of real label files"
)


def label_files(root: Path) -> dict[str, bytes]:
    """Every label file under a folder, by its path."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.glob("splits*/*/*.txt"))}


def write_all(root: Path, out: Path, system: str, force: bool = False) -> list[Path]:
    files: dict[Path, list[str]] = {}
    for city in labels.cities_in(root):
        files |= labels.label_files(labels.read_city(root, city), system, out)
    return labels.write(files, force)


@pytest.fixture(scope="module")
def photographs(city_root, tmp_path_factory) -> Path:
    """Two cities without any label file: empty files with the names of photographs."""
    root = tmp_path_factory.mktemp("photographs")
    for city in ("Seattle", "Chicago"):
        for photo in (city_root / city).glob("*/*.[jp][pn]g"):
            target = root / photo.relative_to(city_root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
    return root


# -- the published labels --------------------------------------------------------------------


@pytest.fixture(scope="module")
def chicago() -> labels.CityNames:
    """Names of the real Chicago."""
    return labels.read_city(str(LABELS), "Chicago")


@needs_real
def test_real_chicago_is_written_again_byte_for_byte(chicago, tmp_path):
    files = labels.label_files(chicago, "corrected", tmp_path)
    labels.write(files)
    for name in (f"{TRAIN}__corrected.txt", f"{TEST}__corrected.txt", "satellite_list.txt"):
        with gzip.open(Path(LABELS) / "Chicago" / f"{name}.gz") as stream:
            published = stream.read().replace(b"\r\n", b"\n").rstrip(b"\n")
        assert (tmp_path / "splits__corrected" / "Chicago" / name).read_bytes() == published


@needs_real
def test_real_chicagos_missing_file_of_all_queries_is_train_and_test_together(chicago):
    rows = chicago.rows
    assert len(rows[ALL].panoramas) == 25_479
    assert rows[ALL].panoramas.tolist() == [
        *rows[TRAIN].panoramas.tolist(),
        *rows[TEST].panoramas.tolist(),
    ]


@needs_real
def test_real_chicagos_four_tiles_follow_from_the_grid_but_for_ties(chicago):
    rows, tiles = chicago.rows[ALL], np.array(chicago.tiles)
    place = np.array([tile_latlon(name) for name in tiles])
    found = tiles[labels.assign(rows.pano_latlon, place, "Chicago")]
    assert (np.sort(found, axis=1) == np.sort(rows.tiles, axis=1)).all()
    assert (found[:, 0] == rows.tiles[:, 0]).mean() > 0.9999
    assert 0.996 < (found == rows.tiles).all(axis=1).mean() < 1
    assert sorted(chicago.tiles, key=tile_latlon) == chicago.tiles  # the order used without a list


# -- the embedded city -----------------------------------------------------------------------


def test_the_embedded_citys_label_files_are_written_again_byte_for_byte(city_root, tmp_path):
    for system in ("original", "corrected"):
        write_all(city_root, tmp_path, system)
    assert label_files(tmp_path) == label_files(city_root)
    assert len(label_files(tmp_path)) == 2 * len(CITIES) * 4


def test_mercator_labels_are_exact_and_in_vigors_layout(city_root, tmp_path):
    assert len(write_all(city_root, tmp_path, "mercator")) == 4 * len(CITIES)
    stem = "same_area_balanced_test__mercator.txt"
    row = (tmp_path / "splits__mercator" / "Seattle" / stem).read_text().split("\n")[0].split()
    assert len(row) == 13
    test = Vigor(city_root, subset="test", cities=["Seattle"])
    assert row[0] == test.queries.names[0]
    offset = (float(row[2]), float(row[3]))
    tile = test.tiles.latlon[test.references[0, 0]]
    found = geometry.predicted_latlon(tile, offset, "Seattle", "mercator")
    np.testing.assert_allclose(found, test.queries.latlon[0], rtol=0, atol=1e-12)


def test_what_is_written_can_be_read_by_the_library(city_root, tmp_path):
    for system in ("original", "corrected"):
        write_all(city_root, tmp_path, system)
        before, after = (Vigor(r, "cross-area", "test", system) for r in (city_root, tmp_path))
        np.testing.assert_array_equal(before.offsets_px, after.offsets_px)
    write_all(city_root, tmp_path, "mercator")
    exact = Vigor(tmp_path, "cross-area", "test", "mercator")
    assert 0 < np.abs(exact.offsets_px - after.offsets_px).max() < 10


def test_photographs_alone_give_the_same_rows_and_no_split(city_root, photographs, tmp_path):
    write_all(photographs, tmp_path, "corrected")
    for city in ("Seattle", "Chicago"):
        folder = f"splits__corrected/{city}"
        made = {p.name: p.read_text().split("\n") for p in (tmp_path / folder).iterdir()}
        assert set(made) == {"satellite_list.txt", "pano_label_balanced__corrected.txt"}
        for name, lines in made.items():
            published = (city_root / folder / name).read_text().split("\n")
            assert sorted(lines) == sorted(published)


def test_either_folder_of_label_files_is_enough(city_root, tmp_path):
    shutil.copytree(city_root / "splits", tmp_path / "in" / "splits")
    write_all(tmp_path / "in", tmp_path / "out", "corrected")
    expected = {k: v for k, v in label_files(city_root).items() if "corrected" in k}
    assert label_files(tmp_path / "out") == expected


# -- the four tiles --------------------------------------------------------------------------


def grid(rows: int, columns: int, city: str = "NewYork") -> np.ndarray:
    """(rows * columns, 2) degrees, from the south-west."""
    steps = geometry.LATITUDE_STEP_DEG, geometry.CITIES[city].longitude_step_deg
    south, west = np.divmod(np.arange(rows * columns), columns)
    return np.stack([40.7 + south * steps[0], -74.0 + west * steps[1]], axis=1)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3)])
def test_any_rectangle_of_tiles_gives_nearest_neighbours_by_distance_and_diagonal(shape):
    tiles = grid(*shape)
    step = tiles[-1] - tiles[0]
    step /= (shape[0] - 1, shape[1] - 1)
    # a bit north and more east of the tile in row 1, column 1 from the south-west
    query = tiles[shape[1] + 1] + step * (0.1, 0.3)
    (four,) = labels.assign(query[None], tiles, "NewYork")
    origin = shape[1] + 1
    assert four.tolist() == [origin, origin + 1, origin + shape[1], origin + shape[1] + 1]


def test_a_hole_in_the_grid_matters_only_to_the_queries_around_it():
    tiles = np.delete(grid(4, 4), 15, axis=0)  # without the north-eastern corner
    step = tiles[5] - tiles[0]
    labels.assign(tiles[None, 0] + step * 0.4, tiles, "NewYork")
    with pytest.raises(LabelError, match="1 of 2 panoramas of NewYork lack one of their four"):
        labels.assign(np.stack([tiles[0] + step * 0.4, tiles[10] + step * 0.4]), tiles, "NewYork")


def test_a_query_outside_the_grid_and_a_tile_off_it_are_named():
    tiles = grid(3, 3)
    with pytest.raises(LabelError, match=r"the first at \[40.6"):
        labels.assign(tiles[:1] - 0.1, tiles, "NewYork")
    tiles[4] += 1e-4
    with pytest.raises(LabelError, match="0.30 steps off the grid of NewYork"):
        labels.assign(tiles[:1], tiles, "NewYork")


# -- nothing is lost -------------------------------------------------------------------------


def test_label_files_that_differ_are_never_overwritten_without_force(city_root, tmp_path):
    (path, *_) = write_all(city_root, tmp_path, "corrected")
    whole = path.read_bytes()
    path.write_text("years of work")
    shutil.rmtree(tmp_path / "splits__corrected" / "Chicago")
    with pytest.raises(FileExistsError, match=f"{path.name} would change"):
        write_all(city_root, tmp_path, "corrected")
    assert path.read_text() == "years of work"
    assert not (tmp_path / "splits__corrected" / "Chicago").exists()  # all or nothing
    write_all(city_root, tmp_path, "corrected", force=True)
    assert path.read_bytes() == whole


def test_files_that_hold_the_same_lines_are_left_alone(city_root, tmp_path):
    written = write_all(city_root, tmp_path, "corrected")
    crlf = written[0].read_bytes().replace(b"\n", b"\r\n")
    written[0].write_bytes(crlf)
    written[1].unlink()
    assert write_all(city_root, tmp_path, "corrected") == [written[1]]
    assert written[0].read_bytes() == crlf
    assert not list(tmp_path.rglob("*.partial"))


def test_rows_without_their_tile_list_are_an_error_not_a_lost_split(city_root, tmp_path):
    shutil.copytree(city_root / "splits", tmp_path / "splits")
    (tmp_path / "splits/Seattle/satellite_list.txt").unlink()
    with pytest.raises(FileNotFoundError, match="no satellite_list.txt for Seattle"):
        labels.read_city(tmp_path, "Seattle")


def test_an_empty_folder_says_what_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither label files nor photographs of Seattle"):
        labels.read_city(tmp_path, "Seattle")
    with pytest.raises(FileNotFoundError, match="has no city: expected one of NewYork"):
        labels.cities_in(tmp_path)


# -- how far apart ---------------------------------------------------------------------------


@pytest.mark.parametrize("city", CITIES)
def test_files_equal_their_own_system_and_no_other(city_root, city):
    table = labels.compare_city(city_root, city)
    for name, own in (("splits__corrected/", "corrected"), ("splits/", "original")):
        for system in SYSTEMS:
            found = table[name, system]
            assert (found.equal == 1) == (found.max_px == 0) == (system == own)


def test_a_difference_is_measured_where_the_tile_shows_it():
    tile, zero = np.array([[47.6, -122.3]] * 2), np.zeros((2, 2))
    away = np.array([[0.0, 0.0], [30.0, 40.0]])
    found = labels.difference(tile, away, zero)
    assert (found.pairs, found.equal, found.max_px, found.median_px) == (2, 0.5, 50, 25)
    assert found.max_m == pytest.approx(50 * 0.100817, rel=0.005)  # Seattle's metres per pixel


def test_seattle_is_the_city_where_systems_are_furthest_apart(city_root):
    apart = {c: labels.compare_city(city_root, c)["original", "mercator"] for c in CITIES}
    assert max(apart, key=lambda c: apart[c].median_m) == "Seattle"
    assert apart["Seattle"].median_m > 2
    assert all(labels.compare_city(city_root, c)["corrected", "mercator"].max_m < 1 for c in CITIES)


# -- the command line ------------------------------------------------------------------------


@pytest.fixture
def run():
    command = typer.Typer()
    command.command()(labels.main)
    # wide, so that no message is broken over lines
    return lambda *words: CliRunner(env={"COLUMNS": "400"}).invoke(command, [*map(str, words)])


def test_the_command_line_writes_a_system_and_compares(run, city_root, tmp_path):
    words = (city_root, "--city", "Seattle", "--out", tmp_path, "--compare")
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert "4 label files written" in result.output and "100.00%" in result.output
    assert len(label_files(tmp_path)) == 4
    assert "0 label files written" in run(*words).output


def test_the_command_line_refuses_with_a_sentence_not_a_traceback(run, city_root, tmp_path):
    (tmp_path / "splits__corrected/Chicago").mkdir(parents=True)
    (tmp_path / "splits__corrected/Chicago/satellite_list.txt").write_text("mine")
    for words, said in (
        ((city_root, "--system", "utm", "--out", tmp_path), "unknown label system 'utm'"),
        ((city_root,), "name --out, or say --compare"),
        ((city_root, "--out", tmp_path), "would change"),
        ((tmp_path / "nowhere", "--compare"), "has no city"),
    ):
        result = run(*words)
        assert result.exit_code == 2
        assert said in result.output
        assert isinstance(result.exception, SystemExit)
