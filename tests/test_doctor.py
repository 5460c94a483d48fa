"""The doctor: silent about sound copies, exact about each kind of damage."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from data_prep.doctor import PUBLISHED, Check, NotVigor, Report, examine, images
from data_prep.doctor import findings as f
from data_prep.doctor.__main__ import main
from vigorlib.dataset import Vigor

LABELS = os.environ.get("VIGOR_LABELS")
CITY = "Chicago"
CORRECTED, ORIGINAL = f"splits__corrected/{CITY}", f"splits/{CITY}"
TRAIN = f"{CORRECTED}/same_area_balanced_train__corrected.txt"


@pytest.fixture
def copy(city_root, tmp_path) -> Path:
    """One embedded city with everything, free to be damaged."""
    root = tmp_path / "copy"
    for part in (CITY, ORIGINAL, CORRECTED):
        shutil.copytree(city_root / part, root / part)
    for file in ("embedded_city.json", "manifest.json"):
        shutil.copy(city_root / file, root / file)
    return root


@pytest.fixture
def bare(city_root, tmp_path) -> Path:
    """The label files of that city alone."""
    root = tmp_path / "bare"
    for part in (ORIGINAL, CORRECTED):
        shutil.copytree(city_root / part, root / part)
    shutil.copy(city_root / "embedded_city.json", root)
    shutil.copy(city_root / "manifest.json", root)
    return root


def alarms(report: Report) -> set[str]:
    return {found.what for found in report.findings if found.level != "note"}


def notes(report: Report) -> set[str]:
    return {found.what for found in report.findings if found.level == "note"}


# -- sound copies ----------------------------------------------------------------------------


def test_a_sound_city_raises_no_alarm(city_root, tmp_path):
    report = examine(city_root, state=tmp_path)
    assert alarms(report) == set() and report.status == 0
    assert report.kind == "embedded city"
    made = json.loads((city_root / "manifest.json").read_text())["cities"]
    for city, row in report.cities.items():
        assert (row["tiles"], row["all"]) == (made[city]["tiles"], made[city]["queries"])
        assert row["leakage"] == made[city]["leakage"]
        assert row["panorama"] == {"files": row["all"], "missing": 0}
        for file, labels in row["label_files"].items():
            assert labels["system"] == ("corrected" if "__corrected" in file else "original")
            assert labels["agreement"][labels["system"]] == 1


def test_labels_only_is_a_note_not_a_flood(bare):
    report = examine(bare)
    assert alarms(report) == set() and report.status == 0
    assert f.LABELS_ONLY.what in notes(report)


def test_line_ends_compression_and_a_flat_folder_raise_no_alarm(bare, tmp_path):
    flat = tmp_path / "flat" / CITY
    flat.mkdir(parents=True)
    for file in (bare / CORRECTED).iterdir():
        with gzip.open(flat / f"{file.name}.gz", "wt", newline="") as packed:
            packed.write(file.read_text().replace("\n", "\r\n") + "\r\n")
    shutil.copy(bare / "embedded_city.json", tmp_path / "flat")
    shutil.copy(bare / "manifest.json", tmp_path / "flat")
    report, before = examine(tmp_path / "flat"), examine(bare)
    assert alarms(report) == set()
    assert report.cities[CITY]["leakage"] == before.cities[CITY]["leakage"]
    assert len(report.cities[CITY]["label_files"]) == 3


@pytest.mark.skipif(not LABELS, reason="VIGOR_LABELS names no folder of real label files")
def test_the_real_chicago_is_recognised_without_a_false_alarm():
    report = examine(LABELS)
    row = report.cities[CITY]
    assert alarms(report) == set() and report.status == 0
    assert (row["tiles"], row["train"], row["test"]) == (22_308, 12_740, 12_739)
    assert {file["system"] for file in row["label_files"].values()} == {"corrected"}
    assert {file["agreement"]["corrected"] for file in row["label_files"].values()} == {1.0}
    assert row["semi_positives_outside"] == pytest.approx(0.061, abs=0.0005)
    assert 0.46 < row["leakage"] < 0.49
    assert row["distractors"] == pytest.approx(0.172, abs=0.0005)
    assert {f.LABELS_ONLY.what, f.CITY_ABSENT.what, f.LEAKAGE.what, f.OUTSIDE.what} <= notes(report)


def test_published_numbers_add_up():
    assert sum(city.tiles for city in PUBLISHED.values()) == 90_618
    assert sum(city.train for city in PUBLISHED.values()) == 52_609
    assert sum(city.test for city in PUBLISHED.values()) == 52_605


# -- damage: (what is done, what exactly is found) -------------------------------------------


def label_files(root: Path, stem: str = "") -> Iterator[Path]:
    """Files with label rows whose name holds ``stem``, not the tile lists."""
    for folder in (CORRECTED, ORIGINAL):
        for path in sorted((root / folder).iterdir()):
            if stem in path.name and path.stem != "satellite_list":
                yield path


def rewrite(file: Path, change: Callable[[list[str]], list[str]]) -> None:
    file.write_text("\n".join(change(file.read_text().splitlines())))


def edit_row(root: Path, change: Callable[[list[str]], list[str]], file: str = TRAIN) -> None:
    """Change the fields of the second row of a label file."""

    def rows(lines: list[str]) -> list[str]:
        lines[1] = " ".join(change(lines[1].split()))
        return lines

    rewrite(root / file, rows)


def put(column: int, value: str) -> Callable[[Path], None]:
    return lambda root: edit_row(root, lambda r: [*r[:column], value, *r[column + 1 :]])


def far_tile(root: Path) -> None:
    data = Vigor(root, cities=[CITY])
    apart = abs(data.tiles.latlon - data.queries.latlon[1]).sum(axis=1)
    put(4, str(data.tiles.names[apart.argmax()]))(root)


def repeat_tile(root: Path) -> None:
    edit_row(root, lambda r: [*r[:4], *r[1:4], *r[7:]])


def swap_tiles(root: Path) -> None:
    """In the cross-area file, which does not count towards the positives of a tile."""
    edit_row(
        root, lambda r: [r[0], *r[4:7], *r[1:4], *r[7:]], f"{ORIGINAL}/pano_label_balanced.txt"
    )


def one_pixel(root: Path) -> None:
    edit_row(root, lambda r: [*r[:2], str(float(r[2]) + 1), *r[3:]])


def flip_signs(root: Path) -> None:
    def flip(line: str) -> str:
        r = line.split()
        return " ".join(x if i % 3 == 1 or i == 0 else str(-float(x)) for i, x in enumerate(r))

    rewrite(root / TRAIN, lambda lines: [flip(line) for line in lines])


def rename_query(root: Path) -> None:
    name = (root / TRAIN).read_text().split()[0]
    for file in label_files(root):
        file.write_text(file.read_text().replace(name, "nameless.jpg"))


def rename_tile_in_lists(root: Path) -> None:
    name = (root / TRAIN).read_text().split()[1]
    for folder in (CORRECTED, ORIGINAL):
        file = root / folder / "satellite_list.txt"
        file.write_text(file.read_text().replace(name, "satellite_north_west.png"))


def exchange(source: str, target: str) -> Callable[[Path], None]:
    """Put one folder's train labels under the other's name."""

    def damage(root: Path) -> None:
        ends = {CORRECTED: "__corrected.txt", ORIGINAL: ".txt"}
        stem = "same_area_balanced_train"
        shutil.copy(root / source / (stem + ends[source]), root / target / (stem + ends[target]))

    return damage


def mix(root: Path) -> None:
    """Every tenth row of the corrected file is an original one."""
    other = (root / ORIGINAL / "same_area_balanced_train.txt").read_text().splitlines()
    rewrite(
        root / TRAIN,
        lambda lines: [
            o if i % 10 == 0 else n for i, (n, o) in enumerate(zip(lines, other, strict=True))
        ],
    )


def repeat_row(root: Path) -> None:
    rewrite(root / TRAIN, lambda lines: [*lines, lines[0]])


def repeat_listed_tile(root: Path) -> None:
    rewrite(root / CORRECTED / "satellite_list.txt", lambda lines: [*lines, lines[0]])


def train_in_test(root: Path) -> None:
    first = (root / TRAIN).read_text().splitlines()[0]
    rewrite(Path(str(root / TRAIN).replace("train", "test")), lambda lines: [*lines, first])


def drop_row(root: Path) -> None:
    rewrite(root / TRAIN, lambda lines: lines[1:])


def third_positive(root: Path) -> None:
    """Another query at the place of one whose tile has two already."""
    rows = [line for file in label_files(root, "pano") for line in file.read_text().splitlines()]
    positives = Counter(row.split()[1] for row in rows)
    (row, *_) = [row for row in rows if positives[row.split()[1]] == 4]  # two in each label set
    name = row.split()[0]
    new = "third" + name[name.index(",") :]
    for file in label_files(root):
        if name in file.read_text():
            rewrite(
                file,
                lambda lines: [
                    *lines,
                    *(x.replace(name, new) for x in lines if x.startswith(name)),
                ],
            )


def idle_tile(root: Path) -> str:
    data = Vigor(root, "cross-area", "test", cities=[CITY])
    used = set(data.tiles.names[data.references].ravel())
    return next(str(name) for name in data.tiles.names if name not in used)


def drop_listed_tile(root: Path) -> None:
    name = idle_tile(root)
    for folder in (CORRECTED, ORIGINAL):
        rewrite(root / folder / "satellite_list.txt", lambda lines: [x for x in lines if x != name])


def drop_listed_tile_once(root: Path) -> None:
    name = (root / TRAIN).read_text().split()[1]
    rewrite(root / CORRECTED / "satellite_list.txt", lambda lines: [x for x in lines if x != name])


def shift_tile(root: Path) -> None:
    """A tile that no row names stands a tenth of a step off."""
    name = idle_tile(root)
    lat, lon = name.removeprefix("satellite_").removesuffix(".png").split("_")
    new = f"satellite_{float(lat) + 3.3e-5}_{lon}.png"
    for folder in (CORRECTED, ORIGINAL):
        file = root / folder / "satellite_list.txt"
        file.write_text(file.read_text().replace(name, new))


def cut_packed(root: Path) -> None:
    data = gzip.compress((root / TRAIN).read_bytes())
    (root / TRAIN).unlink()
    (root / f"{TRAIN}.gz").write_bytes(data[: len(data) // 2])


def drop_lists(root: Path) -> None:
    for folder in (CORRECTED, ORIGINAL):
        (root / folder / "satellite_list.txt").unlink()


def misplace(root: Path) -> None:
    (root / TRAIN).rename(root / ORIGINAL / Path(TRAIN).name)


def no_embedding(root: Path) -> None:
    """The same files, said to be VIGOR's own."""
    (root / "embedded_city.json").unlink()


LABEL_DAMAGE: dict[str, tuple[Callable[[Path], object], list[Check]]] = {
    "a field is missing": (lambda root: edit_row(root, lambda r: r[:-1]), [f.BAD_ROWS]),
    "an offset is a word": (put(3, "north"), [f.BAD_ROWS]),
    "an offset is nan": (put(3, "nan"), [f.OFF]),
    "a tile is not in the list": (put(4, "satellite_0.0_0.0.png"), [f.ABSENT_TILES]),
    "a tile's name is none": (put(4, "tile.png"), [f.BAD_NAMES]),
    "a query's name is none": (rename_query, [f.BAD_NAMES]),
    "a listed name is none": (rename_tile_in_lists, [f.BAD_NAMES, f.ABSENT_TILES, f.HOLES]),
    "a tile is far away": (far_tile, [f.UNCOVERED]),
    "a tile is named twice in a row": (repeat_tile, [f.UNCOVERED]),
    "a semi-positive stands first": (swap_tiles, [f.NOT_NEAREST]),
    "an offset is a pixel off": (one_pixel, [f.OFF]),
    "all signs are wrong": (flip_signs, [f.NO_SYSTEM]),
    "original labels are called corrected": (exchange(ORIGINAL, CORRECTED), [f.OTHER_SYSTEM]),
    "corrected labels are called original": (exchange(CORRECTED, ORIGINAL), [f.OTHER_SYSTEM]),
    "two label systems are mixed": (mix, [f.OFF]),
    "a row is repeated": (repeat_row, [f.TWICE]),
    "a listed tile is repeated": (repeat_listed_tile, [f.TWICE]),
    "a test query is in train": (train_in_test, [f.SHARED_QUERIES]),
    "a row is lost": (drop_row, [f.SPLITS_DIFFER]),
    "a tile has three positives": (third_positive, [f.CROWDED]),
    "a distractor is not listed": (drop_listed_tile, [f.HOLES]),
    "a used tile is not in one list": (
        drop_listed_tile_once,
        [f.ABSENT_TILES, f.HOLES, f.LISTS_DIFFER],
    ),
    "a tile stands off the grid": (shift_tile, [f.OFF_GRID, f.HOLES]),
    "a packed file is cut": (cut_packed, [f.UNUSABLE]),
    "a file is empty": (lambda root: (root / TRAIN).write_text("\n"), [f.UNUSABLE]),
    "a file is no text": (lambda root: (root / TRAIN).write_bytes(b"\xff\xfe\x00"), [f.UNUSABLE]),
    "the tile lists are lost": (drop_lists, [f.NO_TILE_LIST]),
    "a corrected file is in splits/": (misplace, [f.MISPLACED]),
    "a part claims to be VIGOR": (no_embedding, [f.COUNTS]),
}


@pytest.mark.parametrize("name", LABEL_DAMAGE)
def test_damaged_labels_are_found_and_nothing_else(bare, name):
    damage, expected = LABEL_DAMAGE[name]
    damage(bare)
    judge(examine(bare), expected)


def judge(report: Report, expected: list[Check]) -> None:
    """Exactly these alarms, each with a case and advice; the status says whether one is an error."""
    assert alarms(report) == {check.what for check in expected}
    assert report.status == any(check.level == "error" for check in expected)
    for found in report.findings:
        assert found.count >= len(found.examples) > 0 and len(found.advice) > 20


def first(root: Path, view: str) -> Path:
    return min((root / CITY / view).iterdir())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def resize(path: Path) -> None:
    with Image.open(path) as image:
        small = image.resize((24, 24))
    small.save(path)


def resize_all(root: Path) -> None:
    for path in (root / CITY / "satellite").iterdir():
        resize(path)


def as_png(path: Path) -> None:
    with Image.open(path) as image:
        image.save(path, "PNG")


def lose_labels(root: Path) -> None:
    shutil.rmtree(root / "splits")
    shutil.rmtree(root / "splits__corrected")


PHOTOGRAPH_DAMAGE: dict[str, tuple[Callable[[Path], object], list[Check]]] = {
    "a panorama is missing": (lambda root: first(root, "panorama").unlink(), [f.MISSING]),
    "a tile is missing": (lambda root: first(root, "satellite").unlink(), [f.MISSING]),
    "all panoramas are missing": (
        lambda root: shutil.rmtree(root / CITY / "panorama"),
        [f.MISSING],
    ),
    "a panorama is cut": (lambda root: cut(first(root, "panorama")), [f.UNDECODABLE]),
    "a tile is cut": (lambda root: cut(first(root, "satellite")), [f.UNDECODABLE]),
    "a panorama has no byte": (
        lambda root: first(root, "panorama").write_bytes(b""),
        [f.UNDECODABLE],
    ),
    "a tile is a web page": (
        lambda root: first(root, "satellite").write_text("<html>not found</html>"),
        [f.UNDECODABLE],
    ),
    "a tile is small": (lambda root: resize(first(root, "satellite")), [f.WRONG_SIZE]),
    "all tiles are small": (resize_all, [f.RESIZED]),
    "a panorama is a PNG": (lambda root: as_png(first(root, "panorama")), [f.WRONG_FORMAT]),
    "a file is astray": (
        lambda root: (root / CITY / "panorama/Thumbs.db").write_bytes(b"x"),
        [f.STRAY],
    ),
    "a label file is lost": (lambda root: (root / TRAIN).unlink(), [f.FILE_ABSENT]),
    "all label files are lost": (lose_labels, [f.NO_LABELS]),
    "the city is unfinished": (lambda root: (root / "manifest.json").unlink(), [f.UNFINISHED]),
}


@pytest.mark.parametrize("name", PHOTOGRAPH_DAMAGE)
def test_damaged_photographs_are_found_and_nothing_else(copy, name, tmp_path):
    damage, expected = PHOTOGRAPH_DAMAGE[name]
    damage(copy)
    judge(examine(copy, state=tmp_path / "state"), expected)


def test_a_city_without_its_photographs_is_one_warning(copy, city_root):
    for folder in ("splits", "splits__corrected"):
        shutil.copytree(city_root / folder / "Seattle", copy / folder / "Seattle")
    judge(examine(copy), [f.NO_PHOTOGRAPHS])


def test_every_alarm_has_a_damage_that_raises_it():
    raised = {c for _, checks in (LABEL_DAMAGE | PHOTOGRAPH_DAMAGE).values() for c in checks}
    every = {check for check in vars(f).values() if isinstance(check, Check)}
    assert {c for c in every if c.level != "note"} - raised == {f.NO_PHOTOGRAPHS}  # just above


def test_all_bad_rows_are_counted_and_named(bare):
    def damage(lines: list[str]) -> list[str]:
        return [line.rsplit(" ", 1)[0] if i in (2, 3, 5) else line for i, line in enumerate(lines)]

    rewrite(bare / TRAIN, damage)
    (found,) = [one for one in examine(bare).findings if one.what == f.BAD_ROWS.what]
    assert (found.count, found.city) == (3, CITY)
    assert [text.split(": ")[0] for text in found.examples] == [
        f"{TRAIN} row {n}" for n in (3, 4, 6)
    ]


def test_an_area_of_your_own_is_compared_with_nothing_published(bare):
    for folder in ("splits", "splits__corrected"):
        (bare / folder / CITY).rename(bare / folder / "Home")
    (bare / "embedded_city.json").unlink()
    report = examine(bare)
    assert f.OWN_AREA.what in notes(report)
    assert not alarms(report) & {f.COUNTS.what, f.OFF_GRID.what, f.HOLES.what, f.UNCOVERED.what}


# -- remembering -----------------------------------------------------------------------------


@pytest.fixture
def looks(monkeypatch) -> list[Path]:
    """The files that were opened."""
    opened: list[Path] = []
    look = images.look
    monkeypatch.setattr(images, "look", lambda path: (opened.append(path), look(path))[1])
    return opened


def test_an_interrupted_check_goes_on_where_it_stopped(copy, looks, monkeypatch):
    counting = images.look

    def stop_after_ten(path: Path) -> images.Look:
        if len(looks) == 10:
            raise KeyboardInterrupt
        return counting(path)

    monkeypatch.setattr(images, "look", stop_after_ten)
    with pytest.raises(KeyboardInterrupt):
        examine(copy)
    assert (copy / ".doctor.json").is_file()
    monkeypatch.setattr(images, "look", counting)
    assert alarms(examine(copy)) == set()
    files = [*copy.glob("*/*/*.jpg"), *copy.glob("*/*/*.png")]
    assert sorted(looks) == sorted(files)  # each exactly once


def test_a_second_check_opens_only_what_changed_and_remembers_damage(copy, looks, tmp_path):
    cut(first(copy, "panorama"))
    examine(copy, state=tmp_path / "state")
    looks.clear()
    again = examine(copy, state=tmp_path / "state")
    assert looks == [] and alarms(again) == {f.UNDECODABLE.what}
    cut(first(copy, "satellite"))
    assert examine(copy, state=tmp_path / "state").status == 1
    assert looks == [first(copy, "satellite")]
    assert not (copy / ".doctor.json").exists()


def test_a_copy_that_may_not_be_written_is_remembered_in_the_cache(
    copy, looks, monkeypatch, tmp_path
):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    examine(copy)
    looks.clear()
    examine(copy)
    assert looks == [] and not (copy / ".doctor.json").exists()
    assert len(list((tmp_path / "cache").rglob("doctor-*.json"))) == 1


def test_that_a_file_could_not_be_read_is_not_remembered(copy, monkeypatch):
    failing, read = first(copy, "panorama"), Path.read_bytes

    def fail(path: Path) -> bytes:
        if path == failing:
            raise OSError(5, "Input/output error")
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        assert alarms(examine(copy)) == {f.UNDECODABLE.what}
    assert alarms(examine(copy)) == set()


def test_a_damaged_memory_is_forgotten(copy):
    (copy / ".doctor.json").write_text('{"a": [1]')
    assert examine(copy).status == 0
    (copy / ".doctor.json").write_text('{"a": [1], "b": 3}')
    assert examine(copy).status == 0


def test_processes_see_what_one_sees(copy, monkeypatch):
    cut(first(copy, "satellite"))
    monkeypatch.setattr(images, "FEW", 10)
    assert examine(copy, workers=2).findings == examine(copy, workers=1).findings
    (copy / ".doctor.json").unlink()
    assert alarms(examine(copy, workers=1)) == {f.UNDECODABLE.what}


def test_without_images_nothing_is_opened_but_missing_ones_are_named(copy, looks):
    first(copy, "panorama").unlink()
    report = examine(copy, images=False)
    assert looks == [] and alarms(report) == {f.MISSING.what}
    assert report.cities[CITY]["panorama"]["missing"] == 1


# -- the command -----------------------------------------------------------------------------


def run(*arguments: object):
    app = typer.Typer()
    app.command()(main)
    return CliRunner().invoke(app, [str(word) for word in arguments])


def test_status_json_and_summary_of_a_sound_copy(copy, tmp_path):
    done = run(copy, "--json", tmp_path / "report.json")
    assert done.exit_code == 0
    assert "no error, no warning" in done.output and CITY in done.output
    value = json.loads((tmp_path / "report.json").read_text())
    assert value == examine(copy).as_json() | {"findings": value["findings"]}
    assert value["status"] == 0


def test_errors_say_what_to_do(bare):
    put(4, "satellite_0.0_0.0.png")(bare)
    done = run(bare, "--json", "-")
    assert done.exit_code == 1
    (error,) = [x for x in json.loads(done.stdout)["findings"] if x["level"] == "error"]
    assert error["what"] == f.ABSENT_TILES.what and error["count"] == 1
    assert f"{TRAIN} row 2: satellite_0.0_0.0.png" in error["examples"]
    shown = " ".join(done.stderr.split())
    assert f.ABSENT_TILES.what in shown and f.ABSENT_TILES.advice in shown


def test_another_folder_is_refused_with_a_hint(copy, tmp_path):
    (tmp_path / "empty").mkdir()
    done = run(tmp_path / "empty", "--json", "-")
    assert done.exit_code == 2 and json.loads(done.stdout)["status"] == 2
    assert "expected <City>/panorama" in done.stderr
    for wrong in (copy.parent, copy / CITY):
        with pytest.raises(NotVigor, match=f"did you mean {copy}"):
            examine(wrong)
    with pytest.raises(NotVigor, match="not a folder"):
        examine(tmp_path / "nowhere")


def test_the_module_runs(bare):
    done = subprocess.run(
        [sys.executable, "-m", "data_prep.doctor", str(bare), "--no-images"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parent.parent,
    )
    assert done.returncode == 0, done.stderr
    assert "corrected 100.0%" in done.stdout
